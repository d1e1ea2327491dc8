//! The tasks on the public data sets: every request as lm-evaluation-harness builds it.
//!
//! The data sets lie beside the repository, in `../shared/data`, and are not part of it: see `engine/reference.rs`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use secateur::tasks::{Documents, Item, Shots, Split, Task};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::engine::reference::reference_dir;

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

fn count(documents: &Documents) -> usize {
    match documents {
        Documents::Items(items) => items.len(),
        Documents::Pages(pages) => pages.len(),
        Documents::Prompts(prompts) => prompts.len(),
    }
}

/// sha256 of JSON lines: `[context, continuation]` of each request and `[gold, choice_chars]` of each item, or
/// `[text, words, bytes]` of each page.
fn digest(documents: &Documents) -> String {
    let lines: Vec<Value> = match documents {
        Documents::Items(items) => items.iter().flat_map(item_lines).collect(),
        Documents::Pages(pages) => pages
            .iter()
            .map(|page| json!([page.text, page.words, page.bytes]))
            .collect(),
        Documents::Prompts(_) => panic!("no prompts are expected"),
    };
    let mut digest = Sha256::new();
    for line in lines {
        digest.update(format!("{line}\n"));
    }
    hex::encode(digest.finalize())
}

fn item_lines(item: &Item) -> Vec<Value> {
    let requests = item.requests.iter();
    let mut lines: Vec<Value> = requests
        .map(|request| json!([&*request.context, request.continuation]))
        .collect();
    lines.push(json!([item.gold, item.choice_chars]));
    lines
}

/// Task, examples, documents, and the digest of what the harness, version 0.4.13, makes of the same rows.
const FULL: [(&str, usize, usize, &str); 12] = [
    (
        "boolq",
        0,
        3270,
        "8e6677fec5ab08b9dc6ac625494d9e2e87aa0027b1a9c8ca6331b6499af13ecb",
    ),
    (
        "rte",
        0,
        277,
        "90acf1f878a3d254d22ed254c6b4228ff94f35e2e9c1d4db7e384b43946f62f3",
    ),
    (
        "hellaswag",
        0,
        10042,
        "dab1e93813f57c649eeedc1957fb8756b4d62d3e535203fb2d2235666ea6293d",
    ),
    (
        "winogrande",
        0,
        1267,
        "b29f6d2b67276d0c5fc6892dbcc39293e79be2ba4bf5e6f55a2acf7e0adc9843",
    ),
    (
        "arc_easy",
        0,
        2376,
        "6a82551b055a1956868152f80264c2945f89c65022f0ae403989de52233f1def",
    ),
    (
        "arc_challenge",
        0,
        1172,
        "41b7a8a428550d97ef7d1861e2d1cbb3ba94a95d4f3ef9452c9f390cbbe50fde",
    ),
    (
        "openbookqa",
        0,
        500,
        "344060b9f75b5d9033972f3d619031ea461fb6d0245993bc489d73b87aad010a",
    ),
    (
        "piqa",
        0,
        1838,
        "88344b96b1ade1f1286f7071c58b3d6e355221e43b11152d6472afb178d79c79",
    ),
    (
        "lambada_openai",
        0,
        5153,
        "bf0e0be706a515e936fb29d80d882427a77591f692bb8e3001669162f2a2655f",
    ),
    (
        "mmlu",
        0,
        14042,
        "3c6d6b399a24a03b76294c7750a0c2a741445284703dc84ea0ead9c2a97c9f5c",
    ),
    (
        "mmlu",
        5,
        14042,
        "8fe6f0e0a046f8e16bfd761be9d1a5e45683d76c0a8ba05a9bae14f83f293f19",
    ),
    (
        "wikitext",
        0,
        62,
        "2b84d881f04d2bfac771d8afa2d3dff67ae00ee5aac05db2130dee96d0249bd7",
    ),
];

#[test]
fn every_document_of_every_split_is_that_of_the_harness() {
    let Some(data) = data_dir() else { return };
    for (name, shots, n, expected) in FULL {
        let task = Task::find(name).unwrap();
        let pool = match task.examples {
            Some(examples) if shots > 0 => rows(&data, &examples.split),
            _ => Vec::new(),
        };
        let given = Shots {
            count: shots,
            pool: &pool,
        };
        let documents = task
            .documents(&rows(&data, &task.split), given, None)
            .unwrap();
        assert_eq!(count(&documents), n, "{name}");
        assert_eq!(digest(&documents), expected, "{name}, {shots} examples");
        if let Documents::Items(items) = documents {
            for item in items {
                let is_right = item.gold.is_none_or(|gold| gold < item.requests.len());
                assert!(is_right, "{name}, document {}", item.doc_id);
            }
        }
    }
}
