//! The handle of a method, by its name.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{METHODS, Method};

/// A method of the table, written as its name.
#[derive(Clone, Copy)]
pub struct MethodId(&'static dyn Method);

impl MethodId {
    /// The handle of `method`.
    pub const fn new(method: &'static dyn Method) -> Self {
        Self(method)
    }

    /// Whether it reads calibration windows.
    pub fn needs_calibration(self) -> bool {
        !self.0.needs().is_empty()
    }
}

impl Deref for MethodId {
    type Target = dyn Method;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl Default for MethodId {
    fn default() -> Self {
        METHODS[0]
    }
}

impl PartialEq for MethodId {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for MethodId {}

impl fmt::Debug for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for MethodId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = METHODS.into_iter().find(|method| method.name() == text);
        found.ok_or_else(|| {
            let names = METHODS.map(|method| method.name()).join(", ");
            format!("unknown method {text:?}, expected one of {names}")
        })
    }
}

impl Serialize for MethodId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for MethodId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
