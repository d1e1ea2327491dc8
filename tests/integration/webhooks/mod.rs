//! Webhooks from end to end: a real server, a real receiver, and the reference library that checks the signatures.

mod changes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use secateur::clock::{Clock, ManualClock, SystemClock};
use secateur::config::ServerConfig;
use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::processes::{Server, Site};
use crate::support::servers::webhook_receiver::{Behaviour, Message, Receiver};
use crate::support::test_app::{TestApp, new_home};

/// Far more than anything here takes, so that a test that hangs fails.
const PATIENCE: Duration = Duration::from_mins(1);

on_both_databases!(blocking:
    a_message_that_was_under_way_when_the_server_was_killed_is_sent_again_under_its_id,
    several_servers_on_one_database_send_each_message_once,
);

/// Lets messages go to this machine, where the tests listen.
fn to_this_machine(config: &mut ServerConfig) {
    config.webhooks.webhook_allow = vec!["127.0.0.0/8".parse().unwrap()];
    config.webhooks.webhook_allow_http = true;
    config.webhooks.webhook_timeout_seconds = Duration::from_secs(5);
}

/// The API alone, at a time that the test moves.
async fn api_at(clock: &Arc<ManualClock>) -> TestApp {
    let clock = Arc::<ManualClock>::clone(clock);
    TestApp::start(new_home(), clock, |config| {
        to_this_machine(config);
        config.listen.no_worker = true;
    })
    .await
}

fn clock_at_now() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(SystemClock.now()))
}

