//! How far a job is, as clients see it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::job::Job;
use crate::domain::job::phases::{PhaseShare, phase_shares};
use crate::domain::job::progress::{Phase, Step};
use crate::domain::job::state::JobState;

/// How far a job is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = JobProgress)]
pub(in crate::http) struct ProgressView {
    /// Of the whole job, 0 to 100; never goes back unless the job is tried again after its end.
    percent: f64,
    /// Seconds until the whole job is over; `null` while that cannot be said.
    eta_seconds: Option<u64>,
    /// What the running phase is at, or the failed one was.
    step: Option<StepView>,
    /// The phases in their order.
    phases: Vec<PhaseView>,
    /// When the worker last said something.
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Timestamp>,
}

/// How far a step is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = JobStep)]
struct StepView {
    /// Of the step, 0 to 100.
    percent: f64,
    #[serde(flatten)]
    step: Step,
}

/// A phase of a job.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = JobPhase)]
struct PhaseView {
    /// Which one.
    phase: Phase,
    /// Where it is.
    status: PhaseStatus,
    /// Its part of the job's time, 0 to 1, as it was expected.
    expected_share: f64,
    /// How long it took in the last attempt; `null` in lists, and where it was not reached.
    seconds: Option<f64>,
}

/// Where a phase is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum PhaseStatus {
    /// It is over, or there was nothing to do.
    Done,
    /// It goes on.
    Running,
    /// It is still to come, or was not finished.
    Ahead,
}

impl ProgressView {
    pub(in crate::http) fn new(job: &Job) -> Self {
        let is_held = job.state.is_held();
        let overall = job.progress.as_ref().map(|progress| progress.overall);
        let overall = overall.unwrap_or_default();
        let shares = job.spec.known().map(phase_shares).unwrap_or_default();
        // What an attempt before was at is not what this one is at.
        let step = job.phase.and(job.progress.as_ref());
        Self {
            percent: match job.state {
                JobState::Succeeded => 100.0,
                _ => overall.percent,
            },
            eta_seconds: overall.eta_seconds.filter(|_| is_held),
            step: step
                .and_then(|progress| progress.step.clone())
                .map(StepView::new),
            phases: shares
                .into_iter()
                .map(|share| PhaseView::new(share, job))
                .collect(),
            updated_at: job.progress.as_ref().map(|progress| progress.updated_at),
        }
    }

    /// With the seconds of each phase.
    pub(super) fn timed(mut self, seconds: &BTreeMap<Phase, f64>) -> Self {
        for phase in &mut self.phases {
            phase.seconds = seconds.get(&phase.phase).copied();
        }
        self
    }
}

impl StepView {
    fn new(step: Step) -> Self {
        Self {
            percent: 100.0 * step.fraction(),
            step,
        }
    }
}

impl PhaseView {
    fn new(PhaseShare { phase, share }: PhaseShare, job: &Job) -> Self {
        let status = match job.phase {
            _ if job.state == JobState::Succeeded => PhaseStatus::Done,
            Some(current) if phase < current => PhaseStatus::Done,
            Some(current) if phase == current && job.state.is_held() => PhaseStatus::Running,
            _ => PhaseStatus::Ahead,
        };
        Self {
            phase,
            status,
            expected_share: share,
            seconds: None,
        }
    }
}

/// Of a job that was just accepted.
pub(super) fn example() -> Value {
    let phase = |(phase, share): (Phase, f64)| json!({"phase": phase, "status": "ahead", "expected_share": share, "seconds": null});
    let phases = [
        (Phase::Resolving, 0.01),
        (Phase::Downloading, 0.05),
        (Phase::Calibrating, 0.02),
        (Phase::Pruning, 0.3),
        (Phase::Evaluating, 0.6),
        (Phase::Publishing, 0.02),
    ];
    json!({
        "percent": 0.0, "eta_seconds": null, "step": null, "phases": phases.map(phase), "updated_at": null,
    })
}
