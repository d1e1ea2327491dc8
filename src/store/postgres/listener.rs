//! Hears what the triggers of the schema tell: a job was queued, something is asked of a running one, or the log has grown.
//!
//! One connection of its own. When it is lost, a new one is made, and whoever listens is told that something may have
//! gone unnoticed meanwhile.

use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt as _};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

use crate::store::Change;

/// The channel that the triggers write to.
const CHANNEL: &str = "secateur_jobs";

/// Wait before a lost connection is made again.
const RECONNECT: Duration = Duration::from_secs(1);

/// After so long without a word the connection is tried: one that is only half there is silent too.
const SILENCE: Duration = Duration::from_secs(30);

/// How long it has to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Where the listener is.
enum State {
    Listening(Box<PgListener>),
    Lost,
}

pub(super) fn changes(options: PgConnectOptions) -> BoxStream<'static, Change> {
    let first = State::Lost;
    stream::unfold((first, options), |(state, options)| async move {
        let (change, state) = next(state, &options).await;
        Some((change, (state, options)))
    })
    .boxed()
}

async fn next(state: State, options: &PgConnectOptions) -> (Change, State) {
    if let State::Listening(mut listener) = state
        && let Ok(change) = hear(&mut listener).await
    {
        return (change, State::Listening(listener));
    }
    loop {
        match connect(options).await {
            Ok(listener) => return (Change::Missed, State::Listening(Box::new(listener))),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot listen to the database, it is polled");
            }
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// The pool is the listener's own: one connection that is never idle.
async fn connect(options: &PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(ANSWER)
        .connect_lazy_with(options.clone());
    let connecting = async {
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    };
    let connected = tokio::time::timeout(ANSWER, connecting).await;
    connected.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// An error means that the connection is of no use any more.
async fn hear(listener: &mut PgListener) -> Result<Change, sqlx::Error> {
    loop {
        match tokio::time::timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => return Ok(read(notification.payload())),
            Ok(Ok(None)) => return Err(sqlx::Error::PoolClosed),
            Ok(Err(error)) => return Err(error),
            Err(_silent) => {
                let answer = tokio::time::timeout(ANSWER, answers(listener)).await;
                answer.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
            }
        }
    }
}

async fn answers(listener: &mut PgListener) -> Result<(), sqlx::Error> {
    sqlx::query("select 1").execute(listener).await.map(drop)
}

/// What a newer version may say besides is worth a look.
fn read(payload: &str) -> Change {
    match payload.split_once(' ') {
        None if payload == "queued" => Change::Queued,
        None if payload == "event" => Change::Logged,
        Some(("pausing" | "cancelling", id)) => id.parse().map_or(Change::Missed, Change::Asked),
        _ => Change::Missed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_worth_a_look() {
        let text = "job_019abcde0123789a8bcdef0123456789";
        let asked = Change::Asked(text.parse().unwrap());
        assert_eq!(read("queued"), Change::Queued);
        assert_eq!(read("event"), Change::Logged);
        for word in ["pausing", "cancelling"] {
            assert_eq!(read(&format!("{word} {text}")), asked);
        }
        for other in ["", "paused job_1", "cancelling", "cancelling job_1"] {
            assert_eq!(read(other), Change::Missed, "{other:?}");
        }
    }
}
