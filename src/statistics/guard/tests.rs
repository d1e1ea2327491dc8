//! What trips the guard, what does not, and what it says.

use super::*;
use crate::domain::report::protocol::PerplexityProtocol;
use crate::domain::report::results::{
    Continuation, DivergenceResult, GenerationResult, PerplexityResult, TaskResult, WarningCode,
};
use crate::statistics::fixture::protocol;
use crate::statistics::{PairedAnswers, Scored, mean_of_pairs};

/// A model that keeps `kept` of its `before` right answers of `n`, and gains none.
fn lossy(n: usize, before: usize, kept: usize) -> PairedAnswers {
    let protocol = protocol("task", n);
    let right = |count: usize| (0..n).map(|i| i < count).collect::<Vec<bool>>();
    let (before, after) = (right(before), right(kept));
    let scored = |scores| Scored {
        protocol: &protocol,
        scores,
    };
    PairedAnswers::pair(scored(&before), scored(&after)).unwrap()
}

fn task(name: &str, paired: PairedAnswers) -> TaskResult {
    let flips = paired.flips();
    TaskResult {
        protocol: protocol(name, flips.n),
        metrics: vec![paired.metric("acc")],
        flips: Some(flips),
        subjects: Vec::new(),
    }
}

fn of_tasks(tasks: Vec<TaskResult>) -> Results {
    Results {
        tasks,
        ..Results::default()
    }
}

fn of_text(
    before: Option<f64>,
    after: Option<f64>,
    divergence: Option<DivergenceResult>,
) -> Results {
    let protocol = PerplexityProtocol {
        dataset: "wikitext2".to_owned(),
        text_sha256: "00".repeat(32),
        window_sha256: "11".repeat(32),
        protocol: "paper".to_owned(),
        seq_len: 512,
        windows: 60,
        dtype: "f32".to_owned(),
        device: "cpu".to_owned(),
    };
    Results {
        perplexity: vec![PerplexityResult::new(protocol, before, after, divergence)],
        ..Results::default()
    }
}

fn of_continuation(before: Option<f64>, after: f64) -> Results {
    let generation = |repetition| Continuation {
        text: "…".to_owned(),
        repetition,
    };
    Results {
        generations: vec![GenerationResult {
            prompt: "The capital of France is".to_owned(),
            before: before.map(generation),
            after: Some(generation(after)),
        }],
        ..Results::default()
    }
}

fn codes(results: &Results) -> Vec<WarningCode> {
    let warnings = warnings(results, &Guard::default());
    warnings.iter().map(|warning| warning.code).collect()
}

fn only_message(results: &Results) -> String {
    let mut warnings = warnings(results, &Guard::default());
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    warnings.remove(0).message
}

#[test]
fn perplexity_that_more_than_doubles_is_a_warning() {
    let results = of_text(Some(29.647), Some(62.112), None);
    assert_eq!(
        only_message(&results),
        "perplexity on wikitext2 grew 2.095 times (29.647 -> 62.112), more than 2"
    );
    assert_eq!(codes(&of_text(Some(5.68), Some(7.26), None)), []);
    assert_eq!(codes(&of_text(Some(5.0), Some(10.0), None)), []);
}

#[test]
fn a_perplexity_beyond_all_numbers_is_a_warning_that_can_be_written_as_json() {
    let results = of_text(Some(29.647), Some(f64::INFINITY), None);
    assert_eq!(
        only_message(&results),
        "perplexity on wikitext2 is no finite number any more (29.647 before)"
    );
    assert_eq!(
        codes(&of_text(Some(5.0), Some(f64::NAN), None)),
        [WarningCode::PerplexityRatio]
    );
    let warning = warnings(&results, &Guard::default()).remove(0);
    let json = serde_json::to_string(&warning).unwrap();
    assert_eq!(serde_json::from_str::<Warning>(&json).unwrap(), warning);
}

#[test]
fn predictions_far_from_the_dense_models_are_a_warning() {
    let divergence = |kl| {
        let divergence = DivergenceResult {
            kl,
            kl_stderr: Some(0.01),
            top1_agreement: 0.6,
        };
        of_text(Some(10.0), Some(11.0), Some(divergence))
    };
    assert_eq!(
        only_message(&divergence(0.7124)),
        "predictions on wikitext2 lie 0.712 nats per token from those before (Kullback-Leibler divergence), \
         more than 0.5"
    );
    assert_eq!(codes(&divergence(0.5)), []);
}

#[test]
fn a_task_that_falls_beyond_threshold_and_noise_is_a_warning() {
    // 38 right before, 26 after: Tango's interval of 0 gained and 12 lost of 100 is −0.198 to −0.070.
    assert_eq!(
        only_message(&of_tasks(vec![task("boolq", lossy(100, 38, 26))])),
        "accuracy of boolq fell by 0.12 (0.38 -> 0.26; 95 % interval 0.07 to 0.198), more than 0.1"
    );
}

