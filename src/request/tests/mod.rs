mod evaluate;

use serde_json::json;

use super::*;
use crate::corpora::{DEMO, DatasetRef};
use crate::domain::spec::{ModelRef, PruneSpec};

fn parse(body: &Value) -> Result<JobRequest, Vec<(String, &'static str)>> {
    let parsed = JobRequest::parse(body, Defaults::GPU);
    parsed.map_err(|errors| {
        errors
            .into_iter()
            .map(|error| (error.pointer, error.code))
            .collect()
    })
}

/// The spec of a body that asks for pruning.
fn prune(body: &Value) -> PruneSpec {
    match parse(body).unwrap().spec {
        JobSpec::Prune(spec) => spec,
        JobSpec::Evaluate(spec) => panic!("{spec:?}"),
    }
}

fn errors(body: &Value) -> Vec<(String, &'static str)> {
    parse(body).unwrap_err()
}

#[test]
fn the_minimal_body_gets_the_papers_recipe() {
    let request =
        parse(&json!({"model": "org/name", "sparsity": 0.5, "pattern": "unstructured"})).unwrap();
    assert_eq!(
        serde_json::to_value(&request.spec).unwrap(),
        json!({
            "type": "prune",
            "model": {"source": "hub", "id": "org/name", "revision": "main"},
            "method": {"type": "wanda"}, "group": null, "refine": null, "refit": false, "propagation": "pruned", "sparsity": 0.5,
            "pattern": "unstructured", "rules": [], "allocation": {"type": "uniform"},
            "calibration": {"dataset": "c4", "n_samples": 128, "seq_len": null, "seed": 0},
            "evaluation": {
                "perplexity": [{"dataset": "wikitext2"}], "seq_len": null, "windows": null, "max_tokens": null,
                "tasks": [], "limit": null, "bos": "tokenizer",
                "generations": "auto",
                "guard": {
                    "perplexity_ratio": 2.0, "kl": 0.5, "accuracy_drop": 0.1, "mmlu_above_chance": 0.05,
                    "repetition": 0.5,
                },
            },
        })
    );
}

#[test]
fn a_server_without_gpus_scales_the_recipe_down() {
    let body = json!({"model": "org/name", "sparsity": 0.5});
    let defaults = Defaults::for_devices(&["cpu"]);
    let JobSpec::Prune(spec) = JobRequest::parse(&body, defaults).unwrap().spec else {
        panic!("a body without a type asks for pruning");
    };
    let calibration = spec.calibration;
    assert_eq!((calibration.n_samples, calibration.seq_len), (16, None));
    let max_tokens = |evaluation: Value| {
        let body = json!({"model": "org/name", "sparsity": 0.5, "evaluation": evaluation});
        let request = JobRequest::parse(&body, defaults).unwrap();
        request.spec.evaluation().max_tokens
    };
    assert_eq!(spec.evaluation.max_tokens, Some(65_536));
    assert_eq!(max_tokens(json!({})), Some(65_536));
    assert_eq!(max_tokens(json!({"max_tokens": null})), None);
    assert_eq!(max_tokens(json!({"windows": 300})), None);
    assert_eq!(max_tokens(json!({"max_tokens": 4096})), Some(4096));
    assert_eq!(Defaults::for_devices(&["cuda:0", "cpu"]), Defaults::GPU);
}

#[test]
fn the_bundled_model_comes_with_its_own_text() {
    let spec = prune(&json!({"model": "demo", "pattern": "2:4"}));
    assert_eq!(
        spec.model,
        ModelRef::Local {
            id: "demo".to_owned()
        }
    );
    assert_eq!(spec.calibration.dataset, DatasetRef::from(&DEMO));
    assert_eq!(spec.evaluation.perplexity, [DatasetRef::from(&DEMO)]);
    assert!((spec.sparsity - 0.5).abs() < f64::EPSILON);
}

