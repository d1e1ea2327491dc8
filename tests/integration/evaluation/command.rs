//! `secateur evaluate` with tasks and a baseline, on the bundled model and made-up data sets.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::command_line::{prune, secateur};

/// What the bundled model knows best.
const DEMO_TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo/test.txt");

/// Data sets in the layout of a data directory, small enough for the bundled model's context.
fn data() -> TempDir {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, rows: &[Value]| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        fs::write(path, lines.join("\n")).unwrap();
    };
    let people = ["Anna", "Ben", "Clara", "David", "Emma", "Felix"];
    let boolq: Vec<Value> = (0..6_usize)
        .map(|i| {
            let passage = format!("Garden -- {} is in the garden.", people[i]);
            json!({"passage": passage, "question": format!("is {} in the garden", people[i]),
                   "label": i % 2, "idx": i})
        })
        .collect();
    write("boolq/validation.jsonl", &boolq);
    let arc: Vec<Value> = (0..4_usize)
        .map(|i| {
            json!({"id": i.to_string(), "question": format!("Where is {}?", people[i]), "answerKey": "B",
                   "choices": {"text": ["in the garden", "in the old kitchen", "nowhere"], "label": ["A", "B", "C"]}})
        })
        .collect();
    write("arc_easy/test.jsonl", &arc);
    write(
        "rte/validation.jsonl",
        &[json!({"sentence1": "A.", "label": 0, "idx": 0})],
    );
    let question = |i: usize, subject: &str| {
        json!({"question": format!("Where is {}?", people[i]), "subject": subject,
               "choices": ["here", "there", "in the garden", "away"], "answer": i % 4})
    };
    let test: Vec<Value> = (0..6)
        .map(|i| question(i, ["garden_life", "kitchens"][i / 3]))
        .collect();
    write("mmlu/test.jsonl", &test);
    let gsm: Vec<Value> = (0..2)
        .map(|i| json!({"question": format!("{} has 2 apples?", people[i]), "answer": "Two. #### 2"}))
        .collect();
    write("gsm8k/test.jsonl", &gsm);
    let raw = " \n = Garden = \n \n Anna is in the garden . \n \n = Kitchen = \n \n Ben is in the kitchen . \n";
    fs::create_dir_all(dir.path().join("wikitext2")).unwrap();
    fs::write(dir.path().join("wikitext2/wiki.test.raw"), raw).unwrap();
    dir
}

