use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::domain::ErrorCode;

const ROWS: &str = r#"{"question": "Where?", "choices": {"text": ["here", "nowhere"]}, "label": 1}
{"question": "Wo – überall?", "choices": {"text": []}, "label": 0}
"#;

fn write(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// The rows of [`ROWS`] in the layout that the hub's Parquet files have.
fn parquet(compression: Compression) -> Vec<u8> {
    let schema = parse_message_type(
        "message schema {
            optional binary question (string);
            optional group choices {
                optional group text (list) { repeated group list { optional binary element (string); } }
            }
            optional int64 label;
        }",
    );
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .build();
    let mut bytes = Vec::new();
    let mut file =
        SerializedFileWriter::new(&mut bytes, Arc::new(schema.unwrap()), Arc::new(properties))
            .unwrap();
    let mut group = file.next_row_group().unwrap();
    let strings = |texts: &[&str]| texts.iter().map(|&text| ByteArray::from(text)).collect();
    let questions: Vec<ByteArray> = strings(&["Where?", "Wo – überall?"]);
    let choices: Vec<ByteArray> = strings(&["here", "nowhere"]);
    let mut column = group.next_column().unwrap().unwrap();
    let typed = column.typed::<ByteArrayType>();
    typed.write_batch(&questions, Some(&[1, 1]), None).unwrap();
    column.close().unwrap();
    // Levels: two elements of one list, then a list without elements.
    let mut column = group.next_column().unwrap().unwrap();
    let typed = column.typed::<ByteArrayType>();
    let (definition, repetition) = (&[4, 4, 2][..], &[0, 1, 0][..]);
    typed
        .write_batch(&choices, Some(definition), Some(repetition))
        .unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let typed = column.typed::<Int64Type>();
    typed.write_batch(&[1, 0], Some(&[1, 1]), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    file.close().unwrap();
    bytes
}

fn read(path: &PathBuf, limit: Option<usize>) -> Result<SplitRows, DatasetError> {
    SplitRows::read(&[path], limit)
}

fn refusal(name: &str, bytes: &[u8]) -> String {
    let dir = TempDir::new().unwrap();
    let error = read(&write(&dir, name, bytes), None).unwrap_err();
    assert_eq!(error.code(), ErrorCode::DatasetInvalid, "{error}");
    let dir = format!("{}/", dir.path().display());
    error.to_string().replace(&dir, "")
}

#[test]
fn every_format_gives_the_same_rows() {
    let dir = TempDir::new().unwrap();
    let files: [(&str, Vec<u8>); 7] = [
        ("a.jsonl", ROWS.as_bytes().to_vec()),
        ("a.jsonl.gz", gzip(ROWS)),
        ("a.json.gz", gzip(ROWS)),
        ("snappy.parquet", parquet(Compression::SNAPPY)),
        ("lz4.parquet", parquet(Compression::LZ4_RAW)),
        (
            "gzip.parquet",
            parquet(Compression::GZIP(GzipLevel::default())),
        ),
        (
            "zstd.parquet",
            parquet(Compression::ZSTD(ZstdLevel::default())),
        ),
    ];
    for (name, bytes) in &files {
        let documents = read(&write(&dir, name, bytes), None).unwrap();
        let expected = [
            json!({"question": "Where?", "choices": {"text": ["here", "nowhere"]}, "label": 1}),
            json!({"question": "Wo – überall?", "choices": {"text": []}, "label": 0}),
        ];
        assert_eq!(documents.rows, expected, "{name}");
        assert_eq!(documents.n_rows, 2, "{name}");
        assert_eq!(documents.sha256, hex::encode(Sha256::digest(bytes)));
    }
}

#[test]
fn an_array_and_a_byte_order_mark_give_the_same_rows() {
    let dir = TempDir::new().unwrap();
    let marked = |text: &str| format!("\u{feff}{text}");
    let array = format!(" [{}]\n", ROWS.trim().replace('\n', ",\n  "));
    for (name, bytes) in [
        ("a.json", array.clone().into_bytes()),
        ("a.JSON", ROWS.as_bytes().to_vec()),
        ("a.json.gz", gzip(&marked(&array))),
        ("a.jsonl", marked(ROWS).into_bytes()),
        ("a.ndjson", ROWS.as_bytes().to_vec()),
    ] {
        let read = read(&write(&dir, name, &bytes), Some(1)).unwrap();
        assert_eq!((read.rows.len(), read.n_rows), (1, 2), "{name}");
        assert_eq!(read.rows[0]["question"], "Where?", "{name}");
    }
    let raw = read(&write(&dir, "a.raw", marked("one\n").as_bytes()), None).unwrap();
    assert_eq!(raw.rows, [json!({"text": "one\n"})]);
    assert!(refusal("a.json", b"[1, 2]").contains("no array of JSON objects"));
}

#[test]
fn a_pointer_of_git_lfs_is_named_in_every_format() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    for name in ["a.jsonl", "a.json.gz", "a.raw", "a.parquet"] {
        assert!(refusal(name, pointer).contains("git lfs pull"), "{name}");
    }
}

