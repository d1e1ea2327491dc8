//! The commands, as a user runs them.

pub(crate) mod command_line;
