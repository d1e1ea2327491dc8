//! Makes the JSON schema of a rule.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Absent, Field, Object, Rule, TextRule, Variant};

/// Schemas that others refer to by name.
pub(in crate::request) type Components = BTreeMap<&'static str, Value>;

impl Rule {
    /// The schema; what has a name of its own goes to the components.
    pub(in crate::request) fn schema(&self, components: &mut Components) -> Value {
        match self {
            Self::Text(text) => text.schema(components),
            Self::Flag => json!({"type": "boolean"}),
            Self::Integer { range, .. } => {
                json!({"type": "integer", "minimum": range.start(), "maximum": range.end()})
            }
            Self::Number(range) => {
                let (least, most) = (number(*range.start()), number(*range.end()));
                json!({"type": "number", "minimum": least, "maximum": most})
            }
            Self::NumberBelow(range) => {
                let (least, below) = (number(range.start), number(range.end));
                json!({"type": "number", "minimum": least, "exclusiveMaximum": below})
            }
            Self::Exactly { name, words } => {
                components.insert(name, json!({"type": "string", "enum": words}));
                json!({
                    "type": "array", "minItems": words.len(), "maxItems": words.len(),
                    "items": reference(name),
                })
            }
            Self::List {
                entry,
                count,
                is_set,
            } => {
                let mut schema = json!({"type": "array", "items": entry.schema(components)});
                if *count.start() > 0 {
                    schema["minItems"] = json!(count.start());
                }
                if *count.end() < usize::MAX {
                    schema["maxItems"] = json!(count.end());
                }
                if *is_set {
                    schema["uniqueItems"] = json!(true);
                }
                schema
            }
            Self::Pairs { key, value, most } => json!({
                "type": "object", "maxProperties": most,
                "propertyNames": key.schema(components),
                "additionalProperties": value.schema(components),
            }),
            Self::Object(object) => object.schema(None, &[], components),
            Self::Tagged {
                tag,
                absent,
                variants,
                shared,
            } => {
                let schemas = variants
                    .iter()
                    .map(|variant| variant.schema(tag, absent, shared, components));
                one_of(schemas.collect())
            }
            Self::Short { text, full, .. } => {
                let mut schemas = vec![text.schema(components)];
                match full.schema(components) {
                    Value::Object(mut map) if map.contains_key("oneOf") => {
                        let alternatives = map.remove("oneOf").unwrap_or_default();
                        schemas.extend(alternatives.as_array().cloned().unwrap_or_default());
                    }
                    schema => schemas.push(schema),
                }
                one_of(schemas)
            }
            Self::Named { name, doc, rule } => {
                let schema = rule.schema(components);
                refer(name, doc, schema, components)
            }
        }
    }
}

impl TextRule {
    fn schema(&self, components: &mut Components) -> Value {
        let mut schema = self.keywords.clone();
        schema["type"] = json!("string");
        match self.name {
            Some(name) => {
                components.insert(name, schema);
                reference(name)
            }
            None => schema,
        }
    }
}

impl Field {
    fn schema(&self, components: &mut Components) -> Value {
        let schema = self.rule.schema(components);
        let mut schema = match &self.absent {
            Absent::Required => schema,
            Absent::Null | Absent::Computed(_) | Absent::UnlessNull(Value::Null) => or_null(schema),
            Absent::Default(value) | Absent::UnlessNull(value) => {
                let mut schema = or_null(schema);
                schema["default"] = value.clone();
                schema
            }
        };
        schema["description"] = json!(self.doc);
        schema
    }
}

impl Object {
    /// The schema of the object with this tag and these fields besides.
    fn schema(
        &self,
        tag: Option<(&str, Value, bool)>,
        shared: &[Field],
        components: &mut Components,
    ) -> Value {
        let mut required = Vec::new();
        let mut properties = json!({});
        if let Some((name, schema, is_required)) = tag {
            properties[name] = schema;
            required.extend(is_required.then_some(name));
        }
        for field in self.fields.iter().chain(shared) {
            properties[field.name] = field.schema(components);
            required.extend(matches!(field.absent, Absent::Required).then_some(field.name));
        }
        let mut schema =
            json!({"type": "object", "additionalProperties": false, "properties": properties});
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        schema
    }
}

impl Variant {
    fn schema(
        &self,
        tag: &str,
        absent: &Absent,
        shared: &[Field],
        components: &mut Components,
    ) -> Value {
        let words = self.tag_schema(components);
        let is_own = |value: &Value| {
            value
                .as_str()
                .is_some_and(|word| self.words.contains(&word))
        };
        let tag = match absent {
            Absent::Default(value) if is_own(value) => {
                let mut words = or_null(words);
                words["default"] = value.clone();
                (tag, words, false)
            }
            Absent::Computed(value) if is_own(value) => (tag, or_null(words), false),
            _ => (tag, words, true),
        };
        let schema = self.object.schema(Some(tag), shared, components);
        match self.named {
            Some((name, doc)) => refer(name, doc, schema, components),
            None => schema,
        }
    }
}

impl Variant {
    /// What the tag may say.
    fn tag_schema(&self, components: &mut Components) -> Value {
        match (self.words_name, &self.words[..]) {
            (Some(name), words) => {
                components.insert(name, json!({"type": "string", "enum": words}));
                reference(name)
            }
            (None, words) => json!({"type": "string", "const": words[0]}),
        }
    }
}

/// Puts a schema under its name, and refers to it.
fn refer(name: &'static str, doc: &str, mut schema: Value, components: &mut Components) -> Value {
    schema["description"] = json!(doc);
    components.insert(name, schema);
    reference(name)
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn one_of(mut schemas: Vec<Value>) -> Value {
    match schemas.len() {
        1 => schemas.remove(0),
        _ => json!({"oneOf": schemas}),
    }
}

/// The same, or `null`.
fn or_null(mut schema: Value) -> Value {
    if schema.get("const").is_none()
        && let Some(kind) = schema.get_mut("type")
    {
        *kind = json!([kind, "null"]);
        return schema;
    }
    let nothing = json!({"type": "null"});
    match schema.get_mut("oneOf") {
        Some(Value::Array(schemas)) => {
            schemas.insert(0, nothing);
            schema
        }
        _ => json!({"oneOf": [nothing, schema]}),
    }
}

/// A whole number without its `.0`.
fn number(number: f64) -> Value {
    let text = number.to_string();
    serde_json::from_str(&text).unwrap_or(json!(number))
}
