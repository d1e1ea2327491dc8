//! Schemas as generators of clients read them: flat objects with names, told apart by a discriminator.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Schemas by their names.
type Schemas = Map<String, Value>;

const PREFIX: &str = "#/components/schemas/";

/// Flattens every schema of a document, says what is always there, and leaves out what nothing refers to.
pub(super) fn simplify(document: &mut Value) {
    let schemas = document["components"]["schemas"].take();
    let Value::Object(schemas) = schemas else {
        unreachable!("a test builds the document: it has schemas")
    };
    let mut flat = flattened(&schemas);
    flat.values_mut().for_each(require_present);
    drop_null_parameters(&mut document["paths"]);
    let used = used(document, &flat);
    flat.retain(|name, _| used.contains(name));
    document["components"]["schemas"] = Value::Object(flat);
}

fn flattened(schemas: &Schemas) -> Schemas {
    let mut flat = Schemas::new();
    for (name, schema) in schemas {
        let mut schema = schema.clone();
        if is_composed(&schema) {
            let mut objects = objects(&schema, schemas);
            if let Some(fields) = schema.as_object_mut() {
                fields.retain(|key, _| key != "allOf" && key != "oneOf");
            }
            if objects.len() == 1 {
                schema = merged(schema, objects.remove(0));
            } else {
                name_variants(name, &mut schema, objects, &mut flat);
            }
        }
        flat.insert(name.clone(), schema);
    }
    flat
}

/// Whether it is made of other schemas, or has alternatives without names.
fn is_composed(schema: &Value) -> bool {
    let is_nameless = |part: &Value| part["type"] == "object" || part.get("allOf").is_some();
    let alternatives = schema["oneOf"].as_array();
    schema.get("allOf").is_some() || alternatives.is_some_and(|parts| parts.iter().any(is_nameless))
}

/// The objects that a schema allows, each with all its fields.
fn objects(schema: &Value, schemas: &Schemas) -> Vec<Value> {
    let reference = schema["$ref"].as_str();
    if let Some(target) = reference.and_then(|path| schemas.get(path.strip_prefix(PREFIX)?)) {
        return objects(target, schemas);
    }
    if let Some(parts) = schema["allOf"].as_array() {
        return parts.iter().fold(vec![json!({})], |whole, part| {
            let parts = objects(part, schemas);
            let pairs = whole.iter().flat_map(|whole| {
                let whole = whole.clone();
                parts
                    .iter()
                    .map(move |part| merged(whole.clone(), part.clone()))
            });
            pairs.collect()
        });
    }
    if let Some(alternatives) = schema["oneOf"].as_array() {
        let objects = alternatives.iter().flat_map(|alternative| {
            let doc = match &alternative["description"] {
                Value::Null => json!({}),
                doc => json!({"description": doc}),
            };
            let objects = objects(alternative, schemas).into_iter();
            objects.map(move |object| merged(doc.clone(), object))
        });
        return objects.collect();
    }
    vec![schema.clone()]
}

/// One object with the fields of both; what else both say is that of the first.
fn merged(mut first: Value, second: Value) -> Value {
    let Value::Object(second) = second else {
        return first;
    };
    for (key, value) in second {
        match (&mut first[&key], value) {
            (Value::Array(known), Value::Array(more)) if key == "required" => known.extend(more),
            (Value::Object(known), Value::Object(more)) if key == "properties" => {
                known.extend(more);
            }
            (known @ Value::Null, value) => *known = value,
            _ => {}
        }
    }
    first
}

/// Puts each object under the word of its tag and the name of the whole, which refers to them.
fn name_variants(name: &str, whole: &mut Value, objects: Vec<Value>, flat: &mut Schemas) {
    let tag = tag(&objects)
        .unwrap_or_else(|| unreachable!("a test builds the document: {name} has no tag"))
        .to_owned();
    let (mut references, mut mapping) = (Vec::new(), json!({}));
    for mut object in objects {
        let word = word(&object, &tag).unwrap_or_default().to_owned();
        object["properties"][&tag] = json!({"type": "string", "const": word});
        let variant = format!("{}{name}", pascal_case(&word));
        let reference = format!("{PREFIX}{variant}");
        flat.insert(variant, object);
        references.push(json!({"$ref": reference}));
        mapping[word] = json!(reference);
    }
    whole["oneOf"] = json!(references);
    whole["discriminator"] = json!({"propertyName": tag, "mapping": mapping});
}

/// The field that is a word of its own in each object.
fn tag(objects: &[Value]) -> Option<&str> {
    let mut names = objects.first()?["properties"].as_object()?.keys();
    let is_tag = |name: &&String| {
        let words: BTreeSet<_> = objects.iter().map(|object| word(object, name)).collect();
        words.len() == objects.len() && !words.contains(&None)
    };
    names.find(is_tag).map(String::as_str)
}

