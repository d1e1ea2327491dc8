//! One decoder block as its [`BlockPlan`] says, with the inputs of its linears open to observation.

use candle_core::{Device, Tensor};

use super::plan::{AttentionSpec, BlockPlan, FeedForward, InputId, LinearId, LinearSpec, NormSpec};
use super::rope::RopeTables;
use crate::checkpoint::{Checkpoint, Weights};
use crate::error::Result;
use crate::ops::{TokenLayout, add, causal_attention, linear, rms_norm, silu_mul, widen};

/// `y = x · weightᵀ + bias`.
#[derive(Debug, Clone)]
struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    fn load(checkpoint: &Checkpoint, spec: &LinearSpec, device: &Device) -> Result<Self> {
        let weight = checkpoint.read(&spec.weight())?;
        let bias = if spec.has_bias {
            let bias = checkpoint.read(&spec.bias())?;
            Some(bias.into_tensor(&[spec.d_out], device)?)
        } else {
            None
        };
        Ok(Self {
            weight: weight.into_own_tensor(&[spec.d_out, spec.d_in], device)?,
            bias,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = linear(x, &self.weight)?;
        match &self.bias {
            Some(bias) => add(&y, bias),
            None => Ok(y),
        }
    }
}

/// Root-mean-square norm.
#[derive(Debug, Clone)]
pub(super) struct Norm {
    weight: Tensor,
    eps: f32,
}

impl Norm {
    pub(super) fn load(
        checkpoint: &Checkpoint,
        spec: &NormSpec,
        hidden: usize,
        device: &Device,
    ) -> Result<Self> {
        let weight = checkpoint.read(&spec.tensor)?;
        Ok(Self {
            weight: weight.into_tensor(&[hidden], device)?,
            eps: spec.eps,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        rms_norm(x, &self.weight, self.eps)
    }
}

/// Sees the input `[n_tokens, d_in]` of linears as it passes.
pub type Tap<'a> = &'a mut dyn FnMut(InputId, &Tensor) -> Result<()>;

/// Makes the attention's output `[n_tokens, heads · head_dim]` of q, k, v.
pub(crate) type Attend<'a> = &'a mut dyn FnMut(&Tensor, &Tensor, &Tensor) -> Result<Tensor>;

/// A resident block: its weights in the file's own dtype, on the device.
#[derive(Debug, Clone)]
pub struct Block<'p> {
    plan: &'p BlockPlan,
    linears: Vec<Linear>,
    attention_norm: Norm,
    feed_forward_norm: Norm,
}

impl<'p> Block<'p> {
    pub(super) fn load(
        checkpoint: &Checkpoint,
        plan: &'p BlockPlan,
        hidden: usize,
        device: &Device,
    ) -> Result<Self> {
        let norm = |spec| Norm::load(checkpoint, spec, hidden, device);
        let linear = |spec| Linear::load(checkpoint, spec, device);
        Ok(Self {
            plan,
            linears: plan.linears.iter().map(linear).collect::<Result<_>>()?,
            attention_norm: norm(&plan.attention.norm)?,
            feed_forward_norm: norm(&plan.feed_forward.norm)?,
        })
    }

    /// What it is made of.
    pub fn plan(&self) -> &'p BlockPlan {
        self.plan
    }

    fn linear(&self, id: LinearId, x: &Tensor) -> candle_core::Result<Tensor> {
        self.linears[id.0].forward(x)
    }

    /// A linear's weights as they stand in the file, or were put in place of those.
    pub(crate) fn weights(&self, id: LinearId) -> Result<Weights> {
        Weights::of_tensor(&self.linears[id.0].weight)
    }

    /// Makes all weights f32, for products that follow each other.
    pub(crate) fn widen(&mut self) -> Result<()> {
        for linear in &mut self.linears {
            linear.weight = widen(&linear.weight)?;
        }
        Ok(())
    }

    /// Puts other weights `[d_out, d_in]` in place of a linear's own.
    pub(crate) fn replace(&mut self, id: LinearId, weights: Weights) -> Result<()> {
        let weight = &mut self.linears[id.0].weight;
        *weight = weights.into_own_tensor(weight.dims(), &weight.device().clone())?;
        Ok(())
    }

    /// `x`: the batch that `context` describes, `[n_tokens, hidden]`. Returns the same shape.
    pub fn forward(&self, x: &Tensor, context: &BlockContext<'_>) -> Result<Tensor> {
        self.forward_with(x, &mut |q, k, v| self.attend(context, q, k, v))
    }

    /// The same with another attention.
    pub(crate) fn forward_with(&self, x: &Tensor, attend: Attend<'_>) -> Result<Tensor> {
        let (h, gated) = self.until_down(x, attend, &mut |_, _| Ok(()))?;
        self.after_feed_forward(&h, &gated)
    }

    /// Shows `tap` the inputs of all linears; the block's output is not computed, as nobody needs it.
    pub fn observe(&self, x: &Tensor, context: &BlockContext<'_>, tap: Tap<'_>) -> Result<()> {
        let attend: Attend<'_> = &mut |q, k, v| self.attend(context, q, k, v);
        self.until_down(x, attend, tap).map(|_| ())
    }

    /// The residual stream before, and the input of, the last linear.
    fn until_down(&self, x: &Tensor, attend: Attend<'_>, tap: Tap<'_>) -> Result<(Tensor, Tensor)> {
        let (attention, feed_forward) = (&self.plan.attention, &self.plan.feed_forward);
        let input_of = |id| self.plan.linear(id).input;
        let a = self.attention_input(x)?;
        tap(input_of(attention.q), &a)?;
        let attended = self.attended_with(&a, attend)?;
        tap(input_of(attention.o), &attended)?;
        let h = self.after_attention(x, &attended)?;
        let m = self.feed_forward_input(&h)?;
        tap(input_of(feed_forward.gate), &m)?;
        let gated = self.gated(&m)?;
        tap(input_of(feed_forward.down), &gated)?;
        Ok((h, gated))
    }

    /// `a = norm(x)`.
    pub(crate) fn attention_input(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.attention_norm.forward(x)?)
    }

    /// `attention(q(a), k(a), v(a))`.
    pub(crate) fn attended(&self, a: &Tensor, context: &BlockContext<'_>) -> Result<Tensor> {
        self.attended_with(a, &mut |q, k, v| self.attend(context, q, k, v))
    }

    fn attended_with(&self, a: &Tensor, attend: Attend<'_>) -> Result<Tensor> {
        let AttentionSpec { q, k, v, .. } = self.plan.attention;
        attend(
            &self.linear(q, a)?,
            &self.linear(k, a)?,
            &self.linear(v, a)?,
        )
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

    /// `h = x + o(attended)`.
    pub(crate) fn after_attention(&self, x: &Tensor, attended: &Tensor) -> Result<Tensor> {
        Ok(add(x, &self.linear(self.plan.attention.o, attended)?)?)
    }

    /// `m = norm(h)`.
    pub(crate) fn feed_forward_input(&self, h: &Tensor) -> Result<Tensor> {
        Ok(self.feed_forward_norm.forward(h)?)
    }

    /// `silu(gate(m)) · up(m)`.
    pub(crate) fn gated(&self, m: &Tensor) -> Result<Tensor> {
        let FeedForward { gate, up, .. } = self.plan.feed_forward;
        Ok(silu_mul(&self.linear(gate, m)?, &self.linear(up, m)?)?)
    }

    /// `y = h + down(gated)`.
    pub(crate) fn after_feed_forward(&self, h: &Tensor, gated: &Tensor) -> Result<Tensor> {
        Ok(add(h, &self.linear(self.plan.feed_forward.down, gated)?)?)
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
