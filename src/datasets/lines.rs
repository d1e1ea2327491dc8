//! JSON Lines: one object per line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::DatasetError;

/// Bytes read from the disk at once.
const BUFFER_BYTES: usize = 1 << 18;

pub(super) fn read(
    path: &Path,
    limit: usize,
    each: &mut dyn FnMut(Value) -> Result<(), String>,
) -> Result<usize, DatasetError> {
    read_lines(open(path)?, path, limit, each)
}

pub(super) fn read_compressed(
    path: &Path,
    limit: usize,
    each: &mut dyn FnMut(Value) -> Result<(), String>,
) -> Result<usize, DatasetError> {
    read_lines(MultiGzDecoder::new(open(path)?), path, limit, each)
}

fn open(path: &Path) -> Result<File, DatasetError> {
    File::open(path).map_err(|error| DatasetError::io(path, error))
}

fn read_lines(
    reader: impl Read,
    path: &Path,
    limit: usize,
    each: &mut dyn FnMut(Value) -> Result<(), String>,
) -> Result<usize, DatasetError> {
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
    let (mut line, mut number, mut n_rows) = (Vec::new(), 0_usize, 0_usize);
    loop {
        line.clear();
        number += 1;
        let length = reader.read_until(b'\n', &mut line);
        match length.map_err(|error| unreadable(path, number, error))? {
            0 => return Ok(n_rows),
            _ if line.trim_ascii().is_empty() => continue,
            _ => n_rows += 1,
        }
        if n_rows <= limit {
            let row = parse(&line).and_then(&mut *each);
            row.map_err(|reason| DatasetError::invalid(path, format!("line {number}: {reason}")))?;
        }
    }
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

fn parse(line: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(line).map_err(|error| format!("it is not UTF-8: {error}"))?;
    match serde_json::from_str(text) {
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
