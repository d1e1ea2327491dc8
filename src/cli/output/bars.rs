//! Progress on standard error: a bar on a terminal, a line every ten seconds elsewhere.

use std::fmt::Write;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::pace::Pace;
use super::table::duration;
use crate::cli::signals::interrupt::Interrupt;
use crate::domain::job::progress::{Phase, Step};
use crate::pipeline::Listener;

const COUNTING: &str = "{msg:32!} {wide_bar:.green/dim} {percent:>3} %  {rate:>16}  ETA {eta:>4}";
const WAITING: &str = "{spinner} {msg}";

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// How often a line is written.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows the step at hand.
pub(in crate::cli) struct Bars {
    display: Display,
    interrupt: Interrupt,
}

enum Display {
    Terminal(ProgressBar),
    Log(Lines),
    Nothing,
}

impl Bars {
    pub(in crate::cli) fn new(interrupt: Interrupt, is_quiet: bool) -> Self {
        let display = if is_quiet {
            Display::Nothing
        } else if std::io::stderr().is_terminal() {
            Display::Terminal(ProgressBar::hidden())
        } else {
            Display::Log(Lines::starting(Instant::now()))
        };
        Self { display, interrupt }
    }
}

fn replace(current: &mut ProgressBar, bar: ProgressBar, template: &str, unit: String) {
    current.finish_and_clear();
    if let Ok(style) = ProgressStyle::with_template(template) {
        let rate = move |state: &ProgressState, out: &mut dyn Write| {
            let written = write!(out, "{:.0} {unit}/s", state.per_sec());
            debug_assert!(written.is_ok(), "a String takes everything");
        };
        bar.set_style(style.progress_chars("━━─").with_key("rate", rate));
    }
    *current = bar;
}

impl Listener for Bars {
    fn phase(&mut self, phase: Phase) {
        match &mut self.display {
            Display::Terminal(bar) => {
                replace(bar, ProgressBar::new_spinner(), WAITING, String::new());
                bar.set_message(phase.as_str());
                bar.enable_steady_tick(TICK);
            }
            Display::Log(lines) => lines.phase = Some(phase),
            Display::Nothing => {}
        }
    }

    fn progress(&mut self, step: Step) {
        match &mut self.display {
            Display::Terminal(bar) => {
                // What counts towards one total is one bar, whatever the parts are called.
                if bar.length() != Some(step.total) {
                    replace(bar, ProgressBar::new(step.total), COUNTING, step.unit);
                }
                bar.set_message(step.name);
                bar.set_position(step.finished);
            }
            Display::Log(lines) => {
                if let Some(line) = lines.line(&step, Instant::now()) {
                    print_line(&line);
                }
            }
            Display::Nothing => {}
        }
    }

    fn resumed(&mut self, block: usize, blocks: usize) {
        if let Display::Terminal(bar) = &self.display {
            bar.set_message(format!("going on at block {block} of {blocks}"));
        }
    }

    fn should_stop(&self) -> bool {
        self.interrupt.requested()
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        if let Display::Terminal(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

#[expect(clippy::print_stderr, reason = "progress of a command")]
fn print_line(line: &str) {
    eprintln!("{line}");
}

/// Progress as lines of a log.
struct Lines {
    phase: Option<Phase>,
    last: Instant,
    pace: Pace,
}

impl Lines {
    fn starting(now: Instant) -> Self {
        Self {
            phase: None,
            last: now,
            pace: Pace::default(),
        }
    }

    /// The line of a step, if one is due.
    fn line(&mut self, step: &Step, now: Instant) -> Option<String> {
        let eta = self.pace.timed(step.clone(), now).eta_seconds;
        if now.duration_since(self.last) < LINE_INTERVAL {
            return None;
        }
        self.last = now;
        let phase = self.phase.map_or("", Phase::as_str);
        let percent = 100 * step.finished / step.total.max(1);
        let left = eta.map_or_else(String::new, |seconds| {
            format!(", {} left", duration(seconds as f64))
        });
        Some(format!("{phase}: {}, {percent} %{left}", step.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gets_a_line_every_ten_seconds() {
        let began = Instant::now();
        let mut lines = Lines::starting(began);
        lines.phase = Some(Phase::Pruning);
        let told: Vec<String> = (0..=25)
            .filter_map(|second| {
                let step = Step::new("blocks 1/4".to_owned(), "tokens", second, 100);
                lines.line(&step, began + Duration::from_secs(second))
            })
            .collect();
        let expected = [
            "pruning: blocks 1/4, 10 %, 2 min left",
            "pruning: blocks 1/4, 20 %, 80 s left",
        ];
        assert_eq!(told, expected);
    }
}
