//! Clients that are generated from `openapi/openapi.json`: the document is valid, and a client made of it runs a job.

use std::path::Path;
use std::process::Command;

use super::contract::tool;
use crate::support::database::Database;
use crate::support::processes::Site;

/// The directory of the programs. `.ci/run` installs them.
const TOOLS: &str = "SECATEUR_API_TOOLS";

const HERE: &str = env!("CARGO_MANIFEST_DIR");

on_both_databases!(blocking: a_generated_client_runs_the_whole_life_of_a_job);

fn a_generated_client_runs_the_whole_life_of_a_job(database: &Database) {
    let Some(tools) = tool(TOOLS, "the generated client") else {
        return;
    };
    let tools = Path::new(&tools);
    let document = Path::new(HERE).join("openapi/openapi.json");
    let dir = tempfile::tempdir().unwrap();
    run(Command::new(tools.join("openapi-spec-validator")).arg(&document));
    run(Command::new(tools.join("openapi-python-client"))
        .args(["generate", "--meta", "none", "--fail-on-warning", "--path"])
        .arg(&document)
        .arg("--config")
        .arg(Path::new(HERE).join("tests/contract/client.yaml"))
        .arg("--output-path")
        .arg(dir.path().join("client")));
    let server = Site::new(dir.path(), database).server();
    run(Command::new(tools.join("python"))
        .arg(Path::new(HERE).join("tests/contract/job_life.py"))
        .arg(server.url(""))
        .env("PYTHONPATH", dir.path())
        .env("PYTHONDONTWRITEBYTECODE", "1"));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
