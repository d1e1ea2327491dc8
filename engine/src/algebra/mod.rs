//! Linear algebra on Gram matrices.

mod cholesky;
mod layer_error;
#[cfg(test)]
pub(crate) mod test_linear;

pub(crate) use cholesky::{inverse_factor, inverse_of};
pub(crate) use layer_error::{
    ROWS_PER_TASK, layer_error, row_products, squared_outputs, times_gram,
};
