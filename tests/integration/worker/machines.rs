//! Workers on several machines, each with a home of its own: what they share is PostgreSQL and a bucket.

use std::path::Path;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::faults::kill;
use crate::support::database::{Database, block_on};
use crate::support::gate::Gate;
use crate::support::processes::{Process, Server, Site, until};
use crate::support::servers::s3_server::{Fault, S3Server};

/// A database and a bucket.
struct Cluster {
    dir: TempDir,
    site: Site,
    bucket: S3Server,
}

impl Cluster {
    /// `None` where there is no PostgreSQL, which was said.
    fn open() -> Option<Self> {
        let database = block_on(Database::postgres())?;
        let (dir, bucket) = (kill::work_dir(), S3Server::start());
        let site = Site::new(dir.path(), &database).in_bucket(&bucket);
        Some(Self { dir, site, bucket })
    }

    /// The API, without a worker.
    fn server(&self) -> Server {
        self.on("api").api()
    }

    /// A worker with this home.
    fn worker(&self, home: &str) -> Process {
        // A worker elsewhere that dies is known only by its lease.
        self.on(home).with("SECATEUR_LEASE_SECONDS", "2").worker()
    }

    fn on(&self, home: &str) -> Site {
        let home = self.site.path(home);
        self.site.clone().with("SECATEUR_HOME", home)
    }

    fn checkpoints(&self, id: &str) -> Vec<String> {
        let prefix = format!("jobs/{id}/checkpoints/");
        let mut objects = self.bucket.objects();
        objects.retain(|key| key.starts_with(&prefix));
        objects
    }

    /// Submits the job, kills its worker when the bucket has the checkpoint of the third block.
    fn killed_half_way(&self, server: &Server) -> String {
        let gate = Gate::close(&self.dir.path().join("first"), "block-3");
        let id = server.submit(&kill::body());
        let first = self.worker("first");
        gate.wait_for_arrival();
        server.job_when(&id, |_| self.stored_block(&id, 1) == 3);
        first.kill();
        assert_ne!(server.job(&id)["status"], "succeeded");
        id
    }

    /// The block that an attempt's checkpoint in the bucket goes on with.
    fn stored_block(&self, id: &str, attempt: u32) -> u64 {
        let index = format!("jobs/{id}/checkpoints/{attempt}/checkpoint.json");
        let index = std::fs::read(self.bucket.directory().join(index)).unwrap_or_default();
        let index = serde_json::from_slice::<Value>(&index).unwrap_or_default();
        index["next_block"].as_u64().unwrap_or_default()
    }

    /// Waits until the bucket has nothing of the job but its artifact.
    fn assert_collected(&self, id: &str) {
        until("the resume state to be removed", || {
            self.checkpoints(id).is_empty().then_some(())
        });
        assert_eq!(self.bucket.parts(), 0);
    }
}

#[test]
fn the_job_of_a_killed_worker_goes_on_at_its_block_on_another_machine() {
    let Some(cluster) = Cluster::open() else {
        return;
    };
    let server = cluster.server();
    let id = cluster.killed_half_way(&server);
    let stored = cluster.stored_block(&id, 1);
    // More than the client repeats of a request, twice: the bucket is away when the other one looks for checkpoints.
    let away = Fault::Status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
    cluster
        .bucket
        .fail(Method::GET, "checkpoint.json", away, 20);
    let _second = cluster.worker("second");
    let job = server.succeeded(&id);
    assert_eq!(cluster.bucket.unmet(), 0);
    assert_eq!(
        (&job["attempt"], &job["crash_count"]),
        (&json!(2), &json!(1))
    );
    assert!(
        stored == 3 && server.resumed_block(&id, 2) == Some(stored),
        "{job}"
    );
    assert_eq!(job["results"]["digest"], *kill::undisturbed_digest());
    cluster.assert_collected(&id);

    // The artifact comes from the bucket, and another job takes it as its model.
    let weights = server.download(&format!("/v1/jobs/{id}/artifacts/model.safetensors"));
    let files = server.get(&format!("/v1/jobs/{id}/artifacts"));
    let listed = files["data"].as_array().unwrap().iter();
    let listed = listed
        .clone()
        .find(|file| file["name"] == "model.safetensors")
        .unwrap();
    assert_eq!(kill::sha256(&weights), listed["sha256"]);
    let evaluation = json!({
        "type": "evaluate", "model": {"source": "job", "id": id},
        "evaluation": {"perplexity": ["demo"], "seq_len": 128, "windows": 2},
    });
    let evaluation = server.submit(&evaluation);
    let evaluation = server.succeeded(&evaluation);
    let after = |job: &Value| job["results"]["perplexity"][0]["after"].clone();
    assert!(after(&job).is_f64(), "{job}");
    assert_eq!(after(&evaluation), after(&job));
}

#[test]
fn a_checkpoint_that_was_damaged_in_the_bucket_is_not_gone_on_with() {
    let Some(cluster) = Cluster::open() else {
        return;
    };
    let server = cluster.server();
    let id = cluster.killed_half_way(&server);
    for key in cluster.checkpoints(&id) {
        if key.contains("zeros-0.bin") {
            flip(&cluster.bucket.directory().join(key));
        }
    }
    let _second = cluster.worker("second");
    let job = server.succeeded(&id);
    let events = server.events(&id);
    assert!(
        events.iter().all(|event| event["type"] != "resumed"),
        "{events:?}"
    );
    assert_eq!(job["results"]["digest"], *kill::undisturbed_digest());
    cluster.assert_collected(&id);
}

#[test]
fn a_checkpoint_of_another_kind_of_machine_hides_none_that_fits() {
    let Some(cluster) = Cluster::open() else {
        return;
    };
    let server = cluster.server();
    let id = cluster.killed_half_way(&server);
    // As if a machine that computes otherwise had been a block further.
    let checkpoints = cluster
        .bucket
        .directory()
        .join(format!("jobs/{id}/checkpoints"));
    let index = std::fs::read(checkpoints.join("1/checkpoint.json")).unwrap();
    let mut index: Value = serde_json::from_slice(&index).unwrap();
    let mut state: Value = serde_json::from_str(index["state"].as_str().unwrap()).unwrap();
    state["compute_type"] = "f32 of another machine".into();
    state["next_block"] = 4.into();
    index["state"] = state.to_string().into();
    index["next_block"] = 4.into();
    std::fs::create_dir(checkpoints.join("0")).unwrap();
    std::fs::write(checkpoints.join("0/checkpoint.json"), index.to_string()).unwrap();
    let _second = cluster.worker("second");
    let job = server.succeeded(&id);
    assert_eq!(server.resumed_block(&id, 2), Some(3), "{job}");
    assert_eq!(job["results"]["digest"], *kill::undisturbed_digest());
    cluster.assert_collected(&id);
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_bucket_that_takes_no_checkpoints_costs_only_the_checkpoints() {
    let Some(cluster) = Cluster::open() else {
        return;
    };
    let server = cluster.server();
    let denied = Fault::Status(StatusCode::FORBIDDEN, "AccessDenied");
    cluster
        .bucket
        .fail(Method::PUT, "/checkpoints/", denied, 10_000);
    let _worker = cluster.worker("first");
    let id = server.submit(&kill::body());
    let job = server.succeeded(&id);
    assert_eq!(
        (&job["attempt"], &job["crash_count"]),
        (&json!(1), &json!(0))
    );
    assert!(cluster.bucket.unmet() < 10_000, "none was tried");
    assert_eq!(job["results"]["digest"], *kill::undisturbed_digest());
}