/// A name, and a value of a kind that JSON has not.
fn parquet_beside(kind: &str) -> Vec<u8> {
    let schema = format!("message schema {{ required binary text (string); {kind} }}");
    let schema = parse_message_type(&schema).unwrap();
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, Arc::new(schema), Arc::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    while let Some(mut column) = group.next_column().unwrap() {
        let values = [ByteArray::from("one")];
        let typed = column.typed::<ByteArrayType>();
        let level = typed.get_descriptor().max_def_level();
        typed
            .write_batch(&values, Some(&[level]), Some(&[0]))
            .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    file.close().unwrap();
    bytes
}

#[test]
fn a_column_without_json_does_not_matter() {
    let dir = TempDir::new().unwrap();
    for kind in [
        "required binary image;",
        "required binary price (decimal(9, 2));",
        "required group image { required binary bytes; }",
        "required group tags (map) { repeated group key_value { required binary key (string); required binary value (string); } }",
        "required group images (list) { repeated group list { required binary element; } }",
    ] {
        let path = write(&dir, "a.parquet", &parquet_beside(kind));
        let rows = read(&path, None).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(rows.rows[0]["text"], "one", "{kind}");
    }
}

#[test]
fn the_rows_of_a_raw_file_are_its_lines_and_nothing_for_blank_ones() {
    let dir = TempDir::new().unwrap();
    let path = write(&dir, "a.raw", b" \n = Title = \n\n words");
    let documents = read(&path, Some(3)).unwrap();
    let texts = documents.rows.iter().map(|row| row["text"].as_str());
    let texts: Vec<_> = texts.map(Option::unwrap).collect();
    assert_eq!(texts, ["", " = Title = \n", ""]);
    assert_eq!(documents.n_rows, 4);
}

#[test]
fn a_limit_leaves_the_number_of_rows_and_the_digest_as_they_are() {
    let dir = TempDir::new().unwrap();
    for (name, bytes) in [
        ("a.jsonl", ROWS.as_bytes().to_vec()),
        ("a.jsonl.gz", gzip(ROWS)),
        ("a.parquet", parquet(Compression::SNAPPY)),
    ] {
        let path = write(&dir, name, &bytes);
        let (some, all) = (read(&path, Some(1)).unwrap(), read(&path, None).unwrap());
        assert_eq!(some.rows, all.rows[..1], "{name}");
        assert_eq!((some.n_rows, &some.sha256), (2, &all.sha256), "{name}");
    }
}

#[test]
fn rows_behind_the_limit_are_not_parsed() {
    let dir = TempDir::new().unwrap();
    let path = write(&dir, "a.jsonl", b"{\"a\": 1}\n\nnonsense\n");
    let documents = read(&path, Some(1)).unwrap();
    assert_eq!((documents.rows.len(), documents.n_rows), (1, 2));
}

#[test]
fn several_files_are_one_data_set() {
    let dir = TempDir::new().unwrap();
    let first = write(&dir, "1.jsonl", b"{\"a\": 1}\n{\"a\": 2}\n");
    let second = write(&dir, "2.jsonl", b"{\"a\": 3}\n");
    let both = SplitRows::read(&[&first, &second], None).unwrap();
    assert_eq!(
        both.rows,
        [json!({"a": 1}), json!({"a": 2}), json!({"a": 3})]
    );
    let turned = SplitRows::read(&[&second, &first], Some(2)).unwrap();
    assert_eq!(turned.rows, [json!({"a": 3}), json!({"a": 1})]);
    assert_eq!((both.n_rows, turned.n_rows), (3, 3));
    // sha256sum 1.jsonl 2.jsonl | cut -d' ' -f1 | xxd -r -p | sha256sum
    let expected = "357a525585476308ddf697f67b9b5a6995e52c04d5db26d8c2359fa4130324ad";
    assert_eq!(both.sha256, expected);
    assert_ne!(turned.sha256, expected);
}

#[test]
fn wrong_lines_are_named() {
    let lines = |bad: &[u8]| [b"{\"a\": 1}\n\n", bad, b"\n"].concat();
    assert_eq!(
        refusal("a.jsonl", &lines(b"{\"a\": }")),
        "a.jsonl cannot be read: line 3: column 7: expected value"
    );
    assert_eq!(
        refusal("a.jsonl", &lines(b"[1]")),
        "a.jsonl cannot be read: line 3: it is no JSON object"
    );
    assert_eq!(
        refusal("a.jsonl", &lines(b"{\"a\": \"\xff\"}")),
        "a.jsonl cannot be read: line 3: it is not UTF-8: invalid utf-8 sequence of 1 bytes from index 7"
    );
}

#[test]
fn a_file_without_rows_is_refused() {
    for (name, bytes) in [("a.jsonl", &b"\n \n"[..]), ("a.jsonl.gz", &gzip(""))] {
        let expected = format!("{name} cannot be read: it has no rows");
        assert_eq!(refusal(name, bytes), expected);
    }
}

#[test]
fn damaged_compression_is_refused() {
    let whole = gzip(ROWS);
    let truncated = refusal("a.jsonl.gz", &whole[..whole.len() - 9]);
    assert!(
        truncated.ends_with("the compressed data ends too early"),
        "{truncated}"
    );
    let mut flipped = whole.clone();
    let checksum = flipped.len() - 6;
    flipped[checksum] ^= 1;
    assert!(refusal("a.jsonl.gz", &flipped).contains("corrupt gzip"));
    assert!(refusal("a.jsonl.gz", ROWS.as_bytes()).contains("invalid gzip header"));
    assert!(refusal("a.jsonl.gz", b"").contains("ends too early"));
}

#[test]
fn damaged_parquet_is_refused_wherever_it_was_damaged() {
    let whole = parquet(Compression::ZSTD(ZstdLevel::default()));
    for length in [0, 3, 8, whole.len() / 2, whole.len() - 1] {
        refusal("a.parquet", &whole[..length]);
    }
    refusal("a.parquet", ROWS.as_bytes());
    // Some flipped bits only give another text: what is asked for is an answer, not a crash.
    let dir = TempDir::new().unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x55;
        if let Err(error) = read(&write(&dir, "a.parquet", &flipped), None) {
            assert_eq!(error.code(), ErrorCode::DatasetInvalid, "{at}: {error}");
        }
    }
}

#[test]
fn an_absent_file_is_not_found() {
    let dir = TempDir::new().unwrap();
    let error = read(&dir.path().join("a.jsonl"), None).unwrap_err();
    assert_eq!(error.code(), ErrorCode::DatasetNotFound);
}
