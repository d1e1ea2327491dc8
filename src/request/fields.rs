//! Takes an object apart field by field, and remembers what is wrong and what nobody asked for.

use std::ops::{Range, RangeInclusive};

use serde_json::{Map, Value};

use super::FieldError;

/// One object of the body. `null` counts as absent, but for [`threshold`](Self::threshold).
pub(super) struct Fields<'v, 'e> {
    map: &'v Map<String, Value>,
    pointer: String,
    known: Vec<&'static str>,
    errors: &'e mut Vec<FieldError>,
}

impl<'v, 'e> Fields<'v, 'e> {
    /// The value at `pointer`, which must be an object.
    pub(super) fn of(
        value: &'v Value,
        pointer: String,
        errors: &'e mut Vec<FieldError>,
    ) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self {
                map,
                pointer,
                known: Vec::new(),
                errors,
            }),
            other => {
                let detail = format!("expected an object, found {}", kind(other));
                errors.push(FieldError {
                    pointer,
                    code: "wrong_type",
                    detail,
                });
                None
            }
        }
    }

    /// The same for a value inside this object; `path` is its field name, or several joined with `/`.
    pub(super) fn object<'s>(&'s mut self, path: &str, value: &'v Value) -> Option<Fields<'v, 's>> {
        Fields::of(value, format!("{}/{path}", self.pointer), self.errors)
    }

    /// The raw value, if it is there.
    pub(super) fn value(&mut self, name: &'static str) -> Option<&'v Value> {
        self.known.push(name);
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// The raw value, which must be there.
    pub(super) fn required(&mut self, name: &'static str) -> Option<&'v Value> {
        let value = self.value(name);
        if value.is_none() {
            self.error(name, "required", format!("`{name}` is required"));
        }
        value
    }

    /// Whether the field is missing, as opposed to wrong.
    pub(super) fn is_absent(&self, name: &str) -> bool {
        self.map.get(name).is_none_or(Value::is_null)
    }

    /// A string.
    pub(super) fn string(&mut self, name: &'static str) -> Option<&'v str> {
        self.typed(name, "a string", Value::as_str)
    }

    /// A list.
    pub(super) fn array(&mut self, name: &'static str) -> Option<&'v Vec<Value>> {
        self.typed(name, "a list", Value::as_array)
    }

    /// A whole number within `range`.
    pub(super) fn integer(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let number = self.typed(name, "a whole number that is not negative", Value::as_u64)?;
        let outside = format!(
            "{number} is not within {} and {}",
            range.start(),
            range.end()
        );
        self.checked(
            name,
            "out_of_range",
            range.contains(&number).then_some(number).ok_or(outside),
        )
    }

    /// A whole number within `range`, which may be negative.
    pub(super) fn signed(&mut self, name: &'static str, range: RangeInclusive<i32>) -> Option<i32> {
        let number = self.typed(name, "a whole number", Value::as_i64)?;
        let outside = format!(
            "{number} is not within {} and {}",
            range.start(),
            range.end()
        );
        let within = i32::try_from(number)
            .ok()
            .filter(|number| range.contains(number));
        self.checked(name, "out_of_range", within.ok_or(outside))
    }

    /// A number within `range`.
    pub(super) fn number(&mut self, name: &'static str, range: Range<f64>) -> Option<f64> {
        let number = self.typed(name, "a number", Value::as_f64)?;
        let outside = format!("{number} is not within [{}, {})", range.start, range.end);
        self.checked(
            name,
            "out_of_range",
            range.contains(&number).then_some(number).ok_or(outside),
        )
    }

    /// A number within `range`; `default` where the field is missing, `None` where it is `null`.
    pub(super) fn threshold(
        &mut self,
        name: &'static str,
        range: RangeInclusive<f64>,
        default: Option<f64>,
    ) -> Option<f64> {
        if !self.map.contains_key(name) {
            self.known.push(name);
            return default;
        }
        let number = self.typed(name, "a number or null", Value::as_f64)?;
        let outside = format!(
            "{number} is not within [{}, {}]",
            range.start(),
            range.end()
        );
        self.checked(
            name,
            "out_of_range",
            range.contains(&number).then_some(number).ok_or(outside),
        )
    }

    fn typed<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        convert: impl Fn(&'v Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(name)?;
        let mismatch = format!("expected {expected}, found {}", kind(value));
        self.checked(name, "wrong_type", convert(value).ok_or(mismatch))
    }

    /// Turns a failed check of the field at `path` into an entry of the list.
    pub(super) fn checked<T>(
        &mut self,
        path: &str,
        code: &'static str,
        result: Result<T, String>,
    ) -> Option<T> {
        result.map_err(|detail| self.error(path, code, detail)).ok()
    }

    /// Adds to the list.
    pub(super) fn error(&mut self, path: &str, code: &'static str, detail: String) {
        self.errors.push(FieldError {
            pointer: format!("{}/{path}", self.pointer),
            code,
            detail,
        });
    }

    /// Reports every field that was never asked for.
    pub(super) fn finish(mut self) {
        self.known.dedup();
        for name in self
            .map
            .keys()
            .filter(|name| !self.known.contains(&name.as_str()))
        {
            let detail = format!("unknown field, expected one of {}", self.known.join(", "));
            let pointer = format!("{}/{}", self.pointer, escaped(name));
            self.errors.push(FieldError {
                pointer,
                code: "unknown_field",
                detail,
            });
        }
    }
}

/// A field name as a segment of a JSON pointer (RFC 6901).
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// What a value is, in a reader's words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
