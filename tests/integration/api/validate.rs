//! What would become of a submission.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::test_app::TestApp;

async fn validate(app: &TestApp, body: &Value) -> Value {
    let answer = app.post("/v1/jobs:validate", body).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()
}

/// Pointers and codes of what is wrong.
fn problems(validation: &Value) -> Vec<(&str, &str)> {
    assert_eq!(validation["valid"], false, "{validation}");
    let problems = validation["problems"].as_array().unwrap().iter();
    let text = |value: &'_ Value| value.as_str().unwrap().to_owned();
    let problems = problems.map(|problem| {
        assert!(!text(&problem["detail"]).is_empty());
        let [pointer, code] = ["pointer", "code"].map(|field| problem[field].as_str().unwrap());
        (pointer, code)
    });
    problems.collect()
}

#[tokio::test]
async fn a_good_body_is_told_what_it_would_be_and_need_and_makes_no_job() {
    let app = TestApp::api().await;
    let body = json!({"model": "demo", "pattern": "2:4", "name": "first", "priority": 3});
    let validation = validate(&app, &body).await;
    assert_eq!(validation["valid"], true, "{validation}");
    assert_eq!(validation["problems"], json!([]));
    assert_eq!(validation["unchecked"], json!([]));
    let model = &validation["models"][0];
    assert_eq!(model["architecture"], "LlamaForCausalLM");
    assert_eq!(model["blocks"], 4);
    assert_eq!(model["commit"], Value::Null);
    // 4 blocks of 128 · (128 + 64 + 64 + 128 + 3 · 320) weights.
    let pruned = json!({"linears": 28, "weights": 688_128});
    assert_eq!(validation["pruning"], pruned);
    assert_eq!(validation["needs"]["download_bytes"], 0);
    assert_eq!(validation["needs"]["disk_bytes"], model["size_bytes"]);
    assert_eq!(validation["status_reason"], "no_worker");
    assert_eq!(app.get("/v1/jobs").await.json()["data"], json!([]));

    // The request is one, and means the same.
    let job = app.post("/v1/jobs", &validation["request"]).await;
    assert_eq!(job.status, StatusCode::ACCEPTED, "{job:?}");
    let job = job.json();
    assert_eq!(
        job["estimate"]["memory_bytes"],
        validation["needs"]["memory_bytes"]
    );
    let request = validation["request"].as_object().unwrap();
    assert_eq!(request["on_duplicate"], "new");
    for (field, value) in request.iter().filter(|(field, _)| *field != "on_duplicate") {
        assert_eq!(&job[field], value, "{field}");
    }
}

#[tokio::test]
async fn rules_are_held_to_the_linears_of_the_model() {
    let app = TestApp::api().await;
    let body = json!({
        "model": "demo", "sparsity": 0.5,
        "rules": [
            {"match": "lm_head", "dense": true}, {"match": "_proj$", "pattern": "3:7"},
            {"match": "up_proj", "sparsity": 0.1},
        ],
    });
    let validation = validate(&app, &body).await;
    let expected = [
        ("/rules/0/match", "rule_mismatch"),
        ("/rules/2/match", "rule_mismatch"),
        ("/rules/1/pattern", "pattern_mismatch"),
    ];
    assert_eq!(problems(&validation), expected, "{validation}");
    let answer = app.post("/v1/jobs", &body).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.json()["errors"][0]["pointer"], "/rules/0/match");
}

