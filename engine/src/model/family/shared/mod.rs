//! What several families have in common.

pub(super) mod decoder;
pub(super) mod experts;
pub(super) mod layer_types;
pub(super) mod linears;
pub(super) mod rope;
pub(super) mod settings;
pub(super) mod style;
