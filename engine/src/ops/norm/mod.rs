//! Norms over runs of features.

mod rms_norm;

pub use rms_norm::rms_norm;
