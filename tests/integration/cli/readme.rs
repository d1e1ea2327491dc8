//! Every block of commands in the README, pasted one after the other as a reader pastes them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::hub::to_artifact::hub_with_bundled_model;
use crate::support::database::Database;
use crate::support::servers::mock_hub::MODEL;
use crate::support::servers::s3_server::S3Server;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The model that the README fetches.
const README_MODEL: &str = "HuggingFaceTB/SmolLM2-135M";

/// Stands for cargo: the program is built already.
const CARGO: &str = r#"#!/bin/sh
case "$*" in
    "run --release -- "*) shift 3; exec secateur "$@" ;;
    "test" | "install --path .") ;;
    *) echo "no such use of cargo: $*" >&2; exit 1 ;;
esac
"#;

/// Stands for Docker, whose daemon a test does not start.
const DOCKER: &str = r#"#!/bin/sh
test "$*" = "compose up --build --detach" && test -f .env && test -f docker-compose.yml
"#;

/// The blocks of commands.
fn blocks() -> Vec<String> {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let blocks = readme.split("```sh\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.collect()
}

/// One script of all blocks. A server and a worker go on in the background, as in a terminal of their own, until the
/// next server is started.
fn script(blocks: &[String], port: u16) -> String {
    let mut script =
        "set -euxo pipefail\nRUNNING=\nstop() { kill $RUNNING; wait $RUNNING || true; RUNNING=; }\n\
                      trap '[ -z \"$RUNNING\" ] || stop' EXIT\n"
            .to_owned();
    for block in blocks {
        for line in block.lines() {
            let is_server = line.starts_with("secateur serve");
            if is_server {
                script += "[ -z \"$RUNNING\" ] || stop\n";
            }
            let command = line.split("     #").next().unwrap();
            if is_server || line.starts_with("secateur worker") {
                writeln!(script, "{command} &\nRUNNING=\"$RUNNING $!\"").unwrap();
                let url = format!("localhost:{port}");
                let ready = if is_server {
                    format!("curl -fs {url}/readyz")
                } else {
                    format!("curl -fs {url}/v1/workers | jq -e '.data != []'")
                };
                writeln!(script, "until {ready} >&2; do kill -0 $!; sleep 0.1; done").unwrap();
            } else {
                writeln!(script, "{line}").unwrap();
            }
        }
    }
    // Servers and workers are there until the end.
    script + "kill -0 $RUNNING\n"
}

fn executable(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What the blocks find in the directory that they are pasted in, and below `data`.
fn lay_out(dir: &Path) {
    for name in [".env.example", "docker-compose.yml"] {
        fs::copy(Path::new(ROOT).join(name), dir.join(name)).unwrap();
    }
    fs::create_dir(dir.join("bin")).unwrap();
    executable(&dir.join("bin/cargo"), CARGO);
    executable(&dir.join("bin/docker"), DOCKER);
    let program = Path::new(env!("CARGO_BIN_EXE_secateur"));
    std::os::unix::fs::symlink(program, dir.join("bin/secateur")).unwrap();
    let text = |part: &str| fs::read_to_string(Path::new(ROOT).join("assets/demo").join(part));
    let (calibration, tested) = (text("calibration.txt").unwrap(), text("test.txt").unwrap());
    let row = |text: &str| serde_json::json!({ "text": text }).to_string() + "\n";
    let question = serde_json::json!({
        "passage": "Anna is in the garden.", "question": "is anna in the garden", "label": 1, "idx": 0,
    });
    for (name, content) in [
        ("wikitext2/wiki.train.raw", calibration.clone()),
        ("wikitext2/wiki.test.raw", tested),
        ("c4/en_train.jsonl", row(&calibration)),
        ("boolq/validation.jsonl", question.to_string()),
    ] {
        let path = dir.join("data").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_block_of_the_readme_runs_as_it_stands() {
    let Some(postgres) = Database::postgres().await else {
        return;
    };
    let Some(second) = Database::postgres().await else {
        return;
    };
    let (hub, bucket) = (hub_with_bundled_model().await, S3Server::start());
    let dir = tempfile::tempdir().unwrap();
    lay_out(dir.path());
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let mut script = script(&blocks(), port);
    let bucket_of_tests = bucket.environment();
    let value = |name: &str| {
        let found = bucket_of_tests.iter().find(|(known, _)| *known == name);
        found.unwrap().1.as_str()
    };
    // The names of the README stand for what the reader has.
    for (name, here) in [
        (README_MODEL, MODEL),
        ("localhost:8484", &format!("localhost:{port}")),
        (
            "postgres://secateur:secret@localhost/secateur",
            &postgres.url(),
        ),
        ("postgres://secateur:secret@db/secateur", &second.url()),
        ("https://minio:9000", &bucket.endpoint()),
        ("s3://bucket/secateur", value("SECATEUR_ARTIFACTS")),
        (
            "AWS_ACCESS_KEY_ID=key",
            &format!("AWS_ACCESS_KEY_ID={}", value("AWS_ACCESS_KEY_ID")),
        ),
        (
            "AWS_SECRET_ACCESS_KEY=secret",
            &format!("AWS_SECRET_ACCESS_KEY={}", value("AWS_SECRET_ACCESS_KEY")),
        ),
    ] {
        assert!(script.contains(name), "the README does not say {name}");
        script = script.replace(name, here);
    }
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::split_paths(&path);
    let path = std::env::join_paths([dir.path().join("bin")].into_iter().chain(path)).unwrap();
    let mut bash = Command::new("bash");
    bash.arg("-c")
        .arg(script)
        .current_dir(dir.path())
        .env("PATH", path)
        .env("HF_ENDPOINT", hub.endpoint())
        .env("HF_HOME", dir.path().join("cache"))
        .env("NO_PROXY", "127.0.0.1,localhost")
        .env("SECATEUR_LISTEN", format!("localhost:{port}"))
        .env("SECATEUR_DATA_DIR", dir.path().join("data"));
    let output: Output = tokio::task::spawn_blocking(move || bash.output().unwrap())
        .await
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let weights = fs::metadata(dir.path().join("model.safetensors")).unwrap();
    assert!(weights.len() > 1_000_000, "{weights:?}");
}

#[test]
fn the_container_is_given_every_variable_of_the_example() {
    let read = |name: &str| fs::read_to_string(Path::new(ROOT).join(name)).unwrap();
    let (example, compose) = (read(".env.example"), read("docker-compose.yml"));
    let offered = example.lines().filter_map(|line| line.strip_suffix('='));
    let offered: BTreeSet<&str> = offered.collect();
    let passed = compose
        .lines()
        .filter_map(|line| line.trim().strip_suffix(':'));
    let is_variable = |name: &&str| {
        name.chars()
            .all(|c| c.is_ascii_uppercase() || "_0123456789".contains(c))
    };
    let substituted = compose
        .split("${")
        .skip(1)
        .filter_map(|rest| rest.split(":-").next());
    let taken: BTreeSet<&str> = passed.filter(is_variable).chain(substituted).collect();
    assert_eq!(offered, taken);
    assert!(offered.len() > 15, "{offered:?}");
}
