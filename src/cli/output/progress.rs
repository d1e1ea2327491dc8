//! Shows a job's progress: a bar on a terminal, one line per phase elsewhere.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

const TEMPLATE: &str = "  {prefix:12} {wide_bar:.green/dim} {percent:>3} %  {msg}";

pub(in crate::cli) struct JobBar {
    /// `None` when standard output is not a terminal.
    bar: Option<ProgressBar>,
    phase: String,
}

impl JobBar {
    pub(in crate::cli) fn new() -> Self {
        let bar = std::io::stdout().is_terminal().then(|| {
            let bar = ProgressBar::new(100);
            match ProgressStyle::with_template(TEMPLATE) {
                Ok(style) => bar.with_style(style.progress_chars("━━─")),
                Err(_) => bar,
            }
        });
        Self {
            bar,
            phase: String::new(),
        }
    }

    /// Shows the JSON of a job.
    pub(in crate::cli) fn show(&mut self, job: &Value) {
        let phase = job["phase"]
            .as_str()
            .or(job["status"].as_str())
            .unwrap_or_default();
        let percent = job["progress"]["percent"].as_f64().unwrap_or_default();
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(phase.to_owned());
                bar.set_message(message(&job["progress"]));
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "0 to 100"
                )]
                bar.set_position(percent as u64);
            }
            None if phase != self.phase => print_line(phase),
            None => {}
        }
        phase.clone_into(&mut self.phase);
    }
}

impl Drop for JobBar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The step at hand, and when it will be done.
fn message(progress: &Value) -> String {
    let name = progress["step"]["name"].as_str().unwrap_or_default();
    match progress["eta_seconds"].as_u64() {
        Some(seconds) => format!("{name}, {seconds} s left"),
        None => name.to_owned(),
    }
}

#[expect(clippy::print_stdout, reason = "what the command shows")]
fn print_line(phase: &str) {
    println!("  {phase}");
}
