//! The body of a submission, turned into a checked [`JobSpec`] with every default filled in.
//!
//! All wrong fields are reported at once. A field that nobody knows is an error: a misspelt option that is
//! silently ignored costs hours of computing the wrong thing.

mod evaluation;
mod fields;
mod label;
mod names;
mod prune;
mod scheduling;
mod tasks;
#[cfg(test)]
mod tests;
mod webhook;

use jiff::Timestamp;
use serde_json::Value;

use crate::domain::job::Metadata;
use crate::domain::job::scheduling::Scheduling;
use crate::domain::spec::{EvaluateSpec, EvaluationSpec, JobSpec, JobType};
use fields::Fields;

pub use webhook::WebhookRequest;

/// What a body may ask for.
pub mod limits {
    /// Most calibration windows.
    pub const N_SAMPLES: u64 = 4096;
    /// Shortest window: perplexity needs a token to predict.
    pub const MIN_SEQ_LEN: u64 = 2;
    /// Longest window.
    pub const MAX_SEQ_LEN: u64 = 131_072;
    /// Most texts to measure perplexity on.
    pub const PERPLEXITY_TEXTS: usize = 16;
    /// Most tasks to measure.
    pub const TASKS: usize = 32;
    /// Most worked examples before a question, whatever the task.
    pub const SHOTS: u64 = 100;
    /// The highest threshold for a ratio of perplexities.
    pub const PERPLEXITY_RATIO: f64 = 1e6;
    /// The highest threshold for a divergence, in nats per token.
    pub const KL: f64 = 100.0;
    /// Characters of a job's name.
    pub const NAME_CHARS: usize = 200;
    /// Pairs of metadata.
    pub const METADATA_PAIRS: usize = 16;
    /// Characters of a metadata key.
    pub const METADATA_KEY_CHARS: usize = 64;
    /// Characters of a metadata value.
    pub const METADATA_VALUE_CHARS: usize = 512;
    /// Characters of a submitter's label.
    pub const SUBMITTER_CHARS: usize = 64;
    /// What a priority can be.
    pub const PRIORITY: std::ops::RangeInclusive<i32> = -100..=100;
    /// The shortest deadline, in seconds.
    pub const MIN_DEADLINE_SECONDS: u64 = 1;
    /// The longest one: 30 days.
    pub const MAX_DEADLINE_SECONDS: u64 = 2_592_000;
    /// Characters of a webhook's URL.
    pub const URL_CHARS: usize = 2048;
    /// Characters of a webhook's description.
    pub const DESCRIPTION_CHARS: usize = 200;
    /// Characters of a revision, a local model id, or a path.
    pub const PATH_CHARS: usize = 255;
}

/// The defaults that depend on what the server computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// Calibration windows.
    pub n_samples: usize,
}

impl Defaults {
    /// The paper's recipe.
    pub const GPU: Self = Self { n_samples: 128 };
    /// An eighth of its windows, for a CPU computes that much longer.
    pub const CPU: Self = Self { n_samples: 16 };

    /// The paper's recipe where every device is a GPU.
    pub fn for_devices<S: AsRef<str>>(devices: &[S]) -> Self {
        if devices.iter().all(|device| device.as_ref() == "cpu") {
            Self::CPU
        } else {
            Self::GPU
        }
    }
}

/// One thing that is wrong with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Where, as a JSON pointer.
    pub pointer: String,
    /// The kind of mistake: `required`, `unknown_field`, `wrong_type`, `out_of_range`, `invalid_format`,
    /// `unsupported`, `unknown_task`, `duplicate` or `contradiction`.
    pub code: &'static str,
    /// What is wrong, with the facts.
    pub detail: String,
}

/// A checked submission.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRequest {
    /// The submitter's name for the job.
    pub name: Option<String>,
    /// The submitter's key-value pairs.
    pub metadata: Metadata,
    /// When it runs, and where it can.
    pub scheduling: Scheduling,
    /// Not to be started earlier; `None` = at once.
    pub run_after: Option<Timestamp>,
    /// What to do.
    pub spec: JobSpec,
}

impl JobRequest {
    /// Checks the whole body; the error is the list of all wrong fields, never empty.
    pub fn parse(body: &Value, defaults: Defaults) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let parsed = parse_body(body, defaults, &mut errors);
        match parsed {
            Some(request) if errors.is_empty() => Ok(request),
            _ => Err(errors),
        }
    }
}

/// `None` only where an error was pushed.
fn parse_body(
    body: &Value,
    defaults: Defaults,
    errors: &mut Vec<FieldError>,
) -> Option<JobRequest> {
    let mut root = Fields::of(body, String::new(), errors)?;
    // What is unknown depends on the type, so without one nothing else is said.
    let job_type = job_type(&mut root)?;
    let name = label::name(&mut root);
    let metadata = label::metadata(&mut root);
    let run_after = scheduling::run_after(&mut root);
    let scheduling = scheduling::scheduling(&mut root);
    let spec = match job_type {
        JobType::Prune => prune::spec(&mut root, defaults).map(JobSpec::Prune),
        JobType::Evaluate => evaluate(&mut root).map(JobSpec::Evaluate),
    };
    root.finish();
    Some(JobRequest {
        name,
        metadata,
        scheduling,
        run_after,
        spec: spec?,
    })
}

fn job_type(root: &mut Fields<'_, '_>) -> Option<JobType> {
    if root.value("type").is_none() {
        return Some(JobType::Prune);
    }
    let text = root.string("type")?;
    root.checked("type", "unsupported", text.parse())
}

fn evaluate(root: &mut Fields<'_, '_>) -> Option<EvaluateSpec> {
    let model = root
        .required("model")
        .and_then(|value| names::model(root, "model", value));
    let baseline = root.value("baseline");
    let has_baseline = baseline.is_some();
    let baseline = baseline.and_then(|value| names::model(root, "baseline", value));
    let evaluation = evaluation::spec(root, prune::is_bundled(model.as_ref()));
    if evaluation.as_ref().is_some_and(EvaluationSpec::is_empty) {
        let detail =
            "name a text in `perplexity` or a task in `tasks`: there is nothing to measure"
                .to_owned();
        root.error("evaluation", "required", detail);
    }
    Some(EvaluateSpec {
        model: model?,
        baseline: if has_baseline { Some(baseline?) } else { None },
        evaluation: evaluation?,
    })
}

fn seq_len(fields: &mut Fields<'_, '_>) -> Option<usize> {
    fields
        .integer("seq_len", limits::MIN_SEQ_LEN..=limits::MAX_SEQ_LEN)
        .map(to_usize)
}

/// For numbers that a limit above keeps far below any `usize`.
fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
