//! One row of a data set, read column by column.

use serde_json::Value;

use super::error::FormatError;
use super::python::is_space;

/// A row, with what an error about it must tell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) task: &'static str,
    pub(super) split: &'static str,
    /// Its place in the split, from 0.
    pub(super) doc_id: usize,
    pub(super) value: &'a Value,
}

impl<'a> Row<'a> {
    /// The value of a column; dots lead into nested ones.
    fn field(&self, column: &str) -> Option<&'a Value> {
        column
            .split('.')
            .try_fold(self.value, |value, name| value.get(name))
    }

    pub(super) fn text(&self, column: &'static str) -> Result<&'a str, FormatError> {
        let value = self.field(column);
        value
            .and_then(Value::as_str)
            .ok_or_else(|| self.error(column, "a string", &kind(value)))
    }

    /// A list of texts: `count` of them, or two and more where it does not say.
    pub(super) fn texts(
        &self,
        column: &'static str,
        count: Option<usize>,
    ) -> Result<Vec<&'a str>, FormatError> {
        let value = self.field(column);
        let texts: Option<Vec<&str>> = value
            .and_then(Value::as_array)
            .and_then(|values| values.iter().map(Value::as_str).collect());
        let texts = texts.ok_or_else(|| self.error(column, "a list of strings", &kind(value)))?;
        if count.map_or(texts.len() >= 2, |count| count == texts.len()) {
            return Ok(texts);
        }
        let expected = match count {
            Some(count) => format!("{count} strings"),
            None => "two strings or more".to_owned(),
        };
        Err(self.error(column, &expected, &texts.len().to_string()))
    }

    /// An integer from 0 to below `end`.
    pub(super) fn index(&self, column: &'static str, end: usize) -> Result<usize, FormatError> {
        let value = self.field(column);
        let index = value.and_then(Value::as_u64);
        index
            .and_then(|index| usize::try_from(index).ok())
            .filter(|&index| index < end)
            .ok_or_else(|| {
                let expected = format!("an integer from 0 to {}", end - 1);
                self.error(column, &expected, &kind(value))
            })
    }

    /// Where a text stands in a list of names. White space before it does not count.
    pub(super) fn position(
        &self,
        column: &'static str,
        names: &[&str],
    ) -> Result<usize, FormatError> {
        let text = self.text(column)?.trim_start_matches(is_space);
        let position = names.iter().position(|name| *name == text);
        position.ok_or_else(|| {
            let expected = format!("one of {names:?}");
            self.error(column, &expected, "another string")
        })
    }

    pub(super) fn error(&self, column: &'static str, expected: &str, found: &str) -> FormatError {
        FormatError::Column {
            task: self.task,
            split: self.split,
            doc_id: self.doc_id,
            column,
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }
}

/// What a value is, without telling a text.
fn kind(value: Option<&Value>) -> String {
    match value {
        None => "none".to_owned(),
        Some(Value::Null) => "null".to_owned(),
        Some(Value::Bool(_)) => "a truth value".to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(_)) => "a string".to_owned(),
        Some(Value::Array(_)) => "a list".to_owned(),
        Some(Value::Object(_)) => "an object".to_owned(),
    }
}
