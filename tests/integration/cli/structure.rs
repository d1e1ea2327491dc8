//! Whole blocks removed on the command line.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::command_line::{prune, secateur};

const DEMO: [&str; 13] = [
    "--model",
    "demo",
    "--method",
    "blocks",
    "--n-samples",
    "4",
    "--seq-len",
    "64",
    "--eval-seq-len",
    "64",
    "--eval-windows",
    "8",
    "--generations=never",
];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn names(parts: &Value, field: &str) -> Vec<Value> {
    let parts = parts.as_array().unwrap().iter();
    parts.map(|part| part[field].clone()).collect()
}

#[test]
fn a_series_of_smaller_models_goes_by_one_order() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("series");
    let flags = ["--sparsity", "0.25,0.5", "--out", text(&out)];
    let manifests = prune(&[&DEMO[..], &flags].concat());
    for (manifest, kept) in manifests.as_array().unwrap().iter().zip([3, 2]) {
        let structure = &manifest["structure"];
        let parts = &structure["parts"];
        for field in ["name", "score", "rank"] {
            let first = &manifests[0]["structure"]["parts"];
            assert_eq!(names(parts, field), names(first, field), "{field}");
        }
        let mut by_rank = parts.as_array().unwrap().clone();
        by_rank.sort_by_key(|part| part["rank"].as_u64());
        let scores: Vec<f64> = by_rank
            .iter()
            .map(|part| part["score"].as_f64().unwrap())
            .collect();
        assert!(scores.is_sorted(), "{scores:?}");
        let gone = by_rank.iter().map(|part| part["new_name"].is_null());
        let expected = (0..4).map(|rank| rank < 4 - kept);
        assert!(gone.eq(expected), "{by_rank:?}");
        let new_names = names(parts, "new_name")
            .into_iter()
            .filter(|name| !name.is_null());
        let expected = (0..kept).map(|block| json!(format!("model.layers.{block}")));
        assert!(new_names.eq(expected), "{parts}");

        assert_eq!(
            manifest["sparsity"]["achieved"],
            json!(1.0 - kept as f64 / 4.0)
        );
        assert_eq!(manifest["linears"].as_array().unwrap().len(), 7 * kept);
        let (before, after) = (&structure["before"], &structure["after"]);
        // A block has 172,032 weights in linears, and two norms of 128.
        let gone = (4 - kept) as u64 * (172_032 + 256);
        let parameters = |of: &Value| of["parameters"].as_u64().unwrap();
        assert_eq!(parameters(before) - parameters(after), gone);
        assert_eq!(before["size_bytes"], manifest["model"]["size_bytes"]);
        for model in [before, after] {
            assert!(model["tokens_per_second"].as_f64().unwrap() > 0.0);
        }
        let artifact = out.join(format!("blocks-{}", manifest["sparsity"]["requested"]));
        let size = fs::metadata(artifact.join("model.safetensors"))
            .unwrap()
            .len();
        assert_eq!(after["size_bytes"], json!(size));
        let config = fs::read_to_string(artifact.join("config.json")).unwrap();
        let count = format!("\"num_hidden_layers\": {kept}");
        assert!(config.contains(&count), "{config}");
        let perplexity = &manifest["results"]["perplexity"][0];
        let [dense, pruned] = ["before", "after"].map(|of| perplexity[of].as_f64().unwrap());
        assert!(pruned > dense, "{perplexity}");
    }
    let again = dir.path().join("again");
    let flags = ["--sparsity", "0.25", "--out", text(&again)];
    let single = prune(&[&DEMO[..], &flags].concat());
    assert_eq!(single["digest"], manifests[0]["digest"]);
}

#[test]
fn what_means_nothing_for_blocks_is_refused_before_anything_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    for (flags, complaint) in [
        (
            &["--sparsity", "0.5", "--refit"][..],
            "refit is for methods that prune linears",
        ),
        (
            &["--pattern", "2:4"],
            "pattern is for methods that prune linears",
        ),
        (
            &["--sparsity", "0.2"],
            "structure_mismatch: the structure blocks: a sparsity of 0.2 removes none of 4",
        ),
    ] {
        let output = secateur(&[&["prune"], &DEMO[..], flags, &["--out", text(&out)]].concat());
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && told.contains(complaint),
            "{told}"
        );
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_dry_run_counts_what_is_left() {
    let told = |sparsity: &str| {
        let flags = ["--sparsity", sparsity, "--dry-run", "--out", "nowhere"];
        let output = secateur(&[&["prune"], &DEMO[..], &flags].concat());
        let told = String::from_utf8(output.stdout).unwrap();
        let disk = told.lines().find(|line| line.contains("disk"));
        disk.unwrap_or_else(|| panic!("{told}")).to_owned()
    };
    assert_ne!(told("0.25"), told("0.5"));
}
