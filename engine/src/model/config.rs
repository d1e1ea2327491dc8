//! Keys of a `config.json`, read as Python and transformers read them.

use std::borrow::Cow;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::checkpoint::{LFS_POINTER, is_lfs_pointer, read_small_file};
use crate::error::{EngineError, Result};

/// Longest `config.json` that is read.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Most of each dimension: keeps products of them far from overflow.
pub(super) const MAX_DIMENSION: usize = 1 << 24;

/// A JSON object whose `null` values count as absent.
#[derive(Debug, Default, Clone)]
pub(super) struct Config(Map<String, Value>);

impl Config {
    /// Reads `config.json` in `dir`.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        Self::parse(&read_text(dir)?)
    }

    /// Parses the content of a `config.json`.
    pub(super) fn parse(json: &[u8]) -> Result<Self> {
        parse_json(json)
            .map(Self)
            .map_err(|error| EngineError::InvalidConfig(error.to_string()))
    }

    /// All keys with their values.
    pub(super) fn entries(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The same with other values for some keys.
    pub(super) fn with(&self, values: &[(&str, Value)]) -> Self {
        let values = values.iter();
        let values = values.map(|(key, value)| ((*key).to_owned(), value.clone()));
        self.clone().overlaid(Self(values.collect()))
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there, if only as `null`.
    pub(super) fn names(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Whether the key says anything.
    pub(super) fn says(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// A string.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", Value::as_str)
    }

    /// A boolean; absent = false.
    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        let flag = self.typed(key, "true or false", Value::as_bool)?;
        Ok(flag.unwrap_or(false))
    }

    /// A boolean, or `default` where the key is absent.
    pub(super) fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        if self.says(key) {
            self.flag(key)
        } else {
            Ok(default)
        }
    }

    /// A finite number greater than 0.
    pub(super) fn positive(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number greater than 0", |value| {
            value.as_f64().filter(|x| x.is_finite() && *x > 0.0)
        })
    }

    /// An integer of at least 0.
    pub(super) fn count(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a whole number", |value| {
            value.as_u64().and_then(|n| usize::try_from(n).ok())
        })
    }

    /// A dimension.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>> {
        self.size_up_to(key, MAX_DIMENSION)
    }

    /// A dimension that has to be there.
    pub(super) fn required_size(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| missing(key))
    }

    /// A number from 1 to `limit`.
    pub(super) fn size_up_to(&self, key: &str, limit: usize) -> Result<Option<usize>> {
        self.typed(key, &format!("1 to {limit}"), |value| {
            let size = value.as_u64().and_then(|n| usize::try_from(n).ok())?;
            (1..=limit).contains(&size).then_some(size)
        })
    }

    /// Integers of at least 0 in a row.
    pub(super) fn counts(&self, key: &str) -> Result<Option<Vec<usize>>> {
        self.typed(key, "an array of whole numbers", |value| {
            let count = |n: &Value| n.as_u64().and_then(|n| usize::try_from(n).ok());
            value.as_array()?.iter().map(count).collect()
        })
    }

    /// Strings in a row.
    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.typed(key, "an array of strings", |value| {
            value.as_array()?.iter().map(Value::as_str).collect()
        })
    }

    /// Numbers greater than 0 in a row.
    pub(super) fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.typed(key, "an array of numbers greater than 0", |value| {
            let positive = |x: &Value| x.as_f64().filter(|x| x.is_finite() && *x > 0.0);
            value.as_array()?.iter().map(positive).collect()
        })
    }

    /// An object of its own.
    pub(super) fn object(&self, key: &str) -> Result<Option<Self>> {
        self.typed(key, "an object", |value| {
            value.as_object().cloned().map(Self)
        })
    }

    /// Its keys with those of `other` in their place.
    pub(super) fn overlaid(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A key whose value is an object, if there is one.
    pub(super) fn nested(&self) -> Option<&str> {
        let mut nested = self.0.iter().filter(|(_, value)| value.is_object());
        nested.next().map(|(key, _)| key.as_str())
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(EngineError::InvalidConfig(format!(
                "{key} is {value}, expected {expected}"
            ))),
        }
    }
}

/// The content of `config.json` in `dir`.
pub(super) fn read_text(dir: &Path) -> Result<Vec<u8>> {
    let path = dir.join("config.json");
    let bytes = read_small_file(&path, MAX_CONFIG_BYTES).map_err(|error| match error {
        EngineError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            EngineError::InvalidConfig(format!("there is none in {}", dir.display()))
        }
        other => other,
    })?;
    if is_lfs_pointer(&bytes) {
        return Err(EngineError::InvalidConfig(LFS_POINTER.to_owned()));
    }
    Ok(bytes)
}

/// Parses what Python wrote: its `NaN` and `Infinity` become strings.
pub fn parse_json<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(&quote_constants(json))
}

/// The complaint that a key is not there.
pub(super) fn missing(key: &str) -> EngineError {
    EngineError::InvalidConfig(format!("{key} is missing"))
}

/// Puts quotes around the constants that Python writes and JSON does not have, so that only who needs one stumbles.
fn quote_constants(json: &[u8]) -> Cow<'_, [u8]> {
    const CONSTANTS: [&[u8]; 3] = [b"NaN", b"-Infinity", b"Infinity"];
    let mut quoted: Vec<u8> = Vec::new();
    let (mut done, mut at, mut in_string) = (0, 0, false);
    while at < json.len() {
        let rest = &json[at..];
        let constant = CONSTANTS.iter().find(|constant| rest.starts_with(constant));
        at += match (in_string, rest[0], constant) {
            (true, b'\\', _) => 2,
            (_, b'"', _) => {
                in_string = !in_string;
                1
            }
            (false, _, Some(constant)) => {
                quoted.extend_from_slice(&json[done..at]);
                quoted.extend_from_slice(&[b"\"", *constant, b"\""].concat());
                done = at + constant.len();
                constant.len()
            }
            _ => 1,
        };
    }
    if done == 0 {
        return Cow::Borrowed(json);
    }
    quoted.extend_from_slice(&json[done..]);
    Cow::Owned(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Config {
        Config::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn null_counts_as_absent_and_a_wrong_type_is_named() {
        let config = config(r#"{"a": null, "b": 3, "c": "x", "d": -1, "e": 0}"#);
        assert_eq!(config.size("a").unwrap(), None);
        assert!(config.names("a") && !config.says("a"));
        assert_eq!(config.size("b").unwrap(), Some(3));
        assert!(!config.flag("missing").unwrap());
        assert_eq!(config.count("e").unwrap(), Some(0));
        for (key, complaint) in [
            ("c", "c is \"x\", expected 1 to"),
            ("d", "d is -1, expected 1 to"),
            ("e", "e is 0, expected 1 to"),
        ] {
            let error = config.size(key).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn the_constants_of_python_are_read_and_of_no_use_as_numbers() {
        let config = config(
            r#"{"limit": [0.0, Infinity], "theta": NaN, "low": -Infinity, "text": "a \" Infinity \\", "n": 3}"#,
        );
        assert_eq!(config.text("text").unwrap(), Some("a \" Infinity \\"));
        assert_eq!(config.size("n").unwrap(), Some(3));
        for key in ["theta", "low"] {
            assert!(config.positive(key).is_err(), "{key}");
        }
        assert!(Config::parse(b"[Infinity").is_err());
        assert!(Config::parse(br#"{"a": "\"#).is_err());
    }
}
