//! Checks of a job's models before it runs.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{ModelLibrary, NoRemoteModel, RemoteModel, weight_files};
use crate::domain::redact::HiddenDirs;
use crate::domain::spec::JobSpec;
use crate::domain::spec::{ModelRef, PinnedCommit};
use crate::domain::spec::{memory, work};
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
    /// Its models.
    pub models: Vec<CheckedModel>,
    /// Bytes of memory that it is thought to need; `None` unless something is known of every model.
    pub memory_bytes: Option<u64>,
    /// Bytes of disk that its artifact takes; `None` where that is not known, or it leaves none.
    pub disk_bytes: Option<u64>,
    /// Multiplications that it computes; `None` where that depends on what is not known yet.
    pub work: Option<u64>,
}

/// What is known of a model before its job runs.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedModel {
    /// JSON pointer of its field.
    pub pointer: &'static str,
    /// Which one.
    pub model: ModelRef,
    /// The commit that its revision stands for; of a model of the hub that was asked.
    pub commit: Option<String>,
    /// What it is made of, or why that could not be found out.
    pub plan: Result<ModelPlan, String>,
    /// Bytes of its weights; with the files beside them for a model of the hub.
    pub size_bytes: Option<u64>,
    /// When the weights of a local model were written last, in milliseconds since 1970.
    pub changed_at: Option<u64>,
    /// Bytes that the cache of this machine lacks of it.
    pub download_bytes: Option<u64>,
}

impl CheckedModel {
    /// What its revision is pinned to.
    pub fn pinned(&self) -> Option<PinnedCommit> {
        let ModelRef::Hub { id, revision } = &self.model else {
            return None;
        };
        Some(PinnedCommit {
            id: id.clone(),
            revision: revision.clone(),
            commit: self.commit.clone()?,
        })
    }
}

/// The models of a job that do not lie in the models directory.
#[derive(Debug, Default)]
pub struct Elsewhere {
    /// The directory of each job that the spec names as a model.
    pub job_artifacts: BTreeMap<JobId, PathBuf>,
    /// What the hub said of the models that it was asked for, by the pointers of their fields.
    pub on_hub: BTreeMap<&'static str, Result<RemoteModel, NoRemoteModel>>,
}

impl ModelLibrary {
    /// Checks what can be known before the job runs: that every model is there, that its architecture is
    /// supported, that the pattern and the windows fit it; and fills in the windows' length if it was left open and every
    /// model is known. What the hub did not tell is checked when the job runs.
    pub fn complete(
        &self,
        mut spec: JobSpec,
        elsewhere: &Elsewhere,
    ) -> Result<Checked, CheckError> {
        let (mut models, mut refusals) = (Vec::new(), Vec::new());
        for (pointer, model) in spec.models() {
            match self.look(pointer, model, elsewhere) {
                Ok(found) => models.push(found),
                Err(ConfigError::Refused(code, detail)) => {
                    refusals.push(refusal(pointer, code, detail));
                }
                Err(ConfigError::Unreadable(error)) => return Err(CheckError::Unreadable(error)),
            }
        }
        let plans: Vec<_> = models
            .iter()
            .filter_map(|model| model.plan.clone().ok())
            .collect();
        refusals.extend(misfits(&spec, &plans));
        if !refusals.is_empty() {
            return Err(CheckError::Refused(refusals));
        }
        let mut memory_bytes = None;
        if plans.len() == models.len() {
            fill_seq_len(
                &mut spec,
                plans.iter().map(ModelPlan::default_seq_len).min(),
            );
            memory_bytes = memory::estimate(&spec, &plans);
        }
        let pruned = models.first().filter(|_| spec.method().is_some());
        let own = models.first().and_then(|model| model.plan.as_ref().ok());
        Ok(Checked {
            work: own.and_then(|plan| work::estimate(&spec, plan).total()),
            disk_bytes: pruned.and_then(|model| artifact_bytes(&spec, model)),
            spec,
            models,
            memory_bytes,
        })
    }

    fn look(
        &self,
        pointer: &'static str,
        model: &ModelRef,
        elsewhere: &Elsewhere,
    ) -> Result<CheckedModel, ConfigError> {
        let found = |plan, size_bytes| CheckedModel {
            pointer,
            model: model.clone(),
            commit: None,
            plan,
            size_bytes,
            changed_at: None,
            download_bytes: None,
        };
        let dir = match model {
            ModelRef::Hub { .. } => {
                return match elsewhere.on_hub.get(pointer) {
                    Some(Ok(remote)) => Ok(CheckedModel {
                        commit: Some(remote.commit.clone()),
                        download_bytes: Some(remote.missing_bytes),
                        ..found(Ok(remote.plan.clone()), Some(remote.size_bytes))
                    }),
                    Some(Err(NoRemoteModel::Refused(code, detail))) => {
                        Err(ConfigError::Refused(*code, detail.clone()))
                    }
                    Some(Err(NoRemoteModel::Unknown(reason))) => {
                        Ok(found(Err(reason.clone()), None))
                    }
                    None => Ok(found(Err("the hub was not asked".to_owned()), None)),
                };
            }
            ModelRef::Local { id } => self.locate(id).map_err(|error| error.to_string()),
            ModelRef::Job { id } => {
                let no_artifact = || format!("the job {id} has no artifact");
                let dir = elsewhere.job_artifacts.get(id).cloned();
                dir.ok_or_else(no_artifact)
            }
        };
        let dir = dir.map_err(|detail| ConfigError::Refused(ErrorCode::ModelNotFound, detail))?;
        let (size_bytes, changed_at) = weight_files::size_and_age(&dir).unzip();
        Ok(CheckedModel {
            changed_at,
            ..found(Ok(read(&dir)?), size_bytes)
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
        let pruning = spec.pruning();
        for misfit in plans.iter().flat_map(|plan| pruning.misfits(plan)) {
            refusals.push(refusal(
                &format!("/{}", misfit.part),
                ErrorCode::of_engine(&misfit.error),
                misfit.error.to_string(),
            ));
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

/// Bytes of the artifact at most.
fn artifact_bytes(spec: &JobSpec, model: &CheckedModel) -> Option<u64> {
    let size_bytes = model.size_bytes?;
    Some(match (spec, &model.plan) {
        (JobSpec::Prune(spec), Ok(plan)) => spec.pruning().most_bytes(plan, size_bytes),
        _ => size_bytes,
    })
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
