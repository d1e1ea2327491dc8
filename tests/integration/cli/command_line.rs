//! `secateur prune` and `secateur evaluate`, as a user runs them.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::command_line::{prune, secateur};
use crate::support::synthetic::{Shape, write_ids, write_model};

/// What stands on standard error when it must fail: one line.
fn failure(args: &[&str]) -> String {
    let output = secateur(args);
    assert!(!output.status.success(), "{args:?} succeeded");
    assert!(output.stdout.is_empty());
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.trim_end().lines().count(), 1, "{line}");
    line
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

const DEMO: [&str; 12] = [
    "--model",
    "demo",
    "--sparsity",
    "0.5",
    "--n-samples",
    "8",
    "--seq-len",
    "64",
    "--eval-seq-len",
    "64",
    "--eval-windows",
    "8",
];

#[test]
fn the_manifest_says_what_was_done_and_the_artifact_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let manifest = prune(&[&DEMO[..], &["--out", text(&out)]].concat());
    let result = &manifest["results"]["perplexity"][0];
    assert_eq!(
        (&result["protocol"], &result["windows"], &result["tokens"]),
        (&"paper".into(), &8.into(), &512.into())
    );
    assert!(result["before"].as_f64().unwrap() > 1.0 && result["after"].as_f64().unwrap() > 1.0);
    assert_eq!(
        manifest["sparsity"],
        serde_json::json!({"requested": 0.5, "achieved": 0.5})
    );
    for linear in manifest["linears"].as_array().unwrap() {
        let expected = linear["rows"].as_u64().unwrap() * (linear["cols"].as_u64().unwrap() / 2);
        assert_eq!(linear["zeros"].as_u64().unwrap(), expected, "{linear}");
    }
    for file in manifest["files"].as_array().unwrap() {
        let size = std::fs::metadata(out.join(file["name"].as_str().unwrap()))
            .unwrap()
            .len();
        assert_eq!(file["size_bytes"].as_u64(), Some(size));
    }
    let written: Value =
        serde_json::from_slice(&std::fs::read(out.join("secateur.json")).unwrap()).unwrap();
    assert_eq!(written, manifest);
}

#[test]
fn the_digest_is_the_same_for_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let run = |threads: &str| {
        let out = dir.path().join(threads);
        prune(&[&DEMO[..], &["--out", text(&out), "--threads", threads]].concat())["digest"].clone()
    };
    let digest = run("1");
    assert_eq!(digest, run("2"));
    assert_eq!(digest, run("5"));
}

/// Names of a running process' threads.
fn threads_of(pid: u32) -> Vec<String> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let names = tasks.map_while(Result::ok).map(|task| task.path());
    names
        .filter_map(|path| std::fs::read_to_string(path.join("comm")).ok())
        .collect()
}

#[test]
fn no_more_threads_compute_than_were_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    for threads in ["1", "2"] {
        let out = dir.path().join(threads);
        let mut running = Command::new(env!("CARGO_BIN_EXE_secateur"))
            .args(["prune", "--json", "--threads", threads, "--out", text(&out)])
            .args(DEMO)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut most = Vec::new();
        while running.try_wait().unwrap().is_none() {
            let now = threads_of(running.id());
            if now.len() > most.len() {
                most = now;
            }
        }
        // The main thread waits for the others, and one listens for interrupts.
        let expected = 2 + threads.parse::<usize>().unwrap();
        assert_eq!(most.len(), expected, "--threads {threads}: {most:?}");
    }
}

#[test]
fn peak_memory_does_not_grow_with_the_number_of_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let ids = dir.path().join("ids.safetensors");
    write_ids(&ids, 4, 256, 512);
    let peak = |blocks: usize| {
        let model = dir.path().join(format!("model-{blocks}"));
        std::fs::create_dir(&model).unwrap();
        write_model(&model, Shape::with_blocks(blocks));
        let out = dir.path().join(format!("out-{blocks}"));
        let args = [
            "--model",
            text(&model),
            "--sparsity",
            "0.5",
            "--calibration-ids",
            text(&ids),
            "--out",
            text(&out),
        ];
        prune(&args)["peak_rss_bytes"].as_u64().unwrap()
    };
    let (shallow, deep) = (peak(8), peak(32));
    eprintln!("peak RSS: {shallow} bytes with 8 blocks, {deep} with 32");
    assert!(
        deep as f64 <= shallow as f64 * 1.05,
        "{shallow} bytes with 8 blocks, {deep} with 32"
    );
}

