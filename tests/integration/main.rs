//! One binary for all tests of the whole service: each further one would link the service again.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::future_not_send, reason = "a test runs on its own thread")]

mod api;
mod api_errors;
mod api_results;
mod architecture;
mod harness;
mod openapi;
mod operations;
mod store_suite;
mod worker;
mod worker_recovery;
