//! Keys of a `config.json` that speak of blocks by their numbers, and what they say where some blocks are gone.

use serde_json::{Map, Value, json};

/// What a key says of blocks.
#[derive(Clone, Copy)]
enum Meaning {
    /// How many there are.
    Count,
    /// Something of each, in their order.
    Entries,
    /// Which ones have something, by their numbers.
    Numbers,
    /// How many of the first ones have something.
    First,
}

const KEYS: [(&str, Meaning); 4] = [
    ("num_hidden_layers", Meaning::Count),
    ("layer_types", Meaning::Entries),
    ("mlp_only_layers", Meaning::Numbers),
    ("max_window_layers", Meaning::First),
];

/// Lists that are as long as anything, and never speak of blocks.
const OTHER_LISTS: [&str; 2] = ["architectures", "token"];

/// New values of the keys of `config` where the blocks `kept` of `blocks` stay, in their order.
///
/// The error names a list that may speak of blocks and is not known.
pub(super) fn without(
    config: &Map<String, Value>,
    kept: &[usize],
    blocks: usize,
) -> Result<Vec<(&'static str, Value)>, String> {
    let mut changed = Vec::new();
    for (key, value) in config {
        match KEYS.iter().find(|(known, _)| known == key) {
            Some((key, meaning)) => {
                let value = meaning.without(value, kept, blocks);
                changed.extend(value.map(|value| (*key, value)));
            }
            None if may_list_blocks(key, value, blocks) => {
                return Err(format!(
                    "config.json has {key}, which may list blocks and cannot be kept true"
                ));
            }
            None => {}
        }
    }
    Ok(changed)
}

fn may_list_blocks(key: &str, value: &Value, blocks: usize) -> bool {
    let is_other = || OTHER_LISTS.iter().any(|other| key.contains(other));
    value.as_array().is_some_and(|list| {
        !list.is_empty() && !is_other() && (key.contains("layer") || list.len() == blocks)
    })
}

impl Meaning {
    /// `None` = it stays as it is.
    fn without(self, value: &Value, kept: &[usize], blocks: usize) -> Option<Value> {
        match self {
            Self::Count => Some(json!(kept.len())),
            Self::Entries => {
                let entries = value.as_array().filter(|list| list.len() == blocks)?;
                let left = kept.iter().map(|&block| &entries[block]);
                Some(left.cloned().collect())
            }
            Self::Numbers => {
                let named = value.as_array()?;
                let is_named = |block: usize| named.contains(&json!(block));
                let left = (0..kept.len()).filter(|&new| is_named(kept[new]));
                Some(left.collect())
            }
            Self::First => {
                let first = value.as_u64().filter(|&first| first < blocks as u64)?;
                Some(json!(
                    kept.iter().filter(|&&it| (it as u64) < first).count()
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(config: &Value, kept: &[usize]) -> Result<Value, String> {
        let changed = without(config.as_object().unwrap(), kept, 4)?;
        let changed = changed.into_iter();
        Ok(changed
            .map(|(key, value)| (key.to_owned(), value))
            .collect::<Map<_, _>>()
            .into())
    }

    #[test]
    fn every_known_key_follows_its_blocks() {
        let config = json!({
            "num_hidden_layers": 4, "layer_types": ["a", "b", "c", "d"], "mlp_only_layers": [0, 2, 3],
            "max_window_layers": 2, "hidden_size": 4, "eos_token_id": [1, 2, 3, 4],
        });
        let expected = json!({
            "num_hidden_layers": 2, "layer_types": ["b", "d"], "mlp_only_layers": [1],
            "max_window_layers": 1,
        });
        assert_eq!(changed(&config, &[1, 3]), Ok(expected));
        let config = json!({"num_hidden_layers": 4, "max_window_layers": 28, "layer_types": null});
        assert_eq!(changed(&config, &[0]), Ok(json!({"num_hidden_layers": 1})));
    }

    #[test]
    fn a_list_that_may_speak_of_blocks_is_named() {
        for (key, list) in [
            ("no_rope_layers", json!([1, 0])),
            ("windows", json!([1, 2, 3, 4])),
        ] {
            let error = changed(&json!({ key: list }), &[0]).unwrap_err();
            assert!(error.contains(key), "{error}");
        }
        let harmless = json!({"no_rope_layers": [], "bounds": [1, 2, 3], "layers": 4});
        assert_eq!(changed(&harmless, &[0]), Ok(json!({})));
    }
}
