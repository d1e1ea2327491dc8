//! The commands, as a user runs them.

pub(crate) mod command_line;
mod readme;
mod series;
mod stopping;
mod structure;
mod usage;