#[test]
fn every_field_can_be_given() {
    let body = json!({
        "type": "prune", "name": "nightly", "metadata": {"team": "serving"},
        "model": {"source": "hub", "id": "org/name", "revision": "refs/pr/3"},
        "method": {"type": "magnitude"}, "sparsity": 0.75, "pattern": "1:4",
        "calibration": {"dataset": "local", "path": "mine/train.jsonl", "n_samples": 2, "seq_len": 64, "seed": u64::MAX},
        "evaluation": {"perplexity": ["demo", {"dataset": "local", "path": "t.txt"}], "seq_len": 32, "windows": 4, "tasks": []},
        "artifact": {"formats": ["dense"]},
    });
    let (request, spec) = (parse(&body).unwrap(), prune(&body));
    assert_eq!(request.name.as_deref(), Some("nightly"));
    assert_eq!(request.metadata["team"], "serving");
    assert_eq!(spec.method.name(), "magnitude");
    assert_eq!(
        spec.calibration.dataset,
        DatasetRef::Local {
            path: "mine/train.jsonl".to_owned()
        }
    );
    assert_eq!(spec.evaluation.perplexity.len(), 2);
    assert_eq!(spec.evaluation.windows, Some(4));
}

#[test]
fn all_wrong_fields_are_reported_at_once() {
    let body = json!({
        "model": "../etc/passwd", "sparsity": 1.0, "pattern": "4:2", "method": "gpt", "refine": "x", "refit": 1, "sparsty": 0.5,
        "calibration": {"dataset": "pile", "n_samples": 0, "seq_len": "long", "seed": -1},
        "evaluation": {"perplexity": ["wikitext2", "x", {"dataset": "local"}], "tasks": ["bolq"]},
        "artifact": {"formats": ["gguf"]}, "metadata": {"a/b": 1}, "name": "n".repeat(201),
    });
    let mut found = errors(&body);
    found.sort();
    let expected = [
        ("/artifact/formats", "unsupported"),
        ("/calibration/dataset", "unsupported"),
        ("/calibration/n_samples", "out_of_range"),
        ("/calibration/seed", "wrong_type"),
        ("/calibration/seq_len", "wrong_type"),
        ("/evaluation/perplexity/1", "unsupported"),
        ("/evaluation/perplexity/2/path", "required"),
        ("/evaluation/tasks/0", "unknown_task"),
        ("/metadata/a~1b", "wrong_type"),
        ("/method", "unsupported"),
        ("/model", "invalid_format"),
        ("/name", "out_of_range"),
        ("/pattern", "invalid_format"),
        ("/refine", "unsupported"),
        ("/refit", "wrong_type"),
        ("/sparsity", "out_of_range"),
        ("/sparsty", "unknown_field"),
    ];
    assert_eq!(
        found,
        expected.map(|(pointer, code)| (pointer.to_owned(), code))
    );
}

#[test]
fn a_refinement_needs_a_method_that_keeps_the_weights() {
    let body =
        |method| json!({"model": "demo", "pattern": "2:4", "method": method, "refine": "swaps"});
    assert_eq!(
        errors(&body("sparsegpt")),
        [("/refine".to_owned(), "contradiction")]
    );
    assert_eq!(
        prune(&body("wanda")).pruning().work().to_string(),
        "wanda + swaps"
    );
}

#[test]
fn a_comparison_group_is_for_scores_and_for_any_position() {
    let body = |method, pattern| {
        json!({
            "model": "demo", "sparsity": 0.5, "method": method, "pattern": pattern, "group": "linear",
        })
    };
    for wrong in [body("sparsegpt", "unstructured"), body("wanda", "2:4")] {
        assert_eq!(errors(&wrong), [("/group".to_owned(), "contradiction")]);
    }
    let recipe = prune(&body("wanda", "unstructured")).pruning().work();
    assert_eq!(recipe.to_string(), "wanda + per-linear");
}

#[test]
fn inputs_are_paired_for_fitted_weights_and_propagated_where_any_are_read() {
    let body = |method, refit, propagation| {
        json!({
            "model": "demo", "pattern": "2:4", "method": method, "refit": refit, "propagation": propagation,
        })
    };
    for wrong in [
        body("wanda", false, "paired"),
        body("magnitude", false, "dense"),
    ] {
        let found = errors(&wrong);
        assert_eq!(
            found,
            [("/propagation".to_owned(), "contradiction")],
            "{wrong}"
        );
    }
    for (right, recipe) in [
        (body("wanda", true, "paired"), "wanda + refit + paired"),
        (body("alps", false, "paired"), "alps + paired"),
        (body("wanda", false, "dense"), "wanda + dense"),
    ] {
        assert_eq!(prune(&right).pruning().work().to_string(), recipe);
    }
}

