//! The service against its own description: schemathesis makes requests out of `openapi/openapi.json` and looks whether
//! the answers are among those described. What is left out stands in `tests/contract/schemathesis.toml`, with the reason.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::database::Database;
use crate::support::processes::Site;
use crate::support::stub::{stub_model, stubbed_worker};

/// Where the program is. `.ci/run` installs it.
const TOOL: &str = "SECATEUR_SCHEMATHESIS";

on_both_databases!(blocking: the_service_does_what_its_description_says);

/// What a variable names; without it the test says that it does not run, and fails where `CI` is set.
pub(super) fn tool(variable: &str, test: &str) -> Option<OsString> {
    let tool = std::env::var_os(variable);
    if tool.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{variable} is not set");
        let line = format!("NOT RUN: {test}: {variable} is not set\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    tool
}

fn the_service_does_what_its_description_says(database: &Database) {
    let Some(tool) = tool(TOOL, "the contract test") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    stub_model(dir.path(), "succeed");
    let site = Site::new(dir.path(), database);
    let server = site.api();
    let _worker = stubbed_worker(&site, "stub");
    let id = server.submit(&json!({
        "model": {"source": "local", "id": "succeed"}, "sparsity": 0.5,
        "calibration": {"dataset": "demo"}, "evaluation": {"perplexity": ["demo"]},
    }));
    server.succeeded(&id);

    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(tool)
        .arg("--config-file")
        .arg(here.join("tests/contract/schemathesis.toml"))
        .arg("run")
        .arg(here.join("openapi/openapi.json"))
        .args(["--url", &server.url("")])
        .env("SECATEUR_JOB", &id)
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let cases = said.lines().find(|line| line.contains("generated"));
    eprintln!("contract: {}", cases.unwrap_or_default().trim());
}
