//! What the process of an attempt may take of its machine.

use std::fs;

use serde_json::json;

use crate::faults::kill;
use crate::support::database::Database;
use crate::support::gate::Gate;
use crate::support::processes::Site;

#[test]
fn the_process_of_an_attempt_is_confined() {
    const TOKEN: &str = "hf_canaryTokenThatNobodyMaySee";
    let (dir, database) = (kill::work_dir(), Database::sqlite());
    let site = Site::new(dir.path(), &database)
        .with("HF_TOKEN", TOKEN)
        .with("SECATEUR_MEMORY_BYTES", (8_u64 << 30).to_string());
    let server = site.server();
    let gate = Gate::close(&site.path("home"), "pruning");
    let id = server.submit(&kill::body());
    gate.wait_for_arrival();
    let read = |file: &str| {
        let path = format!("/proc/{}/{file}", server.process.only_child());
        String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
    };
    assert_eq!(read("oom_score_adj").trim(), "500");
    let limits = read("limits");
    let soft = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(soft("Max core file size"), "0");
    assert_eq!(soft("Max data size"), (16_u64 << 30).to_string());
    assert!(!read("environ").contains(TOKEN));
    assert!(!read("cmdline").contains(TOKEN));
    drop(gate);
    assert_eq!(server.succeeded(&id)["failed_attempts"], json!(0));
}
