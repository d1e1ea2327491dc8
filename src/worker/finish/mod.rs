//! The end of an attempt: its artifact is published, its end recorded, its files cleaned up.

mod cleanup;
mod publish;
mod record;

pub(super) use cleanup::{finish_removals, is_in_status, remove_scratch};
pub(super) use record::{count, record};
