//! Workers that stop moving for longer than their lease, and go on as if nothing had been.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::database::{Database, block_on};
use crate::support::gate::Gate;
use crate::support::processes::{Process, Server, Site, signal, until};
use crate::support::synthetic::{Shape, write_local_model};

on_both_databases!(blocking:
    a_job_whose_worker_stands_still_goes_on_elsewhere_and_has_one_result,
    a_job_whose_worker_and_child_stand_still_goes_on_elsewhere,
    a_job_whose_worker_stands_still_can_be_cancelled,
);

const SHAPE: Shape = Shape {
    hidden: 64,
    intermediate: 128,
    blocks: 6,
    vocab: 768,
};

/// A worker that was stopped in the middle of its job, another one, and the API.
///
/// The job's first process has done two blocks and is held there for good: the next one goes on behind the gate.
struct Scene {
    server: Server,
    stopped: Process,
    child: u32,
    id: String,
    site: Site,
    _rival: Process,
    _gate: Gate,
}

impl Scene {
    fn set(dir: &Path, database: &Database) -> Self {
        write_local_model(&dir.join("models/deep"), SHAPE);
        let site = Site::new(dir, database).with("SECATEUR_LEASE_SECONDS", "1");
        let server = site.api();
        let stopped = site.worker();
        let gate = Gate::close(&site.path("home"), "block-2");
        let id = server.submit(&body());
        gate.wait_for_arrival();
        server.job_when(&id, |job| job["phase"] == "pruning");
        let child = stopped.only_child();
        stop_between_writes(stopped.pid(), database);
        let rival = site.worker();
        Self {
            server,
            stopped,
            child,
            id,
            site,
            _rival: rival,
            _gate: gate,
        }
    }

    /// The stopped worker goes on, and finds that nothing is left to it.
    fn wake(&self) {
        signal(self.stopped.pid(), Signal::CONT);
        until("the end of the first attempt's process", || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.child));
            stat.map_or(true, |stat| stat.contains(") Z")).then_some(())
        });
        // Takes the next job, so it has let go of the first.
        let log = self.site.path(format!("worker-{}.log", self.stopped.pid()));
        until("the discarded attempt", || {
            let log = fs::read_to_string(&log).unwrap();
            log.contains("lease lost, attempt discarded").then_some(())
        });
    }

    fn assert_one_result(&self, attempt: u64) {
        let job = self.server.job(&self.id);
        assert_eq!(job["status"], "succeeded", "{job}");
        assert_eq!(job["attempt"], attempt, "{job}");
        let stored = self
            .site
            .path(format!("home/artifacts/jobs/{}/attempts", self.id));
        until("the leftovers to be removed", || {
            let names = fs::read_dir(&stored).unwrap();
            let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
            (names == [attempt.to_string().as_str()]).then_some(())
        });
        let events = self.server.events(&self.id);
        let ends = events.iter().filter(|event| event["type"] == "succeeded");
        assert_eq!(ends.count(), 1, "{events:?}");
    }
}

/// One that stops while it writes keeps everybody else from writing, on SQLite: then it is let go, and stopped again.
pub(crate) fn stop_between_writes(pid: u32, database: &Database) {
    until("a moment without a write", || {
        signal(pid, Signal::STOP);
        let is_free = block_on(database.lock(Duration::ZERO)).is_ok();
        if !is_free {
            signal(pid, Signal::CONT);
        }
        is_free.then_some(())
    });
}

fn body() -> Value {
    json!({
        "model": {"source": "local", "id": "deep"}, "sparsity": 0.5, "pattern": "unstructured",
        "calibration": {"dataset": "demo", "n_samples": 4, "seq_len": 64},
        "evaluation": {"perplexity": ["demo"], "seq_len": 64, "windows": 1},
    })
}

fn a_job_whose_worker_stands_still_goes_on_elsewhere_and_has_one_result(database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::set(dir.path(), database);
    let job = scene.server.succeeded(&scene.id);
    assert_eq!(job["crash_count"], 1, "{job}");
    scene.wake();
    scene.assert_one_result(2);
}

fn a_job_whose_worker_and_child_stand_still_goes_on_elsewhere(database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::set(dir.path(), database);
    signal(scene.child, Signal::STOP);
    let job = scene.server.succeeded(&scene.id);
    assert_eq!(job["crash_count"], 1, "{job}");
    scene.wake();
    scene.assert_one_result(2);
}

fn a_job_whose_worker_stands_still_can_be_cancelled(database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::set(dir.path(), database);
    assert_eq!(scene.server.cancel(&scene.id)["status"], "cancelling");
    let cancelled = |job: &Value| job["status"] == "cancelled";
    scene.server.job_when(&scene.id, cancelled);
    scene.wake();
    let scratch = scene.site.path(format!("home/scratch/{}", scene.id));
    until("the scratch directory to be removed", || {
        (!scratch.try_exists().unwrap()).then_some(())
    });
    assert_eq!(scene.server.job(&scene.id)["status"], "cancelled");
}
