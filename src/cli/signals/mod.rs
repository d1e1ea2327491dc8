//! Ctrl-C and SIGTERM: the first asks for a graceful stop, the second does not wait for it.

pub(super) mod interrupt;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both signals.
pub(super) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// From here on the signals no longer end the process by themselves.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one; gives the exit status of a program that it ends, which is 128 + its number.
    pub(super) async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }

    /// Does the work, unless another signal comes first: then the process ends at once.
    pub(super) async fn or_exit<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            result = work => result,
            status = self.next() => {
                tracing::warn!("second signal, ending at once");
                std::process::exit(status.into())
            }
        }
    }
}
