//! What tells jobs that would do the same work.

use serde_json::json;

use crate::domain::idempotency::Fingerprint;
use crate::domain::spec::{JobSpec, ModelRef, hub_name};
use crate::models::CheckedModel;

/// The fingerprint of a job's work; `None` while the commit of a model is not known.
pub(super) fn fingerprint(spec: &JobSpec, models: &[CheckedModel]) -> Option<Fingerprint> {
    let mut work = serde_json::to_value(spec).ok()?;
    for checked in models {
        let identity = match &checked.model {
            ModelRef::Hub { id, revision } => {
                let pinned = Some(revision).filter(|revision| hub_name::is_commit(revision));
                json!({"hub": id, "commit": checked.commit.as_ref().or(pinned)?})
            }
            ModelRef::Local { id } => {
                json!({"local": id, "bytes": checked.size_bytes, "changed_at": checked.changed_at})
            }
            ModelRef::Job { id } => json!({"job": id}),
        };
        *work.pointer_mut(checked.pointer)? = identity;
    }
    Some(Fingerprint::of(&work))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Defaults, JobRequest};

    fn of(
        model: &serde_json::Value,
        commit: Option<&str>,
        changed_at: Option<u64>,
    ) -> Option<String> {
        let body = json!({"model": model, "sparsity": 0.5});
        let spec = JobRequest::parse(&body, Defaults::CPU).unwrap().spec;
        let checked = CheckedModel {
            pointer: "/model",
            model: spec.model().clone(),
            commit: commit.map(str::to_owned),
            plan: Err(String::new()),
            size_bytes: Some(1),
            changed_at,
            download_bytes: None,
        };
        fingerprint(&spec, &[checked]).map(|fingerprint| fingerprint.to_string())
    }

    #[test]
    fn a_commit_is_the_same_model_by_whatever_revision_it_was_named() {
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        let hub = |revision: &str| json!({"source": "hub", "id": "org/name", "revision": revision});
        let main = of(&hub("main"), Some(&one), None);
        assert!(main.is_some());
        assert_eq!(main, of(&hub(&one), None, None), "a commit needs no answer");
        assert_ne!(main, of(&hub("main"), Some(&two), None));
        assert_eq!(of(&hub("main"), None, None), None);
    }

    #[test]
    fn a_local_model_that_was_written_since_is_another_one() {
        let local = || json!({"source": "local", "id": "a"});
        assert_eq!(of(&local(), None, Some(1)), of(&local(), None, Some(1)));
        assert_ne!(of(&local(), None, Some(1)), of(&local(), None, Some(2)));
    }
}
