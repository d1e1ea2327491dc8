//! The bodies of requests: each is declared once, as a table of fields.
//!
//! The table checks what a client sends, fills in the defaults, and makes the JSON schema. All wrong fields are
//! reported at once. A field that nobody knows is an error: a misspelt option that is silently ignored costs hours of
//! computing the wrong thing.

mod cancel;
mod defaults;
mod evaluation;
mod job;
pub mod limits;
mod rule;
mod targets;
#[cfg(test)]
mod tests;
mod webhook;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::domain::idempotency::OnDuplicate;
use crate::domain::job::Metadata;
use crate::domain::job::scheduling::{DeviceKind, Scheduling};
use crate::domain::spec::{JobSpec, PruneSpec};
use rule::{Components, Errors, Rule};

pub use cancel::CancelRequest;
pub use defaults::Defaults;
pub use job::{ARTIFACT_FORMATS, MODEL_SOURCES};
pub use webhook::{WebhookChange, WebhookRequest};

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

impl FieldError {
    /// The field of the body that it lies in; `None` where the whole body is wrong.
    pub fn field(&self) -> Option<String> {
        let field = self.pointer.split('/').nth(1)?;
        Some(field.replace("~1", "/").replace("~0", "~"))
    }
}

/// The JSON schema of a body.
#[derive(Debug)]
pub struct BodySchema {
    /// Its own.
    pub schema: Value,
    /// Those that it refers to, by name.
    pub components: BTreeMap<&'static str, Value>,
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
    /// What becomes of it where the same work is done already.
    pub on_duplicate: OnDuplicate,
    /// What to do.
    pub spec: JobSpec,
}

/// What [`job::body`] makes of a body, but for the spec.
#[derive(Deserialize)]
struct Common {
    name: Option<String>,
    metadata: Metadata,
    run_after: Option<Timestamp>,
    priority: i32,
    submitter: String,
    resources: Resources,
    deadline_seconds: Option<u64>,
    on_duplicate: OnDuplicate,
}

#[derive(Deserialize)]
struct Resources {
    device: Option<DeviceKind>,
}

impl JobRequest {
    /// Checks the whole body; the error is the list of all wrong fields, never empty.
    pub fn parse(body: &Value, defaults: Defaults) -> Result<Self, Vec<FieldError>> {
        let read = read(&job::body(defaults, job::is_bundled(body)), body)?;
        let common: Common = typed(read.clone())?;
        let to_millisecond = |time: Timestamp| Timestamp::from_millisecond(time.as_millisecond());
        Ok(Self {
            name: common.name,
            metadata: common.metadata,
            scheduling: Scheduling {
                priority: common.priority,
                submitter: common.submitter,
                device_kind: common.resources.device,
                deadline_after: common.deadline_seconds.map(Duration::from_secs),
                ..Scheduling::default()
            },
            on_duplicate: common.on_duplicate,
            // What the database keeps is what was asked for.
            run_after: common.run_after.and_then(|time| to_millisecond(time).ok()),
            spec: typed(read)?,
        })
    }

    /// What is left of a body without the fields that are wrong; `None` where too little is.
    pub fn parse_rest(body: &Value, errors: &[FieldError], defaults: Defaults) -> Option<Self> {
        let mut rest = body.clone();
        for error in errors {
            rest.as_object_mut()?.remove(&error.field()?);
        }
        let read = Self::parse(&rest, defaults).or_else(|_| {
            // Any will do: what it does to the model is not looked at.
            rest["sparsity"] = json!(0);
            Self::parse(&rest, defaults)
        });
        read.ok()
    }

    /// What a body that names only a model and a sparsity asks for.
    pub fn usual(defaults: Defaults) -> PruneSpec {
        let body = json!({"model": "organisation/name", "sparsity": 0});
        match Self::parse(&body, defaults).map(|request| request.spec) {
            Ok(JobSpec::Prune(spec)) => spec,
            other => unreachable!("a test reads this body: {other:?}"),
        }
    }

    /// The schema of the body.
    pub fn schema() -> BodySchema {
        schema(&job::body(Defaults::GPU, false))
    }
}

fn schema(body: &Rule) -> BodySchema {
    let mut components = Components::new();
    let schema = body.schema(&mut components);
    BodySchema { schema, components }
}

/// The body with every default filled in.
fn read(rule: &Rule, body: &Value) -> Result<Value, Vec<FieldError>> {
    let mut errors = Errors::default();
    let read = rule.read(body, "", &mut errors);
    if errors.0.is_empty() {
        Ok(read)
    } else {
        Err(errors.0)
    }
}

/// What was read, as a type. It fails only where the table says something else than the type.
fn typed<T: DeserializeOwned>(read: Value) -> Result<T, Vec<FieldError>> {
    serde_json::from_value(read).map_err(|error| {
        vec![FieldError {
            pointer: String::new(),
            code: "invalid_format",
            detail: error.to_string(),
        }]
    })
}
