//! One decoder block as its [`BlockPlan`] says, with the inputs of its linears open to observation.

mod feed_forward;
mod linear;
mod norm;

use candle_core::{D, Device, Tensor};

use self::linear::Linear;
pub(super) use self::norm::Norm;
use super::plan::{BlockPlan, InputId, LinearId, PartNorms, QkvSpec, RouterSpec};
use super::rope::RopeTables;
use crate::checkpoint::{Checkpoint, Weights};
use crate::error::Result;
use crate::ops::{TokenLayout, causal_attention};

/// Sees the input `[n, d_in]` of linears as it passes, and which rows of the batch it is of; `None` = all.
pub type Tap<'a> = &'a mut dyn FnMut(InputId, &Tensor, Option<&[u32]>) -> Result<()>;

/// Makes the attention's output `[n_tokens, heads · head_dim]` of q, k, v.
pub(crate) type Attend<'a> = &'a mut dyn FnMut(&Tensor, &Tensor, &Tensor) -> Result<Tensor>;

/// A resident block: its weights in the file's own dtype, on the device, each read when it is first needed.
#[derive(Debug, Clone)]
pub struct Block<'p> {
    plan: &'p BlockPlan,
    linears: Vec<Linear<'p>>,
    /// The weight of the router, if there is one.
    router: Option<Tensor>,
    attention_norms: PartNorms<Norm>,
    qk_norms: Option<[Norm; 2]>,
    feed_forward_norms: PartNorms<Norm>,
}

impl<'p> Block<'p> {
    pub(super) fn load(
        checkpoint: &'p Checkpoint,
        plan: &'p BlockPlan,
        device: &Device,
    ) -> Result<Self> {
        let norm = |spec: &_| Norm::load(checkpoint, spec, device);
        let linear = |spec| Linear::new(checkpoint, spec, device);
        let router = match plan.router_tensor() {
            Some((name, shape)) => Some(checkpoint.read(&name)?.into_tensor(&shape, device)?),
            None => None,
        };
        let qk_norms = match &plan.attention.qk_norms {
            Some([q, k]) => Some([norm(q)?, norm(k)?]),
            None => None,
        };
        Ok(Self {
            plan,
            linears: plan.linears.iter().map(linear).collect(),
            router,
            attention_norms: plan.attention.norms.try_map(norm)?,
            qk_norms,
            feed_forward_norms: plan.feed_forward.norms.try_map(norm)?,
        })
    }

