//! The field `evaluation`.

use serde_json::Value;

use super::fields::Fields;
use super::{limits, names, seq_len, tasks, to_usize};
use crate::corpora::{DEMO, WIKITEXT2};
use crate::domain::spec::{BosRule, EvaluationSpec, Guard};

/// `None` only where an error was pushed.
pub(super) fn spec(root: &mut Fields<'_, '_>, is_bundled: bool) -> Option<EvaluationSpec> {
    let text = if is_bundled { &DEMO } else { &WIKITEXT2 };
    let default = EvaluationSpec {
        perplexity: vec![text.into()],
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
    let perplexity = if inner.is_absent("perplexity") {
        inner.value("perplexity");
        Some(default.perplexity)
    } else {
        list(
            &mut inner,
            "perplexity",
            limits::PERPLEXITY_TEXTS,
            names::text,
        )
    };
    let seq_len = seq_len(&mut inner);
    let windows = inner
        .integer("windows", 1..=u64::from(u32::MAX))
        .map(to_usize);
    let tasks = if inner.is_absent("tasks") {
        inner.value("tasks");
        Some(default.tasks)
    } else {
        list(&mut inner, "tasks", limits::TASKS, tasks::task)
    };
    if let Some(tasks) = &tasks {
        tasks::refuse_repeated(&mut inner, tasks);
    }
    let limit = limit(&mut inner);
    let bos = match inner.string("bos") {
        Some(text) => inner.checked("bos", "unsupported", text.parse()),
        None => Some(default.bos),
    };
    let guard = guard(&mut inner);
    inner.finish();
    Some(EvaluationSpec {
        perplexity: perplexity?,
        seq_len,
        windows,
        tasks: tasks?,
        limit,
        bos: bos?,
        guard: guard?,
    })
}

/// Every entry of a list, read by `read`; `None` where any of them is wrong.
fn list<'v, T>(
    fields: &mut Fields<'v, '_>,
    name: &'static str,
    most: usize,
    read: impl Fn(&mut Fields<'v, '_>, usize, &'v Value) -> Option<T>,
) -> Option<Vec<T>> {
    let items = fields.array(name)?;
    if items.len() > most {
        let detail = format!("has {} entries, at most {most} are allowed", items.len());
        fields.error(name, "out_of_range", detail);
        return None;
    }
    let items = items.iter().enumerate();
    // Every one of them is read, so that every mistake is told.
    let read: Vec<Option<T>> = items.map(|(i, item)| read(fields, i, item)).collect();
    read.into_iter().collect()
}

fn limit(fields: &mut Fields<'_, '_>) -> Option<usize> {
    let limit = fields.integer("limit", 0..=u64::from(u32::MAX))?;
    let detail = "0 documents measure nothing; leave `limit` out to measure all of them";
    fields.checked(
        "limit",
        "out_of_range",
        (limit > 0)
            .then(|| to_usize(limit))
            .ok_or(detail.to_owned()),
    )
}

/// An explicit `null` switches a threshold off; one that is left out keeps its default.
fn guard(fields: &mut Fields<'_, '_>) -> Option<Guard> {
    let default = Guard::default();
    let Some(value) = fields.value("guard") else {
        return Some(default);
    };
    let mut inner = fields.object("guard", value)?;
    let mut threshold = |name, most, default| inner.threshold(name, 0.0..=most, default);
    let kl = threshold("kl", limits::KL, default.kl);
    let accuracy_drop = threshold("accuracy_drop", 1.0, default.accuracy_drop);
    let mmlu_above_chance = threshold("mmlu_above_chance", 1.0, default.mmlu_above_chance);
    let repetition = threshold("repetition", 1.0, default.repetition);
    let ratios = 1.0..=limits::PERPLEXITY_RATIO;
    let perplexity_ratio = inner.threshold("perplexity_ratio", ratios, default.perplexity_ratio);
    inner.finish();
    Some(Guard {
        perplexity_ratio,
        kl,
        accuracy_drop,
        mmlu_above_chance,
        repetition,
    })
}
