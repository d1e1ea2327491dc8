//! The body of a cancellation.

use serde::Deserialize;
use serde_json::Value;

use super::rule::text::line;
use super::rule::{Object, Rule, field};
use super::{BodySchema, FieldError, limits};

/// A checked cancellation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CancelRequest {
    /// Who asks for it.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl CancelRequest {
    /// Checks the whole body; the error is the list of all wrong fields, never empty.
    pub fn parse(body: &Value) -> Result<Self, Vec<FieldError>> {
        super::typed(super::read(&rule(), body)?)
    }

    /// The schema of the body.
    pub fn schema() -> BodySchema {
        super::schema(&rule())
    }
}

fn rule() -> Rule {
    let fields = vec![
        field("by", line(limits::SUBMITTER_CHARS)).doc("Who asks for it."),
        field("reason", line(limits::DESCRIPTION_CHARS)).doc("Why, for people."),
    ];
    Object::new(fields).into()
}
