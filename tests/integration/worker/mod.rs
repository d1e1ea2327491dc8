//! Workers: what they take, what they run, what they leave.

mod limits;
pub(crate) mod machines;
pub(crate) mod pool;
pub(crate) mod recovery;
pub(crate) mod two_workers;
