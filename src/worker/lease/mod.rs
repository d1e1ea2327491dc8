//! Leases: how a worker keeps its own, and how it ends those of others that are lost.

mod client;
mod keep_alive;
mod lost;
mod reaper;

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::instruments;
use crate::store::StoreError;

pub(super) use client::{LeaseCall, LeaseClient};
pub(super) use keep_alive::{Limit, while_leased};
pub(super) use reaper::Reaper;

/// How often a lease is checked for requests that another process made.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The longest wait after a failed renewal: after an outage the lease is renewed before others end it.
const RENEW_RETRY: Duration = Duration::from_secs(1);

/// Logs a failed call. A database that is away does not stop an attempt: the fence decides in the end.
pub(super) fn log_failed_call(call: LeaseCall, error: &StoreError, heartbeat: &mut Interval) {
    let error = error as &dyn std::error::Error;
    match call {
        LeaseCall::Renew => {
            metrics::counter!(instruments::HEARTBEAT_ERRORS).increment(1);
            tracing::warn!(error, "cannot renew the lease");
            heartbeat.reset_after(RENEW_RETRY.min(heartbeat.period()));
        }
        LeaseCall::Check => tracing::warn!(error, "cannot check the lease"),
        LeaseCall::Report => tracing::warn!(error, "cannot write progress"),
    }
}

/// Waits until a time; forever where there is none.
pub(super) async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Ticks every `period`, for the first time after one.
pub(super) fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
