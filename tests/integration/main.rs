//! The integration tests: one binary, as each further one would link everything again.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]
#![expect(
    clippy::print_stderr,
    reason = "tests say what they measured and what they left out"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small numbers of test models"
)]
#![expect(clippy::future_not_send, reason = "a test runs on its own thread")]

#[macro_use]
mod support;

mod api;
mod artifacts;
mod cli;
mod engine;
mod evaluation;
mod faults;
mod hub;
mod load;
mod operations;
mod rules;
mod store;
mod webhooks;
mod worker;
