//! Several workers as processes of their own, with real work: who gets what, and who is left alone.

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::processes::{Server, Site, until};

on_both_databases!(blocking:
    a_drained_worker_gets_nothing_until_it_is_let_go,
    what_is_submitted_to_a_paused_queue_starts_after_it_is_resumed,
    a_worker_that_is_too_small_leaves_the_job_to_a_bigger_one,
    a_worker_that_stops_is_not_listed_and_a_killed_one_is_lost,
);

/// Done in a moment.
fn body() -> Value {
    json!({
        "model": "demo", "sparsity": 0.5, "method": "magnitude", "evaluation": {"perplexity": []},
    })
}

fn submit(server: &Server, more: &Value) -> String {
    let mut body = body();
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    server.submit(&body)
}

fn workers(server: &Server) -> Vec<Value> {
    let listed = server.get("/v1/workers");
    listed["data"].as_array().unwrap().clone()
}

/// The workers, as soon as they are as `wanted` says.
fn workers_when(server: &Server, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    until("other workers", || {
        Some(workers(server)).filter(|workers| wanted(workers))
    })
}

/// The worker that succeeded at the job.
fn worker_of(server: &Server, id: &str) -> Value {
    let job = server.succeeded(id);
    job["attempts"][0]["worker_id"].clone()
}

fn a_drained_worker_gets_nothing_until_it_is_let_go(database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path(), database);
    let server = site.api();
    let _workers = [(); 2].map(|()| site.worker());
    let listed = workers_when(&server, |workers| workers.len() == 2);
    let path = |worker: &Value, action| {
        let id = worker["id"].as_str().unwrap();
        format!("/v1/workers/{id}/{action}")
    };
    let drained = server.post(&path(&listed[0], "drain"), &json!({}));
    assert_eq!(drained["status"], "draining");
    for id in [(); 4].map(|()| submit(&server, &json!({}))) {
        assert_eq!(worker_of(&server, &id), listed[1]["id"]);
    }
    server.post(&path(&listed[1], "drain"), &json!({}));
    let id = submit(&server, &json!({}));
    let waiting = server.job(&id);
    assert_eq!(waiting["status_reason"], "workers_draining");
    server.post(&path(&listed[0], "undrain"), &json!({}));
    assert_eq!(worker_of(&server, &id), listed[0]["id"]);
}

fn what_is_submitted_to_a_paused_queue_starts_after_it_is_resumed(database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path(), database);
    let server = site.api();
    let _workers = [(); 2].map(|()| site.worker());
    workers_when(&server, |workers| workers.len() == 2);
    server.post("/v1/queue/pause", &json!({}));
    let ids = [(); 3].map(|()| submit(&server, &json!({})));
    for id in &ids {
        let waiting = server.job_when(id, |_| true);
        assert_eq!(waiting["status_reason"], "queue_paused");
    }
    let resumed = server.post("/v1/queue/resume", &json!({}));
    for id in &ids {
        let job = server.succeeded(id);
        let (started, resumed) = (&job["started_at"], &resumed["changed_at"]);
        let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert!(time(started) >= time(resumed), "{started} {resumed}");
    }
}

fn a_worker_that_is_too_small_leaves_the_job_to_a_bigger_one(database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path(), database);
    let server = site.api();
    let _small = site
        .clone()
        .with("SECATEUR_MEMORY_BYTES", "1000000")
        .worker();
    workers_when(&server, |workers| workers.len() == 1);
    let id = submit(&server, &json!({}));
    let waiting = server.job(&id);
    assert_eq!(waiting["status_reason"], "no_worker_fits");
    // It needs what nobody has, and keeps nobody waiting.
    let on_cuda = submit(
        &server,
        &json!({"resources": {"device": "cuda"}, "priority": 100}),
    );
    let _big = site.worker();
    let listed = workers_when(&server, |workers| workers.len() == 2);
    let is_big = |worker: &&Value| worker["memory_bytes"] != 1_000_000;
    let big = listed.iter().find(is_big).unwrap();
    assert_eq!(worker_of(&server, &id), big["id"]);
    let waiting = server.job(&on_cuda);
    assert_eq!(
        (&waiting["status_reason"], &waiting["status_detail"]),
        (
            &json!("no_worker_fits"),
            &json!("needs cuda, no worker has one")
        )
    );
}

fn a_worker_that_stops_is_not_listed_and_a_killed_one_is_lost(database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path(), database);
    let server = site.api();
    let (stopped, url) = site.listening_worker();
    let listed = workers_when(&server, |workers| workers.len() == 1);
    let get = |path: &str| {
        let client = reqwest::blocking::Client::builder().no_proxy().build();
        let answer = client.unwrap().get(format!("{url}{path}")).send().unwrap();
        (answer.status().as_u16(), answer.text().unwrap())
    };
    assert_eq!(get("/livez").0, 200);
    assert_eq!(get("/readyz").0, 200);
    assert_eq!(get("/v1/jobs").0, 404);
    let id = submit(&server, &json!({}));
    assert_eq!(worker_of(&server, &id), listed[0]["id"]);
    let metrics = get("/metrics").1;
    for name in [
        "secateur_job_queue_wait_seconds_bucket{le=\"21600\"} 1",
        "secateur_artifact_bytes_total{direction=\"in\"}",
        "secateur_db_pool_connections{state=\"idle\"}",
    ] {
        assert!(metrics.contains(name), "{name} is missing in {metrics}");
    }
    // What all processes share is told by the API alone.
    assert!(
        !metrics.contains("secateur_device_memory_bytes"),
        "{metrics}"
    );
    assert!(stopped.terminate().success());
    workers_when(&server, <[Value]>::is_empty);

    let killed = site.worker();
    workers_when(&server, |workers| workers.len() == 1);
    killed.kill();
    // The next worker on the machine finds its lock free.
    let _next = site.worker();
    let listed = workers_when(&server, |workers| {
        let lost = workers.iter().filter(|worker| worker["status"] == "lost");
        workers.len() == 2 && lost.count() == 1
    });
    assert_eq!(listed[0]["status"], "lost");
}
