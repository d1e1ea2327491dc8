//! Runs that are told to stop, or killed, and files that are in the way.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::support::command_line::secateur;
use crate::support::processes::{signal as send, until};

/// A run that takes long: many windows, and nothing is printed.
fn long_run(out: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_secateur"))
        .args([
            "prune",
            "--model",
            "demo",
            "--sparsity",
            "0.5",
            "--n-samples",
            "4000",
        ])
        .arg("--out")
        .arg(out)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Names in a directory.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn a_run_that_is_interrupted_leaves_nothing_and_says_so_by_its_status() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let dir = tempfile::tempdir().unwrap();
        let mut run = long_run(&dir.path().join("out"));
        until("its directory", || names(dir.path()).pop());
        send(run.id(), signal);
        assert_eq!(run.wait().unwrap().code(), Some(status));
        assert_eq!(names(dir.path()), [""; 0]);
    }
}

#[test]
fn a_run_that_waits_for_the_hub_stops_when_it_is_told() {
    // It is connected to, and says nothing.
    let hub = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", hub.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let (prune, evaluate) = (
        ["prune", "--sparsity", "0.5"],
        ["evaluate", "--perplexity", "wikitext2"],
    );
    for (command, flag, is_tidy) in [
        (&prune[..], "--quiet", true),
        (&prune[..], "--dry-run", false),
        (&evaluate[..], "--dry-run", false),
    ] {
        let mut run = Command::new(env!("CARGO_BIN_EXE_secateur"));
        run.args(command).args(["--model", "org/tiny", flag]);
        if command == prune {
            run.arg("--out").arg(dir.path().join("out"));
        }
        let run = run.env("HF_ENDPOINT", &endpoint).env("HF_HOME", dir.path());
        let run = run.env_remove("HF_HUB_OFFLINE").stdout(Stdio::null());
        let mut run = run.stderr(Stdio::null()).spawn().unwrap();
        let _asked = hub.accept().unwrap();
        send(run.id(), Signal::TERM);
        let ended = run.wait().unwrap();
        let expected = (is_tidy.then_some(143), (!is_tidy).then_some(15));
        assert_eq!(
            (ended.code(), ended.signal()),
            expected,
            "{command:?} {flag}"
        );
    }
}

#[test]
fn what_a_killed_run_left_goes_with_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut run = long_run(&out);
    until("its directory", || names(dir.path()).pop());
    let left = names(dir.path());
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(names(dir.path()), left);
    let args = [
        "prune",
        "--model",
        "demo",
        "--sparsity",
        "0.5",
        "--n-samples",
        "2",
        "--eval-windows",
        "2",
    ];
    let next = secateur(&[&args[..], &["--out", out.to_str().unwrap()]].concat());
    assert!(next.status.success(), "{next:?}");
    assert!(
        String::from_utf8_lossy(&next.stderr).contains(&left[0]),
        "{next:?}"
    );
    assert_eq!(names(dir.path()), ["out"]);
}

#[test]
fn a_file_of_samples_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("samples.jsonl");
    fs::write(&file, "mine").unwrap();
    let args = [
        "evaluate",
        "--model",
        "demo",
        "--samples-out",
        file.to_str().unwrap(),
    ];
    let output = secateur(&args);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("output_exists"),
        "{output:?}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}
