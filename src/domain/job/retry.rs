//! The retry policy: how often a failure is retried, after how long, and for how long by hand.
//!
//! Which failures are retried stands in the table of error codes ([`ErrorCode`](crate::domain::ErrorCode)).

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use jiff::Timestamp;

use super::Job;
use super::attempt_end::{AttemptEnd, Lacks};
use super::failure::JobError;
use super::state::JobState;

/// The longest wait between two attempts.
const MAX_DELAY: Duration = Duration::from_mins(5);

/// How long a failed job keeps its resume state for a retry by hand.
pub const RETENTION: Duration = Duration::from_hours(24);

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// The wait before the second attempt; it doubles with each further one.
    pub first_delay: Duration,
}

impl RetryPolicy {
    /// Retries without a wait.
    pub const AT_ONCE: Self = Self {
        first_delay: Duration::ZERO,
    };

    /// Ends a failed attempt: with a retry where that may help and the budget allows one more.
    pub fn end(self, error: JobError, crashed: bool, budget: Budget) -> AttemptEnd {
        if error.failure.retryable && !budget.is_last_attempt() {
            AttemptEnd::Retry {
                error,
                crashed,
                delay: jittered(self.delay(budget.failed)),
            }
        } else {
            AttemptEnd::Failed { error, crashed }
        }
    }

    /// Ends an attempt that something outside of its job kept from going on.
    pub fn wait(self, error: JobError, lacks: Lacks) -> AttemptEnd {
        let delay = jittered(self.delay(error.attempt.saturating_sub(1)));
        AttemptEnd::Waiting {
            error,
            delay,
            lacks,
        }
    }

    fn delay(self, failed_attempts: u32) -> Duration {
        self.first_delay
            .saturating_mul(2_u32.saturating_pow(failed_attempts))
            .min(MAX_DELAY)
    }
}

/// The attempts of a job that failed, and those that may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Failed attempts.
    pub failed: u32,
    /// Failed attempts that end the job.
    pub max: u32,
}

impl Budget {
    /// The budget of a job.
    pub fn of(job: &Job) -> Self {
        Self {
            failed: job.failed_attempts,
            max: job.max_attempts,
        }
    }

    /// Whether one more failed attempt would be the last one.
    pub fn is_last_attempt(self) -> bool {
        self.failed + 1 >= self.max
    }
}

/// Whether a retry by hand may help a job that ended so.
pub fn is_worth_a_retry(error: Option<&JobError>) -> bool {
    error.is_some_and(|JobError { failure, .. }| failure.retryable)
}

/// Whether a job that is over keeps its resume state for a retry by hand.
pub fn keeps_resume_state(job: &Job, now: Timestamp) -> bool {
    let age = |at| Duration::try_from(now.duration_since(at)).unwrap_or_default();
    let is_recent = job.finished_at.is_some_and(|at| age(at) < RETENTION);
    is_recent && job.state == JobState::Failed && is_worth_a_retry(job.error.as_ref())
}

/// Between three quarters and five quarters of `duration`, so that many workers do not move in step.
pub fn jittered(duration: Duration) -> Duration {
    let random = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or_default();
    duration.mul_f64(0.75 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_limit() {
        let policy = RetryPolicy {
            first_delay: Duration::from_secs(5),
        };
        assert_eq!(
            [0, 1, 2].map(|failed| policy.delay(failed).as_secs()),
            [5, 10, 20]
        );
        assert_eq!(policy.delay(u32::MAX), MAX_DELAY);
    }
}