/// Registers `receiver`; gives the answer.
async fn register(app: &TestApp, receiver: &Receiver, events: Option<&[&str]>) -> Value {
    let body = json!({"url": receiver.url(), "events": events});
    let answer = app.post("/v1/webhooks", &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let webhook = answer.json();
    assert_eq!(answer.header("location"), path(&webhook, ""));
    webhook
}

fn path(webhook: &Value, rest: &str) -> String {
    format!("/v1/webhooks/{}{rest}", webhook["id"].as_str().unwrap())
}

fn secret(webhook: &Value) -> &str {
    webhook["secret"].as_str().unwrap()
}

async fn post(app: &TestApp, path: &str) -> (StatusCode, Value) {
    let answer = app.send(app.request(Method::POST, path)).await;
    (answer.status, answer.json())
}

/// Whether an attempt to send it is over.
fn was_sent(delivery: &Value) -> bool {
    delivery["last_attempt"].is_object()
}

/// The newest delivery, as soon as it is as wanted.
async fn delivery_when(app: &TestApp, webhook: &Value, wanted: impl Fn(&Value) -> bool) -> Value {
    let path = path(webhook, "/deliveries");
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let list = app.get(&path).await.json();
            if wanted(&list["data"][0]) {
                return list["data"][0].clone();
            }
            // Leaves the processor to the dispatcher that is waited for.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    found.await.unwrap()
}

#[tokio::test]
async fn a_receiver_can_check_who_sent_what_and_when() {
    let (receiver, clock) = (Receiver::start(&[]), clock_at_now());
    let app = api_at(&clock).await;
    let webhook = register(&app, &receiver, None).await;
    let id = app.submit("m").await;
    let message = receiver.when(1).await.remove(0);
    assert!(message.is_signed_by(secret(&webhook)));
    assert_eq!(message.header("content-type"), "application/json");
    let job = app.get(&format!("/v1/jobs/{id}")).await.json();
    let expected = json!({
        "type": "job.queued", "timestamp": job["created_at"],
        "data": {"job_id": id, "status": "queued", "version": 1, "seq": 1, "attempt": 0},
    });
    assert_eq!(message.json(), expected);

    let mut altered = message.clone();
    altered.body = altered.body.replace("queued", "failed");
    let mut renamed = message.clone();
    renamed
        .headers
        .insert("webhook-id", "msg_2".parse().unwrap());
    for wrong in [altered, renamed] {
        assert!(!wrong.is_signed_by(secret(&webhook)));
    }
    let other = register(&app, &receiver, None).await;
    assert!(!message.is_signed_by(secret(&other)));

    // A server whose clock is ten minutes behind: what it sends is as old as a message that was held back.
    let late = Arc::new(ManualClock::new(
        SystemClock.now() - Duration::from_mins(10),
    ));
    let (receiver, app) = (Receiver::start(&[]), api_at(&late).await);
    let webhook = register(&app, &receiver, None).await;
    app.submit("m").await;
    assert!(!receiver.when(1).await[0].is_signed_by(secret(&webhook)));
}

#[tokio::test]
async fn a_secret_is_shown_once_and_the_one_before_goes_on_for_a_day() {
    let (receiver, clock) = (Receiver::start(&[]), clock_at_now());
    let app = api_at(&clock).await;
    let old = register(&app, &receiver, None).await;
    let (status, new) = post(&app, &path(&old, "/rotate-secret")).await;
    assert_eq!(status, StatusCode::OK);
    assert_ne!(secret(&old), secret(&new));
    assert!(secret(&new).starts_with("whsec_"));
    for shown in [
        app.get("/v1/webhooks").await,
        app.get(&path(&old, "")).await,
    ] {
        let text = String::from_utf8(shown.body).unwrap();
        assert!(
            !text.contains("whsec_") && text.contains("previous_secret_until"),
            "{text}"
        );
    }

    app.submit("m").await;
    let message = receiver.when(1).await.remove(0);
    assert!(message.is_signed_by(secret(&old)) && message.is_signed_by(secret(&new)));
    clock.advance(Duration::from_hours(24));
    app.submit("m").await;
    let signature = receiver.when(2).await[1]
        .header("webhook-signature")
        .to_owned();
    assert_eq!(signature.split(' ').count(), 1, "{signature}");
}

#[tokio::test]
async fn what_was_not_taken_is_sent_again_under_the_same_id_and_the_log_says_why() {
    let failures = [
        (Behaviour::Status(500), json!(500), "status", 5),
        (Behaviour::Redirect, json!(302), "redirect", 300),
        (Behaviour::Hang, Value::Null, "timeout", 1800),
        (Behaviour::Status(404), json!(404), "status", 7200),
    ];
    let (receiver, clock) = (
        Receiver::start(&failures.clone().map(|f| f.0)),
        clock_at_now(),
    );
    let app = api_at(&clock).await;
    let webhook = register(&app, &receiver, None).await;
    app.submit("m").await;
    for (attempt, (_, status, reason, wait)) in (1_usize..).zip(&failures) {
        receiver.when(attempt).await;
        let failed = delivery_when(&app, &webhook, |delivery| {
            delivery["attempts"] == attempt && delivery["last_attempt"]["error"] == *reason
        });
        let failed = failed.await;
        assert_eq!(failed["status"], "pending");
        assert_eq!(failed["last_attempt"]["status_code"], *status);
        let next: jiff::Timestamp = failed["next_attempt_at"].as_str().unwrap().parse().unwrap();
        let wait = Duration::from_secs(*wait);
        let until: Duration = (next - clock.now()).try_into().unwrap();
        assert!((wait..=wait.mul_f64(1.1)).contains(&until), "{until:?}");
        assert_eq!(receiver.received().len(), attempt);
        clock.advance(wait.mul_f64(1.1));
    }
    let messages = receiver.when(5).await;
    assert!(
        messages
            .iter()
            .all(|message| message.id() == messages[0].id())
    );
    assert!(
        messages
            .iter()
            .all(|message| message.body == messages[0].body)
    );
    let done = delivery_when(&app, &webhook, |delivery| delivery["status"] == "succeeded").await;
    assert_eq!(done["id"], messages[0].id());
    assert_eq!(
        (&done["attempts"], &done["next_attempt_at"]),
        (&json!(5), &Value::Null)
    );
    assert_eq!(done["last_attempt"]["status_code"], 204);
    let text = String::from_utf8(app.get("/metrics").await.body).unwrap();
    assert!(
        text.contains("secateur_webhook_deliveries_total{outcome=\"failed\"}"),
        "{text}"
    );
    assert!(text.contains("secateur_webhook_outbox_depth"), "{text}");
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_told_nothing_more_until_it_is_enabled_again() {
    let receiver = Receiver::start(&[Behaviour::Status(410)]);
    let clock = clock_at_now();
    let app = api_at(&clock).await;
    let webhook = register(&app, &receiver, None).await;
    app.submit("m").await;
    let gone = delivery_when(&app, &webhook, |delivery| delivery["status"] == "exhausted").await;
    assert_eq!(gone["last_attempt"]["error"], "gone");
    let disabled = app.get(&path(&webhook, "")).await.json();
    assert_eq!(disabled["enabled"], false);
    assert!(disabled["disabled_at"].is_string());

    app.submit("m").await;
    let again = format!("/deliveries/{}/redeliver", gone["id"].as_str().unwrap());
    for refused in ["/test", &again] {
        let (status, problem) = post(&app, &path(&webhook, refused)).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::CONFLICT, &json!("webhook_disabled"))
        );
    }
    let list = app.get(&path(&webhook, "/deliveries")).await.json();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);

    let (status, enabled) = post(&app, &path(&webhook, "/enable")).await;
    assert_eq!(
        (status, &enabled["enabled"]),
        (StatusCode::OK, &json!(true))
    );
    let (status, _) = post(&app, &path(&webhook, &again)).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let messages = receiver.when(2).await;
    assert_eq!(messages[0].id(), messages[1].id());
}

