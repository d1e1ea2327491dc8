//! Jobs of the type `evaluate`, and what can be asked of an evaluation.

use serde_json::json;

use super::*;
use crate::corpora::WIKITEXT2;
use crate::domain::spec::{BosRule, EvaluationSpec, Guard, JobType, TaskRef};

const JOB: &str = "job_019abcde0123789a8bcdef0123456789";

/// The evaluation of a body that prunes.
fn evaluation(value: &Value) -> EvaluationSpec {
    prune(&pruning(value)).evaluation
}

fn pruning(evaluation: &Value) -> Value {
    json!({"model": "org/name", "sparsity": 0.5, "evaluation": evaluation})
}

fn details(evaluation: &Value) -> Vec<String> {
    let errors = JobRequest::parse(&pruning(evaluation), Defaults::GPU).unwrap_err();
    errors.into_iter().map(|error| error.detail).collect()
}

fn task(name: &str, shots: usize) -> TaskRef {
    TaskRef {
        name: name.to_owned(),
        shots,
    }
}

#[test]
fn an_evaluation_has_the_defaults_of_pruning_and_none_of_its_fields() {
    let request = parse(&json!({"type": "evaluate", "model": "org/name", "name": "n"})).unwrap();
    assert_eq!(request.name.as_deref(), Some("n"));
    let JobSpec::Evaluate(spec) = request.spec else {
        panic!("{:?}", request.spec);
    };
    assert_eq!(spec.model.id(), "org/name");
    assert_eq!(spec.baseline, None);
    assert_eq!(spec.evaluation, evaluation(&Value::Null));
    let mut body = json!({"type": "evaluate", "model": "demo"});
    assert_eq!(
        parse(&body).unwrap().spec.evaluation().perplexity,
        [DatasetRef::from(&DEMO)]
    );
    let fields = ["artifact", "calibration", "method", "pattern", "sparsity"];
    for field in fields {
        body[field] = json!("x");
    }
    let expected = fields.map(|field| (format!("/{field}"), "unknown_field"));
    assert_eq!(errors(&body), expected);
}

#[test]
fn a_baseline_belongs_to_evaluations_only() {
    let body = json!({"model": "org/name", "sparsity": 0.5, "baseline": "org/other"});
    assert_eq!(errors(&body), [("/baseline".to_owned(), "unknown_field")]);
    let body = json!({"type": "evaluate", "model": "a", "baseline": {"source": "hub", "id": "x"}});
    assert_eq!(
        errors(&body),
        [("/baseline/id".to_owned(), "invalid_format")]
    );
    let body = json!({"type": "evaluate", "model": "a", "baseline": 7});
    assert_eq!(errors(&body), [("/baseline".to_owned(), "wrong_type")]);
    let body = json!({"type": "evaluate", "model": "a", "baseline": null});
    let JobSpec::Evaluate(spec) = parse(&body).unwrap().spec else {
        panic!("not an evaluation");
    };
    assert_eq!(spec.baseline, None);
}

#[test]
fn of_an_unknown_type_nothing_else_is_said() {
    for (value, code) in [(json!("distil"), "unsupported"), (json!(1), "wrong_type")] {
        let body = json!({"type": value, "nothing": 1});
        assert_eq!(errors(&body), [("/type".to_owned(), code)]);
    }
    let body = json!({"type": null, "model": "a", "sparsity": 0.5});
    assert_eq!(parse(&body).unwrap().spec.job_type(), JobType::Prune);
}

#[test]
fn an_evaluation_measures_something_and_pruning_need_not() {
    let nothing = json!({"perplexity": [], "tasks": []});
    assert!(evaluation(&nothing).is_empty());
    let body = json!({"type": "evaluate", "model": "a", "evaluation": nothing});
    assert_eq!(errors(&body), [("/evaluation".to_owned(), "required")]);
    // What is wrong with the only task is enough to say.
    let body =
        json!({"type": "evaluate", "model": "a", "evaluation": {"perplexity": [], "tasks": ["x"]}});
    assert_eq!(
        errors(&body),
        [("/evaluation/tasks/0".to_owned(), "unknown_task")]
    );
}

#[test]
fn the_artifact_of_a_job_is_a_model_to_evaluate_and_not_to_prune() {
    let body = json!({"type": "evaluate", "model": {"source": "job", "id": JOB}});
    let spec = parse(&body).unwrap().spec;
    assert_eq!(spec.source_jobs(), [("/model", JOB.parse().unwrap())]);
    assert_eq!(
        serde_json::to_value(&spec).unwrap()["model"],
        json!({"source": "job", "id": JOB})
    );
    let body =
        json!({"type": "evaluate", "model": {"source": "job", "id": "7", "revision": "main"}});
    assert_eq!(
        errors(&body),
        [
            ("/model/id".to_owned(), "invalid_format"),
            ("/model/revision".to_owned(), "unknown_field")
        ]
    );
    let body = json!({"model": {"source": "job", "id": JOB}, "sparsity": 0.5});
    assert_eq!(errors(&body), [("/model/source".to_owned(), "unsupported")]);
}

#[test]
fn tasks_are_names_or_names_with_a_number_of_examples() {
    let spec = evaluation(&json!({
        "tasks": ["boolq", {"name": "mmlu", "shots": 5}, {"name": "piqa"}, "gsm8k", {"name": "rte", "shots": null}],
        "limit": 100, "bos": "never",
    }));
    let expected = [
        task("boolq", 0),
        task("mmlu", 5),
        task("piqa", 0),
        task("gsm8k", 5),
        task("rte", 0),
    ];
    assert_eq!(spec.tasks, expected);
    assert_eq!((spec.limit, spec.bos), (Some(100), BosRule::Never));
    assert_eq!(
        spec.perplexity,
        [DatasetRef::from(&WIKITEXT2)],
        "still the default"
    );
}

