//! Finds fields that a JSON body has twice: a map would silently keep the last one.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The most fields to report: a small body must not cause a huge answer.
const MOST: usize = 20;

/// Characters of a name that a pointer shows, and of a pointer.
const NAME: usize = 80;
const POINTER: usize = 400;

/// JSON pointers of the first fields that their object has already; long ones are cut.
pub(in crate::http) fn duplicates(json: &[u8]) -> serde_json::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let walk = Walk {
        pointer: String::new(),
        found: &mut found,
    };
    walk.deserialize(&mut deserializer)?;
    Ok(found)
}

/// Visits one value.
struct Walk<'f> {
    pointer: String,
    found: &'f mut Vec<String>,
}

impl Walk<'_> {
    fn at(&mut self, segment: &str) -> Walk<'_> {
        let mut pointer = self.pointer.clone();
        if pointer.len() < POINTER {
            let segment: String = segment.chars().take(NAME).collect();
            pointer.push('/');
            pointer.push_str(&segment.replace('~', "~0").replace('/', "~1"));
        }
        Walk {
            pointer,
            found: self.found,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let inner = self.at(&name);
            if names.contains(&name) {
                if inner.found.len() < MOST {
                    inner.found.push(inner.pointer);
                }
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(inner)?;
            }
            names.insert(name);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0;
        while seq
            .next_element_seed(self.at(&format!("{index}")))?
            .is_some()
        {
            index += 1;
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_repeated_field_is_found_wherever_it_is() {
        let json = br#"{"a": 1, "b": [{"c": null, "c/d": 1.5, "c/d": {}}, -1], "a": true, "e": {"a": "x"}}"#;
        assert_eq!(duplicates(json).unwrap(), ["/b/0/c~1d", "/a"]);
    }

    #[test]
    fn a_small_body_never_asks_for_a_huge_answer() {
        let repeated = r#""":0,"#.repeat(6_500);
        let json = format!(r#"{{"{}":{{{repeated}"":0}}}}"#, "~".repeat(32_000));
        let found = duplicates(json.as_bytes()).unwrap();
        assert_eq!(found.len(), MOST);
        assert!(found.iter().all(|pointer| pointer.len() < 200));
    }
}
