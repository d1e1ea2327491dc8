//! Handles of table rows: written as the row's name, read by looking it up.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A row of a table of its kind, such as a method.
pub struct Handle<T: ?Sized + 'static>(&'static T);

/// A kind of thing that stands in a table.
pub trait Listed: 'static {
    /// What one of them is called in messages.
    const KIND: &'static str;

    /// All of them.
    fn all() -> &'static [Handle<Self>];

    /// Its word in requests and reports.
    fn word(&self) -> &'static str;
}

impl<T: ?Sized> Handle<T> {
    /// The handle of a row.
    pub const fn new(row: &'static T) -> Self {
        Self(row)
    }
}

impl<T: ?Sized> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Handle<T> {}

impl<T: ?Sized> Deref for Handle<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0
    }
}

impl<T: ?Sized + Listed> PartialEq for Handle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.word() == other.word()
    }
}

impl<T: ?Sized + Listed> Eq for Handle<T> {}

impl<T: ?Sized + Listed> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl<T: ?Sized + Listed> fmt::Display for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl<T: ?Sized + Listed> FromStr for Handle<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = T::all().iter().find(|row| row.word() == text);
        found.copied().ok_or_else(|| {
            let words: Vec<&str> = T::all().iter().map(|row| row.word()).collect();
            let (kind, words) = (T::KIND, words.join(", "));
            format!("unknown {kind} {text:?}, expected one of {words}")
        })
    }
}

impl<T: ?Sized + Listed> Serialize for Handle<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de, T: ?Sized + Listed> Deserialize<'de> for Handle<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