#[tokio::test]
async fn a_message_can_be_asked_for_again_and_a_webhook_tried() {
    let (receiver, clock) = (Receiver::start(&[]), clock_at_now());
    let app = api_at(&clock).await;
    let webhook = register(&app, &receiver, Some(&["job.failed"])).await;
    let (status, delivery) = post(&app, &path(&webhook, "/test")).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let message = receiver.when(1).await.remove(0);
    assert!(message.is_signed_by(secret(&webhook)));
    assert_eq!(message.id(), delivery["id"]);
    assert_eq!(message.json()["type"], "webhook.test");
    delivery_when(&app, &webhook, |delivery| delivery["status"] == "succeeded").await;

    let again = format!("/deliveries/{}/redeliver", message.id());
    let (status, delivery) = post(&app, &path(&webhook, &again)).await;
    assert_eq!(
        (status, &delivery["attempts"]),
        (StatusCode::ACCEPTED, &json!(0))
    );
    let second = receiver.when(2).await.remove(1);
    assert_eq!((second.id(), &second.body), (message.id(), &message.body));

    for unknown in ["msg_1", "%00", "..%2f..%2fx"] {
        let again = format!("/deliveries/{unknown}/redeliver");
        let (status, problem) = post(&app, &path(&webhook, &again)).await;
        let expected = (StatusCode::NOT_FOUND, &json!("delivery_not_found"));
        assert_eq!((status, &problem["code"]), expected, "{unknown}");
    }
}

#[tokio::test]
async fn the_life_of_a_job_is_told_as_asked_and_can_be_put_into_order() {
    let (everything, ends) = (Receiver::start(&[]), Receiver::start(&[]));
    let app = TestApp::start(new_home(), Arc::new(SystemClock), to_this_machine).await;
    register(&app, &everything, None).await;
    register(
        &app,
        &ends,
        Some(&["job.succeeded", "job.failed", "job.cancelled"]),
    )
    .await;
    let succeeds = app.submit("succeed").await;
    app.job_with_status(&succeeds, "succeeded").await;
    let fails = app.submit("refuse").await;
    app.job_with_status(&fails, "failed").await;

    let told = |messages: Vec<Message>, id: &str| {
        let mut by_version = BTreeMap::new();
        for message in messages.iter().map(Message::json) {
            if message["data"]["job_id"] == id {
                let version = message["data"]["version"].as_u64().unwrap();
                let kind = message["type"].as_str().unwrap().to_owned();
                assert!(by_version.insert(version, kind).is_none());
            }
        }
        by_version.into_values().collect::<Vec<_>>()
    };
    let messages = everything.when(6).await;
    let life = |end| ["job.queued", "job.running", end];
    assert_eq!(told(messages.clone(), &succeeds), life("job.succeeded"));
    assert_eq!(told(messages, &fails), life("job.failed"));
    let messages = ends.when(2).await;
    assert_eq!(told(messages.clone(), &succeeds), ["job.succeeded"]);
    assert_eq!(told(messages, &fails), ["job.failed"]);
}

