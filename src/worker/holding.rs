//! Work of the worker itself for an attempt, while no process runs.

use tokio::time::Instant;

use super::Context;
use super::calls::Calls;
use super::supervise::{Ended, LOOK_EVERY, every, unanswered, until};
use crate::domain::attempt::Phase;
use crate::store::{Held, Lease};

/// When work is over however far it is, and what is said of it then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) deadline: Option<Instant>,
    pub(super) phase: Option<Phase>,
}

/// Does `work` under a lease that is renewed meanwhile; drops it where the attempt shall end. It goes on while the database
/// takes its time.
pub(super) async fn while_held<T>(
    context: &Context,
    lease: &Lease,
    limit: Limit,
    work: impl Future<Output = T>,
) -> Result<T, Ended> {
    let mut calls = Calls::new(context, lease.clone());
    let mut heartbeat = every(context.settings.heartbeat);
    let mut look = every(LOOK_EVERY);
    tokio::pin!(work);
    loop {
        tokio::select! {
            // What is done counts, whatever is asked at the same moment.
            biased;
            done = &mut work => return Ok(done),
            () = until(limit.deadline) => return Err(Ended::Overdue { phase: limit.phase }),
            () = context.stop.cancelled() => return Err(Ended::Stopped),
            (call, answer) = calls.answered() => match answer {
                Ok(held) => {
                    if let Some(ended) = end(held) {
                        return Err(ended);
                    }
                }
                Err(error) => unanswered(call, &error, &mut heartbeat),
            },
            _ = heartbeat.tick() => calls.renew(),
            _ = look.tick() => calls.look(),
        }
    }
}

fn end(held: Held) -> Option<Ended> {
    match held {
        Held::Yes => None,
        Held::PauseRequested => Some(Ended::Paused),
        Held::CancelRequested => Some(Ended::Cancelled),
        Held::Lost => Some(Ended::Lost),
    }
}
