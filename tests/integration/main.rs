//! One binary for all tests of the whole service: each further one would link the service again.

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
