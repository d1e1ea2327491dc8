//! What commands show: bars on a terminal, progress lines, tables.

pub(super) mod bars;
pub(super) mod comparison;
pub(super) mod pace;
pub(super) mod progress;
pub(super) mod table;
