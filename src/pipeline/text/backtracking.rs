//! Patterns of a tokenizer that give up on some texts, which the tokenizer itself does not tell.
//!
//! A pattern that has tried too many ways through a text ends as if nothing more matched: the rest becomes one piece, and
//! gets other tokens than elsewhere.

use fancy_regex::Regex;
use serde_json::Value;

/// How the pre-tokenizer `ByteLevel` cuts a text.
const BYTE_LEVEL: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// The patterns that a tokenizer cuts texts with.
pub(super) struct Patterns(Vec<Regex>);

impl Patterns {
    /// Those of a `tokenizer.json`.
    pub(super) fn of(tokenizer: &Value) -> Self {
        let mut found = Vec::new();
        for part in ["normalizer", "pre_tokenizer"] {
            collect(&tokenizer[part], &mut found);
        }
        // One that cannot be compiled is refused by the tokenizer.
        let compiled = found.into_iter().filter_map(|text| Regex::new(text).ok());
        Self(compiled.collect())
    }

    /// The error of the first pattern that gives up on `text`.
    pub(super) fn check(&self, text: &str) -> Result<(), String> {
        for pattern in &self.0 {
            if let Some(Err(error)) = pattern.find_iter(text).find(Result::is_err) {
                return Err(format!(
                    "the pattern {:?} gives up: {error}",
                    pattern.as_str()
                ));
            }
        }
        Ok(())
    }
}

fn collect<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(members) => {
            found.extend(value["Regex"].as_str());
            if value["type"] == "ByteLevel" && value["use_regex"] != false {
                found.push(BYTE_LEVEL);
            }
            members.values().for_each(|member| collect(member, found));
        }
        Value::Array(entries) => entries.iter().for_each(|entry| collect(entry, found)),
        _ => {}
    }
}
