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
mod tests {
    use serde_json::json;

    use super::*;

    const JOB: &str = "job_1";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn orders() -> Orders {
        let results = what_counts(&json!({"digest": "d", "perplexity": []}));
        let weights = Some("w".to_owned());
        let good = Expected::Succeeds { results, weights };
        let bad = Expected::Fails("malformed_checkpoint".to_owned());
        [("good".to_owned(), good), ("bad".to_owned(), bad)].into()
    }

    fn submitted(order: &str, status: Option<u16>) -> Record {
        let order = order.to_owned();
        Record::Call {
            at: at(0),
            what: Call::Submit { order },
            status,
            answer: status.map_or(Value::Null, |_| json!({"id": JOB})),
        }
    }

    fn job(status: &str, version: u64, attempt: u64) -> Value {
        json!({
            "id": JOB, "name": "good", "status": status, "version": version, "attempt": attempt, "error": null,
            "results": {"digest": "d", "perplexity": [], "file_count": 3}, "failed_attempts": 1, "max_attempts": 3,
            "attempts": [
                {"attempt": 1, "outcome": "crashed", "started_at": at(1), "finished_at": at(3)},
                {"attempt": 2, "outcome": "succeeded", "started_at": at(3), "finished_at": at(4)},
            ],
        })
    }

    fn seen(status: &str, version: u64, attempt: u64) -> Record {
        Record::Seen {
            at: at(2),
            job: job(status, version, attempt),
        }
    }

    fn event(seq: u64, attempt: u64, kind: &str) -> Record {
        Record::Event {
            job: JOB.to_owned(),
            event: json!({"seq": seq, "attempt": attempt, "type": kind}),
        }
    }

    /// A job whose first attempt was killed.
    fn good() -> Vec<Record> {
        let kinds = [
            (0, "queued"),
            (1, "started"),
            (1, "phase"),
            (1, "retrying"),
            (2, "started"),
            (2, "succeeded"),
        ];
        let events = kinds
            .iter()
            .zip(1..)
            .map(|((attempt, kind), seq)| event(seq, *attempt, kind));
        let mut records = vec![
            submitted("good", Some(202)),
            Record::Fault {
                from: at(2),
                until: at(2),
                what: "kill".to_owned(),
            },
            seen("running", 2, 1),
            seen("running", 5, 2),
        ];
        records.extend(events);
        records.push(Record::Last {
            job: job("succeeded", 6, 2),
        });
        records.push(Record::Stored {
            job: JOB.to_owned(),
            attempts: vec![2],
            weights: Some("w".to_owned()),
        });
        records
    }

    /// What the checker says of the good history after a change.
    fn after_change(change: impl FnOnce(&mut Vec<Record>)) -> Vec<String> {
        let mut records = good();
        change(&mut records);
        check(&records, &orders())
    }

    fn change_last(change: impl Fn(&mut Value)) -> Vec<String> {
        after_change(|records| {
            for record in records {
                if let Record::Last { job } = record {
                    change(job);
                }
            }
        })
    }

    #[track_caller]
    fn assert_found(rule: &str, findings: &[String]) {
        let of_rule = findings.iter().any(|finding| finding.starts_with(rule));
        assert!(of_rule, "no {rule}: {findings:?}");
    }

    #[test]
    fn nothing_is_found_in_a_good_history() {
        assert_eq!(after_change(|_| {}), [""; 0]);
    }

    #[test]
    fn a_job_that_is_gone_or_never_ends_is_found() {
        let gone = after_change(|records| records.retain(|r| !matches!(r, Record::Last { .. })));
        assert_found("lost", &gone);
        assert_found("lost", &change_last(|job| job["status"] = json!("running")));
    }

    #[test]
    fn a_job_that_nobody_submitted_is_found_unless_an_answer_was_lost() {
        let from_nowhere = after_change(|records| drop(records.remove(0)));
        assert_found("lost", &from_nowhere);
        let unanswered = after_change(|records| records[0] = submitted("good", None));
        assert_eq!(unanswered, [""; 0]);
    }

    #[test]
    fn a_transition_that_is_not_allowed_is_found() {
        assert_found(
            "transition",
            &after_change(|records| records[5] = event(2, 1, "succeeded")),
        );
        assert_found(
            "transition",
            &after_change(|records| drop(records.remove(6))),
        );
        assert_found(
            "transition",
            &after_change(|records| records.push(event(3, 1, "resumed"))),
        );
        assert_found(
            "transition",
            &after_change(|records| records.insert(3, seen("failed", 3, 1))),
        );
        assert_found(
            "transition",
            &after_change(|records| records.insert(3, seen("queued", 2, 1))),
        );
    }

    #[test]
    fn a_version_or_an_attempt_that_goes_back_is_found() {
        assert_found(
            "backwards",
            &after_change(|records| records.push(seen("running", 4, 2))),
        );
        assert_found(
            "backwards",
            &after_change(|records| records.push(seen("running", 6, 1))),
        );
        assert_found(
            "backwards",
            &after_change(|records| records[8] = event(5, 1, "started")),
        );
    }

    #[test]
    fn a_second_end_and_a_missing_one_are_found() {
        assert_found(
            "end",
            &after_change(|records| records.push(event(7, 2, "failed"))),
        );
        assert_found("end", &after_change(|records| drop(records.remove(9))));
    }

    #[test]
    fn a_second_manifest_is_found() {
        let store = |attempts: &[u32]| Record::Stored {
            job: JOB.to_owned(),
            attempts: attempts.to_vec(),
            weights: Some("w".to_owned()),
        };
        for attempts in [&[][..], &[1], &[1, 2]] {
            assert_found(
                "manifests",
                &after_change(|records| records.push(store(attempts))),
            );
        }
        let mut other = job("succeeded", 6, 2);
        other["results"]["digest"] = json!("other");
        let other = Record::Seen {
            at: at(5),
            job: other,
        };
        assert_found("manifests", &after_change(|records| records.push(other)));
    }

    #[test]
    fn another_result_than_undisturbed_is_found() {
        assert_found(
            "digest",
            &change_last(|job| job["results"]["digest"] = json!("other")),
        );
        let bad = after_change(|records| records[0] = submitted("bad", Some(202)));
        assert_found("digest", &bad);
    }

    #[test]
    fn what_the_nemesis_does_not_explain_is_found() {
        assert_found(
            "unexplained",
            &after_change(|records| drop(records.remove(1))),
        );
        assert_found(
            "unexplained",
            &change_last(|job| job["status"] = json!("cancelled")),
        );
        let failed = |code: &'static str, failed_attempts: u64| {
            change_last(move |job| {
                job["status"] = json!("failed");
                job["error"] = json!({"code": code});
                job["failed_attempts"] = json!(failed_attempts);
            })
        };
        assert_found("unexplained", &failed("io", 3));
        assert_found("unexplained", &failed("worker_crashed", 2));
        let spent = failed("worker_crashed", 3);
        assert!(
            !spent
                .iter()
                .any(|finding| finding.starts_with("unexplained")),
            "{spent:?}"
        );
    }

    #[test]
    fn an_internal_error_is_found() {
        assert_found(
            "internal",
            &after_change(|records| records.push(submitted("good", Some(500)))),
        );
    }
}
