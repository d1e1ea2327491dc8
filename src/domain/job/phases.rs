//! How a job's time is thought to divide among its phases, and how far it is by that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::event::{Event, EventKind};
use super::progress::{Overall, Phase, Step};
use crate::domain::spec::{EvaluationSpec, JobSpec, ModelRef, memory};

/// Tokens per window where the spec leaves them to the model.
const SEQ_LEN: usize = 2048;

/// Tokens of a text whose length is not known.
const TEXT_TOKENS: u64 = 300_000;

/// Tokens of a task whose documents are not limited, and of one document.
const TASK_TOKENS: u64 = 400_000;
const DOCUMENT_TOKENS: u64 = 400;

/// A phase and its expected share of the whole job's time, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PhaseShare {
    /// The phase.
    pub phase: Phase,
    /// Its share.
    pub share: f64,
}

/// The phases of a job in their order; the shares add up to 1.
///
/// Pruning and measuring count by the tokens that pass the model, the rest by a few hundredths.
pub fn phase_shares(spec: &JobSpec) -> Vec<PhaseShare> {
    let is_on_hub = |(_, model): &(_, &ModelRef)| matches!(model, ModelRef::Hub { .. });
    let download = if spec.models().iter().any(is_on_hub) {
        0.05
    } else {
        0.01
    };
    let evaluation = evaluation_tokens(spec.evaluation(), spec.is_comparison()) as f64;
    let mut phases = vec![(Phase::Resolving, 0.01), (Phase::Downloading, download)];
    let work = 0.95 - download;
    match spec {
        JobSpec::Prune(spec) => {
            let calibration = spec.calibration_in_use().map_or(0, |calibration| {
                let seq_len = calibration.seq_len.unwrap_or(SEQ_LEN);
                spec.pruning().passes() * (calibration.n_samples * seq_len) as u64
            });
            // The weights are read and written whatever the method.
            let pruning = calibration.max(2048) as f64;
            let pruning = work * pruning / (pruning + evaluation);
            phases.extend([
                (Phase::Calibrating, 0.02),
                (Phase::Pruning, pruning),
                (Phase::Evaluating, work - pruning),
            ]);
        }
        JobSpec::Evaluate(_) => phases.push((Phase::Evaluating, work + 0.02)),
    }
    phases.push((Phase::Publishing, 0.02));
    let phases = phases.into_iter();
    phases
        .map(|(phase, share)| PhaseShare { phase, share })
        .collect()
}

fn evaluation_tokens(evaluation: &EvaluationSpec, is_comparison: bool) -> u64 {
    let seq_len = evaluation.seq_len.unwrap_or(SEQ_LEN) as u64;
    let text = |text| memory::most_tokens(evaluation, text, seq_len).unwrap_or(TEXT_TOKENS);
    let texts: u64 = evaluation.perplexity.iter().map(text).sum();
    let task = evaluation.limit.map_or(TASK_TOKENS, |limit| {
        (limit as u64).saturating_mul(DOCUMENT_TOKENS)
    });
    let tasks = task.saturating_mul(evaluation.tasks.len() as u64);
    texts
        .saturating_add(tasks)
        .saturating_mul(1 + u64::from(is_comparison))
}

/// Follows an attempt from phase to phase.
#[derive(Debug)]
pub struct PhaseTracker {
    shares: Vec<PhaseShare>,
    /// Never gone below.
    percent: f64,
    phase: Option<(Phase, Instant)>,
    /// How much of the phase was done when its first step was told: a resumed one does not begin at 0.
    begun_at: Option<f64>,
}

impl PhaseTracker {
    /// Of an attempt at a job that is this far already.
    pub fn new(spec: &JobSpec, percent: f64) -> Self {
        Self {
            shares: phase_shares(spec),
            percent,
            phase: None,
            begun_at: None,
        }
    }

    /// A phase begins.
    pub fn enter(&mut self, phase: Phase, now: Instant) -> Overall {
        self.phase = Some((phase, now));
        self.begun_at = None;
        self.reach(phase, 0.0);
        self.overall(None)
    }

