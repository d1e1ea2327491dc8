//! The columns that are read. By name: a newer version may add one while this one runs, and a statement that was
//! prepared with `*` would then fail on PostgreSQL.

/// Of `jobs`.
macro_rules! job_columns {
    () => {
        "id, name, metadata, type, spec, state, phase, progress, attempt, failed_attempts, crash_count, max_attempts, \
         run_after, priority, submitter, device_kind, memory_bytes, deadline_after, deadline_at, queued_at, traceparent, \
         lease_owner, lease_expires_at, error, outcome, created_at, started_at, finished_at, updated_at, version"
    };
}

/// Of `webhooks`.
macro_rules! webhook_columns {
    () => {
        "id, url, description, events, secret, previous_secret, previous_until, disabled_at, created_at"
    };
}

/// Of `webhook_deliveries`, as they are listed.
macro_rules! delivery_columns {
    () => {
        "seq, message_id, event, job_id, state, attempts, next_attempt_at, last_attempt_at, last_status, last_error, \
         last_duration_ms, created_at"
    };
}
