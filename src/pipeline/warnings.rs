//! What a model says of itself and what is not followed, in a sentence each.

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
