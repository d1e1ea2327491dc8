//! Text corpora: where they lie and how their files are read.
//!
//! - `.raw`, WikiText's own form: rows, one per line; a row is a line with its newline, or nothing for a blank one. That
//!   is how the public data set gives its text, and joining its rows is part of the paper's protocol.
//! - `.jsonl`, `.jsonl.gz`: one document per line, in the field `text`.
//! - Anything else: text, taken as it is.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::PipelineError;
use crate::bundled;
use crate::domain::ErrorCode;
use crate::domain::spec::DatasetRef;

/// What a text is used for: registered data sets have a part for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// To calibrate on.
    Calibration,
    /// To measure on.
    Evaluation,
}

/// Where data sets lie.
#[derive(Debug, Clone)]
pub struct DataRoots {
    /// `SECATEUR_DATA_DIR`.
    pub data_dir: Option<PathBuf>,
    /// Where the bundled text was unpacked.
    pub bundled_dir: PathBuf,
}

impl DataRoots {
    /// The file of a data set. Its name has been checked; whether the file is there is checked here.
    pub fn locate(&self, dataset: &DatasetRef, purpose: Use) -> Result<PathBuf, PipelineError> {
        let candidates: Vec<PathBuf> = match (dataset, purpose) {
            (DatasetRef::Demo, Use::Calibration) => {
                vec![self.bundled_dir.join(bundled::CALIBRATION_TEXT)]
            }
            (DatasetRef::Demo, Use::Evaluation) => vec![self.bundled_dir.join(bundled::TEST_TEXT)],
            (DatasetRef::Wikitext2, Use::Calibration) => {
                self.below(&["wikitext2/wiki.train.raw", "wikitext2/wiki.valid.raw"])
            }
            (DatasetRef::Wikitext2, Use::Evaluation) => self.below(&["wikitext2/wiki.test.raw"]),
            (DatasetRef::C4, Use::Calibration) => self.below(&[
                "c4/en_train.jsonl",
                "c4/en_train.jsonl.gz",
                "c4/en_train_first1000.jsonl.gz",
            ]),
            (DatasetRef::C4, Use::Evaluation) => {
                self.below(&["c4/en_validation.jsonl", "c4/en_validation.jsonl.gz"])
            }
            (DatasetRef::Local { path }, _) => self.below(&[path]),
        };
        candidates
            .iter()
            .find(|path| path.is_file())
            .cloned()
            .ok_or_else(|| self.not_found(dataset, &candidates))
    }

    fn below(&self, names: &[&str]) -> Vec<PathBuf> {
        self.data_dir
            .iter()
            .flat_map(|dir| names.iter().map(|name| dir.join(name)))
            .collect()
    }

    fn not_found(&self, dataset: &DatasetRef, candidates: &[PathBuf]) -> PipelineError {
        let name = dataset.name();
        let message = if self.data_dir.is_none() {
            format!("data set {name:?} is not there: no data directory is set (SECATEUR_DATA_DIR)")
        } else {
            let looked: Vec<String> = candidates
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            format!(
                "data set {name:?} is not there; looked for {}",
                looked.join(", ")
            )
        };
        PipelineError::refused(ErrorCode::DatasetNotFound, message)
    }
}

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
    String::from_utf8(bytes).map_err(|error| invalid(path, format!("it is not UTF-8: {error}")))
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
        let line = line.map_err(|error| invalid(path, format!("line {}: {error}", number + 1)))?;
        if line.trim().is_empty() {
            continue;
        }
        let document: Document = serde_json::from_str(&line)
            .map_err(|error| invalid(path, format!("line {}: {error}", number + 1)))?;
        documents.push(document.text);
    }
    Ok(Content::Documents(documents))
}

fn invalid(path: &Path, reason: String) -> PipelineError {
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
