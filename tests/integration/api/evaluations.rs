//! Jobs that measure without pruning.

use reqwest::StatusCode;
use secateur::domain::job::attempt_end::AttemptEnd;
use serde_json::{Value, json};

use crate::support::test_app::{TestApp, evaluation, evaluation_report, publication};

#[tokio::test]
async fn an_evaluation_is_accepted_and_comes_back_complete() {
    let app = TestApp::api().await;
    let body = json!({"type": "evaluate", "model": "demo", "baseline": "org/name"});
    let accepted = app.post("/v1/jobs", &body).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{accepted:?}");
    let job = accepted.json();
    assert_eq!(
        (&job["type"], &job["object"]),
        (&json!("evaluate"), &json!("evaluate.job"))
    );
    assert_eq!(job["model"], json!({"source": "local", "id": "demo"}));
    assert_eq!(
        job["baseline"],
        json!({"source": "hub", "id": "org/name", "revision": "main"})
    );
    assert_eq!(
        job["evaluation"]["perplexity"],
        json!([{"dataset": "demo"}])
    );
    assert_eq!(job["evaluation"]["bos"], "tokenizer");
    assert_eq!(
        (&job["results"], &job["warnings"]),
        (&Value::Null, &json!([]))
    );
    for field in ["method", "sparsity", "pattern", "calibration"] {
        assert!(job.get(field).is_none(), "{field}");
    }
    let mut found = app.get(accepted.header("location")).await.json();
    assert_eq!(found["queue_position"].take(), 1);
    assert_eq!(found, job);
}

