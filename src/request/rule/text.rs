//! Kinds of strings. What passes here is safe in a URL of the hub and below a directory.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::domain::JobId;
use crate::domain::spec::hub_name;
use crate::engine::Pattern;
use crate::request::limits;

/// A string: what its schema says, and what is checked.
pub(in crate::request) struct TextRule {
    /// Its name in the schema, if it has one.
    pub(super) name: Option<&'static str>,
    pub(super) keywords: Value,
    pub(super) check: Box<CheckText>,
}

type CheckText = dyn Fn(&str) -> Result<(), Wrong>;

/// The code of a mistake, and what is wrong.
pub(in crate::request) type Wrong = (&'static str, String);

/// A relative path; no part begins with a dot, which rules out `..` and hidden files alike.
const PATH: &str = "[A-Za-z0-9_-][A-Za-z0-9_.-]*";
const HUB_ID: &str =
    r"(?!.*(--|\.\.))[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}";
const REVISION: &str = r"^(?!.*\.\.)(?!(.*/)?\.(/|$))[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$";
// `\P{Cc}`, for validators that do not know Unicode's categories.
const NO_CONTROLS: &str = r"^[^\x00-\x1F\x7F-\x9F]*$";

impl TextRule {
    pub(in crate::request) fn new(
        keywords: Value,
        check: impl Fn(&str) -> Result<(), Wrong> + 'static,
    ) -> Self {
        let check = Box::new(check);
        Self {
            name: None,
            keywords,
            check,
        }
    }

    pub(in crate::request) fn named(self, name: &'static str) -> Self {
        let name = Some(name);
        Self { name, ..self }
    }

    /// A string that one function takes apart; its error is the detail.
    fn parsed<T>(keywords: Value, parse: impl Fn(&str) -> Result<T, String> + 'static) -> Self {
        Self::new(keywords, move |text| {
            parse(text).map_err(|detail| ("invalid_format", detail))?;
            Ok(())
        })
    }
}

/// One line of text: lists and logs show it so.
pub(in crate::request) fn line(most: usize) -> TextRule {
    let keywords = json!({"maxLength": most, "pattern": NO_CONTROLS});
    TextRule::new(keywords, move |text| {
        let count = text.chars().count();
        if count > most {
            let detail = format!("has {count} characters, at most {most} are allowed");
            return Err(("out_of_range", detail));
        }
        if text.contains(char::is_control) {
            let detail = "has control characters, which are not allowed".to_owned();
            return Err(("invalid_format", detail));
        }
        Ok(())
    })
}

/// The address of a webhook. What may be sent there is checked later.
pub(in crate::request) fn url() -> TextRule {
    let most = limits::URL_CHARS;
    TextRule {
        keywords: json!({"format": "uri", "minLength": 1, "maxLength": most}),
        ..line(most)
    }
}

/// One of these words.
pub(in crate::request) fn words(what: &'static str, words: Vec<&'static str>) -> TextRule {
    let keywords = json!({"enum": words});
    TextRule::new(keywords, move |text| {
        if words.contains(&text) {
            return Ok(());
        }
        let expected = match words.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        };
        let detail = format!("unknown {what} {}, expected {expected}", quoted(text));
        Err(("unsupported", detail))
    })
}

/// `organisation/name` on the hub.
pub(in crate::request) fn hub_id() -> TextRule {
    TextRule::parsed(json!({"pattern": format!("^{HUB_ID}$")}), is_hub_id)
}

/// The id of a model on the hub, or the name of a local one without `/`.
pub(in crate::request) fn model_id() -> TextRule {
    let keywords =
        json!({"pattern": format!("^({HUB_ID}|{PATH})$"), "maxLength": limits::PATH_CHARS});
    TextRule::parsed(keywords, |text| {
        if text.contains('/') {
            is_hub_id(text)
        } else {
            is_relative_path(text)
        }
    })
}

/// A path below a directory of the operator.
pub(in crate::request) fn relative_path() -> TextRule {
    let pattern = format!("^{PATH}(/{PATH})*$");
    let keywords = json!({"pattern": pattern, "maxLength": limits::PATH_CHARS});
    TextRule::parsed(keywords, is_relative_path)
}

/// A branch, tag or commit of the hub.
pub(in crate::request) fn revision() -> TextRule {
    let keywords = json!({"pattern": REVISION, "maxLength": limits::PATH_CHARS});
    TextRule::parsed(keywords, |text| {
        let detail = || format!("{} is not a branch, tag or commit", quoted(text));
        hub_name::is_revision(text).then_some(()).ok_or_else(detail)
    })
}

/// The id of a job.
pub(in crate::request) fn job_id() -> TextRule {
    TextRule::parsed(json!({"pattern": "^job_[0-9a-f]{32}$"}), |text| {
        let parsed = text.parse::<JobId>();
        parsed.map_err(|_message| format!("{} is not the id of a job", quoted(text)))
    })
}

/// A pattern of zeros.
pub(in crate::request) fn pattern() -> TextRule {
    let groups = "0*([1-9]|[1-5][0-9]|6[0-3]):0*([2-9]|[1-5][0-9]|6[0-4])";
    let keywords = json!({"pattern": format!("^({}|{groups})$", Pattern::NAMED.join("|"))});
    TextRule::parsed(keywords, str::parse::<Pattern>)
}

/// A time as in RFC 3339.
pub(in crate::request) fn time() -> TextRule {
    TextRule::parsed(json!({"format": "date-time"}), |text| {
        let time = text.parse::<Timestamp>();
        time.map_err(|error| format!("{text:?} is not a time as in RFC 3339: {error}"))
    })
}

fn is_hub_id(id: &str) -> Result<(), String> {
    let detail = || format!("{} is not of the form organisation/name", quoted(id));
    hub_name::parse_id(id).map(|_| ()).ok_or_else(detail)
}

fn is_relative_path(text: &str) -> Result<(), String> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let is_part =
        |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(is_word);
    let detail = || {
        let text = quoted(text);
        format!("{text} is not a relative path of letters, digits, `_`, `.` and `-`")
    };
    let is_valid = text.len() <= limits::PATH_CHARS && text.split('/').all(is_part);
    is_valid.then_some(()).ok_or_else(detail)
}

/// What was sent, shortened: it goes back in an answer and into logs.
pub(in crate::request) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    let ellipsis = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{ellipsis}")
}

/// What a value of another type is told.
pub(super) fn mismatch(expected: &str, found: &Value) -> Wrong {
    let detail = format!("expected {expected}, found {}", kind(found));
    ("wrong_type", detail)
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
