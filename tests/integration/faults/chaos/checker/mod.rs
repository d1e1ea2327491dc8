//! What must be true of every history, whatever the nemesis did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::history::{Call, Record};

/// How long before or after what it explains a fault may have been: a lease has to end, a sweep to come by.
const REACH: Duration = Duration::from_secs(5);

/// What an order leads to when nobody disturbs it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expected {
    /// These results, and the SHA-256 of the weights that are stored.
    Succeeds {
        results: Value,
        weights: Option<String>,
    },
    /// This code.
    Fails(String),
}

/// By the name of the order.
pub(crate) type Orders = BTreeMap<String, Expected>;

/// Everything that is wrong with a history; each begins with the name of the rule that it breaks.
pub(crate) fn check(records: &[Record], orders: &Orders) -> Vec<String> {
    let lives = Lives::of(records);
    let mut findings = lives.problems.clone();
    for (id, life) in &lives.by_job {
        let faults = &lives.faults;
        let of_job = [
            life.lost(),
            life.transitions(),
            life.backwards(),
            life.ends(),
            life.manifests(),
            life.result(orders),
            life.unexplained(faults, orders),
        ];
        let of_job = of_job.into_iter().flatten();
        findings.extend(of_job.map(|finding| format!("{finding} [{id}, {}]", life.order)));
    }
    findings
}

/// What the history says of each job.
#[derive(Default)]
struct Lives {
    by_job: BTreeMap<String, Life>,
    faults: Vec<(Timestamp, Timestamp)>,
    problems: Vec<String>,
}

#[derive(Default)]
struct Life {
    order: String,
    seen: Vec<Value>,
    events: BTreeMap<u64, Value>,
    changed_events: Vec<u64>,
    last: Option<Value>,
    stored: Vec<u32>,
    weights: Option<String>,
    asked: BTreeSet<String>,
}

impl Lives {
    fn of(records: &[Record]) -> Self {
        let mut lives = Self::default();
        let mut unanswered = 0_usize;
        for record in records {
            if let Record::Call {
                what: Call::Submit { .. },
                status: None,
                ..
            } = record
            {
                unanswered += 1;
            }
            lives.take(record);
        }
        // Accepted, and the answer was lost: what they are stands in their names.
        let mut unknown = Vec::new();
        for (id, life) in &mut lives.by_job {
            if life.order.is_empty() {
                unknown.push(id.clone());
                let name = life.last.as_ref().and_then(|job| job["name"].as_str());
                name.unwrap_or_default().clone_into(&mut life.order);
            }
        }
        if unknown.len() > unanswered {
            let problem =
                format!("lost: {unknown:?} exist, {unanswered} submissions had no answer");
            lives.problems.push(problem);
        }
        lives
    }

    fn take(&mut self, record: &Record) {
        match record {
            Record::Fault { from, until, .. } => self.faults.push((*from, *until)),
            Record::Call {
                what,
                status,
                answer,
                ..
            } => self.take_call(what, *status, answer),
            Record::Seen { job, .. } => self.life(text(job, "id")).seen.push(job.clone()),
            Record::Event { job, event } => {
                let seq = event["seq"].as_u64().unwrap();
                let life = self.life(job);
                let known = life.events.insert(seq, event.clone());
                if known.is_some_and(|known| known != *event) {
                    life.changed_events.push(seq);
                }
            }
            Record::Last { job } => self.life(text(job, "id")).last = Some(job.clone()),
            Record::Stored {
                job,
                attempts,
                weights,
            } => {
                let life = self.life(job);
                life.stored.clone_from(attempts);
                life.weights.clone_from(weights);
            }
        }
    }

    fn take_call(&mut self, what: &Call, status: Option<u16>, answer: &Value) {
        if status == Some(500) {
            self.problems
                .push(format!("internal: {what:?} was answered with {answer}"));
        }
        match what {
            Call::Submit { order } if status == Some(202) => {
                self.life(text(answer, "id")).order.clone_from(order);
            }
            Call::Submit { .. } => {}
            Call::Act { action, job } => {
                self.life(job).asked.insert(action.clone());
            }
        }
    }

    fn life(&mut self, job: &str) -> &mut Life {
        self.by_job.entry(job.to_owned()).or_default()
    }
}

