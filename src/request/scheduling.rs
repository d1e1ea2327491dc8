//! The fields that the queue goes by.

use std::time::Duration;

use jiff::Timestamp;

use super::fields::Fields;
use super::{label, limits};
use crate::domain::job::scheduling::{DeviceKind, Scheduling};

/// What is wrong is in the list of errors.
pub(super) fn scheduling(root: &mut Fields<'_, '_>) -> Scheduling {
    let range = limits::MIN_DEADLINE_SECONDS..=limits::MAX_DEADLINE_SECONDS;
    Scheduling {
        priority: root
            .signed("priority", limits::PRIORITY)
            .unwrap_or_default(),
        submitter: label::submitter(root),
        device_kind: device_kind(root),
        deadline_after: root
            .integer("deadline_seconds", range)
            .map(Duration::from_secs),
        ..Scheduling::default()
    }
}

/// The field `run_after`, to the millisecond: what the database keeps is what was asked for.
pub(super) fn run_after(root: &mut Fields<'_, '_>) -> Option<Timestamp> {
    let text = root.string("run_after")?;
    let time = text.parse::<Timestamp>();
    let time = time.and_then(|time| Timestamp::from_millisecond(time.as_millisecond()));
    let wrong = |error| format!("{text:?} is not a time as in RFC 3339: {error}");
    root.checked("run_after", "invalid_format", time.map_err(wrong))
}

/// The field `resources`.
fn device_kind(root: &mut Fields<'_, '_>) -> Option<DeviceKind> {
    let value = root.value("resources")?;
    let mut inner = root.object("resources", value)?;
    let text = inner.string("device");
    let device = text.and_then(|text| inner.checked("device", "unsupported", text.parse()));
    inner.finish();
    device
}