#[test]
fn a_fall_within_the_noise_trips_nothing() {
    // 15 became wrong and 9 right of 100: a fall of 0.06, interval −0.156 to 0.036.
    let protocol = protocol("boolq", 100);
    let before: Vec<bool> = (0..100).map(|i| i < 50).collect();
    let after: Vec<bool> = (0..100).map(|i| (15..59).contains(&i)).collect();
    let scored = |scores| Scored {
        protocol: &protocol,
        scores,
    };
    let paired = PairedAnswers::pair(scored(&before), scored(&after)).unwrap();
    assert!(paired.difference().unwrap().value < -0.059);
    assert_eq!(codes(&of_tasks(vec![task("boolq", paired)])), []);
}

#[test]
fn a_fall_that_is_certain_but_no_more_than_the_threshold_trips_nothing() {
    assert_eq!(
        codes(&of_tasks(vec![task("boolq", lossy(1000, 500, 400))])),
        []
    );
    let beyond = of_tasks(vec![task("boolq", lossy(1000, 500, 399))]);
    assert_eq!(codes(&beyond), [WarningCode::AccuracyDrop]);
}

#[test]
fn the_mean_is_checked_though_no_task_alone_is_certain() {
    // 31 became wrong and 19 right of 100: a fall of 0.12 within the noise of one task, not of seven.
    let protocol = protocol("task", 100);
    let before: Vec<bool> = (0..100).map(|i| i < 50).collect();
    let after: Vec<bool> = (0..100).map(|i| (31..69).contains(&i)).collect();
    let scored = |scores| Scored {
        protocol: &protocol,
        scores,
    };
    let paired = PairedAnswers::pair(scored(&before), scored(&after)).unwrap();
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let mut results = of_tasks(names.map(|name| task(name, paired)).to_vec());
    assert_eq!(codes(&results), []);
    results.mean = mean_of_pairs("acc", &names.map(|name| (name, paired)));
    let message = only_message(&results);
    assert!(
        message
            .starts_with("mean accuracy over 7 tasks fell by 0.12 (0.5 -> 0.38; 95 % interval 0.0"),
        "{message}"
    );
    assert_eq!(warnings(&results, &Guard::default())[0].subject, "mean");
}

#[test]
fn mmlu_that_falls_to_chance_is_a_warning_of_its_own() {
    let mut results = of_tasks(vec![task("mmlu", lossy(1000, 650, 290))]);
    let found = warnings(&results, &Guard::default());
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        found[1].message,
        "accuracy of mmlu fell to chance: 0.04 above 0.25 (0.65 -> 0.29; 95 % interval 0.331 to 0.39), \
         less than 0.05"
    );
    // Still above chance; never above it; another task.
    for (name, before, after) in [("mmlu", 650, 310), ("mmlu", 290, 200), ("boolq", 650, 290)] {
        results.tasks = vec![task(name, lossy(1000, before, after))];
        assert!(
            !codes(&results).contains(&WarningCode::NearChance),
            "{name} {before} {after}"
        );
    }
}

#[test]
fn a_continuation_that_loops_is_a_warning_unless_the_dense_model_looped() {
    assert_eq!(
        only_message(&of_continuation(Some(0.1), 0.92)),
        "0.92 of the continuation of \"The capital of France is\" repeats what it said (0.1 before), more than 0.5"
    );
    assert_eq!(codes(&of_continuation(Some(0.6), 0.92)), []);
    assert_eq!(codes(&of_continuation(Some(0.1), 0.5)), []);
}

#[test]
fn a_single_model_is_judged_by_its_continuations_only() {
    let mut results = of_continuation(None, 0.92);
    results.perplexity = of_text(None, Some(1e9), None).perplexity;
    let mut mmlu = task("mmlu", lossy(1000, 650, 250));
    mmlu.metrics[0].before = None;
    mmlu.metrics[0].difference = None;
    results.tasks = vec![mmlu];
    assert_eq!(
        only_message(&results),
        "0.92 of the continuation of \"The capital of France is\" repeats what it said, more than 0.5"
    );
}

#[test]
fn a_threshold_that_is_switched_off_trips_nothing() {
    let divergence = DivergenceResult {
        kl: 5.0,
        kl_stderr: None,
        top1_agreement: 0.0,
    };
    let mut results = of_text(Some(10.0), Some(1000.0), Some(divergence));
    results.tasks = vec![task("mmlu", lossy(1000, 650, 250))];
    results.generations = of_continuation(Some(0.0), 1.0).generations;
    assert_eq!(codes(&results).len(), 5);
    let off = Guard {
        perplexity_ratio: None,
        kl: None,
        accuracy_drop: None,
        mmlu_above_chance: None,
        repetition: None,
    };
    assert_eq!(warnings(&results, &off), []);
}
