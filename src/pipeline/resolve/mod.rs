//! Names of models and data sets → files on this machine, fetched where they are not there yet.

mod data;
mod download;
mod model;

pub(super) use data::{LocalFiles, TaskFiles, fetch};
pub(super) use download::runtime as network_runtime;
pub use model::ResolvedModel;
pub(super) use model::{Demands, resolve};
