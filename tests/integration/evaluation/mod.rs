//! Tasks, their data and their figures.

pub(crate) mod command;
pub(crate) mod datasets;
pub(crate) mod service;
pub(crate) mod statistics;
pub(crate) mod tasks;
