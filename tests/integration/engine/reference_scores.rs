//! Log-likelihoods of a real model against those that lm-evaluation-harness found, on the harness's own token ids.
//!
//! `SECATEUR_REAL_MODEL` names the directory of SmolLM2-135M-Instruct (f32); without it this test says that it was not
//! run. The requests lie in `../data/golden`, seen from the reference results.

use std::io::{BufRead as _, BufReader};
use std::path::Path;

use candle_core::Device;
use secateur::engine::{
    Checkpoint, Decoder, ResidentBlocks, ScoredSequence, Silent, log_likelihoods,
};
use serde_json::Value;

use crate::engine::reference::reference_dir;

/// Documents of each task: what a build without optimisations can do.
const DOCUMENTS: usize = 4;

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The first documents of a task: for each, its requests.
fn documents(data: &Path, task: &str) -> Vec<Vec<ScoredSequence>> {
    let path = data.join(format!("golden/{task}.requests.jsonl.gz"));
    let file = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let lines = BufReader::new(flate2::read::GzDecoder::new(file)).lines();
    let document = |line: String| {
        let document: Value = serde_json::from_str(&line).unwrap();
        let requests = document["requests"].as_array().unwrap().iter();
        let sequence = |request: &Value| {
            let continuation = ids(&request["continuation_tokens"]);
            ScoredSequence {
                tokens: [ids(&request["context_tokens"]), continuation.clone()].concat(),
                scored: continuation.len(),
            }
        };
        requests.map(sequence).collect()
    };
    lines
        .take(DOCUMENTS)
        .map(|line| document(line.unwrap()))
        .collect()
}

#[test]
fn log_likelihoods_of_the_real_model_are_those_of_the_harness() {
    let Some(model) = std::env::var_os("SECATEUR_REAL_MODEL") else {
        eprintln!("NOT RUN: SECATEUR_REAL_MODEL is not set");
        return;
    };
    let reference = reference_dir().unwrap_or_else(|| panic!("no reference results"));
    let expected: Value = serde_json::from_slice(
        &std::fs::read(reference.join("lm_eval_dense_limit100.json")).unwrap(),
    )
    .unwrap();
    let checkpoint = Checkpoint::open(Path::new(&model)).unwrap();
    let decoder = Decoder::open(&checkpoint, &Device::Cpu).unwrap();
    let mut model = ResidentBlocks::new(&decoder, u64::MAX);
    let (mut worst, mut compared) = (0f64, 0);
    for (task, samples) in expected["samples"].as_object().unwrap() {
        let documents = documents(&reference.join("../data"), task);
        let sequences = documents.concat();
        let results = log_likelihoods(&mut model, &sequences, &mut Silent).unwrap();
        let mut results = results.iter();
        for (sample, document) in samples.as_array().unwrap().iter().zip(&documents) {
            for choice in 0..document.len() {
                let actual = results.next().unwrap();
                let expected = sample["lls"][choice].as_f64().unwrap();
                worst = worst.max((actual.value - expected).abs());
                assert!(
                    (actual.value - expected).abs() < 1e-3,
                    "{task}, document {}, choice {choice}: {actual:?}, expected {expected}",
                    sample["doc_id"]
                );
                assert_eq!(
                    actual.is_greedy,
                    sample["is_greedy"][choice].as_bool().unwrap()
                );
                compared += 1;
            }
        }
    }
    eprintln!("{compared} log-likelihoods, largest difference {worst:.2e}");
    assert!(compared >= 7 * DOCUMENTS * 2, "{compared}");
}
