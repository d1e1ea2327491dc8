//! One job's work.

pub mod disk;
pub mod hub;
