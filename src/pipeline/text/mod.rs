//! How the files of text corpora are read.
//!
//! - `.raw`, WikiText's own form, and `.parquet`, its form on the hub: rows, each a line of the text. Joining them is part
//!   of the paper's protocol.
//! - JSON, compressed or not: one document per line or per entry of an array, in the field `text`.
//! - Anything else: text, taken as it is; JSON and tables are refused, as their keys are no text.

mod backtracking;
#[cfg(test)]
mod fixture;
mod special_tokens;
mod tokenizer;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::PipelineError;
use crate::datasets::{RowFormat, read_rows};
use crate::domain::{ErrorCode, LFS_POINTER, is_lfs_pointer};

pub(super) use tokenizer::ModelTokenizer;

/// The content of a corpus.
#[derive(Debug)]
pub(super) enum Text {
    /// A text as it is.
    Whole(String),
    /// Rows of a `.raw` or `.parquet` file.
    Rows(Vec<String>),
    /// Documents of a JSONL file.
    Documents(Vec<String>),
}

impl Text {
    /// Reads files by their names, of rows and documents the first `limit` (`None` = all). A text in several files
    /// consists of rows or documents.
    pub(super) fn read(files: &[PathBuf], limit: Option<usize>) -> Result<Self, PipelineError> {
        let formats: Vec<_> = files.iter().map(|path| RowFormat::of(path)).collect();
        let are = |is: fn(RowFormat) -> bool| formats.iter().all(|format| format.is_some_and(is));
        match files {
            _ if are(|format| matches!(format, RowFormat::Json { .. })) => {
                column(files, limit).map(Self::Documents)
            }
            _ if are(|format| matches!(format, RowFormat::Raw | RowFormat::Parquet)) => {
                column(files, limit).map(Self::Rows)
            }
            [path] => whole(path).map(Self::Whole),
            files => Err(PipelineError::refused(
                ErrorCode::DatasetInvalid,
                format!("{} files are not one text", files.len()),
            )),
        }
    }

    /// One text; rows or documents with `separator` between them.
    pub(super) fn joined(&self, separator: &str) -> Cow<'_, str> {
        match self {
            Self::Whole(text) => Cow::Borrowed(text),
            Self::Rows(parts) | Self::Documents(parts) => Cow::Owned(parts.join(separator)),
        }
    }

    /// SHA-256 of the [`joined`](Self::joined) text, in hexadecimal: it is the same whatever files the text came in.
    pub(super) fn sha256(&self, separator: &str) -> String {
        let parts = match self {
            Self::Whole(text) => std::slice::from_ref(text),
            Self::Rows(parts) | Self::Documents(parts) => parts,
        };
        let mut sha256 = Sha256::new();
        for (i, part) in parts.iter().enumerate() {
            if i > 0 {
                sha256.update(separator);
            }
            sha256.update(part);
        }
        hex::encode(sha256.finalize())
    }
}

/// Endings of tables, whose separators are no text.
const TABLES: [&str; 2] = [".csv", ".tsv"];

/// A whole file as a text.
fn whole(path: &Path) -> Result<String, PipelineError> {
    let invalid = |reason: &str| {
        let message = format!("{} cannot be read: {reason}", path.display());
        PipelineError::refused(ErrorCode::DatasetInvalid, message)
    };
    let mut text = utf8(path)?;
    if is_lfs_pointer(text.as_bytes()) {
        return Err(invalid(LFS_POINTER));
    }
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    let name = path.to_string_lossy().to_lowercase();
    if TABLES.iter().any(|ending| name.ends_with(ending)) {
        return Err(invalid("it is a table, expected text, .jsonl or .parquet"));
    }
    if holds_json(&text) {
        return Err(invalid(
            "it holds JSON: name it .jsonl, and its documents are read",
        ));
    }
    Ok(text)
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Whether a text begins with a JSON object, or with an array of them.
fn holds_json(text: &str) -> bool {
    let text = text.trim_start();
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    text.starts_with(['{', '['])
        && match values.next() {
            Some(Ok(Value::Object(_))) => true,
            Some(Ok(Value::Array(entries))) => entries.first().is_some_and(Value::is_object),
            _ => false,
        }
}

fn utf8(path: &Path) -> Result<String, PipelineError> {
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => PipelineError::refused(
            ErrorCode::DatasetNotFound,
            format!("there is no file {}", path.display()),
        ),
        _ => PipelineError::io("read", path, error),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        PipelineError::refused(
            ErrorCode::DatasetInvalid,
            format!(
                "{} cannot be read: it is not UTF-8: {error}",
                path.display()
            ),
        )
    })
}