#[tokio::test]
async fn a_deleted_webhook_is_gone_with_what_was_to_be_sent() {
    let receiver = Receiver::start(&[Behaviour::Status(500)]);
    let clock = clock_at_now();
    let app = api_at(&clock).await;
    let webhook = register(&app, &receiver, None).await;
    app.submit("m").await;
    delivery_when(&app, &webhook, was_sent).await;
    let request = app.request(Method::DELETE, &path(&webhook, ""));
    assert_eq!(app.send(request).await.status, StatusCode::NO_CONTENT);
    for rest in ["", "/deliveries"] {
        let answer = app.get(&path(&webhook, rest)).await;
        assert_eq!(answer.json()["code"], "webhook_not_found");
    }
    for action in ["/test", "/enable", "/rotate-secret"] {
        let (status, _) = post(&app, &path(&webhook, action)).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{action}");
    }
    // A message to somebody else tells that the outbox was looked into.
    clock.advance(Duration::from_mins(1));
    let other = Receiver::start(&[]);
    register(&app, &other, None).await;
    app.submit("m").await;
    other.when(1).await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn where_nothing_may_be_sent_no_webhook_is_registered() {
    let app = TestApp::api().await;
    for (url, detail) in [
        ("http://example.com/", "scheme"),
        ("https://example.com:8443/", "port"),
        ("https://a:b@example.com/", "password"),
        ("https://127.0.0.1/", "127.0.0.1"),
        ("https://0x7f.1/", "127.0.0.1"),
        ("https://[::ffff:a00:1]/", "::ffff:10.0.0.1"),
        ("hook", "absolute URL"),
    ] {
        let refused = app.post("/v1/webhooks", &json!({"url": url})).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{url}");
        let error = refused.json()["errors"][0].clone();
        assert_eq!(
            (&error["pointer"], &error["code"]),
            (&json!("/url"), &json!("forbidden_url"))
        );
        assert!(
            error["detail"].as_str().unwrap().contains(detail),
            "{error}"
        );
    }
    // Resolved to this machine when it is sent, not before.
    let url = json!({"url": "https://localhost/"});
    let webhook = app.post("/v1/webhooks", &url).await.json();
    app.submit("m").await;
    let refused = delivery_when(&app, &webhook, was_sent).await;
    assert_eq!(refused["last_attempt"]["error"], "forbidden");
}

#[tokio::test]
async fn there_is_a_limit_to_the_number_of_webhooks() {
    let app = TestApp::api().await;
    let body = json!({"url": "https://example.com/", "description": "one of many"});
    for _ in 0..50 {
        assert_eq!(
            app.post("/v1/webhooks", &body).await.status,
            StatusCode::CREATED
        );
    }
    let refused = app.post("/v1/webhooks", &body).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(refused.json()["code"], "too_many_webhooks");
    let list = app.get("/v1/webhooks").await.json();
    assert_eq!(list["data"].as_array().unwrap().len(), 50);
    assert_eq!(list["data"][0]["description"], "one of many");
}

#[tokio::test]
async fn deliveries_are_read_page_by_page() {
    let (receiver, clock) = (Receiver::start(&[]), clock_at_now());
    let app = api_at(&clock).await;
    let webhook = register(&app, &receiver, None).await;
    let mut sent = Vec::new();
    for _ in 0..5 {
        let (_, delivery) = post(&app, &path(&webhook, "/test")).await;
        sent.insert(0, delivery["id"].clone());
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = app
            .get(&path(&webhook, &format!("/deliveries?limit=2{cursor}")))
            .await;
        let page = page.json();
        seen.extend(
            page["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|d| d["id"].clone()),
        );
        if page["has_more"] == false {
            assert_eq!(page["next_cursor"], Value::Null);
            break;
        }
        cursor = format!("&cursor={}", page["next_cursor"].as_str().unwrap());
    }
    assert_eq!(seen, sent);
    for cursor in ["", "x", "-1", "1000000000000000000"] {
        let answer = app
            .get(&path(&webhook, &format!("/deliveries?cursor={cursor}")))
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{cursor:?}");
    }
}

/// `serve` without a worker, which may send to this machine.
fn serve(dir: &std::path::Path, database: &Database) -> Server {
    let flags = [
        "--no-worker",
        "--webhook-allow",
        "127.0.0.0/8",
        "--webhook-allow-http",
        "--webhook-timeout-seconds",
        "5",
    ];
    Site::new(dir, database).starting(&flags).listening()
}

fn a_message_that_was_under_way_when_the_server_was_killed_is_sent_again_under_its_id(
    database: &Database,
) {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&[Behaviour::Hang]);
    let server = serve(dir.path(), database);
    let webhook = server.post("/v1/webhooks", &json!({"url": receiver.url()}));
    server.post("/v1/jobs", &json!({"model": "demo", "sparsity": 0.5}));
    receiver.wait_for(1);
    server.process.kill();

    let _server = serve(dir.path(), database);
    let messages = receiver.wait_for(2);
    assert_eq!(messages[0].id(), messages[1].id());
    assert_eq!(messages[0].body, messages[1].body);
    assert!(messages[1].is_signed_by(secret(&webhook)));
}

fn several_servers_on_one_database_send_each_message_once(database: &Database) {
    const JOBS: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&[]);
    let servers = [(); 3].map(|()| serve(dir.path(), database));
    servers[0].post("/v1/webhooks", &json!({"url": receiver.url()}));
    for job in 0..JOBS {
        let body = json!({"model": "demo", "sparsity": 0.5});
        servers[job % 3].post("/v1/jobs", &body);
    }
    // A job's end comes last: by then everything else was sent.
    let newest = servers[0].get("/v1/jobs?limit=1");
    let last = newest["data"][0]["links"]["cancel"].as_str().unwrap();
    let messages = receiver.wait_for(JOBS);
    servers[1].post(last, &Value::Null);
    let all = receiver.wait_for(JOBS + 1);
    let mut ids: Vec<_> = all.iter().map(Message::id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(
        (messages.len(), all.len(), ids.len()),
        (JOBS, JOBS + 1, JOBS + 1)
    );
}