#[test]
fn every_wrong_task_is_told_at_its_place() {
    let found = errors(&pruning(&json!({"tasks": [
        "boolq", "bolq", 7, {"name": "arc"}, {"shots": 0}, {"name": "boolq", "shots": 5}, {"name": "mmlu", "shots": "5"},
        "humaneval", {"name": "rte", "shot": 0}, {"name": "rte", "shots": 1000},
    ]})));
    let expected = [
        ("/evaluation/tasks/1", "unknown_task"),
        ("/evaluation/tasks/2", "wrong_type"),
        ("/evaluation/tasks/3/name", "unknown_task"),
        ("/evaluation/tasks/4/name", "required"),
        ("/evaluation/tasks/5/shots", "unsupported"),
        ("/evaluation/tasks/6/shots", "wrong_type"),
        ("/evaluation/tasks/7", "unsupported"),
        ("/evaluation/tasks/8/shot", "unknown_field"),
        ("/evaluation/tasks/9/shots", "out_of_range"),
    ];
    assert_eq!(
        found,
        expected.map(|(pointer, code)| (pointer.to_owned(), code))
    );
}

#[test]
fn what_is_said_of_a_wrong_task_helps() {
    let unknown = &details(&json!({"tasks": ["bolq"]}))[0];
    assert!(
        unknown.contains("\"bolq\"") && unknown.contains("boolq, rte, "),
        "{unknown}"
    );
    assert!(
        !unknown.contains("humaneval"),
        "it cannot be run: {unknown}"
    );
    let refused = &details(&json!({"tasks": ["humaneval"]}))[0];
    assert!(refused.contains("isolated"), "{refused}");
    let shots = &details(&json!({"tasks": [{"name": "mmlu", "shots": 3}]}))[0];
    assert!(shots.contains("0 or 5"), "{shots}");
}

#[test]
fn a_task_is_not_named_twice() {
    let tasks = json!({"tasks": ["boolq", "mmlu", {"name": "mmlu", "shots": 5}, {"name": "mmlu", "shots": 0}, "boolq"]});
    assert_eq!(
        errors(&pruning(&tasks)),
        [
            ("/evaluation/tasks/2".to_owned(), "duplicate"),
            ("/evaluation/tasks/3".to_owned(), "duplicate"),
            ("/evaluation/tasks/4".to_owned(), "duplicate")
        ]
    );
    let many = json!({"tasks": vec!["boolq"; 33]});
    assert_eq!(
        errors(&pruning(&many)),
        [("/evaluation/tasks".to_owned(), "out_of_range")]
    );
}

#[test]
fn limit_and_bos_are_checked() {
    for (field, value, code) in [
        ("limit", json!(0), "out_of_range"),
        ("limit", json!(-1), "wrong_type"),
        ("limit", json!(0.5), "wrong_type"),
        ("limit", json!(u64::MAX), "out_of_range"),
        ("bos", json!("always"), "unsupported"),
        ("bos", json!(true), "wrong_type"),
        ("tasks", json!("boolq"), "wrong_type"),
    ] {
        let found = errors(&pruning(&json!({field: value})));
        assert_eq!(found, [(format!("/evaluation/{field}"), code)], "{value}");
    }
    let zero = &details(&json!({"limit": 0}))[0];
    assert!(zero.contains("0 documents"), "{zero}");
    assert_eq!(
        evaluation(&json!({"limit": null, "bos": null})),
        evaluation(&Value::Null)
    );
}

#[test]
fn a_threshold_that_is_null_is_off_and_one_that_is_left_out_is_not() {
    let guard = |value: Value| evaluation(&json!({"guard": value})).guard;
    assert_eq!(guard(json!({})), Guard::default());
    assert_eq!(guard(Value::Null), Guard::default());
    assert_eq!(
        guard(json!({"kl": null, "accuracy_drop": 0, "perplexity_ratio": 1.5})),
        Guard {
            kl: None,
            accuracy_drop: Some(0.0),
            perplexity_ratio: Some(1.5),
            ..Guard::default()
        }
    );
    let off = json!({"perplexity_ratio": null, "kl": null, "accuracy_drop": null, "mmlu_above_chance": null, "repetition": null});
    let spec = evaluation(&json!({"guard": off}));
    assert_eq!(serde_json::to_value(spec.guard).unwrap(), off);
    let stored = serde_json::to_string(&spec).unwrap();
    assert_eq!(
        serde_json::from_str::<EvaluationSpec>(&stored).unwrap(),
        spec
    );
}

#[test]
fn thresholds_lie_where_they_can_mean_something() {
    let wrong = json!({"perplexity_ratio": 0.9, "kl": -0.1, "accuracy_drop": 1.1, "mmlu_above_chance": "x", "repetition": 2, "mmlu": 1});
    let mut found = errors(&pruning(&json!({"guard": wrong})));
    found.sort();
    let expected = [
        ("/evaluation/guard/accuracy_drop", "out_of_range"),
        ("/evaluation/guard/kl", "out_of_range"),
        ("/evaluation/guard/mmlu", "unknown_field"),
        ("/evaluation/guard/mmlu_above_chance", "wrong_type"),
        ("/evaluation/guard/perplexity_ratio", "out_of_range"),
        ("/evaluation/guard/repetition", "out_of_range"),
    ];
    assert_eq!(
        found,
        expected.map(|(pointer, code)| (pointer.to_owned(), code))
    );
    assert_eq!(
        errors(&pruning(&json!({"guard": 3}))),
        [("/evaluation/guard".to_owned(), "wrong_type")]
    );
}