#[tokio::test]
async fn removed_blocks_are_those_of_the_model_and_go_with_nothing_that_is_for_linears() {
    let app = TestApp::api().await;
    let body = json!({
        "model": "demo", "method": "blocks", "sparsity": 0.5, "pattern": "2:4", "group": "row", "refine": "swaps",
        "refit": true, "propagation": "dense", "allocation": "owl", "rules": [{"match": "k", "dense": true}],
    });
    let validation = validate(&app, &body).await;
    let parts = [
        "group",
        "refine",
        "refit",
        "propagation",
        "pattern",
        "rules",
        "allocation",
    ];
    let pointers = parts.map(|part| format!("/{part}"));
    let expected: Vec<_> = pointers
        .iter()
        .map(|it| (it.as_str(), "contradiction"))
        .collect();
    assert_eq!(problems(&validation), expected, "{validation}");

    for sparsity in [0.0, 0.2] {
        let body = json!({"model": "demo", "method": "blocks", "sparsity": sparsity});
        let validation = validate(&app, &body).await;
        let expected = [("/sparsity", "structure_mismatch")];
        assert_eq!(problems(&validation), expected, "{validation}");
        let answer = app.post("/v1/jobs", &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(answer.json()["errors"][0]["pointer"], "/sparsity");
    }
    let validation = validate(&app, &json!({"model": "demo", "method": "blocks"})).await;
    assert_eq!(problems(&validation), [("/sparsity", "required")]);

    let body = json!({"model": "demo", "method": "blocks", "sparsity": 0.5});
    let validation = validate(&app, &body).await;
    assert_eq!(validation["valid"], true, "{validation}");
    let disk_bytes = validation["needs"]["disk_bytes"].as_u64().unwrap();
    // Two blocks of 172,032 weights of two bytes.
    let dense_bytes = validation["models"][0]["size_bytes"].as_u64().unwrap();
    assert_eq!(dense_bytes - disk_bytes, 2 * 172_032 * 2);
    // What it is told is a body that means the same.
    let again = validate(&app, &validation["request"]).await;
    assert_eq!(again["request"], validation["request"]);
}

#[tokio::test]
async fn an_allocation_is_held_to_the_blocks_of_the_model() {
    let app = TestApp::api().await;
    let with =
        |allocation: Value| json!({"model": "demo", "sparsity": 0.5, "allocation": allocation});
    for (allocation, pointer) in [
        (json!({"type": "owl", "max_sparsity": 0.4}), "/allocation"),
        (
            json!({"type": "table", "sparsities": [0.5, 0.5]}),
            "/allocation/sparsities",
        ),
    ] {
        let validation = validate(&app, &with(allocation)).await;
        assert_eq!(
            problems(&validation),
            [(pointer, "allocation_mismatch")],
            "{validation}"
        );
    }
    let measured = json!({"type": "magnitude"});
    let mut body = with(json!("owl"));
    body["method"] = measured;
    let validation = validate(&app, &body).await;
    assert_eq!(validation["valid"], true, "{validation}");
    assert_eq!(validation["request"]["allocation"]["threshold"], 3.0);
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once() {
    let app = TestApp::api().await;
    let body = json!({
        "model": "nobody", "sparsity": 1.5, "surprise": 1,
        "evaluation": {"perplexity": [{"dataset": "local", "path": "absent.txt"}]},
    });
    let validation = validate(&app, &body).await;
    let mut found = problems(&validation);
    found.sort_unstable();
    let expected = [
        ("/evaluation/perplexity/0", "dataset_not_found"),
        ("/model", "model_not_found"),
        ("/sparsity", "out_of_range"),
        ("/surprise", "unknown_field"),
    ];
    assert_eq!(found, expected, "{validation}");
    for field in ["request", "needs", "pruning", "status_reason"] {
        assert_eq!(validation[field], Value::Null, "{field}");
    }
}

#[tokio::test]
async fn what_follows_from_a_wrong_field_is_not_told_twice() {
    let app = TestApp::bare().await;
    // Without its own texts the body would mean one that this server does not have.
    let body = json!({
        "model": "org/name", "sparsity": 0.5, "calibration": {"dataset": "demo"},
        "evaluation": {"perplexity": ["demo"], "windows": "many"},
    });
    let validation = validate(&app, &body).await;
    let expected = [("/evaluation/windows", "wrong_type")];
    assert_eq!(problems(&validation), expected, "{validation}");
    let nothing = validate(&app, &json!([])).await;
    assert_eq!(problems(&nothing), [("", "wrong_type")], "{nothing}");
}

#[tokio::test]
async fn a_hub_that_may_not_be_asked_is_no_problem_of_the_body() {
    let app = TestApp::api().await;
    let body = json!({"type": "evaluate", "model": "org/name", "baseline": "demo"});
    let validation = validate(&app, &body).await;
    assert_eq!(validation["valid"], true, "{validation}");
    let unchecked = &validation["unchecked"];
    assert_eq!(unchecked.as_array().unwrap().len(), 1, "{unchecked}");
    assert_eq!(unchecked[0]["pointer"], "/model");
    let reason = unchecked[0]["detail"].as_str().unwrap();
    assert!(reason.contains("HF_HUB_OFFLINE"), "{reason}");
    assert_eq!(validation["needs"]["memory_bytes"], Value::Null);
    assert_eq!(validation["needs"]["download_bytes"], Value::Null);
    assert_eq!(validation["pruning"], Value::Null);
}

#[tokio::test]
async fn a_body_that_is_no_json_is_refused() {
    let app = TestApp::api().await;
    let request = app.request(reqwest::Method::POST, "/v1/jobs:validate");
    let request = request.header("content-type", "application/json").body("{");
    let answer = app.send(request).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    assert_eq!(answer.json()["errors"][0]["code"], "malformed_json");
}

#[tokio::test]
async fn how_long_a_job_takes_is_told_by_those_before_it() {
    let app = TestApp::with_worker().await;
    let body = json!({"model": "succeed", "sparsity": 0.5});
    let first = app.post("/v1/jobs", &body).await.json();
    assert_eq!(first["estimate"]["seconds"], Value::Null, "{first}");
    let id = first["id"].as_str().unwrap();
    app.job_with_status(id, "succeeded").await;
    let validation = validate(&app, &body).await;
    assert!(validation["needs"]["seconds"].is_u64(), "{validation}");
    let second = app.post("/v1/jobs", &body).await.json();
    assert!(second["estimate"]["seconds"].is_u64(), "{second}");
    let mut larger = body;
    larger["calibration"] = json!({"n_samples": 4096});
    let larger = app.post("/v1/jobs", &larger).await.json();
    assert_eq!(larger["estimate"]["seconds"], Value::Null, "{larger}");
}
