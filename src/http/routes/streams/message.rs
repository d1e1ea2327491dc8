//! The form of server-sent events (WHATWG HTML, section 9.2).

use axum::body::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::JobId;
use crate::domain::job::Job;
use crate::domain::job::state::JobState;
use crate::http::output::progress::ProgressView;
use crate::jobs::Entry;

/// What a proxy or a browser hears when there is nothing to say.
pub(super) const HEARTBEAT: Bytes = Bytes::from_static(b": nothing new\n\n");

/// An entry of the log with the job that it belongs to.
#[derive(Serialize)]
struct OfJob<'a> {
    job_id: JobId,
    #[serde(flatten)]
    event: &'a crate::domain::job::event::Event,
}

/// The beginning: how long to wait before connecting again, and where to go on if that happens before anything else.
pub(super) fn opening(retry_ms: u64, position: u64) -> Bytes {
    format!("retry: {retry_ms}\nid: {position}\n\n").into()
}

/// The end of a stream that goes on elsewhere, or later.
pub(super) fn retry(retry_ms: u64) -> Bytes {
    format!("retry: {retry_ms}\n\n").into()
}

/// An entry of a log; the type of its event is the word for it in JSON, too.
pub(super) fn event(entry: &Entry) -> Bytes {
    let data = json!(OfJob {
        job_id: entry.job_id,
        event: &entry.event,
    });
    let kind = data["type"].as_str().unwrap_or_default();
    message(Some(entry.position), kind, &data)
}

/// How far a job is; `None` where there is nothing to tell.
pub(super) fn progress(job: &Job) -> Option<Bytes> {
    job.progress.as_ref().filter(|_| !job.state.is_terminal())?;
    let data = json!({
        "job_id": job.id,
        "status": job.state,
        "attempt": job.attempt,
        "phase": job.phase,
        "progress": ProgressView::new(job),
        "version": job.version,
    });
    Some(message(None, "progress", &data))
}

/// The end of a job's log; a job that was deleted has no status.
pub(super) fn end(status: Option<JobState>) -> Bytes {
    message(None, "end", &json!({"status": status}))
}

/// The client's place is not one of this log; what follows comes after `position`.
pub(super) fn resync(position: u64) -> Bytes {
    message(Some(position), "resync", &json!({"after": position}))
}

/// JSON has no line breaks, so it is one line of data.
fn message(id: Option<u64>, kind: &str, data: &Value) -> Bytes {
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    format!("{id}event: {kind}\ndata: {data}\n\n").into()
}