#[tokio::test]
async fn an_evaluation_takes_no_field_of_pruning() {
    let app = TestApp::api().await;
    let body = json!({
        "type": "evaluate", "model": "demo", "sparsity": 0.5, "pattern": "2:4", "method": "wanda",
        "calibration": {}, "artifact": {},
    });
    let answer = app.post("/v1/jobs", &body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let problem = answer.json();
    let errors = problem["errors"].as_array().unwrap();
    let found = errors
        .iter()
        .map(|error| (error["pointer"].clone(), error["code"].clone()));
    let fields = [
        "/artifact",
        "/calibration",
        "/method",
        "/pattern",
        "/sparsity",
    ];
    let expected = fields.map(|field| (json!(field), json!("unknown_field")));
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn the_window_length_is_that_of_the_shorter_context() {
    let app = TestApp::api().await;
    let short = app.home().join("models/b/config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&short).unwrap()).unwrap();
    let context = config["max_position_embeddings"].as_u64().unwrap() / 2;
    config["max_position_embeddings"] = json!(context);
    std::fs::write(&short, config.to_string()).unwrap();
    let body = |seq_len: Value| json!({"type": "evaluate", "model": "a", "baseline": "b", "evaluation": {"seq_len": seq_len}});
    let job = app.post("/v1/jobs", &body(Value::Null)).await.json();
    assert_eq!(job["evaluation"]["seq_len"], context);
    let refused = app.post("/v1/jobs", &body(json!(context + 1))).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.json()["code"], "seq_len_too_long");
    assert_eq!(
        refused.json()["errors"][0]["pointer"],
        "/evaluation/seq_len"
    );
}

#[tokio::test]
async fn a_baseline_that_is_not_there_is_refused_by_its_own_pointer() {
    let app = TestApp::api().await;
    let body = json!({"type": "evaluate", "model": "a", "baseline": "nobody"});
    let answer = app.post("/v1/jobs", &body).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let error = &answer.json()["errors"][0];
    assert_eq!(
        (&error["pointer"], &error["code"]),
        (&json!("/baseline"), &json!("model_not_found"))
    );
}

#[tokio::test]
async fn a_task_without_documents_is_refused_before_anything_is_queued() {
    let app = TestApp::api().await;
    let mmlu = app.home().join("data/mmlu");
    std::fs::create_dir_all(&mmlu).unwrap();
    std::fs::write(mmlu.join("test.jsonl"), "{}\n").unwrap();
    let evaluation = json!({"tasks": ["boolq", {"name": "mmlu", "shots": 5}]});
    let pruning = json!({"model": "a", "sparsity": 0.5, "evaluation": evaluation});
    let evaluating = json!({"type": "evaluate", "model": "a", "evaluation": evaluation});
    for body in [pruning, evaluating] {
        let answer = app.post("/v1/jobs", &body).await;
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{answer:?}"
        );
        let problem = answer.json();
        assert_eq!(problem["code"], "dataset_not_found");
        let errors = problem["errors"].as_array().unwrap().iter();
        let pointers: Vec<_> = errors.map(|error| error["pointer"].clone()).collect();
        // The worked examples of the second entry are a file of their own.
        assert_eq!(pointers, ["/evaluation/tasks/0", "/evaluation/tasks/1"]);
    }
    assert_eq!(app.get("/v1/jobs").await.json()["data"], json!([]));
    let there = json!({"type": "evaluate", "model": "a", "evaluation": {"perplexity": [], "tasks": ["mmlu"]}});
    let job = app.post("/v1/jobs", &there).await.json();
    assert_eq!(
        job["evaluation"]["tasks"],
        json!([{"name": "mmlu", "shots": 0}])
    );
}

#[tokio::test]
async fn evaluations_can_be_listed_by_themselves_and_cancelled() {
    let app = TestApp::api().await;
    let pruning = app.submit("m").await;
    let id = app.submit_evaluation(&json!("a")).await;
    let ids = async |query: &str| {
        let page = app.get(&format!("/v1/jobs?{query}")).await.json();
        let jobs = page["data"].as_array().unwrap().iter();
        jobs.map(|job| job["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("type=evaluate").await, [id.as_str()]);
    assert_eq!(ids("type=prune").await, [pruning.as_str()]);
    assert_eq!(
        ids("type=prune,evaluate").await,
        [id.as_str(), pruning.as_str()]
    );
    assert_eq!(ids("method=wanda").await, [pruning.as_str()]);
    let wrong = app.get("/v1/jobs?type=distil").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    let cancelled = app
        .post(&format!("/v1/jobs/{id}/cancel"), &Value::Null)
        .await;
    assert_eq!(cancelled.json()["status"], "cancelled");
    assert_eq!(cancelled.json()["type"], "evaluate");
}

#[tokio::test]
async fn results_of_an_evaluation_are_short_in_the_job_and_whole_by_themselves() {
    let app = TestApp::api().await;
    let id = app.submit_evaluation(&json!("a")).await;
    let lease = app.claim().await;
    app.finish(&lease, &AttemptEnd::Succeeded(Box::new(evaluation(1))))
        .await;
    let report = serde_json::to_value(evaluation_report()).unwrap();
    let mut typed = report.clone();
    typed["type"] = json!("evaluate");
    assert_eq!(
        app.get(&format!("/v1/jobs/{id}/report")).await.json(),
        typed
    );

    let whole = app.get(&format!("/v1/jobs/{id}/results")).await.json();
    for field in ["tasks", "mean", "generations", "warnings"] {
        assert_eq!(whole[field], report["results"][field], "{field}");
    }
    assert_eq!(
        (&whole["digest"], &whole["sparsity"]),
        (&Value::Null, &Value::Null)
    );
    // One model alone has no `before`, which is not a number that went wrong.
    assert_eq!(whole["perplexity"][0]["before"], Value::Null);
    assert_eq!(whole["perplexity"][0]["non_finite"], false);

    let listed = app.get("/v1/jobs").await.json()["data"][0].clone();
    let single = app.get(&format!("/v1/jobs/{id}")).await.json();
    for job in [listed, single] {
        assert_eq!(job["warnings"], report["results"]["warnings"]);
        assert!(job["results"].get("warnings").is_none(), "not twice");
        assert_eq!(job["results"]["perplexity"], whole["perplexity"]);
        let task = &job["results"]["tasks"][0];
        assert_eq!(task["metrics"], report["results"]["tasks"][0]["metrics"]);
        assert_eq!(task["subjects"], json!([]));
        assert!(job["results"].get("generations").is_none());
    }
    let events = app.get(&format!("/v1/jobs/{id}/events")).await.json();
    assert_eq!(events["data"][2]["digest"], Value::Null);
}

#[tokio::test]
async fn only_the_artifact_of_a_job_that_pruned_and_succeeded_can_be_evaluated() {
    let app = TestApp::api().await;
    let pruned = app.submit("m").await;
    let lease = app.claim().await;
    app.finish(&lease, &AttemptEnd::Succeeded(Box::new(publication(1))))
        .await;
    let evaluated = app.submit_evaluation(&json!("a")).await;
    let lease = app.claim().await;
    app.finish(&lease, &AttemptEnd::Succeeded(Box::new(evaluation(1))))
        .await;
    let queued = app.submit("m").await;
    let unknown = "job_019abcde0123789a8bcdef0123456789";
    let cases = [
        (unknown, "there is no job"),
        (&queued, "is queued"),
        (&evaluated, "is of the type evaluate"),
    ];
    let model = |id: &str| json!({"source": "job", "id": id});
    for (id, reason) in cases {
        for field in ["model", "baseline"] {
            let mut body = json!({"type": "evaluate", "model": "a"});
            body[field] = model(id);
            let answer = app.post("/v1/jobs", &body).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
            let problem = answer.json();
            assert_eq!(problem["code"], "model_not_found");
            assert_eq!(problem["errors"][0]["pointer"], format!("/{field}"));
            let detail = problem["errors"][0]["detail"].as_str().unwrap();
            assert!(detail.contains(reason) && detail.contains(id), "{detail}");
        }
    }
    // Its record is there, its files are not: the server's fault.
    let body = json!({"type": "evaluate", "model": model(&pruned)});
    let answer = app.post("/v1/jobs", &body).await;
    assert_eq!(answer.json()["code"], "unavailable");

    let pruning = json!({"model": model(&pruned), "sparsity": 0.5});
    let answer = app.post("/v1/jobs", &pruning).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let error = &answer.json()["errors"][0];
    assert_eq!(
        (&error["pointer"], &error["code"]),
        (&json!("/model/source"), &json!("unsupported"))
    );
}