#[test]
fn an_artifact_can_be_pruned_and_measured_again() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let once = prune(&[&DEMO[..], &["--out", text(&first)]].concat());
    let output = secateur(&[
        "evaluate",
        "--json",
        "--model",
        text(&first),
        "--eval-file",
        text(&first.join("no-such-file")),
    ]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("dataset_not_found"));
    // Half of the weights are zero already and have the lowest scores: nothing changes.
    let args = [
        "--model",
        text(&first),
        "--sparsity",
        "0.5",
        "--method",
        "magnitude",
        "--pattern",
        "unstructured",
        "--out",
        text(&second),
    ];
    assert!(
        prune(&args)["sparsity"]["achieved"].as_f64().unwrap()
            >= once["sparsity"]["achieved"].as_f64().unwrap()
    );
}

#[test]
fn failures_are_one_line_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let with = |args: &[&str]| failure(&[&["prune", "--out", text(&out)], args].concat());
    for (args, words) in [
        (
            &[
                "--model",
                "demo",
                "--sparsity",
                "0.5",
                "--eval-windows",
                "100000",
            ][..],
            "text_too_short",
        ),
        (
            &["--model", "demo", "--sparsity", "1.5"],
            "expected a fraction in [0, 1)",
        ),
        (
            &["--model", "demo", "--sparsity", "NaN"],
            "expected a fraction in [0, 1)",
        ),
        (&["--model", "demo"], "--sparsity is needed"),
        (
            &["--model", "demo", "--pattern", "2:4", "--sparsity", "0.7"],
            "disagrees with the pattern 2:4",
        ),
        (&["--model", "demo", "--pattern", "3:7"], "pattern_mismatch"),
        (
            &["--model", "/nowhere", "--sparsity", "0.5"],
            "model_not_found",
        ),
        (
            &[
                "--model",
                "demo",
                "--sparsity",
                "0.5",
                "--seq-len",
                "100000",
            ],
            "seq_len_too_long",
        ),
        (
            &["--model", "demo", "--sparsity", "0.5", "--device", "cuda:7"],
            "device_unavailable",
        ),
        (
            &[
                "--model",
                "demo",
                "--sparsity",
                "0.5",
                "--calibration-file",
                "/nowhere",
            ],
            "dataset_not_found",
        ),
    ] {
        let line = with(args);
        assert!(line.contains(words), "{args:?}: {line}");
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            0,
            "{args:?} left something behind"
        );
    }
    std::fs::create_dir(&out).unwrap();
    assert!(with(&["--model", "demo", "--sparsity", "0.5"]).contains("output_exists"));
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0);
}

#[test]
fn what_does_not_go_together_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    for (args, words) in [
        (
            &[
                "--model",
                "demo",
                "--sparsity",
                "0.995",
                "--allocation",
                "owl",
            ][..],
            "allocation_mismatch: the allocation owl: blocks of a sparsity within 0 and 0.99",
        ),
        (
            &[
                "--model",
                "demo",
                "--sparsity",
                "0.5",
                "--method",
                "alps",
                "--group",
                "row",
            ],
            "invalid_request: alps chooses by more than scores; a comparison group is for wanda, magnitude, ria",
        ),
        (
            &["--model", "demo", "--pattern", "2:4", "--allocation", "owl"],
            "invalid_request: owl shares zeros among blocks, and 2:4 gives each the same share",
        ),
        (
            &[
                "--model",
                "demo",
                "--sparsity",
                "0.5",
                "--rule",
                "lm_head=dense",
            ],
            "rule_mismatch: the rule `lm_head=dense`: it matches no linear",
        ),
    ] {
        let line = failure(&[&["prune", "--out", text(&out)], args].concat());
        assert!(line.contains(words), "{args:?}: {line}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
