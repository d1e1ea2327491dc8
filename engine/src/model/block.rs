//! One decoder block of the LLaMA family, with the inputs of its linears open to observation.
//!
//! ```text
//! h = x + o(attention(q(a), k(a), v(a)))      a = rms_norm(x)
//! y = h + down(silu(gate(m)) · up(m))         m = rms_norm(h)
//! ```

use candle_core::{Device, Tensor};

use super::config::ModelConfig;
use super::rope::RopeTable;
use crate::checkpoint::{Checkpoint, Weights};
use crate::error::Result;
use crate::ops::{AttentionShape, TokenLayout, causal_attention, linear, rms_norm, silu_mul};

/// The prunable linears of a block, in the order of the computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinearKind {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Output of the attention.
    O,
    /// Gate of the feed-forward part.
    Gate,
    /// What the gate lets through.
    Up,
    /// Output of the feed-forward part.
    Down,
}

/// A point where one input feeds one or more linears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinearInput {
    /// Of q, k, v.
    Attention,
    /// Of o.
    AttentionOutput,
    /// Of gate, up.
    FeedForward,
    /// Of down.
    FeedForwardOutput,
}

impl LinearInput {
    /// In the order of the computation.
    pub const ALL: [Self; 4] = [
        Self::Attention,
        Self::AttentionOutput,
        Self::FeedForward,
        Self::FeedForwardOutput,
    ];
}

