//! The engine as a library, and against results of other implementations.

pub(crate) mod divergence;
mod experts;
mod families;
pub(crate) mod generate;
pub(crate) mod library;
pub(crate) mod log_likelihood;
mod methods;
mod model_directories;
pub(crate) mod real_model;
pub(crate) mod reference;
pub(crate) mod reference_scores;
mod targets;
