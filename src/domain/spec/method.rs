//! A method as it stands in a job: `{"type": NAME}`.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use crate::engine::PruningMethod;

/// The object that names a method.
#[derive(Serialize, Deserialize)]
pub(super) struct MethodObject {
    #[serde(rename = "type")]
    method: PruningMethod,
}

/// Writes a method as its object.
pub(super) fn serialize<S: Serializer>(
    method: &PruningMethod,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    MethodObject { method: *method }.serialize(serializer)
}

/// Reads a method from its object.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<PruningMethod, D::Error> {
    MethodObject::deserialize(deserializer).map(|object| object.method)
}

impl PartialSchema for MethodObject {
    fn schema() -> RefOr<Schema> {
        let methods = PruningMethod::all();
        let methods = methods.map(|method| format!("`{}`: {}", method.name(), method.doc()));
        let methods: Vec<_> = methods.collect();
        let schema = json!({
            "type": "object", "description": "How weights, or parts of the model, are ranked.", "required": ["type"],
            "properties": {"type": {"type": "string", "description": methods.join(" ")}},
        });
        serde_json::from_value(schema)
            .unwrap_or_else(|error| unreachable!("a test reads this schema: {error}"))
    }
}

impl ToSchema for MethodObject {
    fn name() -> Cow<'static, str> {
        "Method".into()
    }
}
