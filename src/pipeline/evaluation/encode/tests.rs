use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::tasks::{Documents, Shots, Task};

const VOCAB: usize = 12;

/// A model directory whose tokenizer splits at spaces, merges `new` and `york`, and begins with `<s>` by itself if asked.
fn model(begins_with_bos: bool, names_bos: bool) -> TempDir {
    let words = [
        "<s>", "</s>", "a", "b", "c", "d", "e", "Ġa", "Ġb", "Ġc", "Ġd", "Ġe",
    ];
    let vocab: serde_json::Map<String, Value> = words
        .iter()
        .enumerate()
        .map(|(id, word)| ((*word).to_owned(), json!(id)))
        .collect();
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false, "special": true})
    };
    let bos = json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<s>"), special(1, "</s>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": if begins_with_bos { bos } else { Value::Null },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "</s>"},
    });
    let dir = TempDir::new().unwrap();
    let write = |name: &str, value: Value| {
        std::fs::write(dir.path().join(name), value.to_string()).unwrap();
    };
    write("tokenizer.json", tokenizer);
    if names_bos {
        write(
            "tokenizer_config.json",
            json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}}),
        );
    }
    dir
}

fn tokens_of(dir: &TempDir, bos: BosRule, texts: (&str, &str)) -> (Vec<u32>, usize) {
    let tokenizer = ModelTokenizer::load(dir.path(), VOCAB).unwrap();
    let encoder = Encoder::new(&tokenizer, bos, 8).unwrap();
    let pair = encoder.pair(texts.0, texts.1).unwrap();
    (pair.sequence.tokens, pair.sequence.scored)
}

#[test]
fn a_continuation_is_what_the_whole_has_more_than_the_context() {
    let dir = model(false, true);
    let tokens = |pair| tokens_of(&dir, BosRule::Tokenizer, pair);
    assert_eq!(tokens(("a b", " c d")), (vec![2, 8, 9, 10], 2));
    // White space at the end of a context belongs to the continuation.
    assert_eq!(tokens(("a b ", "c")), (vec![2, 8, 9], 1));
    // Without a context the text is scored after the token for the beginning of text.
    assert_eq!(tokens(("", "a b")), (vec![0, 2, 8], 2));
    assert_eq!(tokens((" ", "a")), (vec![0, 7], 1));
}

#[test]
fn the_tokenizers_own_beginning_of_text_goes_first_unless_it_is_there_or_not_wanted() {
    let dir = model(true, true);
    let tokens = |bos, pair| tokens_of(&dir, bos, pair);
    assert_eq!(tokens(BosRule::Tokenizer, ("a", " b")), (vec![0, 2, 8], 1));
    assert_eq!(tokens(BosRule::Never, ("a", " b")), (vec![2, 8], 1));
    let given = tokens(BosRule::Tokenizer, ("<s>a", " b"));
    assert_eq!(given, (vec![0, 2, 8], 1));
}

#[test]
fn what_does_not_fit_loses_its_beginning_and_says_so() {
    let dir = model(false, true);
    let tokenizer = ModelTokenizer::load(dir.path(), VOCAB).unwrap();
    let encoder = Encoder::new(&tokenizer, BosRule::Tokenizer, 3).unwrap();
    // Four tokens fit a context of three: the last one is predicted, never fed.
    let fitting = encoder.pair("a b c", " d").unwrap();
    assert_eq!(
        (fitting.sequence.tokens, fitting.is_truncated),
        (vec![2, 8, 9, 10], false)
    );
    let cut = encoder.pair("a b c d", " e").unwrap();
    assert_eq!(
        (cut.sequence.tokens, cut.is_truncated),
        (vec![8, 9, 10, 11], true)
    );
    let error = encoder.pair("a", " b c d e").unwrap_err();
    assert_eq!(error.code(), ErrorCode::ContextTooLong);
    assert_eq!(
        error.to_string(),
        "a continuation of 4 tokens does not fit the model's context of 3 tokens"
    );
}

#[test]
fn a_rolling_text_is_scored_token_by_token_once() {
    let dir = model(false, true);
    let tokenizer = ModelTokenizer::load(dir.path(), VOCAB).unwrap();
    let encoder = Encoder::new(&tokenizer, BosRule::Tokenizer, 3).unwrap();
    // lm_eval.utils.get_rolling_token_windows([2, 8, 9, 10, 11], 0, 3, 1), made disjoint:
    // ([0], [2, 8, 9]) and ([8, 9], [10, 11])
    let windows = encoder.rolling("a b c d e").unwrap();
    let windows: Vec<_> = windows.into_iter().map(|w| (w.tokens, w.scored)).collect();
    assert_eq!(windows, [(vec![0, 2, 8, 9], 3), (vec![8, 9, 10, 11], 2)]);
}

