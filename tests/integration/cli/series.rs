//! Several sparsities and patterns in one run, and their comparison.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::command_line::{prune, secateur};

const DEMO: [&str; 10] = [
    "--model",
    "demo",
    "--n-samples",
    "4",
    "--seq-len",
    "64",
    "--eval-seq-len",
    "64",
    "--generations",
    "never",
];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn manifest(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("secateur.json")).unwrap()).unwrap()
}

#[test]
fn a_series_is_what_single_runs_would_be() {
    let dir = tempfile::tempdir().unwrap();
    let series = dir.path().join("series");
    let several = [
        "--pattern",
        "unstructured,2:4",
        "--sparsity",
        "0.5,0.6",
        "--eval-windows",
        "8",
    ];
    let manifests = prune(&[&DEMO[..], &several, &["--out", text(&series)]].concat());
    assert_eq!(manifests.as_array().unwrap().len(), 3);
    for (name, goal) in [
        ("wanda-0.5", ["--sparsity", "0.5"]),
        ("wanda-0.6", ["--sparsity", "0.6"]),
        ("wanda-2-4", ["--pattern", "2:4"]),
    ] {
        let out = dir.path().join(name);
        let flags = ["--eval-windows", "8", "--out", text(&out)];
        let single = prune(&[&DEMO[..], &goal, &flags].concat());
        let of_series = manifest(&series.join(name));
        for field in ["digest", "results", "sparsity", "pattern", "files"] {
            assert_eq!(of_series[field], single[field], "{field} of {name}");
        }
    }
    let output = secateur(&[
        "compare",
        "--format",
        "csv",
        text(&series.join("wanda-0.5")),
        text(&series.join("wanda-2-4")),
    ]);
    let csv = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 4, "a head, the dense model, two others: {csv}");
    assert!(lines[1].starts_with("demo (dense),0,"), "{csv}");
    let perplexity = &manifest(&series.join("wanda-0.5"))["results"]["perplexity"][0];
    assert!(lines[2].contains(&perplexity["after"].to_string()), "{csv}");
    // And what the run printed.
    let printed = dir.path().join("printed.json");
    fs::write(&printed, manifests.to_string()).unwrap();
    let output = secateur(&["compare", "--format", "csv", text(&printed)]);
    let csv = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        lines.len(),
        5,
        "a head, the dense model, three others: {csv}"
    );
    assert!(
        lines[2].contains("printed.json 1: wanda unstructured 0.5,"),
        "{csv}"
    );
    assert!(lines[4].contains("printed.json 3: wanda 2:4 0.5,"), "{csv}");
}

#[test]
fn what_was_not_made_by_a_run_is_not_compared() {
    let dir = tempfile::tempdir().unwrap();
    let output = secateur(&["compare", text(dir.path())]);
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(line.contains("it is no artifact"), "{line}");
}

#[test]
fn a_dry_run_says_what_it_would_take_and_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let args = [
        "--sparsity",
        "0.5,0.6",
        "--eval-windows",
        "8",
        "--rule",
        "down_proj$=dense",
        "--dry-run",
        "--out",
        text(&out),
    ];
    let output = secateur(&[&["prune"], &DEMO[..], &args].concat());
    let told = String::from_utf8(output.stdout).unwrap();
    for word in [
        "LlamaForCausalLM, 4 blocks, ",
        " weights in 28 linears",
        "down_proj$=dense: 4 linears, model.layers.0.mlp.down_proj to model.layers.3.mlp.down_proj",
        "memory",
        "disk",
        "download",
        "pruning",
        "measuring",
    ] {
        assert!(told.contains(word), "{word}: {told} {:?}", output.stderr);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
