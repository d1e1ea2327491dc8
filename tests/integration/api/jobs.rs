//! Submitting, listing, looking at and cancelling jobs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use secateur::clock::ManualClock;
use secateur::domain::job::attempt_end::AttemptEnd;
use serde_json::{Value, json};

use crate::support::test_app::{TestApp, publication};

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "the whole job")]
async fn the_minimal_body_is_accepted_and_comes_back_complete() {
    let app = TestApp::api().await;
    let body = json!({"model": "org/name", "sparsity": 0.5, "pattern": "unstructured"});
    let accepted = app.post("/v1/jobs", &body).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED);

    let mut job = accepted.json();
    assert_eq!(accepted.header("location"), job["links"]["self"]);
    for (field, replacement) in [
        ("id", "[id]"),
        ("created_at", "[time]"),
        ("updated_at", "[time]"),
    ] {
        assert!(job[field].is_string());
        job[field] = json!(replacement);
    }
    job["links"] = json!("[links]");
    assert_eq!(job["evaluation"]["guard"]["kl"], 0.5);
    job["evaluation"]["guard"] = json!("[guard]");
    let progress = job["progress"].take();
    assert_eq!(
        (&progress["percent"], &progress["step"]),
        (&json!(0.0), &Value::Null)
    );
    let phases = progress["phases"].as_array().unwrap();
    assert!(phases.iter().all(|phase| phase["status"] == "ahead"));
    let shares = phases
        .iter()
        .map(|phase| phase["expected_share"].as_f64().unwrap());
    assert!((shares.sum::<f64>() - 1.0).abs() < 1e-9, "{progress}");
    insta::assert_json_snapshot!(job, @r#"
    {
      "allocation": {
        "type": "uniform"
      },
      "attempt": 0,
      "attempts": [],
      "calibration": {
        "dataset": "c4",
        "n_samples": 16,
        "seed": 0,
        "seq_len": null
      },
      "cancel": null,
      "commits": [],
      "crash_count": 0,
      "created_at": "[time]",
      "deadline_at": null,
      "deadline_seconds": null,
      "error": null,
      "estimate": {
        "disk_bytes": null,
        "memory_bytes": null,
        "seconds": null
      },
      "estimated_start_at": null,
      "evaluation": {
        "bos": "tokenizer",
        "generations": "auto",
        "guard": "[guard]",
        "limit": null,
        "max_tokens": 65536,
        "perplexity": [
          {
            "dataset": "wikitext2"
          }
        ],
        "seq_len": null,
        "tasks": [],
        "windows": null
      },
      "failed_attempts": 0,
      "finished_at": null,
      "group": null,
      "id": "[id]",
      "kept": false,
      "links": "[links]",
      "max_attempts": 3,
      "metadata": {},
      "method": {
        "type": "wanda"
      },
      "model": {
        "id": "org/name",
        "revision": "main",
        "source": "hub"
      },
      "name": null,
      "object": "prune.job",
      "pattern": "unstructured",
      "phase": null,
      "priority": 0,
      "progress": null,
      "propagation": "pruned",
      "queue_position": null,
      "refine": null,
      "refit": false,
      "resources": {
        "device": null
      },
      "results": null,
      "retain_until": null,
      "retry_at": null,
      "rules": [],
      "run_after": null,
      "sparsity": 0.5,
      "started_at": null,
      "status": "queued",
      "status_detail": null,
      "status_reason": "no_worker",
      "submitter": "",
      "type": "prune",
      "updated_at": "[time]",
      "version": 1,
      "warnings": [],
      "worker_id": null
    }
    "#);
    let mut found = app.get(accepted.header("location")).await.json();
    assert_eq!(found["queue_position"].take(), 1);
    assert_eq!(found, accepted.json());
}

/// The names of all fields, and of those within; of a list those of its first entry.
fn fields(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let entries = object.iter();
            entries
                .map(|(name, value)| (name.clone(), fields(value)))
                .collect()
        }
        Value::Array(list) => list.first().map_or(Value::Null, fields),
        _ => Value::Null,
    }
}

