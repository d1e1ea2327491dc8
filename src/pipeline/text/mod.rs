//! How the files of text corpora are read.
//!
//! - `.raw`, WikiText's own form, and `.parquet`, its form on the hub: rows, each a line of the text. Joining them is part
//!   of the paper's protocol.
//! - `.jsonl`, `.jsonl.gz`, `.json.gz`: one document per line, in the field `text`.
//! - Anything else: text, taken as it is.

mod tokenizer;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::PipelineError;
use crate::datasets::read_rows;
use crate::domain::ErrorCode;

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
        let has_ending = |endings: &[&str]| {
            let mut names = files.iter().map(|path| path.to_string_lossy());
            names.all(|name| endings.iter().any(|ending| name.ends_with(ending)))
        };
        match files {
            _ if has_ending(&[".jsonl", ".jsonl.gz", ".json.gz"]) => {
                column(files, limit).map(Self::Documents)
            }
            _ if has_ending(&[".raw", ".parquet"]) => column(files, limit).map(Self::Rows),
            [path] => utf8(path).map(Self::Whole),
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
            &mut |mut row| match row["text"].take() {
                Value::String(text) => {
                    texts.push(text);
                    Ok(())
                }
                Value::Null => Err("it has no field \"text\"".to_owned()),
                other => Err(format!("its field \"text\" is {other}, expected a string")),
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
