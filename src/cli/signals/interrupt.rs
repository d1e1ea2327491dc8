//! Ctrl-C as a request to stop, so that half-written output is removed first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;

use super::StopSignals;

/// Exit status after a second Ctrl-C: 128 + SIGINT.
const HARD_EXIT: i32 = 130;

/// Whether Ctrl-C (or SIGTERM) has come.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Interrupt(Arc<AtomicBool>);

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
        let requested = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&requested);
        std::thread::spawn(move || {
            runtime.block_on(async {
                signals.next().await;
                flag.store(true, Ordering::Relaxed);
                signals.next().await;
                std::process::exit(HARD_EXIT);
            });
        });
        Ok(Self(requested))
    }

    pub(in crate::cli) fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
