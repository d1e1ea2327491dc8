//! Arguments that several commands take.

pub(super) mod evaluation;
pub(super) mod model;
