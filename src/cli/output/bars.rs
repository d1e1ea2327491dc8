//! Progress bars on a terminal; nothing elsewhere.

use std::fmt::Write;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::cli::signals::interrupt::Interrupt;
use crate::domain::job::progress::{Phase, Step};
use crate::pipeline::Listener;

const COUNTING: &str = "{msg:32!} {wide_bar:.green/dim} {percent:>3} %  {rate:>16}  ETA {eta:>4}";
const WAITING: &str = "{spinner} {msg}";

/// Shows one bar for the step at hand. Draws on standard error, and only if that is a terminal.
pub(in crate::cli) struct Bars {
    bar: ProgressBar,
    interrupt: Interrupt,
}

impl Bars {
    pub(in crate::cli) fn new(interrupt: Interrupt) -> Self {
        Self {
            bar: ProgressBar::hidden(),
            interrupt,
        }
    }

    fn replace(&mut self, bar: ProgressBar, template: &str, unit: String) {
        self.bar.finish_and_clear();
        if let Ok(style) = ProgressStyle::with_template(template) {
            let rate = move |state: &ProgressState, out: &mut dyn Write| {
                let written = write!(out, "{:.0} {unit}/s", state.per_sec());
                debug_assert!(written.is_ok(), "a String takes everything");
            };
            bar.set_style(style.progress_chars("━━─").with_key("rate", rate));
        }
        self.bar = bar;
    }
}

impl Listener for Bars {
    fn phase(&mut self, phase: Phase) {
        self.replace(ProgressBar::new_spinner(), WAITING, String::new());
        self.bar.set_message(phase.as_str());
        self.bar.tick();
    }

    fn progress(&mut self, step: Step) {
        // What counts towards one total is one bar, whatever the parts are called.
        if self.bar.length() != Some(step.total) {
            self.replace(ProgressBar::new(step.total), COUNTING, step.unit);
        }
        self.bar.set_message(step.name);
        self.bar.set_position(step.finished);
    }

    fn resumed(&mut self, block: usize, blocks: usize) {
        self.bar
            .set_message(format!("going on at block {block} of {blocks}"));
    }

    fn should_stop(&self) -> bool {
        self.interrupt.requested()
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
