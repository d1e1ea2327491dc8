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
