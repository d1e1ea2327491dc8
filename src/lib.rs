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
//!                        engine                bottom: candle + safetensors only; no tokio, no HTTP, no SQL
//!                        tasks                 beside it: the formats of zero-shot tasks, pure text
//! ```
//!
//! With `--no-default-features` only [`engine`] is compiled.

pub mod engine;

#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod artifacts;
#[cfg(feature = "server")]
pub mod bundled;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod clock;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod datasets;
#[cfg(feature = "server")]
pub mod domain;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod jobs;
#[cfg(feature = "server")]
pub mod machine;
#[cfg(feature = "server")]
pub mod models;
#[cfg(feature = "server")]
pub mod pipeline;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod tasks;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(feature = "server")]
pub mod webhooks;
#[cfg(feature = "server")]
pub mod worker;
