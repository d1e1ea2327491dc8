//! Which positions may become zero.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which positions may become zero. On the wire `"unstructured"` or `"N:M"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// Any position.
    Unstructured,
    /// Exactly `kept` of every `group` consecutive input features stay.
    KeptOfGroup {
        /// N of `N:M`.
        kept: usize,
        /// M of `N:M`.
        group: usize,
    },
}

/// The widest group of an N:M pattern.
pub const MAX_GROUP: usize = 64;

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unstructured" {
            return Ok(Self::Unstructured);
        }
        let digits = |part: &str| {
            (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
                .then(|| part.parse().ok())
                .flatten()
        };
        let numbers = text
            .split_once(':')
            .and_then(|(n, m)| Some((digits(n)?, digits(m)?)));
        match numbers {
            Some((kept, group)) if kept >= 1 && kept < group && group <= MAX_GROUP => {
                Ok(Self::KeptOfGroup { kept, group })
            }
            Some(_) => Err(format!(
                "in the pattern {text:?}, N:M needs 1 <= N < M <= {MAX_GROUP}"
            )),
            None => Err(format!(
                "unknown pattern {text:?}, expected \"unstructured\" or \"N:M\" such as \"2:4\""
            )),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unstructured => f.write_str("unstructured"),
            Self::KeptOfGroup { kept, group } => write!(f, "{kept}:{group}"),
        }
    }
}

impl Serialize for Pattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
