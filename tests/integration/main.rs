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
mod database;

mod api;
mod api_actions;
mod api_errors;
mod api_evaluate;
mod api_idempotency;
mod api_queue;
mod api_results;
mod api_strict;
mod architecture;
mod bad_input;
mod bucket;
mod bucket_service;
mod chaos;
mod command_line;
mod contract;
mod datasets;
mod disk_full;
mod divergence;
mod engine;
mod evaluation;
mod evaluation_service;
mod gate;
mod generate;
mod harness;
mod hub;
mod hub_datasets;
mod hub_to_artifact;
mod hub_token;
mod kill_phases;
mod log_likelihood;
mod machines;
mod many_rows;
mod mock_hub;
mod openapi;
mod operations;
mod outage;
mod postgres;
mod processes;
mod publishing;
mod real_model;
mod reference;
mod reference_scores;
mod resume;
mod s3_server;
mod service;
mod slow_clients;
mod sse_load;
mod stand_still;
mod start_up;
mod statistics;
mod store_suite;
mod streams;
mod synthetic;
mod tasks;
mod traces;
mod two_workers;
mod waiting;
mod webhook_receiver;
mod webhooks;
mod worker;
mod worker_recovery;
