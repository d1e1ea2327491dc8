//! Accuracies and standard errors against lm-evaluation-harness, from its own log-likelihoods.
//!
//! As the tests beside it, left out loudly without the results of `../shared`.

use std::io::Read;
use std::path::Path;

use secateur::statistics::Answers;
use secateur::tasks::{acc, acc_norm};
use serde_json::Value;

use crate::engine::reference::reference_dir;

/// The characters of each choice of a task's first documents.
fn choice_chars(golden: &Path, task: &str) -> Vec<Vec<usize>> {
    let path = golden.join(format!("{task}.requests.jsonl.gz"));
    let file = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut text = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    let documents = text.lines().map(|line| {
        let document: Value = serde_json::from_str(line).unwrap();
        serde_json::from_value(document["choice_chars"].clone()).unwrap()
    });
    documents.collect()
}

fn assert_metric(result: &Value, task: &str, metric: &str, is_right: &[bool]) {
    let estimate = Answers::count(is_right).estimate().unwrap();
    let stderr = estimate.stderr.unwrap();
    for (name, found) in [
        (metric.to_owned(), estimate.value),
        (format!("{metric}_stderr"), stderr),
    ] {
        let expected = result[&name].as_f64().unwrap();
        assert!(
            (found - expected).abs() < 1e-12,
            "{task} {name}: {found}, {expected}"
        );
    }
}

#[test]
fn accuracies_and_standard_errors_are_those_of_the_harness() {
    let Some(dir) = reference_dir() else {
        return;
    };
    let file = std::fs::read(dir.join("lm_eval_dense_limit100.json")).unwrap();
    let reference: Value = serde_json::from_slice(&file).unwrap();
    let golden = dir.join("../data/golden");
    let (mut by_choice, mut by_char) = (0, 0);
    for (task, samples) in reference["samples"].as_object().unwrap() {
        let chars = choice_chars(&golden, task);
        let result = &reference["results"][task];
        let documents = samples.as_array().unwrap().iter().zip(&chars);
        let scores = documents.map(|(sample, chars)| {
            let lls: Vec<f64> = serde_json::from_value(sample["lls"].clone()).unwrap();
            let gold = sample["gold"].as_u64().unwrap() as usize;
            (acc(&lls, gold), acc_norm(&lls, chars, gold))
        });
        let (right, right_by_char): (Vec<bool>, Vec<bool>) = scores.unzip();
        assert_eq!(right.len(), 100, "{task}");
        assert_metric(result, task, "acc", &right);
        by_choice += 1;
        if result.get("acc_norm").is_some() {
            assert_metric(result, task, "acc_norm", &right_by_char);
            by_char += 1;
        }
    }
    assert_eq!((by_choice, by_char), (7, 4), "tasks with acc and acc_norm");
}