impl Life {
    /// A job that was accepted is there, and comes to an end.
    fn lost(&self) -> Vec<String> {
        match &self.last {
            None => vec!["lost: the job is not there any more".to_owned()],
            Some(job) if !is_terminal(text(job, "status")) => {
                vec![format!("lost: the job is for ever {}", job["status"])]
            }
            Some(_) => Vec::new(),
        }
    }

    /// The log tells of allowed changes only, has no gap, and never changes; so do the states that were seen.
    fn transitions(&self) -> Vec<String> {
        let mut findings: Vec<_> = self
            .changed_events
            .iter()
            .map(|seq| format!("transition: event {seq} is not what it was"))
            .collect();
        let mut state: Option<&str> = None;
        for (number, (seq, event)) in (1..).zip(&self.events) {
            if number != *seq {
                findings.push(format!("transition: event {number} is missing"));
                break;
            }
            match after(state, text(event, "type")) {
                Some(next) => state = Some(next),
                None => findings.push(format!(
                    "transition: {} after {}",
                    event["type"],
                    state.unwrap_or("nothing")
                )),
            }
        }
        let is_retried = self.asked.contains("retry");
        let pairs = self.seen.iter().zip(self.seen.iter().skip(1));
        for (earlier, later) in pairs {
            let (from, to) = (text(earlier, "status"), text(later, "status"));
            let is_same = earlier["version"] == later["version"];
            if is_same && from != to || !is_same && !can_reach(from, to, is_retried) {
                findings.push(format!("transition: seen as {from}, then as {to}"));
            }
        }
        findings
    }

    /// `version`, `attempt` and the attempts of the log grow.
    fn backwards(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for field in ["version", "attempt"] {
            let values: Vec<_> = self.seen.iter().map(|job| number(job, field)).collect();
            if !values.is_sorted() {
                findings.push(format!("backwards: {field} was seen as {values:?}"));
            }
        }
        let of_events = self.events.values().map(|event| number(event, "attempt"));
        let of_events: Vec<_> = of_events.collect();
        if !of_events.is_sorted() {
            findings.push(format!("backwards: attempts of the log are {of_events:?}"));
        }
        let started = self
            .events
            .values()
            .filter(|event| event["type"] == "started");
        let started: Vec<_> = started.map(|event| number(event, "attempt")).collect();
        if started.iter().zip(1..).any(|(attempt, n)| *attempt != n) {
            findings.push(format!("backwards: attempts {started:?} were started"));
        }
        findings
    }

    /// Each life has exactly one terminal event, its last; a retry begins another life.
    fn ends(&self) -> Vec<String> {
        let kinds = self.events.values().map(|event| text(event, "type"));
        let mut lives = vec![Vec::new()];
        for kind in kinds {
            if kind == "retried" {
                lives.push(Vec::new());
            }
            lives.last_mut().unwrap().push(kind);
        }
        let is_wrong = |life: &&Vec<&str>| {
            let ends = life.iter().filter(|kind| is_terminal(kind)).count();
            ends != 1 || !life.last().is_some_and(|last| is_terminal(last))
        };
        let wrong = lives.iter().filter(is_wrong);
        wrong
            .map(|life| format!("end: the log of one life is {life:?}"))
            .collect()
    }

    /// A succeeded job has the files of one attempt, the one that succeeded; any other has none.
    fn manifests(&self) -> Vec<String> {
        let Some(last) = &self.last else {
            return Vec::new();
        };
        let succeeded = self
            .events
            .values()
            .filter(|event| event["type"] == "succeeded");
        let expected: Vec<_> = succeeded.map(|event| number(event, "attempt")).collect();
        let stored: Vec<_> = self
            .stored
            .iter()
            .map(|attempt| u64::from(*attempt))
            .collect();
        let digests: BTreeSet<_> = self
            .seen
            .iter()
            .chain([last])
            .filter(|job| job["status"] == "succeeded")
            .map(|job| job["results"]["digest"].to_string())
            .collect();
        let mut findings = Vec::new();
        if stored != expected {
            findings.push(format!(
                "manifests: attempts {stored:?} are stored, {expected:?} succeeded"
            ));
        }
        if digests.len() > 1 {
            findings.push(format!("manifests: results were seen with {digests:?}"));
        }
        findings
    }