impl LinearKind {
    /// In the order of the computation.
    pub const ALL: [Self; 7] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// The input it shares with others.
    pub fn input(self) -> LinearInput {
        match self {
            Self::Q | Self::K | Self::V => LinearInput::Attention,
            Self::O => LinearInput::AttentionOutput,
            Self::Gate | Self::Up => LinearInput::FeedForward,
            Self::Down => LinearInput::FeedForwardOutput,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::O => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }

    /// The module's name in the checkpoint; its tensors are `NAME.weight` and `NAME.bias`.
    pub fn name(self, block: usize) -> String {
        format!("model.layers.{block}.{}", self.suffix())
    }

    /// `(d_out, d_in)`.
    pub fn shape(self, config: &ModelConfig) -> (usize, usize) {
        let (q_width, kv_width) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        match self {
            Self::Q => (q_width, config.hidden),
            Self::K | Self::V => (kv_width, config.hidden),
            Self::O => (config.hidden, q_width),
            Self::Gate | Self::Up => (config.intermediate, config.hidden),
            Self::Down => (config.hidden, config.intermediate),
        }
    }

    /// Whether it has a bias.
    pub fn has_bias(self, config: &ModelConfig) -> bool {
        match self {
            Self::Q | Self::K | Self::V | Self::O => config.attention_bias,
            Self::Gate | Self::Up | Self::Down => config.mlp_bias,
        }
    }
}

/// `y = x · weightᵀ + bias`.
#[derive(Debug)]
struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    fn load(
        checkpoint: &Checkpoint,
        config: &ModelConfig,
        block: usize,
        kind: LinearKind,
        device: &Device,
    ) -> Result<Self> {
        let name = kind.name(block);
        let (d_out, d_in) = kind.shape(config);
        let weight = checkpoint
            .read(&format!("{name}.weight"))?
            .into_tensor(&[d_out, d_in], device)?;
        let bias = if kind.has_bias(config) {
            Some(
                checkpoint
                    .read(&format!("{name}.bias"))?
                    .into_tensor(&[d_out], device)?,
            )
        } else {
            None
        };
        Ok(Self { weight, bias })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = linear(x, &self.weight)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// Sees the input `[n_tokens, d_in]` of linears as it passes.
pub type Tap<'a> = &'a mut dyn FnMut(LinearInput, &Tensor) -> Result<()>;

/// Makes the attention's output `[n_tokens, heads · head_dim]` of q, k, v.
pub(crate) type Attend<'a> = &'a mut dyn FnMut(&Tensor, &Tensor, &Tensor) -> Result<Tensor>;

/// A resident block: its weights in f32 on the device.
#[derive(Debug)]
pub struct Block {
    linears: [Linear; 7],
    attention_norm: Tensor,
    feed_forward_norm: Tensor,
}

impl Block {
    pub(super) fn load(
        checkpoint: &Checkpoint,
        config: &ModelConfig,
        index: usize,
        device: &Device,
    ) -> Result<Self> {
        let norm = |name: &str| {
            let name = format!("model.layers.{index}.{name}.weight");
            checkpoint
                .read(&name)?
                .into_tensor(&[config.hidden], device)
        };
        let linear = |kind| Linear::load(checkpoint, config, index, kind, device);
        let [q, k, v, o, gate, up, down] = LinearKind::ALL;
        Ok(Self {
            linears: [
                linear(q)?,
                linear(k)?,
                linear(v)?,
                linear(o)?,
                linear(gate)?,
                linear(up)?,
                linear(down)?,
            ],
            attention_norm: norm("input_layernorm")?,
            feed_forward_norm: norm("post_attention_layernorm")?,
        })
    }

    fn linear(&self, kind: LinearKind, x: &Tensor) -> candle_core::Result<Tensor> {
        self.linears[kind as usize].forward(x)
    }

    /// Puts other weights `[d_out, d_in]` in place of a linear's own.
    pub(crate) fn replace(&mut self, kind: LinearKind, weights: Weights) -> Result<()> {
        let weight = &mut self.linears[kind as usize].weight;
        *weight = weights.into_tensor(weight.dims(), &weight.device().clone())?;
        Ok(())
    }

    /// `x`: the batch that `context` describes, `[n_tokens, hidden]`. Returns the same shape.
    pub fn forward(&self, x: &Tensor, context: &BlockContext<'_>) -> Result<Tensor> {
        self.forward_with(x, context.config, &mut |q, k, v| context.attend(q, k, v))
    }

    /// The same with another attention.
    pub(crate) fn forward_with(
        &self,
        x: &Tensor,
        config: &ModelConfig,
        attend: Attend<'_>,
    ) -> Result<Tensor> {
        let (h, gated) = self.until_down(x, config, attend, &mut |_, _| Ok(()))?;
        Ok((h + self.linear(LinearKind::Down, &gated)?)?)
    }

    /// Shows `tap` the inputs of all linears; the block's output is not computed, as nobody needs it.
    pub fn observe(&self, x: &Tensor, context: &BlockContext<'_>, tap: Tap<'_>) -> Result<()> {
        let attend: Attend<'_> = &mut |q, k, v| context.attend(q, k, v);
        self.until_down(x, context.config, attend, tap).map(|_| ())
    }

    /// The residual stream before, and the input of, the down projection.
    fn until_down(
        &self,
        x: &Tensor,
        config: &ModelConfig,
        attend: Attend<'_>,
        tap: Tap<'_>,
    ) -> Result<(Tensor, Tensor)> {
        use LinearKind::{Gate, K, O, Q, Up, V};
        let a = rms_norm(x, &self.attention_norm, config.rms_norm_eps)?;
        tap(LinearInput::Attention, &a)?;
        let (q, k, v) = (
            self.linear(Q, &a)?,
            self.linear(K, &a)?,
            self.linear(V, &a)?,
        );
        let attended = attend(&q, &k, &v)?;
        tap(LinearInput::AttentionOutput, &attended)?;
        let h = (x + self.linear(O, &attended)?)?;
        let m = rms_norm(&h, &self.feed_forward_norm, config.rms_norm_eps)?;
        tap(LinearInput::FeedForward, &m)?;
        let gated = silu_mul(&self.linear(Gate, &m)?, &self.linear(Up, &m)?)?;
        tap(LinearInput::FeedForwardOutput, &gated)?;
        Ok((h, gated))
    }
}

/// What blocks share.
#[derive(Debug, Clone, Copy)]
pub struct BlockContext<'a> {
    /// The model's numbers.
    pub config: &'a ModelConfig,
    /// As many positions as the longest sequence has.
    pub rope: &'a RopeTable,
    /// How the tokens of a batch are laid end to end.
    pub layout: TokenLayout<'a>,
}

impl BlockContext<'_> {
    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let shape = self.config.attention_shape(self.rope);
        Ok(causal_attention(q, k, v, &shape, self.layout)?)
    }
}

impl ModelConfig {
    /// The attention of every block.
    pub(crate) fn attention_shape<'a>(&self, rope: &'a RopeTable) -> AttentionShape<'a> {
        AttentionShape {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            sliding_window: self.sliding_window,
            rope,
        }
    }
}
