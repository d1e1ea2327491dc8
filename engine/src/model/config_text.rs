//! Changes single values of a `config.json` and leaves every other byte as it is.

use std::ops::Range;

use serde_json::Value;

/// `json` with other values for some keys of its outermost object, which are there.
pub(super) fn with_values(json: &[u8], values: &[(&str, Value)]) -> Vec<u8> {
    let (mut changed, mut done) = (Vec::with_capacity(json.len()), 0);
    for (key, range) in places(json) {
        if let Some((_, value)) = values.iter().find(|(name, _)| *name == key) {
            changed.extend_from_slice(&json[done..range.start]);
            changed.extend_from_slice(value.to_string().as_bytes());
            done = range.end;
        }
    }
    changed.extend_from_slice(&json[done..]);
    changed
}

/// Where the values of the outermost object lie, by their keys. A key may stand twice: the last one counts.
fn places(json: &[u8]) -> Vec<(String, Range<usize>)> {
    let (mut found, mut key, mut value) = (Vec::new(), String::new(), None);
    let (mut depth, mut at) = (0usize, 0);
    while at < json.len() {
        let byte = json[at];
        if depth == 1
            && matches!(byte, b',' | b'}')
            && let Some(start) = value.take()
        {
            found.push((std::mem::take(&mut key), trimmed(json, start..at)));
        }
        let mut next = at + 1;
        match byte {
            b'"' => {
                next = end_of_string(json, at);
                if depth == 1 && value.is_none() {
                    key = serde_json::from_slice(&json[at..next]).unwrap_or_default();
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b':' if depth == 1 => value = Some(next),
            _ => {}
        }
        at = next;
    }
    found
}

fn trimmed(json: &[u8], range: Range<usize>) -> Range<usize> {
    let value = &json[range.clone()];
    let start = range.start + value.len() - value.trim_ascii_start().len();
    start..start + value.trim_ascii().len()
}

/// Behind the closing quote of the string that begins at `start`.
fn end_of_string(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_the_outermost_object_change_and_no_other_byte() {
        let json = br#"{
  "n": 1, "in": {"n": 1, "list": ["n", 2]}, "text": "\"n\": 1, {",
  "eps": Infinity,"\u006e" :  [1, "]", {"a": 2}]  ,
  "last" : null
}
"#;
        let values = [("n", json!(7)), ("last", json!(["a", "b"]))];
        let expected = r#"{
  "n": 7, "in": {"n": 1, "list": ["n", 2]}, "text": "\"n\": 1, {",
  "eps": Infinity,"\u006e" :  7  ,
  "last" : ["a","b"]
}
"#;
        let changed = String::from_utf8(with_values(json, &values)).unwrap();
        assert_eq!(changed, expected);
        assert_eq!(with_values(json, &[]), json);
    }

    #[test]
    fn what_is_cut_off_is_left_as_it_is() {
        for json in [&b"{\"n"[..], b"{\"n\": \"\\", b"{\"n\":", b"}}", b""] {
            assert_eq!(with_values(json, &[("n", json!(1))]), json);
        }
    }
}