    /// The phase moves on.
    pub fn advance(&mut self, step: &Step, now: Instant) -> Overall {
        let Some((phase, since)) = self.phase else {
            return self.overall(None);
        };
        self.reach(phase, step.fraction());
        let begun_at = *self.begun_at.get_or_insert(step.fraction());
        let left = step.eta_seconds.and_then(|left| {
            let left = Duration::from_secs(left);
            let whole =
                (now.duration_since(since) + left).as_secs_f64() / (1.0 - begun_at).max(0.01);
            let (own, later) = (self.share(phase)?, self.later(phase));
            // Others take too little to tell the speed by.
            let is_work = matches!(phase, Phase::Pruning | Phase::Evaluating);
            let seconds = left.as_secs_f64() + whole * later / own.max(0.01);
            Duration::try_from_secs_f64(seconds)
                .ok()
                .filter(|_| is_work)
        });
        self.overall(left.map(|left| left.as_secs()))
    }

    fn overall(&self, eta_seconds: Option<u64>) -> Overall {
        Overall {
            percent: self.percent,
            eta_seconds,
        }
    }

    fn reach(&mut self, phase: Phase, fraction: f64) {
        if let Some(share) = self.share(phase) {
            let earlier = 1.0 - share - self.later(phase);
            let percent = 100.0 * (earlier + share * fraction);
            // 100 is for the job that has succeeded.
            self.percent = self.percent.max(percent.min(99.9));
        }
    }

    fn share(&self, phase: Phase) -> Option<f64> {
        let mut shares = self.shares.iter();
        shares
            .find(|share| share.phase == phase)
            .map(|share| share.share)
    }

    fn later(&self, phase: Phase) -> f64 {
        let later = self.shares.iter().filter(|share| share.phase > phase);
        later.map(|share| share.share).sum()
    }
}

