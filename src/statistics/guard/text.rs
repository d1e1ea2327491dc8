//! Checks of what is measured on running text.

use super::shown;
use crate::domain::report::results::{GenerationResult, PerplexityResult, Warning, WarningCode};

/// Characters of a prompt that a sentence shows.
const SHOWN_CHARS: usize = 40;

pub(super) fn perplexity_ratio(
    result: &PerplexityResult,
    threshold: Option<f64>,
) -> Option<Warning> {
    let (threshold, before, after) = (threshold?, result.before?, result.after?);
    let ratio = after / before;
    if !before.is_finite() || ratio <= threshold {
        return None;
    }
    let dataset = &result.dataset;
    let (value, message) = if ratio.is_finite() {
        let message = format!(
            "perplexity on {dataset} grew {} times ({} -> {}), more than {}",
            shown(ratio),
            shown(before),
            shown(after),
            shown(threshold)
        );
        (Some(ratio), message)
    } else {
        let message = format!(
            "perplexity on {dataset} is no finite number any more ({} before)",
            shown(before)
        );
        (None, message)
    };
    Some(Warning {
        code: WarningCode::PerplexityRatio,
        subject: dataset.clone(),
        value,
        threshold,
        message,
    })
}

pub(super) fn divergence(result: &PerplexityResult, threshold: Option<f64>) -> Option<Warning> {
    let (threshold, divergence) = (threshold?, result.divergence?);
    if divergence.kl <= threshold {
        return None;
    }
    let message = format!(
        "predictions on {} lie {} nats per token from those before (Kullback-Leibler divergence), more than {}",
        result.dataset,
        shown(divergence.kl),
        shown(threshold)
    );
    Some(Warning {
        code: WarningCode::KlDivergence,
        subject: result.dataset.clone(),
        value: Some(divergence.kl).filter(|kl| kl.is_finite()),
        threshold,
        message,
    })
}

pub(super) fn repetition(result: &GenerationResult, threshold: Option<f64>) -> Option<Warning> {
    let (threshold, after) = (threshold?, result.after.as_ref()?.repetition);
    let before = result.before.as_ref().map(|before| before.repetition);
    if after <= threshold || before.is_some_and(|before| before > threshold) {
        return None;
    }
    let before = before.map_or_else(String::new, |before| format!(" ({} before)", shown(before)));
    let message = format!(
        "{} of the continuation of {:?} repeats what it said{before}, more than {}",
        shown(after),
        beginning(&result.prompt),
        shown(threshold)
    );
    Some(Warning {
        code: WarningCode::Repetition,
        subject: result.prompt.clone(),
        value: Some(after),
        threshold,
        message,
    })
}

/// The first characters of a prompt.
fn beginning(prompt: &str) -> String {
    let mut chars = prompt.chars();
    let mut beginning: String = chars.by_ref().take(SHOWN_CHARS).collect();
    if chars.next().is_some() {
        beginning.push('…');
    }
    beginning
}
