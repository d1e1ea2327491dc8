//! How long a step will still take, by how fast it went so far.

use std::time::{Duration, Instant};

use crate::domain::job::progress::Step;

/// A step is foreseen once it has gone on for this long.
const WARM_UP: Duration = Duration::from_secs(2);

/// Follows the steps of a phase. Steps with a common total are one step.
#[derive(Debug, Default)]
pub(in crate::cli) struct Pace {
    current: Option<Start>,
}

#[derive(Debug)]
struct Start {
    total: u64,
    unit: String,
    began: Instant,
    finished: u64,
}

impl Pace {
    /// Seconds until the step will be done at the mean speed since it began; `None` while that cannot be said.
    pub(in crate::cli) fn eta_seconds(&mut self, step: &Step, now: Instant) -> Option<u64> {
        let start = match &mut self.current {
            Some(start)
                if start.total == step.total
                    && start.unit == step.unit
                    && start.finished <= step.finished =>
            {
                start
            }
            other => other.insert(Start {
                total: step.total,
                unit: step.unit.clone(),
                began: now,
                finished: step.finished,
            }),
        };
        let elapsed = now.duration_since(start.began);
        let done = step.finished - start.finished;
        if elapsed < WARM_UP || done == 0 {
            return None;
        }
        let left = step.total.saturating_sub(step.finished);
        let seconds = elapsed.as_secs_f64() * left as f64 / done as f64;
        Some(Duration::try_from_secs_f64(seconds).ok()?.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(finished: u64, total: u64) -> Step {
        Step {
            name: "any".to_owned(),
            finished,
            total,
            unit: "tokens".to_owned(),
            eta_seconds: None,
        }
    }

    #[test]
    fn what_is_left_takes_as_long_as_what_was_done() {
        let (mut pace, began) = (Pace::default(), Instant::now());
        let after = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(pace.eta_seconds(&step(100, 1000), began), None);
        assert_eq!(pace.eta_seconds(&step(150, 1000), after(1)), None);
        // 200 in 10 s, 700 are left.
        assert_eq!(pace.eta_seconds(&step(300, 1000), after(10)), Some(35));
        assert_eq!(pace.eta_seconds(&step(1000, 1000), after(50)), Some(0));
    }

    #[test]
    fn another_total_is_another_step() {
        let (mut pace, began) = (Pace::default(), Instant::now());
        pace.eta_seconds(&step(0, 1000), began);
        let later = began + Duration::from_mins(1);
        assert_eq!(pace.eta_seconds(&step(500, 2000), later), None);
        let later = later + Duration::from_secs(10);
        assert_eq!(pace.eta_seconds(&step(1000, 2000), later), Some(20));
    }
}
