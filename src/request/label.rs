//! What a submitter calls a job: its name and key-value pairs.

use super::fields::{Fields, escaped, kind};
use super::limits;
use crate::domain::job::Metadata;

/// The field `name`.
pub(super) fn name(root: &mut Fields<'_, '_>) -> Option<String> {
    line(root, "name", limits::NAME_CHARS)
}

/// A field with one line of text.
pub(super) fn line(root: &mut Fields<'_, '_>, field: &'static str, chars: usize) -> Option<String> {
    root.string(field).and_then(|text| {
        let text = root.checked(field, "out_of_range", at_most(text, chars))?;
        root.checked(field, "invalid_format", without_controls(text))
    })
}

/// The field `submitter`; empty where it is missing.
pub(super) fn submitter(root: &mut Fields<'_, '_>) -> String {
    line(root, "submitter", limits::SUBMITTER_CHARS).unwrap_or_default()
}

/// The field `metadata`.
pub(super) fn metadata(root: &mut Fields<'_, '_>) -> Metadata {
    let mut pairs = Metadata::new();
    let Some(value) = root.value("metadata") else {
        return pairs;
    };
    let Some(map) = value.as_object() else {
        root.error(
            "metadata",
            "wrong_type",
            format!("expected an object of strings, found {}", kind(value)),
        );
        return pairs;
    };
    if map.len() > limits::METADATA_PAIRS {
        let detail = format!(
            "has {} pairs, at most {} are allowed",
            map.len(),
            limits::METADATA_PAIRS
        );
        root.error("metadata", "out_of_range", detail);
    }
    for (key, value) in map {
        let path = format!("metadata/{}", escaped(key));
        if let Err(detail) = at_most(key, limits::METADATA_KEY_CHARS) {
            root.error(&path, "out_of_range", format!("the key {detail}"));
        }
        if let Err(detail) = without_controls(key.clone()) {
            root.error(&path, "invalid_format", format!("the key {detail}"));
        }
        let text = value
            .as_str()
            .ok_or_else(|| format!("expected a string, found {}", kind(value)));
        let Some(text) = root.checked(&path, "wrong_type", text) else {
            continue;
        };
        let text = root.checked(
            &path,
            "out_of_range",
            at_most(text, limits::METADATA_VALUE_CHARS),
        );
        let text =
            text.and_then(|text| root.checked(&path, "invalid_format", without_controls(text)));
        pairs.extend(text.map(|text| (key.clone(), text)));
    }
    pairs
}

fn at_most(text: &str, chars: usize) -> Result<String, String> {
    let count = text.chars().count();
    (count <= chars)
        .then(|| text.to_owned())
        .ok_or_else(|| format!("has {count} characters, at most {chars} are allowed"))
}

/// Lists and logs show these texts on one line.
fn without_controls(text: String) -> Result<String, String> {
    if text.contains(char::is_control) {
        return Err("has control characters, which are not allowed".to_owned());
    }
    Ok(text)
}