/// Seconds that each phase of an attempt took, by its log; one that goes on until `now`.
pub fn phase_seconds(log: &[Event], attempt: u32, now: Timestamp) -> BTreeMap<Phase, f64> {
    let mut seconds = BTreeMap::new();
    let mut current = None;
    let mut leave = |current: &mut Option<(Phase, Timestamp)>, at: Timestamp| {
        if let Some((phase, since)) = current.take() {
            let took = at.duration_since(since).as_secs_f64().max(0.0);
            *seconds.entry(phase).or_insert(0.0) += took;
        }
    };
    for event in log.iter().filter(|event| event.attempt == attempt) {
        match &event.kind {
            EventKind::Phase { phase } => {
                leave(&mut current, event.at);
                current = Some((*phase, event.at));
            }
            kind if kind.ends_attempt() => leave(&mut current, event.at),
            _ => {}
        }
    }
    leave(&mut current, now);
    seconds
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use serde_json::json;

    use super::*;
    use crate::request::{Defaults, JobRequest};

    fn spec(body: &serde_json::Value) -> JobSpec {
        JobRequest::parse(body, Defaults::CPU).unwrap().spec
    }

    fn prune() -> JobSpec {
        spec(&json!({
            "model": "demo", "sparsity": 0.5,
            "calibration": {"n_samples": 32, "seq_len": 512},
            "evaluation": {"windows": 16, "seq_len": 512},
        }))
    }

    fn tokens(finished: u64, total: u64, eta_seconds: Option<u64>) -> Step {
        Step {
            eta_seconds,
            ..Step::new("any".to_owned(), "tokens", finished, total)
        }
    }

    #[test]
    fn shares_follow_the_tokens_and_add_up() {
        for spec in [
            prune(),
            spec(
                &json!({"type": "evaluate", "model": "org/name", "evaluation": {"tasks": ["boolq"]}}),
            ),
            spec(
                &json!({"model": "demo", "method": "magnitude", "sparsity": 0.5, "evaluation": {"perplexity": []}}),
            ),
        ] {
            let shares = phase_shares(&spec);
            let sum: f64 = shares.iter().map(|share| share.share).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{shares:?}");
            assert!(shares.is_sorted_by_key(|share| share.phase), "{shares:?}");
        }
        let tracker = PhaseTracker::new(&prune(), 0.0);
        let (pruning, evaluating) = (Phase::Pruning, Phase::Evaluating);
        let ratio = tracker.share(pruning).unwrap() / tracker.share(evaluating).unwrap();
        assert!(
            (ratio - 2.0).abs() < 1e-9,
            "2 × 32 windows and 2 × 16: {ratio}"
        );
        // As a server of processors fills in what is left out.
        let limited = spec(&json!({
            "model": "demo", "sparsity": 0.5, "calibration": {"n_samples": 16, "seq_len": 512},
            "evaluation": {"perplexity": ["wikitext2"], "seq_len": 512, "max_tokens": 4096},
        }));
        let tracker = PhaseTracker::new(&limited, 0.0);
        let ratio = tracker.share(pruning).unwrap() / tracker.share(evaluating).unwrap();
        assert!(
            (ratio - 2.0).abs() < 1e-9,
            "2 × 16 windows and 2 × 8: {ratio}"
        );
    }

    #[test]
    fn the_percent_never_goes_back() {
        let now = Instant::now();
        let mut tracker = PhaseTracker::new(&prune(), 0.0);
        let last = Cell::new(0.0);
        let rises = |overall: Overall| {
            let last = last.replace(overall.percent);
            assert!(
                overall.percent >= last && overall.percent < 100.0,
                "{overall:?} after {last}"
            );
        };
        rises(tracker.enter(Phase::Downloading, now));
        for finished in [1, 9, 2, 10, 0] {
            rises(tracker.advance(&tokens(finished, 10, None), now));
        }
        for phase in [
            Phase::Calibrating,
            Phase::Pruning,
            Phase::Evaluating,
            Phase::Publishing,
        ] {
            rises(tracker.enter(phase, now));
            rises(tracker.advance(&tokens(1, 2, None), now));
            rises(tracker.advance(&tokens(2, 2, None), now));
        }
        // Another attempt begins where the one before had come.
        let mut again = PhaseTracker::new(&prune(), last.get());
        rises(again.enter(Phase::Resolving, now));
    }

    #[test]
    fn what_comes_later_takes_its_share() {
        let mut tracker = PhaseTracker::new(&prune(), 0.0);
        let began = Instant::now();
        tracker.enter(Phase::Pruning, began);
        tracker.advance(&tokens(0, 100, None), began);
        // 60 s of pruning in all, so measuring takes 30.
        let later = began + Duration::from_secs(20);
        let left = tracker
            .advance(&tokens(33, 100, Some(40)), later)
            .eta_seconds
            .unwrap();
        assert!((70..=73).contains(&left), "{left}");
    }

    #[test]
    fn a_resumed_phase_is_as_long_as_its_rest_says() {
        let mut tracker = PhaseTracker::new(&prune(), 0.0);
        let began = Instant::now();
        tracker.enter(Phase::Pruning, began);
        tracker.advance(&tokens(50, 100, None), began);
        let later = began + Duration::from_secs(20);
        let left = tracker
            .advance(&tokens(75, 100, Some(20)), later)
            .eta_seconds
            .unwrap();
        // Half took 40 s: the whole is 80, measuring another 40.
        assert!((60..=64).contains(&left), "{left}");
    }

    #[test]
    fn a_phase_lasts_until_the_next_or_the_end_of_the_attempt() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let event = |seq, second, attempt, kind| Event {
            seq,
            at: at(second),
            attempt,
            kind,
        };
        let phase = |phase| EventKind::Phase { phase };
        let log = [
            event(1, 0, 1, phase(Phase::Pruning)),
            event(2, 9, 1, EventKind::Released),
            event(3, 20, 2, phase(Phase::Resolving)),
            event(4, 21, 2, phase(Phase::Pruning)),
            event(5, 25, 2, EventKind::Pausing),
        ];
        let first = phase_seconds(&log, 1, at(100));
        assert_eq!(first, BTreeMap::from([(Phase::Pruning, 9.0)]));
        let second = phase_seconds(&log, 2, at(30));
        let expected = BTreeMap::from([(Phase::Resolving, 1.0), (Phase::Pruning, 9.0)]);
        assert_eq!(second, expected);
    }
}