/// The only word that a field may be.
fn word<'o>(object: &'o Value, field: &str) -> Option<&'o str> {
    match object["properties"][field]["enum"].as_array()?.as_slice() {
        [word] => word.as_str(),
        _ => None,
    }
}

pub(super) fn pascal_case(words: &str) -> String {
    let words = words.split('_').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_ascii_uppercase() + rest
    });
    words.collect()
}

/// Answers always have a field that may be `null`. A body may leave it out; bodies are the closed objects.
fn require_present(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(require_present);
            if schema["additionalProperties"] == false {
                return;
            }
            let Some(properties) = schema["properties"].as_object() else {
                return;
            };
            let mut required: Vec<_> = schema["required"].as_array().cloned().unwrap_or_default();
            let nullable = properties.iter().filter(|(_, field)| is_nullable(field));
            let names = nullable.map(|(name, _)| json!(name));
            let missing: Vec<_> = names.filter(|name| !required.contains(name)).collect();
            required.extend(missing);
            if !required.is_empty() {
                schema["required"] = json!(required);
            }
        }
        Value::Array(parts) => parts.iter_mut().for_each(require_present),
        _ => {}
    }
}

/// A header or a query parameter is left out; it cannot be `null`.
fn drop_null_parameters(part: &mut Value) {
    match part {
        Value::Object(fields) => {
            if fields.contains_key("in")
                && let Some(Value::Array(types)) = fields["schema"].get_mut("type")
            {
                types.retain(|word| word != "null");
                fields["schema"]["type"] = types.remove(0);
            }
            fields.values_mut().for_each(drop_null_parameters);
        }
        Value::Array(parts) => parts.iter_mut().for_each(drop_null_parameters),
        _ => {}
    }
}

fn is_nullable(field: &Value) -> bool {
    let has_null = |types: &Vec<Value>| types.contains(&json!("null"));
    let is_null = |part: &Value| part["type"] == "null";
    field["type"].as_array().is_some_and(has_null)
        || field["oneOf"]
            .as_array()
            .is_some_and(|parts| parts.iter().any(is_null))
}

/// The names of the schemas that the rest of the document needs.
fn used(document: &Value, schemas: &Schemas) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let mut texts = vec![document.to_string()];
    while let Some(text) = texts.pop() {
        for reference in text.split(PREFIX).skip(1) {
            let name = reference.split('"').next().unwrap_or_default();
            if let Some(schema) = schemas.get(name)
                && used.insert(name.to_owned())
            {
                texts.push(schema.to_string());
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simplified(schemas: &Value, root: &str) -> Value {
        let reference = format!("{PREFIX}{root}");
        let mut document =
            json!({"paths": {"$ref": reference}, "components": {"schemas": schemas}});
        simplify(&mut document);
        document["components"]["schemas"].take()
    }

    #[test]
    fn an_object_of_several_parts_is_one_object() {
        let schemas = json!({
            "Whole": {"description": "all", "allOf": [
                {"$ref": "#/components/schemas/Part", "description": "a part"},
                {"type": "object", "required": ["b"], "properties": {"b": {"type": ["string", "null"]}}},
            ]},
            "Part": {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}},
        });
        let expected = json!({"Whole": {
            "description": "all", "type": "object", "required": ["a", "b"],
            "properties": {"a": {"type": "string"}, "b": {"type": ["string", "null"]}},
        }});
        assert_eq!(simplified(&schemas, "Whole"), expected);
    }

    #[test]
    fn alternatives_have_names_and_a_discriminator() {
        let variant = |word: &str| {
            json!({"type": "object", "required": ["type"], "description": word,
                "properties": {"type": {"type": "string", "enum": [word]}}})
        };
        let schemas = json!({
            "Kind": {"oneOf": [variant("begun"), variant("worn_out")]},
            "Event": {"allOf": [
                {"$ref": "#/components/schemas/Kind"},
                {"type": "object", "properties": {"seq": {"type": ["integer", "null"]}}},
            ]},
        });
        let event = |word: &str| {
            json!({"type": "object", "required": ["type", "seq"], "description": word,
            "properties": {
                "type": {"type": "string", "const": word}, "seq": {"type": ["integer", "null"]},
            }})
        };
        let [begun, worn_out] =
            ["BegunEvent", "WornOutEvent"].map(|name| format!("{PREFIX}{name}"));
        let expected = json!({
            "Event": {
                "oneOf": [{"$ref": begun}, {"$ref": worn_out}],
                "discriminator": {
                    "propertyName": "type", "mapping": {"begun": begun, "worn_out": worn_out},
                },
            },
            "BegunEvent": event("begun"),
            "WornOutEvent": event("worn_out"),
        });
        assert_eq!(simplified(&schemas, "Event"), expected);
    }
}
