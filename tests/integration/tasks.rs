//! The tasks on the public data sets: every request as lm-evaluation-harness builds it.
//!
//! The data sets lie beside the repository, in `../shared/data`, and are not part of it: see `reference.rs`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use secateur::tasks::{Documents, Item, Shots, Split, Task};
use serde_json::{Value, json};

use crate::reference::reference_dir;

/// Requests by themselves: a document and its requests, as the harness's were written down.
const GOLDEN: [&str; 9] = [
    "boolq",
    "rte",
    "hellaswag",
    "winogrande",
    "arc_easy",
    "arc_challenge",
    "openbookqa",
    "piqa",
    "lambada_openai",
];

fn data_dir() -> Option<PathBuf> {
    let data = reference_dir()?.parent()?.join("data");
    assert!(data.is_dir(), "{} is missing", data.display());
    Some(data)
}

fn lines(path: &Path) -> Vec<String> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let reader: Box<dyn Read> = if path.extension().is_some_and(|extension| extension == "gz") {
        Box::new(GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let lines = BufReader::new(reader).lines();
    lines.map(|line| line.unwrap()).collect()
}

fn json_lines(path: &Path) -> Vec<Value> {
    let lines = lines(path);
    let values = lines.iter().map(|line| serde_json::from_str(line).unwrap());
    values.collect()
}

/// The rows of a split; those of WikiText as the public data set has them, from the lines of its file.
fn rows(data: &Path, split: &Split) -> Vec<Value> {
    let file = data.join(split.dataset).join(split.name);
    if split.dataset == "wikitext2" {
        let lines = lines(&file.with_added_extension("raw"));
        let row = |line: &String| match line.trim() {
            "" => json!({ "text": "" }),
            _ => json!({ "text": format!("{line}\n") }),
        };
        return lines.iter().map(row).collect();
    }
    let plain = file.with_added_extension("jsonl");
    if plain.is_file() {
        return json_lines(&plain);
    }
    json_lines(&file.with_added_extension("jsonl.gz"))
}

fn items(documents: Documents) -> Vec<Item> {
    match documents {
        Documents::Items(items) => items,
        other => panic!("no items: {other:?}"),
    }
}

#[test]
fn requests_are_those_of_the_harness() {
    let Some(data) = data_dir() else { return };
    for name in GOLDEN {
        let task = Task::find(name).unwrap();
        let golden = json_lines(&data.join(format!("golden/{name}.requests.jsonl.gz")));
        let built = task
            .documents(&rows(&data, &task.split), Shots::NONE, Some(100))
            .unwrap();
        let built = items(built);
        assert_eq!((golden.len(), built.len()), (100, 100), "{name}");
        for (golden, item) in golden.iter().zip(built) {
            let requests = golden["requests"].as_array().unwrap().iter();
            let requests = requests.map(|request| {
                let text = |part: &str| request[part].as_str().unwrap().to_owned();
                (text("context"), text("continuation"))
            });
            let texts = item.requests.iter();
            let texts =
                texts.map(|request| (request.context.to_string(), request.continuation.clone()));
            assert_eq!(
                texts.collect::<Vec<_>>(),
                requests.collect::<Vec<_>>(),
                "{name}, document {}",
                item.doc_id
            );
            assert_eq!(golden["doc_id"], item.doc_id, "{name}");
            if name == "lambada_openai" {
                assert_eq!((item.gold, item.choice_chars.len()), (None, 0));
            } else {
                assert_eq!(golden["gold"], json!(item.gold), "{name}");
                assert_eq!(golden["choice_chars"], json!(item.choice_chars), "{name}");
            }
        }
    }
}
