//! Files with a row on each line: JSON Lines, and WikiText's own form; or one JSON array of rows.
//!
//! A byte order mark at the beginning, as Windows tools write it, is no part of the first row.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value, json};

use super::DatasetError;

/// Bytes read from the disk at once.
const BUFFER_BYTES: usize = 1 << 18;

/// The mark in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineFormat {
    /// A JSON object, or a part of one array of objects; a blank line is nothing.
    Json,
    /// A row with the field `text`: the line with its newline, or nothing for a blank line.
    Raw,
}

/// Gives each of the first `limit` rows to `each`; returns how many there are.
pub(super) fn read(
    path: &Path,
    format: LineFormat,
    is_compressed: bool,
    limit: usize,
    each: &mut dyn FnMut(Value) -> Result<(), String>,
) -> Result<usize, DatasetError> {
    let file = File::open(path).map_err(|error| DatasetError::io(path, error))?;
    let reader: Box<dyn Read> = if is_compressed {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
    let (mut line, mut number, mut n_rows) = (Vec::new(), 0_usize, 0_usize);
    loop {
        line.clear();
        number += 1;
        let length = reader.read_until(b'\n', &mut line);
        let length = length.map_err(|error| unreadable(path, number, error))?;
        if number == 1 && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        match length {
            0 => return Ok(n_rows),
            _ if format == LineFormat::Json && line.trim_ascii().is_empty() => continue,
            _ if format == LineFormat::Json && n_rows == 0 && is_array(&line) => {
                return array(path, line.as_slice().chain(reader), limit, each);
            }
            _ => n_rows += 1,
        }
        if n_rows <= limit {
            let row = parse(&line, format).and_then(&mut *each);
            row.map_err(|reason| DatasetError::invalid(path, format!("line {number}: {reason}")))?;
        }
    }
}

fn is_array(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(b"[")
}

/// Gives each of the first `limit` elements of an array to `each`; returns how many there are.
fn array(
    path: &Path,
    text: impl Read,
    limit: usize,
    each: &mut dyn FnMut(Value) -> Result<(), String>,
) -> Result<usize, DatasetError> {
    let rows: Vec<Map<String, Value>> = serde_json::from_reader(text).map_err(|error| {
        DatasetError::invalid(path, format!("no array of JSON objects: {error}"))
    })?;
    let n_rows = rows.len();
    for (number, row) in (1..=limit).zip(rows) {
        let seen = each(Value::Object(row));
        seen.map_err(|reason| DatasetError::invalid(path, format!("entry {number}: {reason}")))?;
    }
    Ok(n_rows)
}

/// Damaged compression is the file's fault, everything else the disk's.
fn unreadable(path: &Path, number: usize, error: io::Error) -> DatasetError {
    let reason = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the compressed data ends too early".to_owned(),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => error.to_string(),
        _ => return DatasetError::io(path, error),
    };
    DatasetError::invalid(path, format!("line {number}: {reason}"))
}

fn parse(line: &[u8], format: LineFormat) -> Result<Value, String> {
    let line = std::str::from_utf8(line).map_err(|error| format!("it is not UTF-8: {error}"))?;
    match format {
        LineFormat::Json => object(line),
        LineFormat::Raw if line.trim().is_empty() => Ok(json!({ "text": "" })),
        LineFormat::Raw => {
            let without_end = line.strip_suffix('\n').unwrap_or(line);
            let without_end = without_end.strip_suffix('\r').unwrap_or(without_end);
            Ok(json!({ "text": format!("{without_end}\n") }))
        }
    }
}

fn object(line: &str) -> Result<Value, String> {
    match serde_json::from_str(line) {
        Ok(row @ Value::Object(_)) => Ok(row),
        Ok(_) => Err("it is no JSON object".to_owned()),
        // The parser sees one line: its own line number would mislead.
        Err(error) => {
            let (text, column) = (error.to_string(), error.column());
            let reason = text.split(" at line ").next().unwrap_or_default();
            Err(format!("column {column}: {reason}"))
        }
    }
}
