//! The id of a job.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// `job_` and a version 7 UUID as 32 hexadecimal digits: ids sort by the time of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Uuid);

impl JobId {
    /// Wraps a fresh version 7 UUID.
    pub fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job_{}", self.0.simple())
    }
}

impl FromStr for JobId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let id = text
            .strip_prefix("job_")
            .and_then(|digits| Uuid::try_parse(digits).ok())
            .map(Self);
        // One job has one spelling: upper case, hyphens and braces are not taken.
        id.filter(|id| id.to_string() == text)
            .ok_or_else(|| format!("{text:?} is not a job id"))
    }
}

impl Serialize for JobId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_has_one_spelling() {
        let text = "job_019abcde0123789a8bcdef0123456789";
        assert_eq!(text.parse::<JobId>().unwrap().to_string(), text);
        for wrong in [
            "job_",
            "019abcde0123789a8bcdef0123456789",
            "job_019ABCDE0123789a8bcdef0123456789",
            "job_../x",
        ] {
            assert!(wrong.parse::<JobId>().is_err(), "{wrong}");
        }
        assert!(
            "job_019abcde-0123-789a-8bcd-ef0123456789"
                .parse::<JobId>()
                .is_err()
        );
    }
}
