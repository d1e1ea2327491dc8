//! What operators and their tools ask.

use reqwest::StatusCode;
use secateur::cli;
use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::processes::{Process, Server, Site};
use crate::support::test_app::{TestApp, config};

on_both_databases!(blocking: one_of_several_servers_exports_the_gauges_of_the_database);

#[tokio::test]
async fn a_server_that_can_take_jobs_is_ready() {
    let app = TestApp::api().await;
    assert_eq!(app.get("/livez").await.body, b"ok\n");
    let ready = app.get("/readyz").await;
    assert_eq!(ready.status, StatusCode::OK);
    let names = [
        "database",
        "schema",
        "data_directory",
        "free_space",
        "accepting",
    ];
    let checks = names.map(|name| json!({"name": name, "ok": true}));
    assert_eq!(ready.json(), json!({"ready": true, "checks": checks}));
}

#[tokio::test]
async fn the_first_page_leads_to_the_documentation() {
    let app = TestApp::api().await;
    let page = app.get("/").await;
    assert_eq!(page.status, StatusCode::OK);
    let text = String::from_utf8(page.body.clone()).unwrap();
    for link in text.split("href=\"").skip(1) {
        let path = link.split('"').next().unwrap();
        assert_eq!(app.get(path).await.status, StatusCode::OK, "{path}");
    }
    assert!(text.contains("href=\"/docs/\""));
}

#[tokio::test]
async fn answers_say_how_they_may_be_kept_and_what_their_pages_may_do() {
    let app = TestApp::api().await;
    let job = format!("/v1/jobs/{}", app.submit("m").await);
    for path in ["/v1/jobs", &job, "/docs/", "/nowhere"] {
        let answer = app.get(path).await;
        assert_eq!(
            answer.header("cache-control"),
            "private, no-cache",
            "{path}"
        );
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(policy.contains("script-src 'self';"), "{policy}");
    }
    // What the policy forbids would leave the page empty.
    let page = String::from_utf8(app.get("/docs/").await.body).unwrap();
    assert!(
        !page.contains("<script>") && !page.contains("onload="),
        "{page}"
    );
}

#[tokio::test]
async fn models_on_this_machine_are_listed() {
    let app = TestApp::api().await;
    let models = app.home().join("models");
    std::fs::create_dir_all(models.join("team/other")).unwrap();
    let config = std::fs::read_to_string(models.join("a/config.json")).unwrap();
    let config = config.replace("LlamaForCausalLM", "Unheard");
    std::fs::write(models.join("team/other/config.json"), config).unwrap();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let snapshot = app
        .home()
        .join("hub-cache/models--org--name/snapshots")
        .join(commit);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::copy(models.join("a/config.json"), snapshot.join("config.json")).unwrap();
    let list = async || app.get("/v1/models").await.json()["data"].clone();
    let find = |list: &Value, model: &Value| {
        let mut models = list.as_array().unwrap().iter();
        models.find(|found| found["model"] == *model).cloned()
    };
    let cached = json!({"source": "hub", "id": "org/name", "revision": commit});
    assert_eq!(find(&list().await, &cached), None, "it has no weights");
    let index =
        json!({"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"}});
    std::fs::write(
        snapshot.join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
    std::fs::write(snapshot.join("1.safetensors"), b"12").unwrap();
    assert_eq!(find(&list().await, &cached), None, "it lacks a shard");
    std::fs::write(snapshot.join("2.safetensors"), b"345").unwrap();
    let list = list().await;
    let found = find(&list, &cached).unwrap();
    assert_eq!(found["size_bytes"], 5);
    assert_eq!(found["architecture"], "LlamaForCausalLM");
    assert_eq!(found["problem"], Value::Null);
    let demo = find(&list, &json!({"source": "local", "id": "demo"})).unwrap();
    assert_eq!(demo["blocks"], 4);
    let other = find(&list, &json!({"source": "local", "id": "team/other"})).unwrap();
    assert_eq!(other["problem"]["code"], "unsupported_architecture");
}

#[tokio::test]
async fn a_server_without_its_directory_lives_and_is_not_ready() {
    let app = TestApp::api().await;
    std::fs::remove_dir_all(app.home()).unwrap();
    let ready = app.get("/readyz").await;
    assert_eq!(
        (ready.status, ready.json()["ready"].clone()),
        (StatusCode::SERVICE_UNAVAILABLE, json!(false))
    );
    assert_eq!(
        ready.json()["checks"][2],
        json!({"name": "data_directory", "ok": false})
    );
    assert_eq!(app.get("/livez").await.status, StatusCode::OK);
}