#[test]
fn a_body_that_is_not_an_object_is_refused() {
    for body in [json!([]), json!(null), json!("x"), json!(3)] {
        assert_eq!(errors(&body), [(String::new(), "wrong_type")]);
    }
}

#[test]
fn sparsity_must_agree_with_the_pattern() {
    let body =
        |sparsity: Value| json!({"model": "org/name", "pattern": "2:4", "sparsity": sparsity});
    assert!(parse(&body(json!(0.5))).is_ok());
    assert!(parse(&body(Value::Null)).is_ok());
    assert_eq!(
        errors(&body(json!(0.6))),
        [("/sparsity".to_owned(), "contradiction")]
    );
    assert_eq!(
        errors(&json!({"model": "org/name"})),
        [("/sparsity".to_owned(), "required")]
    );
}

#[test]
fn no_name_leaves_its_directory() {
    let local = |id: &str| json!({"model": {"source": "local", "id": id}, "sparsity": 0.5});
    for id in [
        "..",
        "../x",
        "/abs",
        "a//b",
        "a/../b",
        ".hidden",
        "a/.git",
        "a\\b",
        "a\0b",
        "",
        "a/",
        &"x".repeat(256),
    ] {
        assert_eq!(
            errors(&local(id)),
            [("/model/id".to_owned(), "invalid_format")],
            "{id:?}"
        );
    }
    let hub = |id: &str, revision: &str| json!({"model": {"source": "hub", "id": id, "revision": revision}, "sparsity": 0.5});
    for id in [
        "name",
        "a/b/c",
        "../name",
        "-a/b",
        "a/ b",
        "a/b%2f",
        "org/..",
        "a--b/c",
        "a/b..c",
        &format!("{}/b", "a".repeat(97)),
    ] {
        assert_eq!(
            errors(&hub(id, "main")),
            [("/model/id".to_owned(), "invalid_format")],
            "{id:?}"
        );
    }
    for revision in [
        "..", "/main", "a/../b", "a//b", "main#1", "a b", "", "x..y", "./x",
    ] {
        assert_eq!(
            errors(&hub("a/b", revision)),
            [("/model/revision".to_owned(), "invalid_format")],
            "{revision:?}"
        );
    }
    assert!(parse(&hub("HuggingFaceTB/SmolLM2-135M", "v1.0/x.y")).is_ok());
}

#[test]
fn a_revision_belongs_to_the_hub_only() {
    let body =
        json!({"model": {"source": "local", "id": "x", "revision": "main"}, "sparsity": 0.5});
    assert_eq!(
        errors(&body),
        [("/model/revision".to_owned(), "unknown_field")]
    );
}

#[test]
fn control_characters_are_refused() {
    let body = json!({"model": "demo", "sparsity": 0.5, "name": "a\0b", "metadata": {"k": "a\nb", "l\u{7f}": "x"}});
    let mut found = errors(&body);
    found.sort();
    let expected = ["/metadata/k", "/metadata/l\u{7f}", "/name"];
    assert_eq!(
        found,
        expected.map(|pointer| (pointer.to_owned(), "invalid_format"))
    );
}

#[test]
fn null_means_that_a_field_is_left_out() {
    let body = json!({
        "model": {"source": "hub", "id": "a/b", "revision": null}, "sparsity": 0.5, "pattern": null, "method": null,
        "calibration": {"dataset": null, "n_samples": null, "seq_len": null, "seed": null},
        "evaluation": {"perplexity": null, "seq_len": null, "windows": null, "tasks": null, "limit": null, "bos": null, "guard": null},
        "artifact": {"formats": null}, "metadata": null, "name": null,
    });
    assert_eq!(
        parse(&body),
        parse(&json!({"model": "a/b", "sparsity": 0.5}))
    );
}
