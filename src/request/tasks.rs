//! The entries of `evaluation.tasks`.

use serde_json::Value;

use super::fields::{Fields, kind};
use super::{limits, to_usize};
use crate::domain::spec::{TaskRef, task_names};
use crate::tasks::Task;

/// A name, or an object with `name` and `shots`.
pub(super) fn task<'v>(
    fields: &mut Fields<'v, '_>,
    index: usize,
    value: &'v Value,
) -> Option<TaskRef> {
    let path = format!("tasks/{index}");
    match value {
        Value::String(name) => {
            let task = find(fields, &path, name)?;
            Some(task_ref(task, None))
        }
        Value::Object(_) => object(fields.object(&path, value)?),
        other => {
            let found = kind(other);
            let detail = format!("expected a name or an object with `name`, found {found}");
            fields.error(&path, "wrong_type", detail);
            None
        }
    }
}

fn object(mut fields: Fields<'_, '_>) -> Option<TaskRef> {
    fields.required("name");
    let name = fields.string("name");
    let task = name.and_then(|name| find(&mut fields, "name", name));
    let is_absent = fields.is_absent("shots");
    let shots = fields
        .integer("shots", 0..=limits::SHOTS)
        .map(to_usize)
        .and_then(|shots| match task.map(|task| task.check_shots(shots)) {
            Some(Err(error)) => fields.checked("shots", "unsupported", Err(error.to_string())),
            Some(Ok(())) | None => Some(shots),
        });
    fields.finish();
    (is_absent || shots.is_some()).then_some(task_ref(task?, shots))
}

/// The task of this name, if it is one that can be run.
fn find(fields: &mut Fields<'_, '_>, path: &str, name: &str) -> Option<&'static Task> {
    let Some(task) = Task::find(name) else {
        let short: String = name.chars().take(80).collect();
        let known = task_names().join(", ");
        let detail = format!("unknown task {short:?}, expected one of {known}");
        fields.error(path, "unknown_task", detail);
        return None;
    };
    let refused = task.refusal().map_or(Ok(task), |reason| {
        Err(format!("the task {name:?} cannot be run: {reason}"))
    });
    fields.checked(path, "unsupported", refused)
}

/// Without a number, as many examples as are usual.
fn task_ref(task: &Task, shots: Option<usize>) -> TaskRef {
    TaskRef {
        name: task.name.to_owned(),
        shots: shots.or(task.shots.first().copied()).unwrap_or_default(),
    }
}

/// A task is named once: with two numbers of examples it would count twice in the mean, on the same documents.
pub(super) fn refuse_repeated(fields: &mut Fields<'_, '_>, tasks: &[TaskRef]) {
    for (i, task) in tasks.iter().enumerate() {
        let named = |before: &TaskRef| before.name == task.name;
        if let Some(first) = tasks[..i].iter().position(named) {
            let detail = format!("{:?} is entry {first} already", task.name);
            fields.error(&format!("tasks/{i}"), "duplicate", detail);
        }
    }
}
