//! Checks a submission and makes no job of it.

use serde_json::Value;

use super::check;
use crate::domain::Refusal;
use crate::domain::idempotency::OnDuplicate;
use crate::domain::job::Job;
use crate::jobs::{Error, Jobs};
use crate::models::CheckedModel;
use crate::request::{FieldError, JobRequest};

/// What would become of a submission.
#[derive(Debug, Default)]
pub struct Validation {
    /// Its wrong fields.
    pub errors: Vec<FieldError>,
    /// What of it cannot be done.
    pub refusals: Vec<Refusal>,
    /// What would be accepted; `None` where anything is wrong.
    pub accepted: Option<Acceptable>,
}

/// A submission that would be accepted.
#[derive(Debug)]
pub struct Acceptable {
    /// The job that it would be.
    pub job: Job,
    /// What becomes of it where the same work is done already.
    pub on_duplicate: OnDuplicate,
    /// Its models.
    pub models: Vec<CheckedModel>,
    /// Names of its data sets that come from the hub.
    pub data_sets: Vec<String>,
}

impl Jobs {
    /// Finds everything that is wrong with a submission, or what it would be.
    pub async fn validate(&self, body: &Value) -> Result<Validation, Error> {
        let defaults = self.parts.defaults;
        let (errors, request) = match JobRequest::parse(body, defaults) {
            Ok(request) => (Vec::new(), Some(request)),
            Err(errors) => {
                let rest = JobRequest::parse_rest(body, &errors, defaults);
                (errors, rest)
            }
        };
        let mut validation = Validation {
            errors,
            ..Validation::default()
        };
        let Some(mut request) = request else {
            return Ok(validation);
        };
        match check::complete(&self.parts, request.spec.clone()).await {
            Ok(checked) if validation.errors.is_empty() => {
                request.spec = checked.spec.clone();
                validation.accepted = Some(Acceptable {
                    on_duplicate: request.on_duplicate,
                    data_sets: self.parts.datasets.from_hub(&checked.spec),
                    job: self.job(request, &checked),
                    models: checked.models,
                });
            }
            Ok(_) => {}
            Err(Error::Refused(refusals)) => {
                let errors = &validation.errors;
                let is_told = |refusal: &Refusal| {
                    let mut fields = errors.iter().filter_map(FieldError::field);
                    fields.any(|field| refusal.pointer.split('/').nth(1) == Some(&*field))
                };
                let refusals = refusals.into_iter();
                validation.refusals = refusals.filter(|refusal| !is_told(refusal)).collect();
            }
            Err(error) => return Err(error),
        }
        Ok(validation)
    }
}
