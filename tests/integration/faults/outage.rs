//! PostgreSQL gone in the middle of a job, for longer than a lease: work goes on, and nobody takes it away.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::database::postgres::Cluster;
use crate::support::database::{Database, block_on};
use crate::support::gate::Gate;
use crate::support::processes::{LOOK, Server, Site, until};
use crate::support::synthetic::{Shape, write_local_model};

/// Longer than the lease; `SECATEUR_OUTAGE_SECONDS` makes it as long as one likes.
const OUTAGE: Duration = Duration::from_secs(5);
const LEASE: &str = "2";

#[test]
fn a_job_outlives_a_database_that_is_away_for_longer_than_its_lease() {
    let Some(cluster) = Cluster::own() else {
        return;
    };
    let database = block_on(Database::on(&cluster));
    let dir = tempfile::tempdir().unwrap();
    write_work(dir.path());
    let site = Site::new(dir.path(), &database).with("SECATEUR_LEASE_SECONDS", LEASE);
    let server = site.server();
    // One that would take the job if it could.
    let rival = site.worker();
    let home = site.path("home");
    let (first, second) = (Gate::close(&home, "block-1"), Gate::close(&home, "block-3"));
    let id = server.submit(&body());
    first.wait_for_arrival();
    let before = server.job_when(&id, |job| job["phase"] == "pruning");
    let child = until("the child", || {
        let holders =
            [server.process.pid(), rival.pid()].map(crate::support::processes::children_of);
        holders.concat().first().copied()
    });
    cluster.stop_at_once();
    let stopped = Instant::now();
    until("the server to see it", || {
        (status(&server, "/readyz") == 503).then_some(())
    });
    // The next two blocks are pruned while the database is away.
    drop(first);
    second.wait_for_arrival();
    let mut asked = 0;
    while stopped.elapsed() < outage() {
        assert_eq!(status(&server, "/livez"), 200);
        assert_eq!(status(&server, "/readyz"), 503);
        assert!(
            fs::exists(format!("/proc/{child}")).unwrap(),
            "the child is gone"
        );
        asked += 1;
        std::thread::sleep(5 * LOOK);
    }
    cluster.start_again();
    until("the server to be ready", || {
        (status(&server, "/readyz") == 200).then_some(())
    });
    drop(second);
    let job = server.succeeded(&id);
    assert_eq!(
        (&job["attempt"], &job["crash_count"]),
        (&json!(1), &json!(0)),
        "{job}, {before}"
    );
    assert!(server.metric("secateur_leases_reaped_total") < 0.5);
    let events = server.events(&id);
    let ends = events.iter().filter(|event| event["type"] == "succeeded");
    assert_eq!(ends.count(), 1, "{events:?}");
    eprintln!(
        "away for {:?}, asked {asked} times; {} events",
        stopped.elapsed(),
        events.len(),
    );
    drop(rival);
}

fn outage() -> Duration {
    let seconds = std::env::var_os("SECATEUR_OUTAGE_SECONDS");
    seconds.map_or(OUTAGE, |seconds| {
        Duration::from_secs(seconds.to_str().unwrap().parse().unwrap())
    })
}

fn status(server: &Server, path: &str) -> u16 {
    server.status_and_text(path).0.as_u16()
}

fn write_work(dir: &Path) {
    let shape = Shape {
        hidden: 128,
        intermediate: 256,
        blocks: 6,
        vocab: 768,
    };
    write_local_model(&dir.join("models/deep"), shape);
}

fn body() -> Value {
    json!({
        "model": {"source": "local", "id": "deep"}, "sparsity": 0.5, "pattern": "unstructured",
        "calibration": {"dataset": "demo", "n_samples": 4, "seq_len": 64},
        "evaluation": {"perplexity": ["demo"], "seq_len": 64, "windows": 1},
    })
}
