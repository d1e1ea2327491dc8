//! What a job shall do. A value of these types has been checked: it can't be out of range.
//!
//! Requests become a [`JobSpec`] in `request`, which reports every wrong field at once.

mod evaluation;
pub mod hub_name;
mod job_spec;
pub mod memory;
mod method;
mod model;
mod stored;
mod targets;
pub mod work;

pub use evaluation::{BosRule, EvaluationSpec, GenerationRule, Guard, TaskRef, task_names};
pub use job_spec::{CalibrationSpec, EvaluateSpec, JobSpec, JobType, PruneSpec};
pub use model::{BUNDLED_MODEL, ModelRef, PinnedCommit};
pub use stored::{SPEC_VERSION, StoredSpec};
pub use targets::{AllocationObject, RuleObject};
