//! Many rows and many clients.

pub(crate) mod many_rows;
mod scale;
pub(crate) mod sse_load;
