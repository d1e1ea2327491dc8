//! Arguments that several commands take.

pub(super) mod allocation;
pub(super) mod calibration;
pub(super) mod evaluation;
pub(super) mod model;
pub(super) mod run;
