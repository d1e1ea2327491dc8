//! The collapse guard: what in the results says that the model is broken, in a sentence each.
//!
//! Every check compares after with before. For a single model only its continuations can be judged; that its
//! accuracies and perplexities are poor may be all it ever had.

mod accuracy;
mod text;

#[cfg(test)]
mod tests;

use crate::domain::report::results::{Results, Warning};
use crate::domain::spec::Guard;

/// The thresholds of `guard` that `results` cross, in the order of the results: texts, tasks, mean, continuations.
///
/// - `perplexity_ratio`: after / before of a text lies above it, or after is no finite number.
/// - `kl`: the divergence on a text lies above it.
/// - `accuracy_drop`: the accuracy of a task (its first metric), or the mean, fell by more, **and** the 95 % interval of
///   the difference excludes zero. Without the second condition, samples of a hundred documents would trip it by chance.
/// - `mmlu_above_chance`: MMLU lay at least so far above a quarter before, does not after, and the interval of the
///   difference excludes zero.
/// - `repetition`: more of a continuation repeats, and before it was not so.
///
/// The parts of a task are not checked: of 57 subjects some fall by chance.
pub fn warnings(results: &Results, guard: &Guard) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for text in &results.perplexity {
        warnings.extend(text::perplexity_ratio(text, guard.perplexity_ratio));
        warnings.extend(text::divergence(text, guard.kl));
    }
    for task in &results.tasks {
        warnings.extend(accuracy::task_drop(task, guard.accuracy_drop));
        warnings.extend(accuracy::near_chance(task, guard.mmlu_above_chance));
    }
    if let Some(mean) = &results.mean {
        warnings.extend(accuracy::mean_drop(mean, guard.accuracy_drop));
    }
    for generation in &results.generations {
        warnings.extend(text::repetition(generation, guard.repetition));
    }
    warnings
}

/// A number as sentences show it: at most three decimals.
fn shown(value: f64) -> String {
    let mut text = format!("{value:.3}");
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    text
}
