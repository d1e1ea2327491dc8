//! Where artifacts are kept.

pub(crate) mod bucket;
pub(crate) mod service;
