//! The unweighted mean over tasks, as pruning papers print it.

use super::answers::{Answers, PairedAnswers};
use super::intervals::score_interval::{Changes, score_interval};
use crate::domain::report::results::{Difference, Estimate, MeanResult};

/// The mean accuracy of one model over `tasks`, named; `None` with fewer than two that have documents.
pub fn mean_of_one(metric: &str, tasks: &[(&str, Answers)]) -> Option<MeanResult> {
    let after: Vec<(&str, Estimate)> = tasks
        .iter()
        .filter_map(|(name, answers)| Some((*name, answers.estimate()?)))
        .collect();
    if after.len() < 2 {
        return None;
    }
    Some(MeanResult {
        metric: metric.to_owned(),
        tasks: after.iter().map(|(name, _)| (*name).to_owned()).collect(),
        before: None,
        after: Some(mean_estimate(after.iter().map(|(_, estimate)| *estimate))),
        difference: None,
    })
}

/// The mean accuracies of two models over `tasks` and their difference, whose interval is Tango's score interval with
/// the tasks as strata ([`score_interval`](super)): no resampling, no seed. `None` with fewer than two tasks that have
/// documents.
pub fn mean_of_pairs(metric: &str, tasks: &[(&str, PairedAnswers)]) -> Option<MeanResult> {
    let with_documents: Vec<&(&str, PairedAnswers)> = tasks
        .iter()
        .filter(|(_, paired)| paired.changes().n > 0)
        .collect();
    let of = |side: fn(PairedAnswers) -> Answers| -> Vec<(&str, Answers)> {
        let sides = with_documents
            .iter()
            .map(|(name, paired)| (*name, side(*paired)));
        sides.collect()
    };
    let before = mean_of_one(metric, &of(PairedAnswers::before))?;
    let after = mean_of_one(metric, &of(PairedAnswers::after))?;
    let changes: Vec<Changes> = with_documents
        .iter()
        .map(|(_, paired)| paired.changes())
        .collect();
    let (value, low, high) = score_interval(&changes);
    Some(MeanResult {
        before: before.after,
        difference: Some(Difference {
            value,
            low,
            high,
            method: "score".to_owned(),
            p_value: None,
        }),
        ..after
    })
}

/// The mean of T independent estimates, with standard error sqrt(Σ se_t²) / T; none if one of them has none.
fn mean_estimate(tasks: impl ExactSizeIterator<Item = Estimate>) -> Estimate {
    let count = tasks.len() as f64;
    let (mut sum, mut variance) = (0.0, Some(0.0));
    for task in tasks {
        sum += task.value;
        variance = variance
            .zip(task.stderr)
            .map(|(variance, stderr)| variance + stderr * stderr);
    }
    Estimate {
        value: sum / count,
        stderr: variance.map(|variance: f64| variance.sqrt() / count),
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these numbers are exact")]
mod tests {
    use super::super::Scored;
    use super::super::fixture::protocol;
    use super::*;

    fn paired(before: &[bool], after: &[bool]) -> PairedAnswers {
        let protocol = protocol("task", before.len());
        let scored = |scores| Scored {
            protocol: &protocol,
            scores,
        };
        PairedAnswers::pair(scored(before), scored(after)).unwrap()
    }

    #[test]
    fn tasks_count_alike_whatever_their_size() {
        let small = paired(&[true, true], &[true, false]);
        let large = paired(&[true; 8], &[false; 8]);
        let mean = mean_of_pairs("acc", &[("small", small), ("large", large)]).unwrap();
        assert_eq!(mean.tasks, ["small", "large"]);
        assert_eq!(mean.before.unwrap().value, 1.0);
        // (1/2 + 0) / 2; standard errors sqrt(½ · ½ / 1) = ½ and 0: sqrt(¼) / 2 = ¼.
        let after = mean.after.unwrap();
        assert_eq!((after.value, after.stderr), (0.25, Some(0.25)));
        let difference = mean.difference.unwrap();
        assert_eq!((difference.value, difference.p_value), (-0.75, None));
        assert!(
            difference.low < -0.75 && difference.high < 0.0,
            "{difference:?}"
        );
    }

    #[test]
    fn one_task_has_no_mean_nor_has_a_task_without_documents() {
        let (one, none) = (paired(&[true], &[true]), paired(&[], &[]));
        assert_eq!(mean_of_pairs("acc", &[("one", one), ("none", none)]), None);
        assert_eq!(mean_of_one("acc", &[("one", one.after())]), None);
    }

    #[test]
    fn a_single_model_has_a_mean_and_no_difference() {
        let right = Answers::count(&[true, true, false, false]);
        let mean = mean_of_one("acc", &[("a", right), ("b", right)]).unwrap();
        // Each: ½ ± sqrt(¼ / 3); the mean: sqrt(2 · ¼ / 3) / 2 = 0.2041.
        assert_eq!((mean.before, mean.difference), (None, None));
        assert!((mean.after.unwrap().stderr.unwrap() - 0.204_124_145).abs() < 1e-9);
    }

    #[test]
    fn a_task_of_one_document_leaves_the_mean_without_standard_error() {
        let tasks = [
            ("a", Answers::count(&[true])),
            ("b", Answers::count(&[true, false])),
        ];
        let mean = mean_of_one("acc", &tasks).unwrap().after.unwrap();
        assert_eq!((mean.value, mean.stderr), (0.75, None));
    }
}
