//! Secateur prunes large language models as a service.
//!
//! ```text
//!             main ─► cli
//!                      │
//!                     app ─────────────── config, telemetry, server (connections)
//!                 ┌────┴─────┐
//!               http       worker          http and worker never import each other: they meet in the database
//!                 │       ┌──┴──────┐
//!      jobs, webhooks     │      pipeline ── (also: prune / evaluate on the command line, no database)
//!                 │       │       │     │
//!                 ├─────► store   │  artifacts ◄── jobs
//!                 └────── domain ◄┴─────┘      clock: used by jobs, worker, app
//!                          │                   models, datasets: find their files, used by jobs, pipeline
//!                          │                   machine: memory and free space, used by jobs, worker, pipeline
//!                          │                   request: reads bodies, used by jobs, webhooks, http
//!                          │                   statistics: intervals and differences, used by pipeline
//!                        engine                bottom: candle + safetensors only; no tokio, no HTTP, no SQL
//!                        tasks, corpora        beside it: the formats of zero-shot tasks and the registered texts, pure data
//! ```
//!
//! [`engine`] is a package of its own, so that it is built rarely and optimised always.

pub use secateur_engine as engine;

pub mod app;
pub mod artifacts;
pub mod bundled;
pub mod cli;
pub mod clock;
pub mod config;
pub mod corpora;
pub mod datasets;
pub mod domain;
pub mod http;
pub mod instruments;
pub mod jobs;
pub mod machine;
pub mod models;
pub mod pipeline;
pub mod request;
pub mod scratch;
pub mod server;
pub mod statistics;
pub mod store;
pub mod tasks;
pub mod telemetry;
pub mod traces;
pub mod webhooks;
pub mod worker;
