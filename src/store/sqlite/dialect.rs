//! The words that PostgreSQL says in another way. One transaction writes at a time, so nothing needs a lock.

pub(super) const NOW: &str = "select cast(round(unixepoch('subsec') * 1000) as integer) as now";

/// Makes transactions that name the same text wait for each other.
pub(super) const LOCK_TEXT: &str = "select $1";

/// One of the texts in the JSON array that is bound to this parameter.
macro_rules! any_of {
    ($parameter:literal) => {
        concat!("in (select value from json_each(", $parameter, "))")
    };
}

macro_rules! for_update {
    () => {
        ""
    };
}

macro_rules! for_share {
    () => {
        ""
    };
}

macro_rules! skip_locked_webhooks {
    () => {
        ""
    };
}
