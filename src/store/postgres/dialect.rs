//! The words that SQLite says in another way.

/// Not `now()`, which is when the transaction began: that may be long ago when it had to wait.
pub(super) const NOW: &str = "select (extract(epoch from clock_timestamp()) * 1000)::bigint as now";

/// Makes transactions that name the same text wait for each other.
pub(super) const LOCK_TEXT: &str = "select pg_advisory_xact_lock(hashtextextended($1, 0))";

/// One of the texts in the JSON array that is bound to this parameter.
macro_rules! any_of {
    ($parameter:literal) => {
        concat!(
            "= any(array(select json_array_elements_text(",
            $parameter,
            "::json)))"
        )
    };
}

/// No other transaction changes the rows, or reads them like this, before this one ends.
macro_rules! for_update {
    () => {
        " for update"
    };
}

/// No other transaction changes the rows before this one ends.
macro_rules! for_share {
    () => {
        " for share"
    };
}

/// The same; webhooks that another transaction has locked are left out.
macro_rules! skip_locked_webhooks {
    () => {
        " for no key update of webhooks skip locked"
    };
}
