//! The metrics of the service: one row each, with the sentence that `/metrics` shows.

use metrics::{counter, describe_counter, describe_gauge, describe_histogram};

/// Seconds: a phase, and the wait before the first one, take from a moment to hours.
const JOB_BUCKETS: &[f64] = &[
    0.1, 1.0, 5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 10_800.0, 21_600.0,
];

/// Seconds, as OpenTelemetry proposes.
const REQUEST_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

macro_rules! metric_table {
    ($($constant:ident = $kind:ident $(($buckets:ident))? $name:literal, $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: &str = $name;
        )+

        /// The histograms with their buckets.
        pub const HISTOGRAMS: &[(&str, &[f64])] = &[$($(($name, $buckets),)?)+];

        /// Tells the recorder what the metrics mean.
        pub fn describe() {
            $(metric_table!(@$kind $name, $help);)+
        }
    };
    (@counter $name:literal, $help:literal) => { describe_counter!($name, $help) };
    (@gauge $name:literal, $help:literal) => { describe_gauge!($name, $help) };
    (@histogram $name:literal, $help:literal) => { describe_histogram!($name, $help) };
}

metric_table! {
    ARTIFACT_BYTES = counter "secateur_artifact_bytes_total", "Bytes of artifacts, stored (`in`) or downloaded (`out`).";
    ARTIFACT_STORE_BYTES = gauge "secateur_artifact_store_bytes", "Bytes of all artifacts that can be downloaded.";
    BUILD_INFO = gauge "secateur_build_info", "Always 1; the label is the version of the program.";
    RESUME_STATES = counter "secateur_checkpoints_total", "Resume states sent to the bucket, by outcome.";
    DB_POOL_CONNECTIONS = gauge "secateur_db_pool_connections", "Connections to the database, by state.";
    DEVICE_MEMORY_BYTES = gauge "secateur_device_memory_bytes", "Memory of all live workers, by kind of device.";
    FENCED_WRITES = counter "secateur_fenced_writes_total", "Writes of a worker that had lost its lease.";
    HEARTBEAT_ERRORS = counter "secateur_heartbeat_errors_total", "Renewals of a lease or a registration that failed.";
    JOB_ATTEMPTS = counter "secateur_job_attempts_total", "Attempts that ended, by outcome.";
    JOB_PHASE_SECONDS = histogram (JOB_BUCKETS) "secateur_job_phase_duration_seconds", "Duration of the phases of attempts.";
    JOB_QUEUE_WAIT_SECONDS = histogram (JOB_BUCKETS) "secateur_job_queue_wait_seconds", "Time that jobs waited for their first attempt.";
    JOBS = gauge "secateur_jobs", "Jobs, by status.";
    JOBS_CREATED = counter "secateur_jobs_created_total", "Accepted jobs, by method and pattern.";
    JOBS_FINISHED = counter "secateur_jobs_finished_total", "Jobs that ended, by status and error code.";
    LEASES_REAPED = counter "secateur_leases_reaped_total", "Expired leases that were taken back.";
    QUEUE_OLDEST_AGE_SECONDS = gauge "secateur_queue_oldest_age_seconds", "Longest wait of a job that could have started.";
    REQUEST_SECONDS = histogram (REQUEST_BUCKETS) "http_server_request_duration_seconds", "Duration of requests, by method, route and status.";
    SSE_CLIENTS = gauge "secateur_sse_clients", "Open streams of events.";
    STORE_FREE_BYTES = gauge "secateur_store_free_bytes", "Free space where jobs are written, by directory.";
    STORE_USED_BYTES = gauge "secateur_store_used_bytes", "Bytes that the worker's machine holds for jobs, by kind.";
    WEBHOOK_DELIVERIES = counter "secateur_webhook_deliveries_total", "Webhook messages that were sent, by outcome.";
    WEBHOOK_OUTBOX_DEPTH = gauge "secateur_webhook_outbox_depth", "Webhook messages that are still to be sent.";
    WORKER_HEARTBEAT_AGE_SECONDS = gauge "secateur_worker_heartbeat_age_seconds", "Age of the oldest heartbeat of a worker.";
}

/// The gauges of the database, which one process exports for all.
pub const SHARED: &[&str] = &[
    ARTIFACT_STORE_BYTES,
    DEVICE_MEMORY_BYTES,
    JOBS,
    QUEUE_OLDEST_AGE_SECONDS,
    WEBHOOK_OUTBOX_DEPTH,
    WORKER_HEARTBEAT_AGE_SECONDS,
];

/// The labels of the counters whose values are known beforehand: a rate needs a series that begins at zero.
const KNOWN_SERIES: &[(&str, &[(&str, &str)])] = &[
    (ARTIFACT_BYTES, &[("direction", "in")]),
    (ARTIFACT_BYTES, &[("direction", "out")]),
    (FENCED_WRITES, &[]),
    (HEARTBEAT_ERRORS, &[]),
    (JOB_ATTEMPTS, &[("outcome", "succeeded")]),
    (JOB_ATTEMPTS, &[("outcome", "failed")]),
    (JOB_ATTEMPTS, &[("outcome", "crashed")]),
    (JOB_ATTEMPTS, &[("outcome", "cancelled")]),
    (JOB_ATTEMPTS, &[("outcome", "released")]),
    (JOB_ATTEMPTS, &[("outcome", "paused")]),
    (JOBS_FINISHED, &[("status", "succeeded"), ("code", "none")]),
    (
        JOBS_FINISHED,
        &[("status", "cancelled"), ("code", "cancelled")],
    ),
    (
        JOBS_FINISHED,
        &[("status", "failed"), ("code", "worker_crashed")],
    ),
    (LEASES_REAPED, &[]),
    (WEBHOOK_DELIVERIES, &[("outcome", "succeeded")]),
    (WEBHOOK_DELIVERIES, &[("outcome", "failed")]),
    (WEBHOOK_DELIVERIES, &[("outcome", "exhausted")]),
    (WEBHOOK_DELIVERIES, &[("outcome", "gone")]),
];

/// Begins the known series at zero.
pub fn begin() {
    for (name, labels) in KNOWN_SERIES {
        counter!(*name, *labels).increment(0);
    }
}
