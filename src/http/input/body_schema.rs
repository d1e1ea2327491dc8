//! The schema of a submission's body. It is read by `JobRequest::parse`, which reports more than a schema can say.

use serde_json::{Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use crate::domain::spec::{Guard, task_names};
use crate::engine::METHODS;

/// The body of a submission.
pub(in crate::http) struct JobBody;

/// The body that registers a webhook.
pub(in crate::http) struct WebhookBody;

macro_rules! part {
    ($name:literal) => {
        include_str!(concat!("schemas/", $name, ".json"))
    };
}

/// What the schemas refer to by name.
const PARTS: [(&str, &str); 8] = [
    ("PruneBody", part!("prune")),
    ("EvaluateBody", part!("evaluate")),
    ("ModelBody", part!("model")),
    ("EvaluationBody", part!("evaluation")),
    ("MetadataBody", part!("metadata")),
    ("NameBody", part!("name")),
    ("SubmitterBody", part!("submitter")),
    ("ResourcesBody", part!("resources")),
];

/// Where the schema of a job of the type `prune` lists the methods, `null` among them in the first place.
const METHOD_NAMES: [&str; 2] = [
    "/properties/method/oneOf/0/enum",
    "/properties/method/oneOf/1/properties/type/enum",
];

/// Where the evaluation's schema lists the tasks.
const TASK_NAMES: [&str; 2] = [
    "/properties/tasks/items/oneOf/0/enum",
    "/properties/tasks/items/oneOf/1/properties/name/enum",
];

/// Where it describes the thresholds.
const THRESHOLDS: &str = "/properties/guard/oneOf/1/properties";

impl PartialSchema for JobBody {
    fn schema() -> RefOr<Schema> {
        read(part!("job"))
    }
}

impl ToSchema for JobBody {
    fn name() -> std::borrow::Cow<'static, str> {
        "JobBody".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.extend(PARTS.map(|(name, text)| (name.to_owned(), read(text))));
    }
}

impl PartialSchema for WebhookBody {
    fn schema() -> RefOr<Schema> {
        read(part!("webhook"))
    }
}

impl ToSchema for WebhookBody {
    fn name() -> std::borrow::Cow<'static, str> {
        "WebhookBody".into()
    }
}

fn read(text: &str) -> RefOr<Schema> {
    let schema = serde_json::from_str(text).and_then(|mut schema: Value| {
        for pointer in TASK_NAMES {
            if let Some(names) = schema.pointer_mut(pointer) {
                *names = json!(task_names());
            }
        }
        for (pointer, absent) in METHOD_NAMES.into_iter().zip([Some(Value::Null), None]) {
            if let Some(names) = schema.pointer_mut(pointer) {
                let methods = METHODS.map(|method| Value::from(method.name()));
                *names = methods.into_iter().chain(absent).collect();
            }
        }
        if let Some(thresholds) = schema.pointer_mut(THRESHOLDS) {
            let defaults = serde_json::to_value(Guard::default())?;
            for (name, default) in defaults.as_object().into_iter().flatten() {
                thresholds[name]["default"] = default.clone();
            }
        }
        serde_json::from_value(schema)
    });
    schema.unwrap_or_else(|error| unreachable!("a test reads these constants: {error}"))
}
