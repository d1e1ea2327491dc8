//! Many rows and many clients.

pub(crate) mod many_rows;
pub(crate) mod sse_load;
