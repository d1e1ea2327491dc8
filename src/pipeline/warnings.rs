//! What a model says of itself and what is not followed, and what calibration did not reach, in a sentence each.

use crate::domain::report::manifest::LinearReport;
use crate::domain::report::results::{Warning, WarningCode};
use crate::engine::ModelPlan;

/// What whoever loads the model should know.
pub(super) fn of_model(plan: &ModelPlan) -> Vec<Warning> {
    let own_head = plan.head.is_tied && plan.head.projection != plan.embedding;
    let found = [
        (
            own_head,
            WarningCode::UntiedHead,
            "config.json ties the output projection to the embedding, the weights hold another one: that is used, as by \
             transformers 5; programs that tie load another model",
        ),
        (
            plan.has_code,
            WarningCode::CodeNotRun,
            "config.json names Python code (auto_map): it is copied and not run; with trust_remote_code it may compute \
             something else",
        ),
    ];
    let warnings = found.into_iter().filter(|(is_so, ..)| *is_so);
    warnings
        .map(|(_, code, message)| Warning {
            code,
            subject: "config.json".to_owned(),
            value: None,
            threshold: 0.0,
            message: message.to_owned(),
        })
        .collect()
}

/// Names of linears that a message gives at most.
const MOST_NAMES: usize = 3;

/// Experts that no calibration token was sent to, if they lost weights.
pub(super) fn of_linears(linears: &[LinearReport]) -> Option<Warning> {
    let unseen = linears
        .iter()
        .filter(|linear| linear.input_tokens == Some(0) && linear.zeros > 0);
    let names: Vec<&str> = unseen.map(|linear| linear.name.as_str()).collect();
    let (all, first) = (names.len(), &names[..names.len().min(MOST_NAMES)]);
    let more = match all - first.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (all > 0).then(|| Warning {
        code: WarningCode::UnseenExperts,
        subject: "calibration".to_owned(),
        value: Some(all as f64),
        threshold: 0.0,
        message: format!(
            "no calibration token was sent to the experts of {all} linears, which were pruned by the magnitudes of their \
             weights: {}{more}",
            first.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(index: usize, input_tokens: Option<u64>, zeros: u64) -> LinearReport {
        LinearReport {
            name: format!("linear-{index}"),
            rows: 2,
            cols: 2,
            zeros,
            input_tokens,
            layer_error: None,
            layer_error_before_refit: None,
            damping_steps: 0,
        }
    }

    #[test]
    fn linears_without_tokens_are_told_of_if_they_lost_weights() {
        let seen = [
            linear(0, Some(1), 2),
            linear(1, Some(0), 0),
            linear(2, None, 2),
        ];
        assert_eq!(of_linears(&seen), None);
        let unseen: Vec<_> = (0..5).map(|index| linear(index, Some(0), 2)).collect();
        let warning = of_linears(&unseen).unwrap();
        assert_eq!(
            (warning.code, warning.value),
            (WarningCode::UnseenExperts, Some(5.0))
        );
        let end = "5 linears, which were pruned by the magnitudes of their weights: linear-0, linear-1, linear-2 and 2 more";
        assert!(warning.message.ends_with(end), "{}", warning.message);
    }
}
