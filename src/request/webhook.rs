//! The body that registers a webhook.

use serde::Deserialize;
use serde_json::Value;

use super::rule::text::{line, url, words};
use super::rule::{Object, Rule, field};
use super::{BodySchema, FieldError, limits};
use crate::domain::webhook::WebhookEvent;

/// A checked registration. Whether anything may be sent to the URL is checked later.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct WebhookRequest {
    /// Where the messages go.
    pub url: String,
    /// What its owner says about it.
    pub description: Option<String>,
    /// What it wants to be told.
    pub events: Vec<WebhookEvent>,
}

impl WebhookRequest {
    /// Checks the whole body; the error is the list of all wrong fields, never empty.
    pub fn parse(body: &Value) -> Result<Self, Vec<FieldError>> {
        super::typed(super::read(&rule(), body)?)
    }

    /// The schema of the body.
    pub fn schema() -> BodySchema {
        super::schema(&rule())
    }
}

/// Checked changes to a webhook; what is `None` stays.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct WebhookChange {
    /// Where the messages go.
    pub url: Option<String>,
    /// What its owner says about it.
    pub description: Option<String>,
    /// What it wants to be told.
    pub events: Option<Vec<WebhookEvent>>,
    /// Whether anything is sent.
    pub enabled: Option<bool>,
}

impl WebhookChange {
    /// Checks the whole body; the error is the list of all wrong fields, never empty.
    pub fn parse(body: &Value) -> Result<Self, Vec<FieldError>> {
        super::typed(super::read(&change(), body)?)
    }

    /// The schema of the body.
    pub fn schema() -> BodySchema {
        super::schema(&change())
    }
}

fn change() -> Rule {
    let fields = vec![
        field("url", url()).doc("Where the messages go from now on."),
        field("description", line(limits::DESCRIPTION_CHARS)).doc("For people."),
        field("events", events()).doc("The events to send from now on."),
        field("enabled", Rule::Flag).doc(
            "Whether anything is sent. Events while it is disabled are not sent later; what waited before is.",
        ),
    ];
    Object::new(fields).into()
}

fn events() -> Rule {
    let events = WebhookEvent::OF_JOBS.map(WebhookEvent::as_str);
    Rule::some_of(words("event", events.into()).named("JobEvent"))
}

fn rule() -> Rule {
    let all = WebhookEvent::OF_JOBS.map(WebhookEvent::as_str);
    let fields = vec![
        field("url", url()).required().doc(
            "Where the messages go: `https`, port 443, a public address, no user name or password, \
             unless the operator allows more.",
        ),
        field("description", line(limits::DESCRIPTION_CHARS))
            .doc("For people; no control characters."),
        field("events", events())
            .or_computed(all.to_vec())
            .doc("The events to send; all unless given."),
    ];
    Object::new(fields).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(body: &Value) -> Vec<(String, &'static str)> {
        let errors = WebhookRequest::parse(body).unwrap_err();
        errors.into_iter().map(|e| (e.pointer, e.code)).collect()
    }

    #[test]
    fn a_url_alone_asks_for_everything() {
        let request = WebhookRequest::parse(&json!({"url": "https://example.com/"})).unwrap();
        assert_eq!(request.events, WebhookEvent::OF_JOBS);
        assert_eq!(request.description, None);
    }

    #[test]
    fn all_wrong_fields_are_told_at_once() {
        let body = json!({
            "description": 1, "secret": "mine",
            "events": ["job.failed", "job.failed", "job.exploded", "webhook.test", 7],
        });
        let found = errors(&body);
        for expected in [
            ("/url", "required"),
            ("/description", "wrong_type"),
            ("/secret", "unknown_field"),
            ("/events/1", "duplicate"),
            ("/events/2", "unsupported"),
            ("/events/3", "unsupported"),
            ("/events/4", "wrong_type"),
        ] {
            assert!(
                found.contains(&(expected.0.to_owned(), expected.1)),
                "{expected:?} in {found:?}"
            );
        }
        assert_eq!(found.len(), 7);
        let url = "https://example.com/";
        assert_eq!(
            errors(&json!({"url": url, "events": []})),
            [("/events".to_owned(), "out_of_range")]
        );
        let long = format!("{url}{}", "a".repeat(2048));
        assert_eq!(
            errors(&json!({"url": long})),
            [("/url".to_owned(), "out_of_range")]
        );
        assert_eq!(errors(&json!([])), [(String::new(), "wrong_type")]);
    }
}
