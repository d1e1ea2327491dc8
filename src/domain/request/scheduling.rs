//! The fields that the queue goes by.

use std::time::Duration;

use super::fields::Fields;
use super::limits;
use crate::domain::scheduling::Scheduling;

/// What is wrong is in the list of errors.
pub(super) fn scheduling(root: &mut Fields<'_, '_>) -> Scheduling {
    let range = limits::MIN_DEADLINE_SECONDS..=limits::MAX_DEADLINE_SECONDS;
    Scheduling {
        deadline_after: root
            .integer("deadline_seconds", range)
            .map(Duration::from_secs),
        ..Scheduling::default()
    }
}
