//! An evaluation by the service, with the real child: what was delivered is read from where it was stored.

use serde_json::{Value, json};

use crate::support::test_app::TestApp;

/// Four questions of BoolQ's form, with words of our own.
fn write_questions(app: &TestApp) {
    let dir = app.home().join("data/boolq");
    std::fs::create_dir_all(&dir).unwrap();
    let rows = (0..4).map(|i| {
        let row = json!({
            "question": format!("is the boat of day {i} on the river"), "label": i % 2,
            "passage": format!("On day {i} the boat went down the river, and nobody saw it again."),
        });
        format!("{row}\n")
    });
    std::fs::write(dir.join("validation.jsonl"), rows.collect::<String>()).unwrap();
}

async fn finished(app: &TestApp, body: &Value) -> Value {
    let accepted = app.post("/v1/jobs", body).await;
    let id = accepted.json()["id"].clone();
    let id = id.as_str().unwrap_or_else(|| panic!("{accepted:?}"));
    let job = app.job_when(id, |job| job["finished_at"].is_string()).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    job
}

#[tokio::test]
async fn the_artifact_of_a_job_measures_as_it_did_when_it_was_made() {
    let app = TestApp::real(|_| {}).await;
    write_questions(&app);
    let evaluation =
        json!({"seq_len": 64, "windows": 2, "perplexity": ["demo"], "tasks": ["boolq"]});
    let pruning = json!({
        "model": "demo", "pattern": "2:4", "calibration": {"n_samples": 2, "seq_len": 64}, "evaluation": evaluation,
    });
    let pruned = finished(&app, &pruning).await;
    let artifact = json!({"source": "job", "id": pruned["id"]});
    let evaluating = json!({"type": "evaluate", "model": artifact, "baseline": "demo", "evaluation": evaluation});
    let evaluated = finished(&app, &evaluating).await;
    assert_eq!(evaluated["warnings"], pruned["warnings"]);
    for field in ["perplexity", "tasks", "mean"] {
        assert_eq!(
            evaluated["results"][field], pruned["results"][field],
            "{field}"
        );
    }
    let perplexity = &evaluated["results"]["perplexity"][0];
    assert!(
        perplexity["after"].as_f64() > perplexity["before"].as_f64(),
        "{perplexity}"
    );
    assert_eq!(evaluated["results"]["digest"], Value::Null);

    let links = &evaluated["links"];
    let report = app.get(links["report"].as_str().unwrap()).await.json();
    assert_eq!(report["model"]["source"], "job");
    assert_eq!(report["model"]["id"], pruned["id"]);
    assert_eq!(report["baseline"]["id"], "demo");
    let samples = format!("{}/samples.jsonl", links["artifacts"].as_str().unwrap());
    let samples = String::from_utf8(app.get(&samples).await.body).unwrap();
    assert!(samples.lines().count() >= 4, "{samples}");

    // By itself: no `before`, the same `after`.
    let alone = json!({"type": "evaluate", "model": artifact, "evaluation": evaluation});
    let alone = finished(&app, &alone).await;
    assert_eq!(alone["results"]["perplexity"][0]["before"], Value::Null);
    assert_eq!(
        alone["results"]["perplexity"][0]["after"],
        perplexity["after"]
    );
    app.stop().await;
}