#[test]
fn a_prompt_leaves_room_for_its_answer() {
    let dir = model(false, true);
    let tokenizer = ModelTokenizer::load(dir.path(), VOCAB).unwrap();
    let encoder = Encoder::new(&tokenizer, BosRule::Tokenizer, 4).unwrap();
    assert_eq!(encoder.prompt("a b c", 2).unwrap(), (vec![8, 9], true));
    assert_eq!(encoder.prompt("a b", 2).unwrap(), (vec![2, 8], false));
    let error = encoder.prompt("a", 4).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ContextTooLong);
}

#[test]
fn a_tokenizer_without_the_tokens_that_a_text_must_begin_with_is_refused_by_name() {
    let dir = model(false, false);
    let tokenizer = ModelTokenizer::load(dir.path(), VOCAB).unwrap();
    let encoder = Encoder::new(&tokenizer, BosRule::Tokenizer, 8).unwrap();
    let error = encoder.rolling("a b").unwrap_err();
    assert_eq!(error.code(), ErrorCode::TokenizerInvalid);
    assert!(
        error
            .to_string()
            .contains("neither a bos_token nor an eos_token"),
        "{error}"
    );
    // A task that needs none is not affected.
    assert!(encoder.pair("a", " b").is_ok());
}

/// The tasks with requests in `../shared/data/golden`, and how many documents their splits have.
const GOLDEN: [(&str, usize); 9] = [
    ("boolq", 3270),
    ("rte", 277),
    ("hellaswag", 10042),
    ("winogrande", 1267),
    ("arc_easy", 2376),
    ("arc_challenge", 1172),
    ("openbookqa", 500),
    ("piqa", 1838),
    ("lambada_openai", 5153),
];

fn json_lines(path: &Path) -> Vec<Value> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let reader: Box<dyn Read> = if path.extension().is_some_and(|ending| ending == "gz") {
        Box::new(flate2::read::GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let lines = BufReader::new(reader).lines();
    lines
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect()
}

/// The real model's directory and the public data sets; `None`, loudly, without them.
fn real() -> Option<(PathBuf, PathBuf)> {
    let Some(model) = std::env::var_os("SECATEUR_REAL_MODEL").map(PathBuf::from) else {
        eprintln!("NOT RUN: SECATEUR_REAL_MODEL is not set");
        return None;
    };
    let reference = std::env::var_os("SECATEUR_REFERENCE_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference"),
        PathBuf::from,
    );
    Some((model, reference.join("../data")))
}

#[test]
fn tokens_of_a_real_model_are_those_of_the_harness_and_every_document_of_every_split_has_some() {
    let Some((model, data)) = real() else { return };
    let tokenizer = ModelTokenizer::load(&model, 49_152).unwrap();
    let encoder = Encoder::new(&tokenizer, BosRule::Tokenizer, 8192).unwrap();
    let mut longest = 0;
    for (name, expected) in GOLDEN {
        let task = Task::find(name).unwrap();
        let files = ["jsonl", "jsonl.gz"].map(|ending| {
            data.join(format!(
                "{}/{}.{ending}",
                task.split.dataset, task.split.name
            ))
        });
        let file = files.iter().find(|file| file.is_file()).unwrap();
        let rows = json_lines(file);
        assert_eq!(rows.len(), expected, "{name}");
        let Documents::Items(items) = task.documents(&rows, Shots::NONE, None).unwrap() else {
            panic!("{name} has no items")
        };
        assert_eq!(items.len(), expected, "{name}");
        let golden = json_lines(&data.join(format!("golden/{name}.requests.jsonl.gz")));
        for (index, item) in items.iter().enumerate() {
            for (i, request) in item.requests.iter().enumerate() {
                let pair = encoder
                    .pair(&request.context, &request.continuation)
                    .unwrap();
                longest = longest.max(pair.sequence.tokens.len());
                let Some(document) = golden.get(index) else {
                    continue;
                };
                let expected = &document["requests"][i];
                let (context, continuation) = pair
                    .sequence
                    .tokens
                    .split_at(pair.sequence.tokens.len() - pair.sequence.scored);
                assert_eq!(json!(context), expected["context_tokens"], "{name} {index}");
                assert_eq!(
                    json!(continuation),
                    expected["continuation_tokens"],
                    "{name} {index}"
                );
            }
        }
    }
    assert_eq!(longest, 1299);
}
