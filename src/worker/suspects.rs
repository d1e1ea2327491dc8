//! Leases that were found to be over, or to be held by nobody.
//!
//! A holder renews its lease all the time, so one that is over has most likely lost its holder. But while the database
//! is away nobody can renew, and when it is back all leases may be over at once. So a lease that is over is only
//! noted at first. It is taken for lost when it is looked at again after a while in which the database answered and
//! its holder, who tries once a second after a failure, could have renewed it twice. In the same way a worker that finds
//! itself to hold what none of its slots is at looks twice.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::domain::JobId;
use crate::store::{Lease, Leased};

/// What was noted.
#[derive(Debug, Default)]
pub(super) struct Suspects(HashMap<JobId, Suspect>);

#[derive(Debug)]
struct Suspect {
    lease: Lease,
    expired_at: Timestamp,
    since: Instant,
}

impl Suspects {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nobody could write: nobody can be blamed for anything before this.
    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }

    /// Keeps those that are suspect still.
    pub(super) fn retain(&mut self, leased: &[Leased], is_suspect: impl Fn(&Leased) -> bool) {
        self.0.retain(|id, _| {
            let mut found = leased.iter();
            found.any(|leased| leased.lease.job_id == *id && is_suspect(leased))
        });
    }

    /// Notes a lease that is suspect; true once it has been noted for `grace`, and was not renewed.
    pub(super) fn is_confirmed(&mut self, leased: &Leased, grace: Duration) -> bool {
        let now = Instant::now();
        let suspect = self
            .0
            .entry(leased.lease.job_id)
            .or_insert_with(|| Suspect {
                lease: leased.lease.clone(),
                expired_at: leased.expires_at,
                since: now,
            });
        if suspect.lease != leased.lease || suspect.expired_at != leased.expires_at {
            *suspect = Suspect {
                lease: leased.lease.clone(),
                expired_at: leased.expires_at,
                since: now,
            };
        }
        now.duration_since(suspect.since) >= grace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    fn leased(expires_at: i64) -> Leased {
        Leased {
            lease: Lease {
                job_id: "job_019abcde0123789a8bcdef0123456789".parse().unwrap(),
                attempt: 1,
                owner: "w".to_owned(),
            },
            expires_at: Timestamp::from_second(expires_at).unwrap(),
            is_over: true,
            phase: None,
            is_last_attempt: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_lost_when_it_stays_over_for_the_grace() {
        let mut suspects = Suspects::default();
        assert!(!suspects.is_confirmed(&leased(1), GRACE));
        tokio::time::advance(GRACE / 2).await;
        assert!(!suspects.is_confirmed(&leased(1), GRACE));
        tokio::time::advance(GRACE / 2).await;
        assert!(suspects.is_confirmed(&leased(1), GRACE));
    }

    #[tokio::test(start_paused = true)]
    async fn the_grace_begins_anew_after_a_renewal_and_after_an_outage() {
        let mut suspects = Suspects::default();
        suspects.is_confirmed(&leased(1), GRACE);
        tokio::time::advance(GRACE).await;
        assert!(!suspects.is_confirmed(&leased(2), GRACE), "renewed once");
        suspects.forget_all();
        tokio::time::advance(GRACE).await;
        assert!(!suspects.is_confirmed(&leased(2), GRACE), "noted anew");
        suspects.retain(&[], |_| true);
        assert!(suspects.is_empty());
    }
}
