//! What a job shall do, with every name resolved to a place: the common form of a service's job and a command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use candle_core::Device;

use super::PipelineError;
use crate::corpora::{Excerpt, Use};
use crate::datasets::{DataRoots, DatasetNotFound, Place};
use crate::domain::attempt::AttemptSpec;
use crate::domain::spec::PruneSpec;
use crate::domain::spec::{BosRule, EvaluationSpec, Guard};
use crate::domain::spec::{CalibrationSpec, ModelRef};
use crate::domain::{ErrorCode, HubReach};
use crate::engine::{Goal, MethodId, ModelPlan};
use crate::models::ModelLibrary;
use crate::tasks::Task;

/// One job's work.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The model.
    pub model: ModelSource,
    /// How weights are ranked.
    pub method: MethodId,
    /// What is asked of every linear.
    pub goal: Goal,
    /// What activations are observed on; `None` where the method observes none.
    pub calibration: Option<CalibrationPlan>,
    /// What is measured.
    pub evaluation: EvaluationPlan,
    /// Where it is computed.
    pub device: DeviceName,
    /// The job this plan was made from, for the manifest.
    pub spec: Option<PruneSpec>,
}

/// Where the model lies.
#[derive(Debug, Clone)]
pub enum ModelSource {
    /// A repository of the hub.
    Hub {
        /// `organisation/name`.
        id: String,
        /// Branch, tag or commit.
        revision: String,
    },
    /// A directory.
    Directory {
        /// What the manifest calls it.
        id: String,
        /// Where it is.
        path: PathBuf,
    },
    /// The artifact of another job.
    Artifact {
        /// That job.
        id: String,
        /// Its directory.
        path: PathBuf,
    },
}

/// What activations are observed on.
#[derive(Debug, Clone)]
pub struct CalibrationPlan {
    /// Where the tokens come from.
    pub corpus: Corpus,
    /// Number of windows to draw.
    pub n_samples: usize,
    /// Tokens per window; `None` = the smaller of the model's context and 2048.
    pub seq_len: Option<usize>,
    /// Seed of the sampler.
    pub seed: u64,
}

/// Where calibration tokens come from.
#[derive(Debug, Clone)]
pub enum Corpus {
    /// A text to draw windows from.
    Text {
        /// What the manifest calls it.
        name: String,
        /// Where it is.
        place: Place,
    },
    /// A safetensors file with the windows themselves.
    Ids(PathBuf),
}

/// What is measured before and after.
#[derive(Debug, Clone, Default)]
pub struct EvaluationPlan {
    /// Texts to measure perplexity on.
    pub texts: Vec<EvaluationText>,
    /// Tokens per window; `None` = the smaller of the model's context and 2048.
    pub seq_len: Option<usize>,
    /// The first so many windows; `None` = all.
    pub windows: Option<usize>,
    /// Tasks to score.
    pub tasks: Vec<TaskPlan>,
    /// The first so many documents of each task; `None` = all.
    pub limit: Option<usize>,
    /// Whether a token for the beginning of text goes before a task's context.
    pub bos: BosRule,
    /// From where on a result is called a collapse.
    pub guard: Guard,
    /// Where scores are kept from one measurement to the next; `None` = nowhere.
    pub scores_dir: Option<PathBuf>,
}

/// A task to score.
#[derive(Debug, Clone)]
pub struct TaskPlan {
    /// The task.
    pub task: &'static Task,
    /// Worked examples before each question.
    pub shots: usize,
    /// Where its documents are.
    pub documents: Place,
    /// Where its worked examples are, if it is run with any.
    pub examples: Option<Place>,
}

/// A text to measure on.
#[derive(Debug, Clone)]
pub struct EvaluationText {
    /// What the manifest calls it.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// What of it is measured.
    pub excerpt: Excerpt,
}

impl TaskPlan {
    /// Finds the data sets of a task.
    pub fn locate(
        task: &'static Task,
        shots: usize,
        roots: &DataRoots,
    ) -> Result<Self, DatasetNotFound> {
        let examples = task.examples.filter(|_| shots > 0);
        Ok(Self {
            task,
            shots,
            documents: roots.locate_split(&task.split)?,
            examples: examples
                .map(|examples| roots.locate_split(&examples.split))
                .transpose()?,
        })
    }
}

impl ModelSource {
    /// Where a model of an attempt at a service's job lies.
    pub fn of_attempt(attempt: &AttemptSpec, model: &ModelRef) -> Result<Self, PipelineError> {
        let library = ModelLibrary {
            models_dir: attempt.models_dir.clone(),
            bundled_dir: attempt.bundled_dir.clone(),
        };
        Ok(match model {
            ModelRef::Hub { id, revision } => Self::Hub {
                id: id.clone(),
                revision: revision.clone(),
            },
            ModelRef::Local { id } => Self::Directory {
                id: id.clone(),
                path: library.locate(id)?,
            },
            ModelRef::Job { id } => Self::Artifact {
                id: id.to_string(),
                path: attempt.job_artifacts.get(id).cloned().ok_or_else(|| {
                    let message = format!("the artifact of the job {id} is not there");
                    PipelineError::refused(ErrorCode::ModelNotFound, message)
                })?,
            },
        })
    }
}

