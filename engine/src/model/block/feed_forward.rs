//! The second half of a block: one MLP, or experts of which a router chooses some for each token.
//!
//! The tokens of each expert are gathered, so that each of its linears is one product.

use std::borrow::Cow;

use candle_core::Tensor;

use super::Block;
use crate::error::Result;
use crate::model::plan::{Mlp, RouterSpec, UpSpec};
use crate::ops::{RoutedTokens, RowSum, linear, route};

/// The tokens of a batch that one MLP reads.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) mlp: Mlp,
    /// Of an expert; `None` = every token, and the output as it is.
    routed: Option<RoutedTokens>,
}

impl Share {
    /// Whether the MLP reads no token.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows().is_some_and(<[u32]>::is_empty)
    }

    /// Which tokens it reads; `None` = all.
    pub(crate) fn rows(&self) -> Option<&[u32]> {
        self.routed.as_ref().map(|routed| routed.rows.as_slice())
    }

    /// Its rows of `m`, `[n, hidden]`.
    pub(crate) fn read<'m>(&self, m: &'m Tensor) -> Result<Cow<'m, Tensor>> {
        Ok(match self.rows() {
            Some(rows) => {
                let rows = Tensor::new(rows, m.device())?;
                Cow::Owned(m.index_select(&rows, 0)?)
            }
            None => Cow::Borrowed(m),
        })
    }
}

impl Block<'_> {
    /// What the feed-forward part reads.
    ///
    /// `x`: the block's input, `h`: the residual stream after the attention.
    pub(crate) fn feed_forward_input(&self, x: &Tensor, h: &Tensor) -> Result<Tensor> {
        let read = if self.plan.is_parallel { x } else { h };
        Ok(self.feed_forward_norms.enter(read)?)
    }

    /// Which MLP reads which tokens of `m`, in the order of the MLPs.
    pub(crate) fn shares(&self, m: &Tensor) -> Result<Vec<Share>> {
        let mlps = self.plan.feed_forward.mlps.all();
        let Some((
            RouterSpec {
                top_k,
                renormalises,
                ..
            },
            weight,
        )) = self.router()
        else {
            let all = |&mlp: &Mlp| Share { mlp, routed: None };
            return Ok(mlps.iter().map(all).collect());
        };
        let routed = route(&linear(m, weight)?, *top_k, *renormalises)?;
        let shares = mlps.iter().zip(routed);
        let shares = shares.map(|(&mlp, routed)| Share {
            mlp,
            routed: Some(routed),
        });
        Ok(shares.collect())
    }

    /// `activation(gate(x)) · up(x)`, or `activation(up(x))`.
    pub(crate) fn gated(&self, mlp: Mlp, x: &Tensor) -> Result<Tensor> {
        let Mlp { up, activation, .. } = mlp;
        Ok(match up {
            UpSpec::Gated { gate, up } => {
                activation.gate(&self.linear(gate, x)?, &self.linear(up, x)?)?
            }
            UpSpec::Stacked(both) => activation.gate_stacked(&self.linear(both, x)?)?,
            UpSpec::Plain(up) => activation.apply(&self.linear(up, x)?)?,
        })
    }

    /// What the feed-forward part makes of `m`.
    pub(crate) fn feed_forward(&self, m: &Tensor) -> Result<Tensor> {
        let mut sum = RowSum::like(m)?;
        for share in self.shares(m)? {
            if share.is_empty() {
                continue;
            }
            let gated = self.gated(share.mlp, &*share.read(m)?)?;
            let y = self.linear(share.mlp.down, &gated)?;
            match &share.routed {
                Some(routed) => sum.add(&y, routed)?,
                None => return Ok(y),
            }
        }
        Ok(sum.finish()?)
    }

    /// The residual stream `h` with what the feed-forward part made, `y`.
    pub(crate) fn after_feed_forward(&self, h: &Tensor, y: &Tensor) -> Result<Tensor> {
        Ok(self.feed_forward_norms.join(h, y)?)
    }
}