fn evaluate(data: &TempDir, args: &[&str]) -> Value {
    let data = data.path().to_str().unwrap();
    let output = secateur(&[&["evaluate", "--json", "--data-dir", data], args].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    // A slow machine is told its progress.
    let is_quiet = stderr.lines().all(|line| line.starts_with("evaluating: "));
    assert!(output.status.success() && is_quiet, "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn samples(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The model in `dense` with four of five weights gone.
fn pruned(dense: &str, dir: &TempDir) -> String {
    let out = dir.path().join("pruned").to_str().unwrap().to_owned();
    prune(&[
        "--model",
        dense,
        "--eval-file",
        DEMO_TEXT,
        "--method",
        "magnitude",
        "--sparsity",
        "0.8",
        "--eval-windows",
        "1",
        "--out",
        &out,
    ]);
    out
}

#[test]
fn every_document_is_scored_and_the_numbers_are_those_of_the_documents() {
    let (data, dir) = (data(), TempDir::new().unwrap());
    let out = dir.path().join("samples.jsonl");
    let report = evaluate(
        &data,
        &[
            "--model",
            "demo",
            "--tasks",
            "boolq,arc_easy",
            "--samples-out",
            out.to_str().unwrap(),
        ],
    );
    let samples = samples(&out);
    let of = |task: &str| {
        samples
            .iter()
            .filter(|sample| sample["task"] == task)
            .collect::<Vec<_>>()
    };
    for (index, (task, n, choices)) in [("boolq", 6, 2), ("arc_easy", 4, 3)]
        .into_iter()
        .enumerate()
    {
        let (documents, result) = (of(task), &report["results"]["tasks"][index]);
        assert_eq!(documents.len(), n, "{task}");
        let mut right = 0;
        for (i, document) in documents.iter().enumerate() {
            assert_eq!(
                (&document["doc_id"], &document["model"]),
                (&json!(i), &json!("after"))
            );
            let lls: Vec<f64> = serde_json::from_value(document["lls"].clone()).unwrap();
            assert_eq!(lls.len(), choices);
            assert!(lls.iter().all(|ll| *ll < 0.0));
            let best = (0..choices)
                .max_by(|a, b| lls[*a].total_cmp(&lls[*b]))
                .unwrap();
            assert_eq!(
                document["acc"],
                json!(json!(best) == document["gold"]),
                "{document}"
            );
            right += usize::from(document["acc"] == true);
        }
        let metric = &result["metrics"][0];
        assert_eq!(metric["metric"], "acc");
        assert_eq!(metric["after"]["value"], json!(right as f64 / n as f64));
        assert_eq!(
            (&metric["before"], &metric["difference"]),
            (&Value::Null, &Value::Null)
        );
        let protocol = &result["protocol"];
        assert_eq!(
            (&protocol["n"], &protocol["rows"], &protocol["shots"]),
            (&json!(n), &json!(n), &json!(0))
        );
        assert!(
            protocol["id"]
                .as_str()
                .unwrap()
                .starts_with(&format!("{task}@")),
            "{protocol}"
        );
    }
    assert_eq!(
        report["results"]["mean"]["tasks"],
        json!(["boolq", "arc_easy"])
    );
    assert_eq!(
        report["results"]["generations"].as_array().unwrap().len(),
        3
    );
}

/// The bundled model against itself with four of five weights gone, and the scores of the documents.
fn comparison() -> (Value, Vec<Value>) {
    let (data, dir) = (data(), TempDir::new().unwrap());
    // GSM8K asks for room for 256 new tokens.
    let dense = model(&dir, |copy| {
        edit_config(copy, |config| {
            config["max_position_embeddings"] = json!(512);
        });
    });
    let (model, out) = (pruned(&dense, &dir), dir.path().join("samples.jsonl"));
    let report = evaluate(
        &data,
        &[
            "--model",
            &model,
            "--baseline",
            &dense,
            "--tasks",
            "boolq,wikitext,mmlu:0,gsm8k:0",
            "--eval-file",
            DEMO_TEXT,
            "--eval-seq-len",
            "64",
            "--eval-windows",
            "4",
            "--samples-out",
            out.to_str().unwrap(),
        ],
    );
    let samples = samples(&out);
    (report, samples)
}

#[test]
fn a_model_and_its_baseline_are_compared_document_by_document() {
    let (report, samples) = comparison();
    let results = &report["results"];
    let text = &results["perplexity"][0];
    assert!(
        text["after"].as_f64().unwrap() > text["before"].as_f64().unwrap(),
        "{text}"
    );
    assert!(text["divergence"]["kl"].as_f64().unwrap() > 0.1, "{text}");
    let answers = |model: &str| -> Vec<bool> {
        let own = samples
            .iter()
            .filter(|sample| sample["task"] == "boolq" && sample["model"] == model);
        own.map(|sample| sample["acc"].as_bool().unwrap()).collect()
    };
    let pairs: Vec<(bool, bool)> = answers("before")
        .into_iter()
        .zip(answers("after"))
        .collect();
    assert_eq!(pairs.len(), 6);
    let count = |pair| pairs.iter().filter(|other| **other == pair).count();
    let boolq = &results["tasks"][0];
    let flips = json!({"right_to_wrong": count((true, false)), "wrong_to_right": count((false, true)), "n": 6});
    assert_eq!(boolq["flips"], flips);
    let difference = &boolq["metrics"][0]["difference"];
    let expected = (count((false, true)) as f64 - count((true, false)) as f64) / 6.0;
    assert!((difference["value"].as_f64().unwrap() - expected).abs() < 1e-12);
    assert!(difference["low"].as_f64() <= difference["value"].as_f64());
    let codes: Vec<&Value> = results["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| &w["code"])
        .collect();
    assert!(codes.contains(&&json!("kl_divergence")), "{codes:?}");
    for generation in results["generations"].as_array().unwrap() {
        assert!(
            generation["before"]["text"].is_string() && generation["after"]["text"].is_string()
        );
    }
}

#[test]
fn pages_subjects_and_written_answers_are_measured_too() {
    let (report, samples) = comparison();
    let results = &report["results"];
    // Perplexity by word, with an interval over the two pages.
    let words = &results["tasks"][1]["metrics"][0];
    assert_eq!(
        (&words["metric"], &words["higher_is_better"]),
        (&json!("word_perplexity"), &json!(false))
    );
    let [low, high] = ["low", "high"].map(|end| words["difference"][end].as_f64().unwrap());
    assert!(low < high, "{words}");
    // MMLU: both means, and the subjects by themselves.
    let mmlu = &results["tasks"][2];
    let names: Vec<&Value> = mmlu["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["metric"])
        .collect();
    assert!(
        names.contains(&&json!("acc")) && names.contains(&&json!("acc_macro")),
        "{names:?}"
    );
    let subjects: Vec<&Value> = mmlu["subjects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["subject"])
        .collect();
    assert_eq!(subjects, ["garden_life", "kitchens"]);
    // GSM8K: what was written is kept.
    let written: Vec<&Value> = samples
        .iter()
        .filter(|sample| sample["task"] == "gsm8k")
        .collect();
    assert_eq!(written.len(), 4);
    assert!(written.iter().all(|sample| sample["generated"].is_string()));
}

#[test]
fn a_model_against_itself_differs_in_nothing() {
    let data = data();
    let report = evaluate(
        &data,
        &[
            "--model",
            "demo",
            "--baseline",
            "demo",
            "--tasks",
            "boolq",
            "--perplexity",
            "wikitext2",
            "--eval-seq-len",
            "8",
            "--eval-windows",
            "2",
        ],
    );
    let results = &report["results"];
    let text = &results["perplexity"][0];
    assert_eq!(text["before"], text["after"]);
    assert!(
        text["divergence"]["kl"].as_f64().unwrap().abs() < 1e-6,
        "{text}"
    );
    assert_eq!(text["divergence"]["top1_agreement"], 1.0);
    assert_eq!(
        results["tasks"][0]["metrics"][0]["difference"]["value"],
        0.0
    );
    assert_eq!(results["warnings"], json!([]));
}

#[test]
fn kept_scores_are_used_again_for_the_same_model_and_protocol_only() {
    let (data, dir) = (data(), TempDir::new().unwrap());
    let scores = dir.path().join("scores");
    let kept = || fs::read_dir(&scores).unwrap().count();
    let args = [
        "--model",
        "demo",
        "--tasks",
        "boolq,arc_easy",
        "--scores-dir",
        scores.to_str().unwrap(),
    ];
    let first = evaluate(&data, &args);
    // Two tasks and the fixed prompts.
    assert_eq!(kept(), 3);
    // What is kept is believed: a changed entry shows in the result.
    let entry = fs::read_dir(&scores)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let boolq = entry
        .into_iter()
        .find(|path| fs::read_to_string(path).unwrap().matches("doc_id").count() == 6);
    let boolq = boolq.unwrap();
    let all_right = fs::read_to_string(&boolq)
        .unwrap()
        .replace("\"acc\":false", "\"acc\":true");
    fs::write(&boolq, all_right).unwrap();
    let second = evaluate(&data, &args);
    assert_eq!(
        second["results"]["tasks"][0]["metrics"][0]["after"]["value"],
        1.0
    );
    assert_eq!(second["results"]["tasks"][1], first["results"]["tasks"][1]);
    assert_eq!(kept(), 3);
    // Another limit is another protocol.
    evaluate(&data, &[&args[..], &["--limit", "3"]].concat());
    assert_eq!(kept(), 5);
}

#[test]
fn documents_that_do_not_fit_the_model_are_told_of() {
    let data = data();
    let long = json!({"passage": "The garden is old. ".repeat(200), "question": "is it", "label": 0, "idx": 0});
    fs::write(data.path().join("boolq/validation.jsonl"), long.to_string()).unwrap();
    let report = evaluate(&data, &["--model", "demo", "--tasks", "boolq"]);
    let warning = &report["results"]["warnings"][0];
    assert_eq!(
        (&warning["code"], &warning["subject"]),
        (&json!("truncated_inputs"), &json!("boolq"))
    );
    let message = warning["message"].as_str().unwrap();
    assert!(
        message.starts_with("1 of 1 documents of boolq are longer than"),
        "{message}"
    );
}

/// A copy of the bundled model, changed by `spoil`.
fn model(dir: &TempDir, spoil: impl FnOnce(&Path)) -> String {
    let copy = dir.path().join("model");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    spoil(&copy);
    copy.to_str().unwrap().to_owned()
}

fn edit_config(copy: &Path, edit: impl FnOnce(&mut Value)) {
    let path = copy.join("config.json");
    let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

/// Puts a NaN into the final norm, so that every logit is one.
fn spoil_final_norm(copy: &Path) {
    let path = copy.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let norm = &tensors["model.norm.weight"];
    let at = 8 + header + norm["data_offsets"][0].as_u64().unwrap() as usize;
    let nan: &[u8] = match norm["dtype"].as_str().unwrap() {
        "F32" => &f32::NAN.to_le_bytes(),
        "BF16" => &[0xc0, 0x7f],
        other => panic!("{other}"),
    };
    bytes[at..at + nan.len()].copy_from_slice(nan);
    fs::write(path, bytes).unwrap();
}

#[test]
fn bad_input_is_refused_in_one_line_with_its_code() {
    let (data, dir) = (data(), TempDir::new().unwrap());
    let data_dir = data.path().to_str().unwrap();
    let nan = model(&dir, spoil_final_norm);
    let other = TempDir::new().unwrap();
    let without_special = model(&other, |copy| {
        edit_config(copy, |config| {
            config["bos_token_id"] = Value::Null;
            config["eos_token_id"] = Value::Null;
        });
        fs::remove_file(copy.join("tokenizer_config.json")).unwrap();
    });
    for (model, args, expected) in [
        (
            "demo",
            &["--tasks", "boolq,nonsense"][..],
            "unknown_task: there is no task \"nonsense\"; known are boolq",
        ),
        (
            "demo",
            &["--tasks", "humaneval"],
            "invalid_request: the task humaneval cannot be run",
        ),
        (
            "demo",
            &["--tasks", "boolq:3"],
            "invalid_request: task \"boolq\" runs with 0 examples, not 3",
        ),
        (
            "demo",
            &["--tasks", "boolq,boolq"],
            "invalid_request: the task boolq is given twice",
        ),
        (
            "demo",
            &["--tasks", "boolq", "--limit", "0"],
            "0 is not in 1..=4294967295",
        ),
        (
            "demo",
            &["--tasks", "rte"],
            "dataset_invalid: task \"rte\": document 0 of split \"validation\": column \"sentence2\"",
        ),
        (
            "demo",
            &["--perplexity", "wikitext2", "--eval-seq-len", "100000"],
            "seq_len_too_long: ",
        ),
        (&nan, &["--tasks", "boolq"], "non_finite: "),
        (
            &without_special,
            &["--tasks", "wikitext"],
            "tokenizer_invalid: the tokenizer names neither",
        ),
    ] {
        let output = secateur(
            &[
                &["evaluate", "--data-dir", data_dir, "--model", model],
                args,
            ]
            .concat(),
        );
        let line = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && output.stdout.is_empty(),
            "{args:?}"
        );
        assert!(line.contains(expected), "{args:?}: {line}");
    }
}
