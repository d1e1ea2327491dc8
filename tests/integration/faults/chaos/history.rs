//! What was done and what was seen, in the order in which it was: in memory for the checker, in a file for people.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;

use jiff::Timestamp;
use secateur::clock::{Clock as _, SystemClock};
use serde::Serialize;
use serde_json::Value;

/// One entry.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub(crate) enum Record {
    /// The nemesis broke something, and healed it.
    Fault {
        from: Timestamp,
        until: Timestamp,
        what: String,
    },
    /// Somebody asked for a change. Without a status no answer came, and nobody knows whether it was done.
    Call {
        at: Timestamp,
        what: Call,
        status: Option<u16>,
        answer: Value,
    },
    /// A job as the only observer saw it.
    Seen { at: Timestamp, job: Value },
    /// An entry of a job's log as the observer saw it.
    Event { job: String, event: Value },
    /// A job after everything was over.
    Last { job: Value },
    /// What the artifact store has of a job after everything was over.
    Stored {
        job: String,
        attempts: Vec<u32>,
        /// SHA-256 of the weights of the last one of them.
        weights: Option<String>,
    },
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Call {
    /// A job of this order.
    Submit { order: String },
    /// The end of a job, or another action on it.
    Act { action: String, job: String },
}

/// The history of one run.
pub(crate) struct History {
    records: Mutex<(Vec<Record>, File)>,
}

impl History {
    pub(crate) fn new(path: &Path) -> Self {
        let file = File::create(path).unwrap();
        Self {
            records: Mutex::new((Vec::new(), file)),
        }
    }

    pub(crate) fn add(&self, record: Record) {
        let mut records = self.records.lock().unwrap();
        let line = serde_json::to_string(&record).unwrap();
        writeln!(records.1, "{line}").unwrap();
        records.0.push(record);
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap().0.clone()
    }
}

pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}
