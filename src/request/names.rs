//! Ids, revisions and paths. What passes here is safe to put into a URL of the hub or below a directory.

use serde_json::Value;

use super::fields::{Fields, kind};
use super::limits;
use crate::corpora::{Corpus, DatasetRef, LOCAL};
use crate::domain::JobId;
use crate::domain::spec::ModelRef;
use crate::domain::spec::hub_name;

/// `"organisation/name"`, `"name"`, or an object with `source`, as the value of the field `name`.
pub(super) fn model<'v>(
    root: &mut Fields<'v, '_>,
    name: &str,
    value: &'v Value,
) -> Option<ModelRef> {
    match value {
        Value::String(id) if id.contains('/') => {
            let id = root.checked(name, "invalid_format", hub_id(id))?;
            Some(ModelRef::Hub {
                id,
                revision: "main".to_owned(),
            })
        }
        Value::String(id) => Some(ModelRef::Local {
            id: root.checked(name, "invalid_format", relative_path(id))?,
        }),
        Value::Object(_) => model_object(root.object(name, value)?),
        other => {
            let detail = format!(
                "expected a string or an object with `source` and `id`, found {}",
                kind(other)
            );
            root.error(name, "wrong_type", detail);
            None
        }
    }
}

fn model_object(mut fields: Fields<'_, '_>) -> Option<ModelRef> {
    fields.required("source");
    fields.required("id");
    let source = fields.string("source");
    let id = fields.string("id");
    let model = match source {
        Some("hub") => {
            let id = id.and_then(|id| fields.checked("id", "invalid_format", hub_id(id)));
            let revision = match fields.string("revision") {
                Some(text) => fields.checked("revision", "invalid_format", revision(text)),
                None => Some("main".to_owned()),
            };
            id.zip(revision)
                .map(|(id, revision)| ModelRef::Hub { id, revision })
        }
        Some("local") => {
            let id = id.and_then(|id| fields.checked("id", "invalid_format", relative_path(id)));
            id.map(|id| ModelRef::Local { id })
        }
        Some("job") => {
            let id = id.and_then(|id| fields.checked("id", "invalid_format", job_id(id)));
            id.map(|id| ModelRef::Job { id })
        }
        Some(other) => {
            fields.error(
                "source",
                "unsupported",
                format!("unknown source {other:?}, expected hub, local or job"),
            );
            fields.value("revision");
            None
        }
        None => None,
    };
    fields.finish();
    model
}

/// The fields `dataset` and `path` of `calibration`.
pub(super) fn dataset(fields: &mut Fields<'_, '_>) -> Option<DatasetRef> {
    fields.required("dataset");
    match fields.string("dataset")? {
        LOCAL => {
            fields.required("path");
            let path = fields.string("path")?;
            let path = fields.checked("path", "invalid_format", relative_path(path))?;
            Some(DatasetRef::Local { path })
        }
        name => fields.checked("dataset", "unsupported", registered(name)),
    }
}

/// One entry of `evaluation.perplexity`: a name, or an object as in `calibration`.
pub(super) fn text<'v>(
    fields: &mut Fields<'v, '_>,
    index: usize,
    value: &'v Value,
) -> Option<DatasetRef> {
    let path = format!("perplexity/{index}");
    match value {
        Value::String(name) => fields.checked(&path, "unsupported", registered(name)),
        other => {
            let mut inner = fields.object(&path, other)?;
            let dataset = dataset(&mut inner);
            inner.finish();
            dataset
        }
    }
}

fn registered(name: &str) -> Result<DatasetRef, String> {
    Corpus::find(name).map(DatasetRef::from).ok_or_else(|| {
        let known = Corpus::names().join(", ");
        format!("unknown data set {name:?}, expected {known}, or {{\"dataset\": \"local\", \"path\": …}}")
    })
}

/// `[A-Za-z0-9_.-]`, what regular expressions write as `[\w.-]`.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn hub_id(id: &str) -> Result<String, String> {
    hub_name::parse_id(id)
        .map(|_| id.to_owned())
        .ok_or_else(|| format!("{} is not of the form organisation/name", quoted(id)))
}

fn job_id(id: &str) -> Result<JobId, String> {
    id.parse()
        .map_err(|_message| format!("{} is not the id of a job", quoted(id)))
}

fn revision(text: &str) -> Result<String, String> {
    hub_name::is_revision(text)
        .then(|| text.to_owned())
        .ok_or_else(|| format!("{} is not a branch, tag or commit", quoted(text)))
}

/// No segment may begin with a dot: that rules out `..` and hidden files alike.
fn relative_path(text: &str) -> Result<String, String> {
    let is_valid = text.len() <= limits::PATH_CHARS
        && text
            .split('/')
            .all(|part| is_word(part) && !part.starts_with('.'));
    is_valid.then(|| text.to_owned()).ok_or_else(|| {
        format!(
            "{} is not a relative path of letters, digits, `_`, `.` and `-`",
            quoted(text)
        )
    })
}

/// What was sent, shortened: it goes back in an answer and into logs.
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    let ellipsis = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{ellipsis}")
}
