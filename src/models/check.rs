//! Checks of a job's models before it runs.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{ModelLibrary, weight_files};
use crate::domain::redact::HiddenDirs;
use crate::domain::spec::JobSpec;
use crate::domain::spec::ModelRef;
use crate::domain::spec::memory;
use crate::domain::{ErrorCode, JobId, Refusal};
use crate::engine::{EngineError, ModelPlan};

/// Why a model could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The job cannot be done; never empty.
    #[error("the job cannot be accepted")]
    Refused(Vec<Refusal>),
    /// The model's files cannot be read, for which the submitter is not to blame.
    #[error("the model cannot be read")]
    Unreadable(#[source] EngineError),
}

/// A job whose models were looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// With what the models say filled in.
    pub spec: JobSpec,
    /// Bytes of memory that it is thought to need; `None` unless every model is on this machine.
    pub memory_bytes: Option<u64>,
    /// Bytes of disk that its artifact takes; `None` where that is not known, or it leaves none.
    pub disk_bytes: Option<u64>,
}

impl ModelLibrary {
    /// Checks what can be known before the job runs: that every local model is there, that its architecture is
    /// supported, that the pattern and the windows fit it; and fills in the windows' length if it was left open and every
    /// model is on this machine. `job_artifacts` holds the directory of each job that the spec names as a model. Hub
    /// models are checked when the job runs.
    pub fn complete(
        &self,
        mut spec: JobSpec,
        job_artifacts: &BTreeMap<JobId, PathBuf>,
    ) -> Result<Checked, CheckError> {
        let (mut plans, mut refusals, mut disk_bytes) = (Vec::new(), Vec::new(), None);
        for (pointer, model) in spec.models() {
            let dir = match model {
                ModelRef::Hub { .. } => continue,
                ModelRef::Local { id } => self.locate(id).map_err(|error| error.to_string()),
                ModelRef::Job { id } => {
                    let no_artifact = || format!("the job {id} has no artifact");
                    job_artifacts.get(id).cloned().ok_or_else(no_artifact)
                }
            };
            let dir = dir.map_err(|detail| ConfigError::Refused(ErrorCode::ModelNotFound, detail));
            let plan = dir.and_then(|dir| {
                if matches!(spec, JobSpec::Prune(_)) {
                    disk_bytes = weight_files::size_bytes(&dir);
                }
                read(&dir)
            });
            match plan {
                Ok(plan) => plans.push(plan),
                Err(ConfigError::Refused(code, detail)) => {
                    refusals.push(refusal(pointer, code, detail));
                }
                Err(ConfigError::Unreadable(error)) => return Err(CheckError::Unreadable(error)),
            }
        }
        refusals.extend(misfits(&spec, &plans));
        if !refusals.is_empty() {
            return Err(CheckError::Refused(refusals));
        }
        let mut memory_bytes = None;
        if plans.len() == spec.models().len() {
            fill_seq_len(
                &mut spec,
                plans.iter().map(ModelPlan::default_seq_len).min(),
            );
            memory_bytes = memory::estimate(&spec, &plans);
        }
        Ok(Checked {
            spec,
            memory_bytes,
            disk_bytes,
        })
    }
}

/// Why a configuration is not available.
pub(super) enum ConfigError {
    Refused(ErrorCode, String),
    Unreadable(EngineError),
}

pub(super) fn read(dir: &Path) -> Result<ModelPlan, ConfigError> {
    // Every model that was found is there, unless this server lost its own files: the bundled model, or an artifact.
    let found = std::fs::metadata(dir).map_err(|source| EngineError::Io {
        action: "open",
        path: dir.to_path_buf(),
        source,
    });
    found
        .and_then(|_| ModelPlan::read(dir))
        .map_err(|error| match error {
            EngineError::Io { ref source, .. } if source.kind() != ErrorKind::PermissionDenied => {
                ConfigError::Unreadable(error)
            }
            other => {
                let hidden = HiddenDirs::default().with(dir, "the model's directory");
                let reason = match std::error::Error::source(&other) {
                    Some(source) => format!("{other}: {source}"),
                    None => other.to_string(),
                };
                ConfigError::Refused(ErrorCode::of_engine(&other), hidden.hide(&reason))
            }
        })
}

/// What does not fit the models that could be read.
fn misfits(spec: &JobSpec, plans: &[ModelPlan]) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    if let JobSpec::Prune(spec) = spec {
        for plan in plans {
            if let Err(error) = plan.check_pattern(spec.pattern) {
                refusals.push(refusal(
                    "/pattern",
                    ErrorCode::of_engine(&error),
                    error.to_string(),
                ));
            }
        }
    }
    let calibration = match spec {
        JobSpec::Prune(spec) => spec.calibration.seq_len,
        JobSpec::Evaluate(_) => None,
    };
    let context = plans.iter().map(|plan| plan.max_seq_len).min();
    for (pointer, seq_len) in [
        ("/calibration/seq_len", calibration),
        ("/evaluation/seq_len", spec.evaluation().seq_len),
    ] {
        if let Some((len, context)) = seq_len.zip(context).filter(|(len, context)| len > context) {
            let detail =
                format!("windows of {len} tokens are longer than the model's context of {context}");
            refusals.push(refusal(pointer, ErrorCode::SeqLenTooLong, detail));
        }
    }
    refusals
}

fn fill_seq_len(spec: &mut JobSpec, seq_len: Option<usize>) {
    match spec {
        JobSpec::Prune(spec) => {
            spec.calibration.seq_len = spec.calibration.seq_len.or(seq_len);
            spec.evaluation.seq_len = spec.evaluation.seq_len.or(seq_len);
        }
        JobSpec::Evaluate(spec) => {
            spec.evaluation.seq_len = spec.evaluation.seq_len.or(seq_len);
        }
    }
}

fn refusal(pointer: &str, code: ErrorCode, detail: String) -> Refusal {
    Refusal {
        pointer: pointer.to_owned(),
        code,
        detail,
    }
}