#[tokio::test]
async fn the_jobs_of_the_documentation_have_the_fields_of_a_job() {
    let app = TestApp::api().await;
    let body = json!({"model": "demo", "sparsity": 0.5, "pattern": "unstructured"});
    let job = app.post("/v1/jobs", &body).await.json();
    let overview = include_str!("../../../docs/API.md");
    let (_, block) = overview.split_once("```json\n").unwrap();
    let shown: Value = serde_json::from_str(block.split_once("```").unwrap().0).unwrap();
    assert_eq!(fields(&shown), fields(&job));
    for part in ["calibration", "evaluation", "method", "estimated_start_at"] {
        assert_eq!(shown[part], job[part], "{part}");
    }
    let shares = |job: &Value| {
        let phases = job["progress"]["phases"].as_array().unwrap().iter();
        let share = |phase: &Value| (100.0 * phase["expected_share"].as_f64().unwrap()).round();
        phases
            .map(|phase| (phase["phase"].to_string(), share(phase)))
            .collect::<Vec<_>>()
    };
    assert_eq!(shares(&shown), shares(&job));
    let document = app.get("/openapi.json").await.json();
    let mut example = document["components"]["schemas"]["Job"]["examples"][0].clone();
    // The model of the hub has a revision as well.
    example["model"].as_object_mut().unwrap().remove("revision");
    assert_eq!(fields(&example), fields(&job));
}

#[tokio::test]
async fn every_job_route_is_served_without_the_version_too() {
    let app = TestApp::api().await;
    let id = app
        .post("/jobs", &json!({"model": "demo", "pattern": "2:4"}))
        .await
        .json()["id"]
        .clone();
    let id = id.as_str().unwrap();
    for path in ["", "/events"] {
        let answers = (
            app.get(&format!("/jobs/{id}{path}")).await,
            app.get(&format!("/v1/jobs/{id}{path}")).await,
        );
        assert_eq!(answers.0.status, StatusCode::OK);
        assert_eq!(answers.0.json(), answers.1.json());
    }
    for path in ["/results", "/report", "/artifacts"] {
        assert_eq!(
            app.get(&format!("/jobs/{id}{path}")).await.status,
            StatusCode::CONFLICT,
            "{path}"
        );
    }
    assert_eq!(app.get("/jobs").await.json()["data"][0]["id"], id);
    assert_eq!(
        app.post(&format!("/jobs/{id}/cancel"), &Value::Null)
            .await
            .json()["status"],
        "cancelled"
    );
}

#[tokio::test]
async fn a_queued_job_whose_place_moved_is_sent_again() {
    let app = TestApp::api().await;
    let first = app.submit("a").await;
    let path = format!("/v1/jobs/{}", app.submit("m").await);
    let seen = app.get(&path).await;
    assert_eq!(seen.json()["queue_position"], 2);
    app.post(&format!("/v1/jobs/{first}/cancel"), &Value::Null)
        .await;
    let request = app.request(Method::GET, &path);
    let again = request.header("if-none-match", seen.header("etag"));
    let again = app.send(again).await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(again.json()["queue_position"], 1);
}

#[tokio::test]
async fn a_job_that_did_not_change_is_not_sent_again() {
    let app = TestApp::api().await;
    let path = format!("/v1/jobs/{}", app.submit("m").await);
    let get = async |tag: &str| {
        let request = app.request(Method::GET, &path);
        app.send(request.header("if-none-match", tag)).await
    };
    app.claim().await;
    let first = app.get(&path).await;
    assert_eq!(first.header("retry-after"), "2");
    let tag = first.header("etag");
    let again = get(tag).await;
    assert_eq!(
        (again.status, again.header("etag"), again.body.len()),
        (StatusCode::NOT_MODIFIED, tag, 0)
    );

    app.post(&format!("{path}/pause"), &Value::Null).await;
    let changed = get(tag).await;
    assert_eq!(changed.status, StatusCode::OK);
    let pausing = changed.header("etag");
    assert_ne!(pausing, tag);
    app.post(&format!("{path}/cancel"), &Value::Null).await;
    let store = app.store().await;
    let leases = store.list_leases().await.unwrap();
    app.finish(&leases[0].lease, &AttemptEnd::Cancelled).await;
    let changed = get(pausing).await;
    assert_eq!(changed.status, StatusCode::OK);
    assert!(
        changed.headers.get("retry-after").is_none(),
        "a job that is over need not be looked at again"
    );
}

