//! `kill -9` of the child, the worker and the server in every phase of a job: the job succeeds all the same, with the same
//! weights, and what was pruned is not pruned again.
//!
//! The attempt is held where it shall be caught: by a hub that does not answer, by a gate, by a trigger that refuses the
//! last commit.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::hub::models::WEIGHTS;
use crate::hub::to_artifact::hub_with_bundled_model;
use crate::support::command_line;
use crate::support::database::{Database, block_on};
use crate::support::gate::Gate;
use crate::support::processes::{Process, Server, Site, signal, until};
use crate::support::servers::mock_hub::{Fault, MODEL, MockHub};
use crate::support::synthetic::{Shape, write_local_model};

on_both_databases!(blocking:
    a_killed_child_costs_no_more_than_the_block_it_was_in,
    a_killed_worker_costs_no_more_than_the_block_it_was_in,
    a_killed_server_costs_no_more_than_the_block_it_was_in,
);

const BLOCKS: usize = 6;

const SHAPE: Shape = Shape {
    hidden: 128,
    intermediate: 256,
    blocks: BLOCKS,
    vocab: 768,
};

/// The attempt that is caught while pruning has done as many blocks.
const BLOCKS_DONE: u64 = 3;

/// What a job is doing when somebody is killed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Downloading,
    Resolving,
    Calibrating,
    Pruning,
    Evaluating,
    Publishing,
    /// The files are in the artifact store, and the database does not know it yet.
    Committing,
}

impl Moment {
    const ALL: [Self; 7] = [
        // Before the other one that needs the hub: afterwards the model is here.
        Self::Downloading,
        Self::Resolving,
        Self::Calibrating,
        Self::Pruning,
        Self::Evaluating,
        Self::Publishing,
        Self::Committing,
    ];

    fn phase(self) -> &'static str {
        match self {
            Self::Downloading => "downloading",
            Self::Resolving => "resolving",
            Self::Calibrating => "calibrating",
            Self::Pruning => "pruning",
            Self::Evaluating => "evaluating",
            Self::Publishing | Self::Committing => "publishing",
        }
    }

    /// The gate that holds the attempt; `None` where something else does.
    fn gate(self) -> Option<String> {
        match self {
            Self::Downloading | Self::Resolving | Self::Committing => None,
            Self::Pruning => Some(format!("block-{BLOCKS_DONE}")),
            Self::Calibrating | Self::Evaluating | Self::Publishing => {
                Some(self.phase().to_owned())
            }
        }
    }

    fn needs_hub(self) -> bool {
        matches!(self, Self::Downloading | Self::Resolving)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committing => f.write_str("committing"),
            other => f.write_str(other.phase()),
        }
    }
}

fn a_killed_child_costs_no_more_than_the_block_it_was_in(database: &Database) {
    let bench = Bench::new(database);
    let worker = bench.site.worker();
    for moment in Moment::ALL {
        // Then there is no child any more.
        if moment != Moment::Committing {
            let (id, gate) = bench.caught(moment);
            let child = worker.only_child();
            bench.heal(moment);
            signal(child, Signal::KILL);
            drop(gate);
            Bench::check(moment, &bench.api, &id);
        }
    }
}

fn a_killed_worker_costs_no_more_than_the_block_it_was_in(database: &Database) {
    let bench = Bench::new(database);
    let mut worker = bench.site.worker();
    for moment in Moment::ALL {
        let (id, gate) = bench.caught(moment);
        worker = bench.replaced(worker, moment, gate, || bench.site.worker());
        Bench::check(moment, &bench.api, &id);
    }
}

fn a_killed_server_costs_no_more_than_the_block_it_was_in(database: &Database) {
    let bench = Bench::new(database);
    let mut server = bench.site.server();
    for moment in Moment::ALL {
        let (id, gate) = bench.caught(moment);
        server = bench.replaced(server, moment, gate, || bench.site.server());
        Bench::check(moment, &server, &id);
    }
}

/// The API, a hub, and a model of many blocks.
struct Bench<'d> {
    _dir: TempDir,
    database: &'d Database,
    site: Site,
    api: Server,
    hub: MockHub,
    _runtime: Runtime,
}

impl<'d> Bench<'d> {
    fn new(database: &'d Database) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_local_model(&dir.path().join("models/deep"), SHAPE);
        let runtime = Runtime::new().unwrap();
        let hub = runtime.block_on(hub_with_bundled_model());
        let site = Site::new(dir.path(), database)
            .with("HF_ENDPOINT", hub.endpoint())
            .with("HF_HOME", dir.path().join("hub"));
        let api = site.api();
        Self {
            _dir: dir,
            database,
            site,
            api,
            hub,
            _runtime: runtime,
        }
    }

