//! The schemas of bodies, for the description of the API; `request` declares them.

use serde_json::{Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use crate::engine::Pattern;
use crate::request::{CancelRequest, JobRequest, WebhookChange, WebhookRequest};

/// The body of a submission.
pub(in crate::http) struct JobBody;

/// The body that registers a webhook.
pub(in crate::http) struct WebhookBody;

impl PartialSchema for JobBody {
    fn schema() -> RefOr<Schema> {
        let mut schema = JobRequest::schema().schema;
        schema["example"] = prune_example();
        typed(schema)
    }
}

impl ToSchema for JobBody {
    fn name() -> std::borrow::Cow<'static, str> {
        "JobBody".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        for (name, mut schema) in JobRequest::schema().components {
            match name {
                "PruneBody" => schema["example"] = prune_example(),
                "EvaluateBody" => schema["example"] = evaluate_example(),
                _ => {}
            }
            schemas.push((name.to_owned(), typed(schema)));
        }
    }
}

/// The body that changes a webhook.
pub(in crate::http) struct WebhookChangeBody;

/// The body of a cancellation.
pub(in crate::http) struct CancelBody;

impl PartialSchema for WebhookChangeBody {
    fn schema() -> RefOr<Schema> {
        let mut schema = WebhookChange::schema().schema;
        schema["description"] = json!("What changes about a webhook; what is left out stays.");
        schema["example"] = json!({"enabled": false});
        typed(schema)
    }
}

impl ToSchema for WebhookChangeBody {
    fn name() -> std::borrow::Cow<'static, str> {
        "WebhookChangeBody".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        let components = WebhookChange::schema().components.into_iter();
        schemas.extend(components.map(|(name, schema)| (name.to_owned(), typed(schema))));
    }
}

impl PartialSchema for CancelBody {
    fn schema() -> RefOr<Schema> {
        let mut schema = CancelRequest::schema().schema;
        schema["description"] = json!("Who cancels, and why.");
        schema["example"] = json!({"by": "ana", "reason": "the wrong model"});
        typed(schema)
    }
}

impl ToSchema for CancelBody {
    fn name() -> std::borrow::Cow<'static, str> {
        "CancelBody".into()
    }
}

impl PartialSchema for WebhookBody {
    fn schema() -> RefOr<Schema> {
        let mut schema = WebhookRequest::schema().schema;
        schema["description"] = json!("A receiver and the events it gets.");
        schema["example"] = json!({
            "url": "https://example.com/hook", "events": ["job.succeeded", "job.failed"],
        });
        typed(schema)
    }
}

impl ToSchema for WebhookBody {
    fn name() -> std::borrow::Cow<'static, str> {
        "WebhookBody".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        let components = WebhookRequest::schema().components.into_iter();
        schemas.extend(components.map(|(name, schema)| (name.to_owned(), typed(schema))));
    }
}

fn prune_example() -> Value {
    json!({"model": "HuggingFaceTB/SmolLM2-135M", "sparsity": 0.5, "pattern": Pattern::default()})
}

fn evaluate_example() -> Value {
    json!({
        "type": "evaluate",
        "model": {"source": "job", "id": "job_019abcde0123789a8bcdef0123456789"},
        "baseline": "HuggingFaceTB/SmolLM2-135M",
        "evaluation": {"tasks": ["boolq", {"name": "mmlu", "shots": 5}], "limit": 100},
    })
}

fn typed(schema: Value) -> RefOr<Schema> {
    let text = schema.to_string();
    serde_json::from_value(schema)
        .unwrap_or_else(|error| unreachable!("a test builds the document: {error} {text}"))
}
