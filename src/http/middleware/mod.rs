//! Layers around every handler.

pub(super) mod origin;
pub(super) mod request;
