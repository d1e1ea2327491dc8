//! The schemas of what is asked of linears; the types are the engine's.

use std::borrow::Cow;

use serde_json::{Map, Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use crate::engine::{ALLOCATIONS, ParameterKind, Pattern};

/// What is asked of the linears whose names match: one of `sparsity`, `pattern` and `dense`.
#[derive(Debug, utoipa::ToSchema)]
#[schema(as = LinearRule)]
pub struct RuleObject {
    /// A regular expression that is searched for in the names of linears.
    #[schema(rename = "match")]
    pub expression: String,
    /// The fraction of zeros at any position, in [0, 1).
    pub sparsity: Option<f64>,
    /// An `N:M` pattern.
    #[schema(value_type = Option<String>, example = "2:4")]
    pub pattern: Option<Pattern>,
    /// Whether the linears are left as they are.
    pub dense: bool,
}

/// The object that names an allocation and its parameters.
#[derive(Debug)]
pub struct AllocationObject;

impl PartialSchema for AllocationObject {
    fn schema() -> RefOr<Schema> {
        let docs = ALLOCATIONS.map(|it| format!("`{}`: {}", it.name(), it.doc()));
        let kind = json!({"type": "string", "description": docs.join(" ")});
        let mut properties = Map::from_iter([("type".to_owned(), kind)]);
        for parameter in ALLOCATIONS.iter().flat_map(|it| it.parameters()) {
            let mut schema: Value = match parameter.kind {
                ParameterKind::Number { .. } => json!({"type": "number"}),
                ParameterKind::Fractions => json!({"type": "array", "items": {"type": "number"}}),
            };
            schema["description"] = json!(parameter.doc);
            properties.insert(parameter.name.to_owned(), schema);
        }
        let schema = json!({
            "type": "object", "description": "How zeros are shared among blocks.", "required": ["type"],
            "properties": properties,
        });
        serde_json::from_value(schema)
            .unwrap_or_else(|error| unreachable!("a test reads this schema: {error}"))
    }
}

impl ToSchema for AllocationObject {
    fn name() -> Cow<'static, str> {
        "Allocation".into()
    }
}
