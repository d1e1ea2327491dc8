//! Checks of accuracies.

use super::shown;
use crate::domain::report::results::{
    Difference, Estimate, MeanResult, TaskResult, Warning, WarningCode,
};

/// The task whose fall to chance is a sign of its own: its questions have four answers.
const MMLU: &str = "mmlu";
const MMLU_CHANCE: f64 = 0.25;

/// An accuracy before and after.
struct Fall<'a> {
    before: f64,
    after: f64,
    difference: &'a Difference,
}

impl<'a> Fall<'a> {
    fn new(
        before: Option<Estimate>,
        after: Option<Estimate>,
        difference: Option<&'a Difference>,
    ) -> Option<Self> {
        Some(Self {
            before: before?.value,
            after: after?.value,
            difference: difference?,
        })
    }

    /// Of a task's first metric, if more of it is better.
    fn of_task(task: &'a TaskResult) -> Option<Self> {
        let metric = task
            .metrics
            .first()
            .filter(|metric| metric.higher_is_better)?;
        Self::new(metric.before, metric.after, metric.difference.as_ref())
    }

    /// Whether the 95 % interval holds falls only.
    fn is_beyond_noise(&self) -> bool {
        self.difference.high < 0.0
    }

    /// `(0.38 -> 0.26; 95 % interval 0.04 to 0.19)`: the interval of the fall.
    fn described(&self) -> String {
        format!(
            "({} -> {}; 95 % interval {} to {})",
            shown(self.before),
            shown(self.after),
            shown(-self.difference.high),
            shown(-self.difference.low)
        )
    }
}

pub(super) fn task_drop(task: &TaskResult, threshold: Option<f64>) -> Option<Warning> {
    let name = &task.protocol.fields().task;
    drop_beyond(
        &Fall::of_task(task)?,
        threshold?,
        name,
        &format!("accuracy of {name}"),
    )
}

pub(super) fn mean_drop(mean: &MeanResult, threshold: Option<f64>) -> Option<Warning> {
    let fall = Fall::new(mean.before, mean.after, mean.difference.as_ref())?;
    let what = format!("mean accuracy over {} tasks", mean.tasks.len());
    drop_beyond(&fall, threshold?, "mean", &what)
}

fn drop_beyond(fall: &Fall<'_>, threshold: f64, subject: &str, what: &str) -> Option<Warning> {
    let drop = -fall.difference.value;
    if drop <= threshold || !fall.is_beyond_noise() {
        return None;
    }
    let message = format!(
        "{what} fell by {} {}, more than {}",
        shown(drop),
        fall.described(),
        shown(threshold)
    );
    Some(Warning {
        code: WarningCode::AccuracyDrop,
        subject: subject.to_owned(),
        value: Some(drop),
        threshold,
        message,
    })
}

pub(super) fn near_chance(task: &TaskResult, threshold: Option<f64>) -> Option<Warning> {
    let (threshold, fall) = (threshold?, Fall::of_task(task)?);
    let name = &task.protocol.fields().task;
    let is_near = |accuracy: f64| accuracy - MMLU_CHANCE < threshold;
    if name != MMLU || is_near(fall.before) || !is_near(fall.after) || !fall.is_beyond_noise() {
        return None;
    }
    let above = fall.after - MMLU_CHANCE;
    let message = format!(
        "accuracy of {name} fell to chance: {} above {MMLU_CHANCE} {}, less than {}",
        shown(above),
        fall.described(),
        shown(threshold)
    );
    Some(Warning {
        code: WarningCode::NearChance,
        subject: name.clone(),
        value: Some(above),
        threshold,
        message,
    })
}