    /// Submits a job and waits until it is where it shall be caught; it goes no further by itself.
    fn caught(&self, moment: Moment) -> (String, Option<Gate>) {
        match moment {
            Moment::Downloading => self.hub.fail_always(WEIGHTS, Fault::Silence),
            Moment::Resolving => self.hub.keep_waiting(true),
            Moment::Committing => block_on(self.database.refuse("insert", "publications")).unwrap(),
            Moment::Calibrating | Moment::Pruning | Moment::Evaluating | Moment::Publishing => {}
        }
        let home = self.site.path("home");
        let gate = moment.gate().map(|point| Gate::close(&home, &point));
        let id = self.api.submit(&body(moment));
        if let Some(gate) = &gate {
            gate.wait_for_arrival();
        }
        self.api.job_when(&id, |job| job["phase"] == moment.phase());
        match moment {
            Moment::Downloading => until("the download", || {
                (self.hub.downloads(WEIGHTS) > 0).then_some(())
            }),
            Moment::Committing => until("the artifact", || {
                let stored = format!("home/artifacts/jobs/{id}/attempts/1/dense/secateur.json");
                fs::metadata(self.site.path(stored)).ok().map(drop)
            }),
            _ => {}
        }
        (id, gate)
    }

    /// Hub and database work again. What waits for them already does not hear of it.
    fn heal(&self, moment: Moment) {
        match moment {
            Moment::Downloading => self.hub.fail_first(WEIGHTS, &[]),
            Moment::Resolving => self.hub.keep_waiting(false),
            Moment::Committing => block_on(self.database.accept_again("publications")).unwrap(),
            Moment::Calibrating | Moment::Pruning | Moment::Evaluating | Moment::Publishing => {}
        }
    }

    /// Kills a process that has a worker, and starts its successor.
    fn replaced<P: Into<Process>>(
        &self,
        process: P,
        moment: Moment,
        gate: Option<Gate>,
        next: impl Fn() -> P,
    ) -> P {
        process.into().kill();
        self.heal(moment);
        drop(gate);
        next()
    }

    fn check(moment: Moment, server: &Server, id: &str) {
        let job = server.succeeded(id);
        assert_eq!(job["attempt"], 2, "{moment}: {job}");
        assert_eq!(job["crash_count"], 1, "{moment}: {job}");
        assert_eq!(job["attempts"][0]["outcome"], "crashed", "{moment}: {job}");
        assert_eq!(
            job["results"]["digest"],
            *undisturbed_digest(moment),
            "{moment}"
        );
        let events = server.events(id);
        let first = |event: &&Value| event["type"] == "phase" && event["attempt"] == 1;
        let last_phase = events.iter().rfind(first).unwrap();
        assert_eq!(last_phase["phase"], moment.phase(), "{events:?}");
        let ends = ["succeeded", "failed", "cancelled"].map(Value::from);
        let ends = events.iter().filter(|event| ends.contains(&event["type"]));
        assert_eq!(ends.count(), 1, "{events:?}");
        let resumed = events.iter().find(|event| event["type"] == "resumed");
        let resumed = resumed.map(|event| event["block"].as_u64().unwrap());
        eprintln!("killed while {moment}: went on at block {resumed:?} of {BLOCKS}");
        match moment {
            // What was done before the kill is not done again.
            Moment::Pruning => assert_eq!(resumed, Some(BLOCKS_DONE), "{events:?}"),
            Moment::Evaluating | Moment::Publishing | Moment::Committing => {
                assert!(resumed >= Some(BLOCKS as u64 - 1), "{moment}: {events:?}");
            }
            Moment::Downloading | Moment::Resolving | Moment::Calibrating => {
                assert_eq!(resumed, None, "{moment}");
            }
        }
    }
}

/// Of the same work by the command line, done once for all tests.
fn undisturbed_digest(moment: Moment) -> &'static Value {
    static BUNDLED: LazyLock<Value> = LazyLock::new(|| {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
        command_line::undisturbed_digest(&demo)
    });
    static DEEP: LazyLock<Value> = LazyLock::new(|| {
        let dir = tempfile::tempdir().unwrap();
        write_local_model(dir.path(), SHAPE);
        command_line::undisturbed_digest(dir.path())
    });
    if moment.needs_hub() { &BUNDLED } else { &DEEP }
}

fn body(moment: Moment) -> Value {
    let model = if moment.needs_hub() {
        json!({"source": "hub", "id": MODEL})
    } else {
        json!({"source": "local", "id": "deep"})
    };
    json!({
        "model": model, "sparsity": 0.5, "pattern": "unstructured",
        "calibration": {
            "dataset": "demo", "n_samples": 8, "seq_len": 64, "seed": 3,
        },
        "evaluation": {"perplexity": ["demo"], "seq_len": 64, "windows": 2},
    })
}
