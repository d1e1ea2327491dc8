//! Rules that the source and the descriptions keep.

pub(crate) mod architecture;
pub(crate) mod contract;
pub(crate) mod generated_client;
pub(crate) mod house;
pub(crate) mod openapi;
