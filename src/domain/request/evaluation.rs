//! The field `evaluation`.

use super::fields::Fields;
use super::{limits, names, seq_len, to_usize};
use crate::domain::evaluation::{BosRule, EvaluationSpec, Guard};
use crate::domain::spec::DatasetRef;

/// `None` only where an error was pushed.
pub(super) fn spec(root: &mut Fields<'_, '_>, is_bundled: bool) -> Option<EvaluationSpec> {
    let text = if is_bundled {
        DatasetRef::Demo
    } else {
        DatasetRef::Wikitext2
    };
    let default = EvaluationSpec {
        perplexity: vec![text],
        seq_len: None,
        windows: None,
        tasks: Vec::new(),
        limit: None,
        bos: BosRule::default(),
        guard: Guard::default(),
    };
    let Some(value) = root.value("evaluation") else {
        return Some(default);
    };
    let mut inner = root.object("evaluation", value)?;
    let perplexity = match inner.array("perplexity") {
        Some(items) if items.len() > limits::PERPLEXITY_TEXTS => {
            let detail = format!(
                "has {} entries, at most {} are allowed",
                items.len(),
                limits::PERPLEXITY_TEXTS
            );
            inner.error("perplexity", "out_of_range", detail);
            Vec::new()
        }
        Some(items) => items
            .iter()
            .enumerate()
            .filter_map(|(i, item)| names::text(&mut inner, i, item))
            .collect(),
        None => default.perplexity.clone(),
    };
    let seq_len = seq_len(&mut inner);
    let windows = inner
        .integer("windows", 1..=u64::from(u32::MAX))
        .map(to_usize);
    if inner.array("tasks").is_some_and(|tasks| !tasks.is_empty()) {
        let detail =
            "zero-shot tasks are not supported by this version; leave the list empty".to_owned();
        inner.error("tasks", "unsupported", detail);
    }
    inner.finish();
    Some(EvaluationSpec {
        perplexity,
        seq_len,
        windows,
        ..default
    })
}