#[tokio::test]
async fn cancelling_is_idempotent_until_it_is_too_late() {
    let app = TestApp::api().await;
    let queued = app.submit("m").await;
    for _ in 0..2 {
        let answer = app
            .post(&format!("/v1/jobs/{queued}/cancel"), &Value::Null)
            .await;
        assert_eq!(
            (answer.status, answer.json()["status"].clone()),
            (StatusCode::OK, json!("cancelled"))
        );
    }
    assert_eq!(app.events(&queued).await, ["queued", "cancelled"]);

    let running = app.submit("m").await;
    let lease = app.claim().await;
    for _ in 0..2 {
        let answer = app
            .post(&format!("/v1/jobs/{running}/cancel"), &Value::Null)
            .await;
        assert_eq!(
            (answer.status, answer.json()["status"].clone()),
            (StatusCode::OK, json!("cancelling"))
        );
    }
    app.finish(&lease, &AttemptEnd::Succeeded(Box::new(publication(1))))
        .await;
    let late = app
        .post(&format!("/v1/jobs/{running}/cancel"), &Value::Null)
        .await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    assert_eq!(late.json()["code"], "invalid_transition");
    assert_eq!(
        late.json()["allowed"],
        json!([
            "queued",
            "running",
            "pausing",
            "paused",
            "cancelling",
            "cancelled"
        ])
    );
}

#[tokio::test]
async fn pages_follow_each_other_and_do_not_move() {
    let app = TestApp::api().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(app.submit("m").await);
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = app.get(&format!("/v1/jobs?limit=2{cursor}")).await.json();
        app.submit("m").await;
        let page_ids = page["data"].as_array().unwrap().iter();
        seen.extend(page_ids.map(|job| job["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        assert_eq!(page["has_more"], true);
        cursor = format!("&cursor={next}");
    }
    ids.reverse();
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn lists_can_be_filtered_and_count_every_status() {
    let clock = Arc::new(ManualClock::new(
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap(),
    ));
    let app = TestApp::api_at(Arc::<ManualClock>::clone(&clock)).await;
    let first = app.submit("a").await;
    clock.advance(Duration::from_mins(1));
    let second = json!({
        "model": "org/b", "method": "magnitude", "sparsity": 0.5, "name": "sweep-1",
        "metadata": {"team": "a b", "run": "7"},
    });
    app.post("/v1/jobs", &second).await;
    app.post(&format!("/v1/jobs/{first}/cancel"), &Value::Null)
        .await;

    let cases = [
        ("status=cancelled", 1),
        ("status=queued,cancelled", 2),
        ("model=org/b", 1),
        ("method=magnitude", 1),
        ("method=wanda&status=queued", 0),
        ("name=sweep-1", 1),
        ("name=sweep-", 0),
        ("name_prefix=sweep-", 1),
        ("name_prefix=sweep-1&status=queued,cancelled", 1),
        ("name_prefix=sweep-2", 0),
        ("name_prefix=", 1),
        ("metadata[team]=a%20b", 1),
        ("metadata%5Bteam%5D=a+b&metadata[run]=7", 1),
        ("metadata[team]=a%20b&metadata[run]=8", 0),
        ("metadata[Team]=a%20b", 0),
        ("created_after=2026-01-01T00:00:30Z", 1),
        ("created_before=2026-01-01T00:00:30Z", 1),
        (
            "created_after=2026-01-01T00:00:00Z&created_before=2026-01-01T00:02:00Z",
            2,
        ),
    ];
    for (query, expected) in cases {
        let page = app.get(&format!("/v1/jobs?{query}")).await.json();
        assert_eq!(page["data"].as_array().unwrap().len(), expected, "{query}");
        let counts = json!({"queued": 1, "running": 0, "succeeded": 0, "failed": 0, "cancelling": 0, "pausing": 0, "paused": 0, "cancelled": 1});
        assert_eq!(page["counts"], counts);
    }
}

#[tokio::test]
async fn the_log_can_be_read_in_parts() {
    let app = TestApp::api().await;
    let id = app.submit("m").await;
    app.post(&format!("/v1/jobs/{id}/cancel"), &Value::Null)
        .await;
    let path = format!("/v1/jobs/{id}/events");
    let all = app.get(&path).await.json();
    assert_eq!(all["data"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&all["has_more"], &all["next_cursor"]),
        (&json!(false), &Value::Null)
    );
    let first = app.get(&format!("{path}?limit=1")).await.json();
    assert_eq!(first["has_more"], true);
    let cursor = first["next_cursor"].as_str().unwrap();
    let next = app
        .get(&format!("{path}?limit=1&cursor={cursor}"))
        .await
        .json();
    assert_eq!(next["data"], json!([all["data"][1]]));
    assert_eq!(next["has_more"], false);
    let rest = app.get(&format!("{path}?after=1")).await.json();
    assert_eq!(rest["data"], json!([all["data"][1]]));
    let nothing = app.get(&format!("{path}?after=2")).await.json();
    assert_eq!(nothing["data"], json!([]));
}