impl EvaluationPlan {
    /// What an attempt at a service's job measures.
    pub fn of_attempt(attempt: &AttemptSpec, spec: &EvaluationSpec) -> Result<Self, PipelineError> {
        let roots = data_roots(attempt);
        let texts = spec.perplexity.iter().map(|dataset| {
            let place = roots.locate(dataset, Use::Evaluation)?;
            Ok(EvaluationText {
                name: dataset.name().to_owned(),
                place,
                excerpt: dataset.excerpt(),
            })
        });
        let tasks = spec.tasks.iter().map(|asked| {
            let task = Task::find(&asked.name).ok_or_else(|| {
                let message = format!("there is no task {:?}", asked.name);
                PipelineError::refused(ErrorCode::InvalidRequest, message)
            })?;
            Ok(TaskPlan::locate(task, asked.shots, &roots)?)
        });
        Ok(Self {
            texts: texts.collect::<Result<_, PipelineError>>()?,
            seq_len: spec.seq_len,
            windows: spec.windows,
            tasks: tasks.collect::<Result<_, PipelineError>>()?,
            limit: spec.limit,
            bos: spec.bos,
            guard: spec.guard,
            scores_dir: Some(attempt.scores_dir.clone()),
        })
    }

    /// Whether nothing is measured.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.tasks.is_empty()
    }
}

fn data_roots(attempt: &AttemptSpec) -> DataRoots {
    DataRoots {
        data_dir: attempt.data_dir.clone(),
        bundled_dir: attempt.bundled_dir.clone(),
        // Whether it may really be asked is known to whoever asks.
        hub: HubReach::Online,
    }
}

impl Plan {
    /// The plan of an attempt at a service's job of the type `prune`.
    pub fn of_attempt(attempt: &AttemptSpec, spec: &PruneSpec) -> Result<Self, PipelineError> {
        let roots = data_roots(attempt);
        let calibration = spec.calibration_in_use();
        let calibration =
            calibration.map(|calibration| CalibrationPlan::locate(calibration, &roots));
        Ok(Self {
            model: ModelSource::of_attempt(attempt, &spec.model)?,
            method: spec.method,
            goal: spec.goal(),
            calibration: calibration.transpose()?,
            evaluation: EvaluationPlan::of_attempt(attempt, &spec.evaluation)?,
            device: DeviceName::of_attempt(attempt)?,
            spec: Some(spec.clone()),
        })
    }
}

impl CalibrationPlan {
    fn locate(spec: &CalibrationSpec, roots: &DataRoots) -> Result<Self, DatasetNotFound> {
        Ok(Self {
            corpus: Corpus::Text {
                name: spec.dataset.name().to_owned(),
                place: roots.locate(&spec.dataset, Use::Calibration)?,
            },
            n_samples: spec.n_samples,
            seq_len: spec.seq_len,
            seed: spec.seed,
        })
    }
}

/// The length of windows for this model.
pub(super) fn window_len(
    asked: Option<usize>,
    model_plan: &ModelPlan,
) -> Result<usize, PipelineError> {
    let longest = model_plan.max_seq_len;
    match asked {
        Some(len) if len > longest => Err(PipelineError::refused(
            ErrorCode::SeqLenTooLong,
            format!("windows of {len} tokens are longer than the model's context of {longest}"),
        )),
        Some(len) => Ok(len),
        None => Ok(model_plan.default_seq_len()),
    }
}

/// A device by its name: `cpu` or `cuda:N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceName {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU by its number.
    Cuda(usize),
}

impl DeviceName {
    /// The device that a worker has for an attempt.
    pub fn of_attempt(attempt: &AttemptSpec) -> Result<Self, PipelineError> {
        let parsed = attempt.device.parse();
        parsed.map_err(|message: String| {
            PipelineError::refused(ErrorCode::DeviceUnavailable, message)
        })
    }

    /// Makes the device ready.
    pub(super) fn open(&self) -> Result<Device, PipelineError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(index) => Device::new_cuda(*index).map_err(|error| {
                PipelineError::refused(
                    ErrorCode::DeviceUnavailable,
                    format!("device cuda:{index} cannot be used: {error}"),
                )
            }),
        }
    }

    /// As it is written.
    pub(super) fn name(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(index)) => Ok(Self::Cuda(index)),
            None if text == "cpu" => Ok(Self::Cpu),
            _ => Err(format!("unknown device {text:?}, expected cpu or cuda:N")),
        }
    }
}
