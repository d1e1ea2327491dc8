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
    /// The step with its mean speed since it began, and when it will be done at that; neither while that cannot be said.
    pub(in crate::cli) fn timed(&mut self, step: Step, now: Instant) -> Step {
        let speed = self.units_per_second(&step, now);
        let left = step.total.saturating_sub(step.finished) as f64;
        let left = speed.and_then(|speed| Duration::try_from_secs_f64(left / speed).ok());
        Step {
            units_per_second: speed,
            eta_seconds: left.map(|left| left.as_secs()),
            ..step
        }
    }

    fn units_per_second(&mut self, step: &Step, now: Instant) -> Option<f64> {
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
        Some(done as f64 / elapsed.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(finished: u64, total: u64) -> Step {
        Step::new("any".to_owned(), "tokens", finished, total)
    }

    #[test]
    fn what_is_left_takes_as_long_as_what_was_done() {
        let (mut pace, began) = (Pace::default(), Instant::now());
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut left = |finished, now| pace.timed(step(finished, 1000), now).eta_seconds;
        assert_eq!(left(100, began), None);
        assert_eq!(left(150, after(1)), None);
        // 200 in 10 s, 700 are left.
        assert_eq!(left(300, after(10)), Some(35));
        assert_eq!(left(1000, after(50)), Some(0));
    }

    #[test]
    fn another_total_is_another_step() {
        let (mut pace, began) = (Pace::default(), Instant::now());
        pace.timed(step(0, 1000), began);
        let later = began + Duration::from_mins(1);
        assert_eq!(pace.timed(step(500, 2000), later).eta_seconds, None);
        let later = later + Duration::from_secs(10);
        let timed = pace.timed(step(1000, 2000), later);
        assert_eq!(
            (timed.units_per_second, timed.eta_seconds),
            (Some(50.0), Some(20))
        );
    }
}
