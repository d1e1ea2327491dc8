//! Leases that look lost, until a second look confirms it.
//!
//! A holder renews its lease all the time, so one that has expired has most likely lost its holder. But while the
//! database is away no holder can renew, and when it is back all leases may have expired at once. So an expired lease is
//! only noted at first. It is lost when a later look, after a period in which the database answered and the holder could
//! have renewed twice, still finds it expired. A worker that holds a job without an active slot looks twice as well.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::domain::JobId;
use crate::store::{Lease, LeaseInfo};

/// The leases noted so far.
#[derive(Debug, Default)]
pub(super) struct LostLeases(HashMap<JobId, Note>);

#[derive(Debug)]
struct Note {
    lease: Lease,
    expired_at: Timestamp,
    since: Instant,
}

impl LostLeases {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Starts over: no holder could renew until now.
    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }

    /// Keeps the leases that still look lost.
    pub(super) fn retain(&mut self, leased: &[LeaseInfo], is_lost: impl Fn(&LeaseInfo) -> bool) {
        self.0.retain(|id, _| {
            let mut found = leased.iter();
            found.any(|leased| leased.lease.job_id == *id && is_lost(leased))
        });
    }

    /// Notes a lease that looks lost; true once it was noted a `period` ago and not renewed since.
    pub(super) fn is_confirmed(&mut self, leased: &LeaseInfo, period: Duration) -> bool {
        let now = Instant::now();
        let note = self.0.entry(leased.lease.job_id).or_insert_with(|| Note {
            lease: leased.lease.clone(),
            expired_at: leased.expires_at,
            since: now,
        });
        if note.lease != leased.lease || note.expired_at != leased.expires_at {
            *note = Note {
                lease: leased.lease.clone(),
                expired_at: leased.expires_at,
                since: now,
            };
        }
        now.duration_since(note.since) >= period
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::retry::Budget;

    const PERIOD: Duration = Duration::from_secs(30);

    fn leased(expires_at: i64) -> LeaseInfo {
        LeaseInfo {
            lease: Lease {
                job_id: "job_019abcde0123789a8bcdef0123456789".parse().unwrap(),
                attempt: 1,
                owner: "w".to_owned(),
            },
            expires_at: Timestamp::from_second(expires_at).unwrap(),
            is_over: true,
            phase: None,
            budget: Budget { failed: 0, max: 3 },
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_lost_when_it_stays_expired_for_the_period() {
        let mut lost = LostLeases::default();
        assert!(!lost.is_confirmed(&leased(1), PERIOD));
        tokio::time::advance(PERIOD / 2).await;
        assert!(!lost.is_confirmed(&leased(1), PERIOD));
        tokio::time::advance(PERIOD / 2).await;
        assert!(lost.is_confirmed(&leased(1), PERIOD));
    }

    #[tokio::test(start_paused = true)]
    async fn the_period_begins_anew_after_a_renewal_and_after_an_outage() {
        let mut lost = LostLeases::default();
        lost.is_confirmed(&leased(1), PERIOD);
        tokio::time::advance(PERIOD).await;
        assert!(!lost.is_confirmed(&leased(2), PERIOD), "renewed once");
        lost.forget_all();
        tokio::time::advance(PERIOD).await;
        assert!(!lost.is_confirmed(&leased(2), PERIOD), "noted anew");
        lost.retain(&[], |_| true);
        assert!(lost.is_empty());
    }
}
