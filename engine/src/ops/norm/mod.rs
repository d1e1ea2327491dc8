//! Norms over runs of features.

mod layer_norm;
mod rms_norm;

pub use layer_norm::layer_norm;
pub use rms_norm::rms_norm;
