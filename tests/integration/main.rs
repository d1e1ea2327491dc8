//! The integration tests: one binary, as each further one would link everything again.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod command_line;
mod engine;
mod hub;
mod hub_token;
mod mock_hub;
mod real_model;
mod reference;
mod synthetic;