/// The field `text` of every row.
fn column(files: &[PathBuf], limit: Option<usize>) -> Result<Vec<String>, PipelineError> {
    let mut texts = Vec::new();
    for file in files {
        let still_wanted = limit.map(|limit| limit - texts.len());
        read_rows(
            file,
            still_wanted,
            &mut |mut row| match row.get_mut("text").map(Value::take) {
                Some(Value::String(text)) => {
                    texts.push(text);
                    Ok(())
                }
                Some(other) => Err(format!("its field \"text\" is {other}, expected a string")),
                None => Err("it has no field \"text\"".to_owned()),
            },
        )?;
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> Text {
        read_limited(name, bytes, None)
    }

    fn read_limited(name: &str, bytes: &[u8], limit: Option<usize>) -> Text {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Text::read(&[path], limit).unwrap()
    }

    #[test]
    fn rows_are_lines_with_their_newline_and_nothing_for_blank_ones() {
        let text = read("a.raw", b" \n = Title = \n \n words \n");
        assert_eq!(text.joined("|"), "| = Title = \n|| words \n");
    }

    #[test]
    fn other_text_is_taken_as_it_is() {
        assert_eq!(read("a.txt", b"one\n\ntwo\n").joined("|"), "one\n\ntwo\n");
    }

    #[test]
    fn jsonl_has_one_document_per_line_compressed_or_not() {
        let lines = b"{\"text\": \"one\", \"url\": \"x\"}\n\n{\"text\": \"two\"}\n";
        assert_eq!(read("a.jsonl", lines).joined("|"), "one|two");
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, lines).unwrap();
        let compressed = encoder.finish().unwrap();
        assert_eq!(read("a.jsonl.gz", &compressed).joined("|"), "one|two");
        assert_eq!(read("a.json.gz", &compressed).joined("|"), "one|two");
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        assert_eq!(read("a.txt", b"\xef\xbb\xbfone").joined("|"), "one");
        assert_eq!(read("a.raw", b"\xef\xbb\xbfone\n").joined("|"), "one\n");
    }

    #[test]
    fn json_and_tables_are_not_taken_as_text() {
        let refused = |name: &str, bytes: &[u8]| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let error = Text::read(&[path], None).unwrap_err();
            assert_eq!(error.code(), ErrorCode::DatasetInvalid, "{name}");
            error.to_string()
        };
        let documents = b"{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
        assert_eq!(read("a.json", documents).joined("|"), "one|two");
        assert_eq!(
            read("a.json", b"[\n {\"text\": \"one\"}]").joined("|"),
            "one"
        );
        for text in [
            &documents[..],
            b" [{\"text\": 1}]",
            b"{\n \"text\": \"one\"\n}",
        ] {
            assert!(refused("a.txt", text).contains(".jsonl"));
        }
        assert!(refused("a.CSV", b"text\none\n").contains("table"));
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n";
        assert!(refused("a.txt", pointer).contains("git lfs pull"));
        for text in ["[1] Smith, J.", "{curly} words", "[] nothing"] {
            assert_eq!(read("a.txt", text.as_bytes()).joined("|"), text);
        }
    }

    #[test]
    fn a_text_that_is_null_is_said_to_be_null() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, "{\"text\": null}\n").unwrap();
        let error = Text::read(&[path], None).unwrap_err().to_string();
        assert!(error.contains("\"text\" is null"), "{error}");
    }

    #[test]
    fn the_digest_of_a_text_is_that_of_what_is_measured() {
        // printf 'one\n\ntwo\n' | sha256sum
        let expected = "ca48018cd69ec26f9206d26f99b5019ba6075d5482c587a072361987ae3179dd";
        assert_eq!(read("a.txt", b"one\n\ntwo\n").sha256("|"), expected);
        let documents = b"{\"text\": \"one\"}\n{\"text\": \"two\\n\"}\n";
        assert_eq!(read("a.jsonl", documents).sha256("\n\n"), expected);
        assert_ne!(read("a.jsonl", documents).sha256(" "), expected);
    }

    #[test]
    fn a_limit_takes_the_first_rows_or_documents() {
        let documents = b"{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
        assert_eq!(
            read_limited("a.jsonl", documents, Some(1)).joined("|"),
            "one"
        );
        assert_eq!(
            read_limited("a.raw", b"one\ntwo\n", Some(1)).joined("|"),
            "one\n"
        );
    }

    #[test]
    fn a_row_without_text_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, "{\"text\": \"one\"}\n{\"txt\": \"two\"}\n").unwrap();
        let error = Text::read(&[path], None).unwrap_err();
        assert_eq!(error.code(), ErrorCode::DatasetInvalid);
        let message = error.to_string();
        assert!(
            message.ends_with("line 2: it has no field \"text\""),
            "{message}"
        );
    }
}