    /// What succeeded is what it would have been undisturbed; what cannot succeed does not.
    fn result(&self, orders: &Orders) -> Vec<String> {
        let Some(last) = self
            .last
            .as_ref()
            .filter(|job| job["status"] == "succeeded")
        else {
            return Vec::new();
        };
        match orders.get(&self.order) {
            None => vec![format!("digest: nobody ordered {:?}", self.order)],
            Some(Expected::Fails(code)) => {
                vec![format!("digest: succeeded, must fail with {code}")]
            }
            Some(Expected::Succeeds { results, weights }) => {
                let found = what_counts(&last["results"]);
                let mut findings = Vec::new();
                if found != *results {
                    findings.push(format!("digest: {found}, undisturbed {results}"));
                }
                if self.weights != *weights {
                    let stored = &self.weights;
                    findings.push(format!(
                        "digest: weights {stored:?}, undisturbed {weights:?}"
                    ));
                }
                findings
            }
        }
    }

    /// Whatever is not as it would have been undisturbed was asked for, or is the work of the nemesis.
    fn unexplained(&self, faults: &[(Timestamp, Timestamp)], orders: &Orders) -> Vec<String> {
        let Some(last) = &self.last else {
            return Vec::new();
        };
        let mut findings = Vec::new();
        for attempt in last["attempts"].as_array().into_iter().flatten() {
            let is_crash = attempt["outcome"] == "crashed";
            if is_crash && !is_explained(attempt, faults) {
                findings.push(format!(
                    "unexplained: no fault made this attempt crash: {attempt}"
                ));
            }
        }
        let (status, code) = (text(last, "status"), &last["error"]["code"]);
        match (status, orders.get(&self.order)) {
            ("cancelled", _) if !self.asked.contains("cancel") => {
                findings.push("unexplained: cancelled, and nobody asked".to_owned());
            }
            ("failed", Some(Expected::Fails(expected))) if code == expected.as_str() => {}
            ("failed", _) => {
                let is_spent = number(last, "failed_attempts") >= number(last, "max_attempts");
                if code != "worker_crashed" || !is_spent {
                    findings.push(format!("unexplained: failed with {}", last["error"]));
                }
            }
            _ => {}
        }
        findings
    }
}

fn is_explained(attempt: &Value, faults: &[(Timestamp, Timestamp)]) -> bool {
    let time = |name| text(attempt, name).parse::<Timestamp>().unwrap();
    let (begin, end) = (time("started_at"), time("finished_at"));
    let overlaps =
        |(from, until): &(Timestamp, Timestamp)| *from - REACH <= end && *until + REACH >= begin;
    faults.iter().any(overlaps)
}

/// The part of results that is the same whenever the work is.
pub(crate) fn what_counts(results: &Value) -> Value {
    serde_json::json!({"digest": results["digest"], "perplexity": results["perplexity"]})
}

fn is_terminal(state: &str) -> bool {
    ["succeeded", "failed", "cancelled"].contains(&state)
}

/// The state that an event of the log leads to; `None` where it must not happen.
fn after(state: Option<&str>, event: &str) -> Option<&'static str> {
    match (state, event) {
        (None, "queued")
        | (Some("running"), "retrying" | "released")
        | (Some("paused"), "continued")
        | (Some("failed" | "cancelled"), "retried") => Some("queued"),
        (Some("queued"), "started") | (Some("running"), "phase" | "resumed") => Some("running"),
        // The process of an attempt goes on until it is told.
        (Some("pausing"), "phase" | "resumed") | (Some("running"), "pausing") => Some("pausing"),
        (Some("queued" | "pausing"), "paused") => Some("paused"),
        (Some("running" | "pausing"), "cancelling") | (Some("cancelling"), "phase" | "resumed") => {
            Some("cancelling")
        }
        (Some("queued" | "paused" | "cancelling"), "cancelled") => Some("cancelled"),
        (Some("running" | "pausing" | "cancelling"), "succeeded") => Some("succeeded"),
        (Some("queued" | "running" | "pausing" | "paused" | "cancelling"), "failed") => {
            Some("failed")
        }
        _ => None,
    }
}

/// Whether a job that was seen in one state can be seen in the other one later.
fn can_reach(from: &str, to: &str, is_retried: bool) -> bool {
    match from {
        "succeeded" | "failed" | "cancelled" => to == from || from != "succeeded" && is_retried,
        "cancelling" => to == from || is_terminal(to) || is_retried,
        _ => true,
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field} in {value}"))
}

fn number(value: &Value, field: &str) -> u64 {
    value[field]
        .as_u64()
        .unwrap_or_else(|| panic!("no {field} in {value}"))
}

#[cfg(test)]
mod tests;
