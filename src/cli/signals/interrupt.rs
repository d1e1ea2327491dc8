//! Ctrl-C as a request to stop, so that half-written output is removed first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::Context as _;

use super::StopSignals;

/// The exit status that Ctrl-C (or SIGTERM) asks for; 0 until it comes.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// Listens from here on. A second signal ends the process at once.
    pub(in crate::cli) fn listen() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.context("cannot listen for signals")?;
        let mut signals = {
            let _inside = runtime.enter();
            StopSignals::listen()?
        };
        let requested = Arc::new(AtomicU8::new(0));
        let status = Arc::clone(&requested);
        std::thread::spawn(move || {
            runtime.block_on(async {
                status.store(signals.next().await, Ordering::Relaxed);
                std::process::exit(signals.next().await.into());
            });
        });
        Ok(Self(requested))
    }

    pub(in crate::cli) fn requested(&self) -> bool {
        self.status() != 0
    }

    pub(in crate::cli) fn status(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}
