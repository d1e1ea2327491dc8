//! Seconds per phase.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Listener;
use crate::domain::job::progress::Phase;

/// Measures phases that follow one another.
#[derive(Clone)]
pub(crate) struct Stopwatch {
    started: Instant,
    current: Option<(Phase, Instant)>,
    seconds: BTreeMap<String, f64>,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
            current: None,
            seconds: BTreeMap::new(),
        }
    }

    /// Ends the current phase and begins `phase`; the current phase itself goes on.
    pub(super) fn enter(&mut self, phase: Phase, listener: &mut dyn Listener) {
        if self.current.is_some_and(|(current, _)| current == phase) {
            return;
        }
        self.leave();
        self.current = Some((phase, Instant::now()));
        listener.phase(phase);
    }

    fn leave(&mut self) {
        if let Some((phase, began)) = self.current.take() {
            *self.seconds.entry(phase.as_str().to_owned()).or_default() +=
                began.elapsed().as_secs_f64();
        }
    }

    /// Seconds of every phase, and `total`.
    pub(super) fn stop(mut self) -> BTreeMap<String, f64> {
        self.leave();
        self.seconds
            .insert("total".to_owned(), self.started.elapsed().as_secs_f64());
        self.seconds
    }
}