#[tokio::test]
async fn version_capabilities_and_documents_are_served() {
    let app = TestApp::api().await;
    assert_eq!(
        app.get("/version").await.json()["version"],
        env!("CARGO_PKG_VERSION")
    );
    let capabilities = app.get("/v1/capabilities").await.json();
    assert_eq!(
        capabilities["methods"],
        json!(["wanda", "magnitude", "ria", "sparsegpt", "alps", "blocks"])
    );
    assert_eq!(capabilities["structures"], json!(["blocks"]));
    assert_eq!(capabilities["job_types"], json!(["prune", "evaluate"]));
    assert_eq!(capabilities["defaults"]["n_samples"], 16);
    assert_eq!(capabilities["defaults"]["guard"]["perplexity_ratio"], 2.0);
    assert_eq!(capabilities["bos_rules"], json!(["tokenizer", "never"]));
    let tasks = capabilities["tasks"].as_array().unwrap();
    let task = |name: &str| tasks.iter().find(|task| task["name"] == name).unwrap();
    let expected = json!({
        "name": "boolq", "version": "2.0", "shots": [0], "metrics": ["acc"], "unsupported": null, "documents": null,
    });
    assert_eq!(
        *task("boolq"),
        expected,
        "there are none, and the hub may not be asked"
    );
    assert_eq!(task("mmlu")["shots"], json!([0, 5]));
    assert!(task("humaneval")["unsupported"].is_string());
    assert_eq!(
        capabilities["devices"],
        json!([]),
        "this server runs no jobs itself"
    );
    let document = secateur::http::document();
    assert_eq!(app.get("/openapi.json").await.json(), document);
    assert_eq!(app.get("/docs/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn metrics_count_jobs_and_requests() {
    let app = TestApp::api().await;
    let id = app.submit("m").await;
    for _ in 0..2 {
        let cancel = format!("/v1/jobs/{id}/cancel");
        app.post(&cancel, &serde_json::Value::Null).await;
    }
    app.submit("m").await;
    let metrics = String::from_utf8(app.get("/metrics").await.body).unwrap();
    for name in [
        "secateur_jobs{status=\"queued\"}",
        "secateur_jobs_created_total{method=\"wanda\",pattern=\"unstructured\"}",
        "secateur_build_info{version=",
        "secateur_queue_oldest_age_seconds",
        "secateur_worker_heartbeat_age_seconds",
        "secateur_store_free_bytes{store=\"home\"}",
        "secateur_db_pool_connections{state=\"idle\"}",
        "http_server_request_duration_seconds_bucket{http_request_method=\"POST\",http_route=\"/v1/jobs\"",
    ] {
        assert!(metrics.contains(name), "{name} is missing in {metrics}");
    }
}

#[tokio::test]
async fn an_open_address_is_refused_without_an_explicit_word() {
    let home = tempfile::tempdir().unwrap();
    let mut config = config(home.path());
    config.listen.listen = "0.0.0.0:0".parse().unwrap();
    let error = secateur::app::start(config).await.unwrap_err().to_string();
    assert!(error.contains("--insecure-no-auth"), "{error}");
}

#[test]
fn the_health_check_fails_where_nobody_answers() {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: cli::healthcheck::Args,
    }
    let cli = <Cli as clap::Parser>::parse_from(["healthcheck", "--url", "http://127.0.0.1:9"]);
    assert!(cli::healthcheck::run(cli.args).is_err());
}

#[tokio::test]
async fn counters_are_there_before_anything_is_counted() {
    let app = TestApp::api().await;
    let metrics = app.get("/metrics").await;
    let text = String::from_utf8(metrics.body).unwrap();
    for series in [
        "secateur_leases_reaped_total ",
        r#"secateur_webhook_deliveries_total{outcome="exhausted"} "#,
        r#"secateur_job_attempts_total{outcome="released"} "#,
    ] {
        assert!(text.contains(series), "{series} in {text}");
    }
}

fn one_of_several_servers_exports_the_gauges_of_the_database(database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path(), database);
    let has_shared = |server: &Server| {
        let (_, text) = server.status_and_text("/metrics");
        assert!(text.contains("secateur_build_info{"), "{text}");
        let has = ["secateur_jobs{", "secateur_queue_oldest_age_seconds"];
        let has = has.map(|name| text.contains(name));
        assert_eq!(has[0], has[1], "{text}");
        has[0]
    };
    let (first, second) = (site.api(), site.api());
    for _ in 0..2 {
        assert!(has_shared(&first) && !has_shared(&second));
    }
    assert!(Process::from(first).terminate().success());
    assert!(has_shared(&second));
    let third = site.api();
    assert!(!has_shared(&third));
}
