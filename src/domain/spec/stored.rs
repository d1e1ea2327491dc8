//! The spec of a job as the database keeps it.

use serde::{Deserialize as _, Serialize};
use serde_json::Value;

use super::job_spec::JobSpec;
use crate::domain::JobId;

/// The version of the form that specs are stored in. Raise it with every change that an older worker must not run.
pub const SPEC_VERSION: u32 = 5;

/// The spec of a stored job.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every spec is of the large variant"
)]
pub enum StoredSpec {
    /// This version of the program can run it.
    Known(JobSpec),
    /// This version of the program cannot show it: a newer one wrote it, or it is damaged.
    Unreadable {
        /// The type of the job.
        #[serde(rename = "type")]
        job_type: String,
        /// The version of the form that it is stored in.
        spec_version: u32,
        /// Why it cannot be read.
        #[serde(skip)]
        problem: String,
    },
}

impl StoredSpec {
    /// Reads the columns of a job.
    pub fn read(job_type: &str, spec_version: u32, json: &str) -> Self {
        let spec = if spec_version <= SPEC_VERSION {
            parse(job_type, json).map_err(|error| error.to_string())
        } else {
            Err(format!("its spec version is {spec_version}"))
        };
        spec.map_or_else(
            |problem| Self::Unreadable {
                job_type: job_type.to_owned(),
                spec_version,
                problem,
            },
            Self::Known,
        )
    }

    /// The spec where it can be read.
    pub fn known(&self) -> Option<&JobSpec> {
        match self {
            Self::Known(spec) => Some(spec),
            Self::Unreadable { .. } => None,
        }
    }

    /// The word for the type of the job.
    pub fn job_type(&self) -> &str {
        match self {
            Self::Known(spec) => spec.job_type().as_str(),
            Self::Unreadable { job_type, .. } => job_type,
        }
    }

    /// Every job whose artifact is read, each with the JSON pointer of its field.
    pub fn source_jobs(&self) -> Vec<(&'static str, JobId)> {
        self.known().map_or_else(Vec::new, JobSpec::source_jobs)
    }
}

/// Refuses a field that is not known: without it the job would be another one.
fn parse(job_type: &str, json: &str) -> Result<JobSpec, serde_json::Error> {
    let mut stored: Value = serde_json::from_str(json)?;
    if let Some(fields) = stored.as_object_mut() {
        // The first version stored the type beside the spec only.
        fields
            .entry("type")
            .or_insert_with(|| job_type.to_owned().into());
    }
    let spec = JobSpec::deserialize(&stored)?;
    match unknown_field(&stored, &serde_json::to_value(&spec)?) {
        Some(name) => Err(serde::de::Error::custom(format!("unknown field {name:?}"))),
        None => Ok(spec),
    }
}

/// Finds a stored field that reading and writing again has lost.
fn unknown_field<'v>(stored: &'v Value, read: &Value) -> Option<&'v str> {
    match (stored, read) {
        (Value::Object(stored), Value::Object(read)) => {
            let mut fields = stored.iter().filter(|(_, value)| !value.is_null());
            fields.find_map(|(name, value)| match read.get(name) {
                Some(read) => unknown_field(value, read),
                None => Some(name.as_str()),
            })
        }
        (Value::Array(stored), Value::Array(read)) => {
            let mut items = stored.iter().zip(read);
            items.find_map(|(stored, read)| unknown_field(stored, read))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::{Defaults, JobRequest};

    fn spec() -> JobSpec {
        let body = json!({"model": "demo", "sparsity": 0.5, "evaluation": {"tasks": ["arc_easy"]}});
        JobRequest::parse(&body, Defaults::CPU).unwrap().spec
    }

    #[test]
    fn a_stored_spec_is_read_by_this_version_and_the_next_one_is_not() {
        let json = serde_json::to_string(&spec()).unwrap();
        assert_eq!(
            StoredSpec::read("prune", SPEC_VERSION, &json).known(),
            Some(&spec())
        );
        let newer = StoredSpec::read("merge", SPEC_VERSION + 1, &json);
        assert_eq!((newer.known(), newer.job_type()), (None, "merge"));
        assert_eq!(
            serde_json::to_value(&newer).unwrap(),
            json!({"type": "merge", "spec_version": SPEC_VERSION + 1})
        );
    }

    #[test]
    fn a_field_that_is_not_known_is_refused_wherever_it_is() {
        for pointer in ["", "/calibration", "/model", "/evaluation/tasks/0"] {
            let mut stored = serde_json::to_value(spec()).unwrap();
            let part = stored.pointer_mut(pointer).unwrap();
            part["novelty"] = json!(1);
            let read = StoredSpec::read("prune", SPEC_VERSION, &stored.to_string());
            let StoredSpec::Unreadable { problem, .. } = read else {
                panic!("{pointer:?}: {read:?}");
            };
            assert!(problem.contains("novelty"), "{problem}");
        }
    }
}
