//! The body that registers a webhook.

use serde_json::Value;

use super::FieldError;
use super::fields::{Fields, kind};
use super::label;
use super::limits;
use crate::domain::webhook::WebhookEvent;

/// A checked registration. Whether anything may be sent to the URL is for others to say.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        let mut errors = Vec::new();
        let parsed = parse_body(body, &mut errors);
        match parsed {
            Some(request) if errors.is_empty() => Ok(request),
            _ => Err(errors),
        }
    }
}

/// `None` only where an error was pushed.
fn parse_body(body: &Value, errors: &mut Vec<FieldError>) -> Option<WebhookRequest> {
    let mut root = Fields::of(body, String::new(), errors)?;
    let url = root.required("url");
    let url = url.and_then(|_| label::line(&mut root, "url", limits::URL_CHARS));
    let description = label::line(&mut root, "description", limits::DESCRIPTION_CHARS);
    let events = events(&mut root);
    root.finish();
    Some(WebhookRequest {
        url: url?,
        description,
        events: events?,
    })
}

/// Every event unless the body names some.
fn events(root: &mut Fields<'_, '_>) -> Option<Vec<WebhookEvent>> {
    if root.is_absent("events") {
        root.value("events");
        return Some(WebhookEvent::OF_JOBS.to_vec());
    }
    let values = root.array("events")?;
    if values.is_empty() {
        let detail = "name at least one event, or leave the field out for all of them".to_owned();
        root.error("events", "out_of_range", detail);
        return None;
    }
    let mut events = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let path = format!("events/{index}");
        let text = value
            .as_str()
            .ok_or_else(|| format!("expected a string, found {}", kind(value)));
        let Some(text) = root.checked(&path, "wrong_type", text) else {
            continue;
        };
        match text.parse() {
            Ok(event) if events.contains(&event) => {
                root.error(&path, "duplicate", format!("{text} is named twice"));
            }
            Ok(event) if WebhookEvent::OF_JOBS.contains(&event) => events.push(event),
            Ok(_) => root.error(&path, "unsupported", format!("{text} is no event of a job")),
            Err(detail) => root.error(&path, "unsupported", detail),
        }
    }
    Some(events)
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
