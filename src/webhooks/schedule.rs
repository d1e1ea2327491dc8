//! When a message is sent again.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Waits before the second, third, … attempt, as Standard Webhooks proposes: about three days in all.
const DELAYS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    Duration::from_hours(24),
];

/// Random part of a wait, so that retries spread out.
const JITTER: f64 = 0.1;

/// The wait after a number of attempts; `None` = that was the last one.
pub(super) fn delay_after(attempts: u32) -> Option<Duration> {
    let index = usize::try_from(attempts).ok()?.checked_sub(1)?;
    let delay = DELAYS.get(index)?;
    let random = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or_default();
    Some(delay.mul_f64(1.0 + JITTER * f64::from(random) / f64::from(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_attempts_within_three_days_and_a_half() {
        let waits: Vec<_> = (1..).map_while(delay_after).collect();
        assert_eq!(waits.len(), 9);
        for (wait, least) in waits.iter().zip(DELAYS) {
            assert!((least..=least.mul_f64(1.1)).contains(wait), "{wait:?}");
        }
        let all: Duration = waits.iter().sum();
        assert!(all > Duration::from_hours(75) && all < Duration::from_hours(84));
    }
}