    /// What it is made of.
    pub fn plan(&self) -> &'p BlockPlan {
        self.plan
    }

    /// The router with its weight, if there is one.
    fn router(&self) -> Option<(&'p RouterSpec, &Tensor)> {
        let spec = self.plan.feed_forward.mlps.router();
        spec.zip(self.router.as_ref())
    }

    fn linear(&self, id: LinearId, x: &Tensor) -> Result<Tensor> {
        self.linears[id.0].forward(x)
    }

    /// Whether a linear was needed already.
    #[cfg(test)]
    pub(crate) fn is_read(&self, id: LinearId) -> bool {
        self.linears[id.0].is_read()
    }

    /// A linear's weights as they stand in the file, or were put in place of those.
    pub(crate) fn weights(&self, id: LinearId) -> Result<Weights> {
        Weights::of_tensor(self.linears[id.0].weight()?)
    }

    /// Makes all weights f32, for products that follow each other.
    pub(crate) fn widen(&mut self) {
        self.linears.iter_mut().for_each(Linear::widen);
    }

    /// Puts other weights `[d_out, d_in]` in place of a linear's own.
    pub(crate) fn replace(&mut self, id: LinearId, weights: Weights) -> Result<()> {
        let linear = &mut self.linears[id.0];
        let own = linear.weight()?;
        let weight = weights.into_own_tensor(own.dims(), own.device())?;
        linear.replace(weight)
    }

    /// `x`: the batch that `context` describes, `[n_tokens, hidden]`. Returns the same shape.
    pub fn forward(&self, x: &Tensor, context: &BlockContext<'_>) -> Result<Tensor> {
        self.forward_with(x, &mut |q, k, v| self.attend(context, q, k, v))
    }

    /// The same with another attention.
    pub(crate) fn forward_with(&self, x: &Tensor, attend: Attend<'_>) -> Result<Tensor> {
        let (h, m) = self.until_feed_forward(x, attend, &mut |_, _, _| Ok(()))?;
        self.after_feed_forward(&h, &self.feed_forward(&m)?)
    }

    /// Shows `tap` the inputs of all linears; the block's output is not computed, as nobody needs it.
    pub fn observe(&self, x: &Tensor, context: &BlockContext<'_>, tap: Tap<'_>) -> Result<()> {
        let attend: Attend<'_> = &mut |q, k, v| self.attend(context, q, k, v);
        let (_, m) = self.until_feed_forward(x, attend, tap)?;
        for share in self.shares(&m)?.iter().filter(|share| !share.is_empty()) {
            let (mlp, rows) = (share.mlp, share.rows());
            let read = share.read(&m)?;
            tap(self.plan.linear(mlp.up.first()).input, &read, rows)?;
            let gated = self.gated(mlp, &read)?;
            tap(self.plan.linear(mlp.down).input, &gated, rows)?;
        }
        Ok(())
    }

    /// The residual stream after the attention, and what the feed-forward part reads.
    fn until_feed_forward(
        &self,
        x: &Tensor,
        attend: Attend<'_>,
        tap: Tap<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let attention = &self.plan.attention;
        let input_of = |id| self.plan.linear(id).input;
        let a = self.attention_input(x)?;
        tap(input_of(attention.qkv.first()), &a, None)?;
        let attended = self.attended_with(&a, attend)?;
        tap(input_of(attention.o), &attended, None)?;
        let h = self.after_attention(x, &attended)?;
        let m = self.feed_forward_input(x, &h)?;
        Ok((h, m))
    }

    /// What queries, keys and values are made of.
    pub(crate) fn attention_input(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.attention_norms.enter(x)?)
    }

    /// `attention(q(a), k(a), v(a))`.
    pub(crate) fn attended(&self, a: &Tensor, context: &BlockContext<'_>) -> Result<Tensor> {
        self.attended_with(a, &mut |q, k, v| self.attend(context, q, k, v))
    }

    fn attended_with(&self, a: &Tensor, attend: Attend<'_>) -> Result<Tensor> {
        let [q, k, v] = self.qkv(a)?;
        match &self.qk_norms {
            Some([of_q, of_k]) => attend(&of_q.forward(&q)?, &of_k.forward(&k)?, &v),
            None => attend(&q, &k, &v),
        }
    }

    fn qkv(&self, a: &Tensor) -> Result<[Tensor; 3]> {
        let attention = &self.plan.attention;
        match attention.qkv {
            QkvSpec::Separate { q, k, v } => {
                Ok([self.linear(q, a)?, self.linear(k, a)?, self.linear(v, a)?])
            }
            QkvSpec::Stacked(qkv) => {
                let (all, kv) = (self.linear(qkv, a)?, attention.kv_width());
                let columns = |start, width| all.narrow(D::Minus1, start, width)?.contiguous();
                let q = attention.q_width();
                Ok([columns(0, q)?, columns(q, kv)?, columns(q + kv, kv)?])
            }
            QkvSpec::Interleaved(qkv) => {
                let (all, width) = (self.linear(qkv, a)?, attention.q_width());
                let by_head = all.reshape(((), attention.heads, 3, attention.head_dim))?;
                let part = |at| by_head.narrow(2, at, 1)?.contiguous()?.reshape(((), width));
                Ok([part(0)?, part(1)?, part(2)?])
            }
        }
    }

    fn attend(
        &self,
        context: &BlockContext<'_>,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
    ) -> Result<Tensor> {
        let shape = self.plan.attention.shape(context.ropes);
        Ok(causal_attention(q, k, v, &shape, context.layout)?)
    }

    /// The residual stream with what the attention made.
    pub(crate) fn after_attention(&self, x: &Tensor, attended: &Tensor) -> Result<Tensor> {
        let y = self.linear(self.plan.attention.o, attended)?;
        Ok(self.attention_norms.join(x, &y)?)
    }
}

/// What the blocks of a model share.
#[derive(Debug, Clone, Copy)]
pub struct BlockContext<'a> {
    /// As many positions as the longest sequence has.
    pub ropes: &'a RopeTables,
    /// How the tokens of a batch are laid end to end.
    pub layout: TokenLayout<'a>,
}
