//! Reads a value by its rule, and notes everything that is wrong with it.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use super::text::{Wrong, mismatch, words};
use super::{Absent, Field, Object, Rule, TextRule, Variant};
use crate::request::FieldError;

/// Everything that is wrong with a body.
#[derive(Debug, Default)]
pub(in crate::request) struct Errors(pub(in crate::request) Vec<FieldError>);

impl Errors {
    /// Notes what is wrong at a JSON pointer. What is wrong is read as `null`.
    pub(in crate::request) fn add(
        &mut self,
        at: &str,
        code: &'static str,
        detail: String,
    ) -> Value {
        self.0.push(FieldError {
            pointer: at.to_owned(),
            code,
            detail,
        });
        Value::Null
    }

    fn take(&mut self, at: &str, read: Result<Value, Wrong>) -> Value {
        read.unwrap_or_else(|(code, detail)| self.add(at, code, detail))
    }
}

impl Rule {
    /// The value at this JSON pointer with all defaults filled in.
    pub(in crate::request) fn read(&self, value: &Value, at: &str, errors: &mut Errors) -> Value {
        match self {
            Self::Text(text) => errors.take(at, of_text(text, value)),
            Self::Flag => match value {
                Value::Bool(_) => value.clone(),
                other => errors.take(at, Err(mismatch("true or false", other))),
            },
            Self::Integer { range, unit } => errors.take(at, of_integer(range, unit, value)),
            Self::Number(range) => {
                let bounds = format!("[{}, {}]", range.start(), range.end());
                errors.take(
                    at,
                    of_number(|number| range.contains(&number), &bounds, value),
                )
            }
            Self::NumberBelow(range) => {
                let bounds = format!("[{}, {})", range.start, range.end);
                errors.take(
                    at,
                    of_number(|number| range.contains(&number), &bounds, value),
                )
            }
            Self::Exactly { words, .. } => errors.take(at, exactly(words, value)),
            Self::List {
                entry,
                count,
                is_set,
            } => list(entry, count, *is_set, value, at, errors),
            Self::Pairs {
                key,
                value: text,
                most,
            } => pairs(key, text, *most, value, at, errors),
            Self::Object(object) => match value {
                Value::Object(map) => object.read(None, &[], map, at, errors),
                other => errors.take(at, Err(mismatch("an object", other))),
            },
            Self::Tagged {
                tag,
                absent,
                variants,
                shared,
            } => match value {
                Value::Object(map) => {
                    let found = variant(tag, absent, variants, map, at, errors);
                    if let Some((variant, word)) = found {
                        return variant
                            .object
                            .read(Some((tag, word)), shared, map, at, errors);
                    }
                    for field in shared {
                        field.read(map.get(field.name), at, errors);
                    }
                    Value::Null
                }
                other => errors.take(at, Err(mismatch("an object", other))),
            },
            Self::Short { text, expand, full } => match value {
                Value::String(short) => match (text.check)(short) {
                    Ok(()) => full.read(&expand(short), at, errors),
                    Err((code, detail)) => errors.add(at, code, detail),
                },
                Value::Object(_) => full.read(value, at, errors),
                other => errors.take(at, Err(mismatch("a string or an object", other))),
            },
            Self::Named { rule, .. } => rule.read(value, at, errors),
        }
    }
}

impl Field {
    fn read(&self, value: Option<&Value>, at: &str, errors: &mut Errors) -> Value {
        let at = format!("{at}/{}", self.name);
        match (value, &self.absent) {
            (None, Absent::UnlessNull(value)) => value.clone(),
            (None | Some(Value::Null), absent) => match absent {
                Absent::Required => required(self.name, &at, errors),
                Absent::Null | Absent::UnlessNull(_) => Value::Null,
                Absent::Default(value) | Absent::Computed(value) => {
                    self.rule.read(value, &at, errors)
                }
            },
            (Some(value), _) => self.rule.read(value, &at, errors),
        }
    }
}

impl Object {
    /// The object with this tag, which was read already, and these fields besides.
    fn read(
        &self,
        tag: Option<(&str, &str)>,
        shared: &[Field],
        map: &Map<String, Value>,
        at: &str,
        errors: &mut Errors,
    ) -> Value {
        let before = errors.0.len();
        let mut read: Map<_, _> = tag
            .map(|(tag, word)| (tag.to_owned(), json!(word)))
            .into_iter()
            .collect();
        let fields = self.fields.iter().chain(shared);
        for field in fields.clone() {
            let value = field.read(map.get(field.name), at, errors);
            read.insert(field.name.to_owned(), value);
        }
        if let Some(check) = self.check {
            check(map, &mut read, at, errors);
        }
        let tag = tag.map(|(tag, _)| tag);
        let known: Vec<_> = tag
            .into_iter()
            .chain(fields.map(|field| field.name))
            .collect();
        for name in map.keys().filter(|name| !known.contains(&name.as_str())) {
            let at = format!("{at}/{}", escaped(name));
            let detail = format!("unknown field, expected one of {}", known.join(", "));
            errors.add(&at, "unknown_field", detail);
        }
        if errors.0.len() > before {
            return Value::Null;
        }
        Value::Object(read)
    }

    fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.name == name)
    }
}

fn required(name: &str, at: &str, errors: &mut Errors) -> Value {
    errors.add(at, "required", format!("`{name}` is required"))
}

fn of_text(text: &TextRule, value: &Value) -> Result<Value, Wrong> {
    let found = value.as_str().ok_or_else(|| mismatch("a string", value))?;
    (text.check)(found)?;
    Ok(value.clone())
}

fn of_integer(range: &RangeInclusive<i128>, unit: &str, value: &Value) -> Result<Value, Wrong> {
    let (from, to) = (*range.start(), *range.end());
    let (number, expected) = if from < 0 {
        (value.as_i64().map(i128::from), "a whole number")
    } else {
        let number = value.as_u64().map(i128::from);
        (number, "a whole number that is not negative")
    };
    let number = number.ok_or_else(|| mismatch(expected, value))?;
    if range.contains(&number) {
        return Ok(value.clone());
    }
    let what = format!("{number} {unit}");
    let detail = format!("{} is not within {from} and {to}", what.trim_end());
    Err(("out_of_range", detail))
}

fn of_number(is_within: impl Fn(f64) -> bool, bounds: &str, value: &Value) -> Result<Value, Wrong> {
    let number = value.as_f64().ok_or_else(|| mismatch("a number", value))?;
    let detail = || ("out_of_range", format!("{number} is not within {bounds}"));
    is_within(number).then(|| value.clone()).ok_or_else(detail)
}

fn exactly(words: &[&str], value: &Value) -> Result<Value, Wrong> {
    if !value.is_array() {
        return Err(mismatch("a list", value));
    }
    let detail = || ("unsupported", format!("the only value is {}", json!(words)));
    (*value == json!(words))
        .then(|| value.clone())
        .ok_or_else(detail)
}

/// Reads every entry, so that every mistake is told.
fn list(
    entry: &Rule,
    count: &RangeInclusive<usize>,
    is_set: bool,
    value: &Value,
    at: &str,
    errors: &mut Errors,
) -> Value {
    let Value::Array(entries) = value else {
        return errors.take(at, Err(mismatch("a list", value)));
    };
    if !count.contains(&entries.len()) {
        let (least, most) = (count.start(), count.end());
        let found = entries.len();
        let detail = if found < *least {
            format!("has {found} entries, at least {least} is needed")
        } else {
            format!("has {found} entries, at most {most} are allowed")
        };
        return errors.add(at, "out_of_range", detail);
    }
    let mut read = Vec::new();
    for (index, value) in entries.iter().enumerate() {
        let at = format!("{at}/{index}");
        let value = entry.read(value, &at, errors);
        if is_set && !value.is_null() && read.contains(&value) {
            errors.add(&at, "duplicate", format!("{value} is named twice"));
        }
        read.push(value);
    }
    Value::Array(read)
}

fn pairs(
    key_rule: &TextRule,
    value_rule: &TextRule,
    most: usize,
    value: &Value,
    at: &str,
    errors: &mut Errors,
) -> Value {
    let Value::Object(map) = value else {
        return errors.take(at, Err(mismatch("an object of strings", value)));
    };
    if map.len() > most {
        let detail = format!("has {} pairs, at most {most} are allowed", map.len());
        errors.add(at, "out_of_range", detail);
    }
    for (key, value) in map {
        let at = format!("{at}/{}", escaped(key));
        if let Err((code, detail)) = (key_rule.check)(key) {
            errors.add(&at, code, format!("the key {detail}"));
        }
        errors.take(&at, of_text(value_rule, value));
    }
    value.clone()
}

/// The variant that the tag names, and the word that does; with another tag its fields are not known.
fn variant<'r>(
    tag: &'static str,
    absent: &'r Absent,
    variants: &'r [Variant],
    map: &'r Map<String, Value>,
    at: &str,
    errors: &mut Errors,
) -> Option<(&'r Variant, &'r str)> {
    let at = format!("{at}/{tag}");
    let all = variants.iter().flat_map(|variant| variant.words.clone());
    let given = map.get(tag).filter(|value| !value.is_null());
    let usual = match absent {
        Absent::Default(word) | Absent::Computed(word) => Some(word),
        Absent::Required | Absent::Null | Absent::UnlessNull(_) => None,
    };
    let Some(word) = given.or(usual) else {
        required(tag, &at, errors);
        return None;
    };
    if let Err((code, detail)) = of_text(&words(tag, all.collect()), word) {
        errors.add(&at, code, detail);
        return None;
    }
    let word = word.as_str()?;
    let variant = variants.iter().find(|v| v.words.contains(&word))?;
    // Who gives a field of another variant has forgotten the tag.
    let has = |name: &String| variants.iter().any(|variant| variant.object.has(name));
    let is_foreign = |name: &String| !variant.object.has(name) && has(name);
    if given.is_none() && matches!(absent, Absent::Computed(_)) && map.keys().any(is_foreign) {
        required(tag, &at, errors);
        return None;
    }
    Some((variant, word))
}

/// A field name as a segment of a JSON pointer (RFC 6901).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
