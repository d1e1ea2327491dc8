//! How the files of text corpora are read.
//!
//! - `.raw`, WikiText's own form: rows, one per line; a row is a line with its newline, or nothing for a blank one. That
//!   is how the public data set gives its text, and joining its rows is part of the paper's protocol.
//! - `.jsonl`, `.jsonl.gz`: one document per line, in the field `text`.
//! - Anything else: text, taken as it is.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::PipelineError;
use crate::domain::ErrorCode;

/// The content of a corpus file.
pub(super) struct Text {
    pub(super) content: Content,
    /// SHA-256 of the file.
    pub(super) sha256: String,
}

pub(super) enum Content {
    /// A text as it is.
    Whole(String),
    /// Rows of a `.raw` file.
    Rows(Vec<String>),
    /// Documents of a JSONL file.
    Documents(Vec<String>),
}

impl Text {
    /// Reads a file by its name.
    pub(super) fn read(path: &Path) -> Result<Self, PipelineError> {
        let name = path.to_string_lossy();
        let mut file = File::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => PipelineError::refused(
                ErrorCode::DatasetNotFound,
                format!("there is no file {}", path.display()),
            ),
            _ => PipelineError::io("open", path, error),
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|error| PipelineError::io("read", path, error))?;
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let content = if name.ends_with(".jsonl.gz") {
            documents(
                BufReader::new(flate2::read::MultiGzDecoder::new(bytes.as_slice())),
                path,
            )?
        } else if name.ends_with(".jsonl") {
            documents(bytes.as_slice(), path)?
        } else if name.ends_with(".raw") {
            rows(&utf8(bytes, path)?)
        } else {
            Content::Whole(utf8(bytes, path)?)
        };
        Ok(Self { content, sha256 })
    }

    /// One text; rows or documents with `separator` between them.
    pub(super) fn joined(&self, separator: &str) -> Cow<'_, str> {
        match &self.content {
            Content::Whole(text) => Cow::Borrowed(text),
            Content::Rows(parts) | Content::Documents(parts) => Cow::Owned(parts.join(separator)),
        }
    }
}

fn utf8(bytes: Vec<u8>, path: &Path) -> Result<String, PipelineError> {
    String::from_utf8(bytes).map_err(|error| invalid(path, &format!("it is not UTF-8: {error}")))
}

fn rows(text: &str) -> Content {
    let row = |line: &str| {
        if line.trim().is_empty() {
            String::new()
        } else {
            format!("{line}\n")
        }
    };
    Content::Rows(text.lines().map(row).collect())
}

fn documents(reader: impl BufRead, path: &Path) -> Result<Content, PipelineError> {
    #[derive(Deserialize)]
    struct Document {
        text: String,
    }
    let mut documents = Vec::new();
    for (number, line) in reader.lines().enumerate() {
        let line = line.map_err(|error| invalid(path, &format!("line {}: {error}", number + 1)))?;
        if line.trim().is_empty() {
            continue;
        }
        let document: Document = serde_json::from_str(&line)
            .map_err(|error| invalid(path, &format!("line {}: {error}", number + 1)))?;
        documents.push(document.text);
    }
    Ok(Content::Documents(documents))
}

fn invalid(path: &Path, reason: &str) -> PipelineError {
    PipelineError::refused(
        ErrorCode::DatasetInvalid,
        format!("{} cannot be read: {reason}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> Text {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Text::read(&path).unwrap()
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
        assert_eq!(
            read("a.jsonl.gz", &encoder.finish().unwrap()).joined("|"),
            "one|two"
        );
    }
}
