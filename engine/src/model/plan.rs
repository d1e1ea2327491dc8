//! What a decoder is made of: made of `config.json` by a [family](super::family), and all that the engine goes by.

use std::collections::BTreeSet;

use super::family;
use super::rope::{RopeSpec, RopeTables};
use crate::error::{EngineError, Result};
use crate::ops::AttentionShape;
use crate::pattern::Pattern;

/// Tables that older checkpoints hold, and that follow from the configuration.
const DERIVED: &str = "rotary_emb.inv_freq";

/// A whole decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelPlan {
    /// The class named in `architectures`.
    pub architecture: &'static str,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Longest context.
    pub max_seq_len: usize,
    /// Tensor of the embedding, `[vocab, hidden]`.
    pub embedding: String,
    /// Rotary settings, by [`RopeId`].
    pub ropes: Vec<RopeSpec>,
    /// Blocks in the order of the computation.
    pub blocks: Vec<BlockPlan>,
    /// From the last block to logits.
    pub head: HeadSpec,
    /// Whether `config.json` names Python code of its own, which is not run.
    pub has_code: bool,
}

/// One decoder block:
///
/// ```text
/// h = x + o(attention(q(a), k(a), v(a)))      a = norm(x)
/// y = h + feed_forward(m)                     m = norm(h)
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct BlockPlan {
    /// Prunable linears in the order of the computation, by [`LinearId`].
    pub linears: Vec<LinearSpec>,
    /// Widths of their distinct inputs in the order of the computation, by [`InputId`].
    pub inputs: Vec<usize>,
    /// The first half.
    pub attention: AttentionSpec,
    /// The second half.
    pub feed_forward: FeedForward,
}

/// Place of a linear in [`BlockPlan::linears`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearId(pub usize);

/// Place of an input in [`BlockPlan::inputs`]: one input can feed several linears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputId(pub usize);

/// Place of rotary settings in [`ModelPlan::ropes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RopeId(pub usize);

/// `y = x · weightᵀ + bias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinearSpec {
    /// The module's name in the checkpoint.
    pub name: String,
    /// Rows of the weight.
    pub d_out: usize,
    /// Columns of the weight.
    pub d_in: usize,
    /// Whether it has a bias.
    pub has_bias: bool,
    /// What feeds it.
    pub input: InputId,
}

/// Causal attention with rotary positions and grouped key-value heads, after a norm.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionSpec {
    /// Of its input.
    pub norm: NormSpec,
    /// Makes queries.
    pub q: LinearId,
    /// Makes keys.
    pub k: LinearId,
    /// Makes values.
    pub v: LinearId,
    /// Makes the output.
    pub o: LinearId,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Factor of the scores before the softmax.
    pub scale: f32,
    /// A query sees this many tokens, itself included; `None` = all before it.
    pub window: Option<usize>,
    /// How queries and keys are turned.
    pub rope: RopeId,
}

/// `down(silu(gate(m)) · up(m))` after a norm.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedForward {
    /// Of its input.
    pub norm: NormSpec,
    /// Makes the gate.
    pub gate: LinearId,
    /// Makes what the gate lets through.
    pub up: LinearId,
    /// Makes the output.
    pub down: LinearId,
}

/// Root-mean-square norm.
#[derive(Debug, Clone, PartialEq)]
pub struct NormSpec {
    /// Tensor of its weight, `[hidden]`.
    pub tensor: String,
    /// Added to the mean square.
    pub eps: f32,
}

/// A norm and the projection to logits.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadSpec {
    /// Of the last block's output.
    pub norm: NormSpec,
    /// Tensor of the projection, `[vocab, hidden]`.
    pub projection: String,
    /// Whether the embedding takes its place where the weights hold no other.
    pub is_tied: bool,
}

impl ModelPlan {
    /// Reads `config.json` in `dir`.
    pub fn read(dir: &std::path::Path) -> Result<Self> {
        family::read(dir)
    }

    /// Parses the content of a `config.json`.
    pub fn parse(json: &[u8]) -> Result<Self> {
        family::parse(json)
    }

    /// Length of windows unless a job says another: the paper's 2048 tokens, or the context if that is less.
    pub fn default_seq_len(&self) -> usize {
        self.max_seq_len.min(2048)
    }

    /// Prunable linears of all blocks in the order of the computation.
    pub fn linears(&self) -> impl Iterator<Item = &LinearSpec> {
        self.blocks.iter().flat_map(|block| &block.linears)
    }

    /// Refuses a pattern that does not fit the input features of every linear.
    pub fn check_pattern(&self, pattern: Pattern) -> Result<()> {
        match self.linears().find(|linear| !pattern.fits(linear.d_in)) {
            Some(linear) => Err(EngineError::PatternMismatch {
                linear: linear.name.clone(),
                d_in: linear.d_in,
                pattern,
            }),
            None => Ok(()),
        }
    }

    /// Refuses weights that lack a tensor, or hold one that no class of this architecture reads, such as scales or the
    /// matrices of an adapter: the model that was trained is another one.
    pub fn check_names(&self, names: &BTreeSet<&str>) -> Result<()> {
        let read: BTreeSet<String> = self.tensors().collect();
        let may_lack = |name: &str| self.head.is_tied && name == self.head.projection;
        let mut all = read.iter();
        if let Some(name) = all.find(|name| !names.contains(name.as_str()) && !may_lack(name)) {
            return Err(EngineError::MissingTensor(name.clone()));
        }
        let mut names = names.iter();
        match names.find(|name| !read.contains(**name) && !name.ends_with(DERIVED)) {
            Some(name) => Err(EngineError::UnreadTensor((*name).to_owned())),
            None => Ok(()),
        }
    }

    /// Names of all tensors that are read.
    fn tensors(&self) -> impl Iterator<Item = String> {
        let head = [
            &self.embedding,
            &self.head.norm.tensor,
            &self.head.projection,
        ];
        head.into_iter()
            .cloned()
            .chain(self.blocks.iter().flat_map(BlockPlan::tensors))
    }
}

impl BlockPlan {
    fn tensors(&self) -> impl Iterator<Item = String> {
        let norms = [&self.attention.norm, &self.feed_forward.norm];
        let linears = self.linears.iter().flat_map(|linear| {
            let bias = linear.has_bias.then(|| linear.bias());
            [linear.weight()].into_iter().chain(bias)
        });
        norms
            .map(|norm| norm.tensor.clone())
            .into_iter()
            .chain(linears)
    }

    /// A linear by its place.
    pub fn linear(&self, id: LinearId) -> &LinearSpec {
        &self.linears[id.0]
    }

    /// Places of the distinct inputs, in the order of the computation.
    pub(crate) fn input_ids(&self) -> impl Iterator<Item = InputId> + use<> {
        (0..self.inputs.len()).map(InputId)
    }

    /// The linears that an input feeds.
    pub(crate) fn fed_by(&self, input: InputId) -> impl Iterator<Item = LinearId> {
        let linears = self.linears.iter().enumerate();
        linears.filter_map(move |(at, linear)| (linear.input == input).then_some(LinearId(at)))
    }

    /// The linears that write into the residual stream.
    pub(crate) fn residual_linears(&self) -> impl Iterator<Item = &LinearSpec> {
        [self.attention.o, self.feed_forward.down]
            .map(|id| self.linear(id))
            .into_iter()
    }

    /// Their weights.
    pub(crate) fn residual_weights(&self) -> u64 {
        self.residual_linears().map(LinearSpec::weights).sum()
    }

    /// Width within the feed-forward part.
    pub fn inner_width(&self) -> u64 {
        self.linear(self.feed_forward.down).d_in as u64
    }

    /// Number of weights in its linears.
    pub fn weights(&self) -> u64 {
        self.linears.iter().map(LinearSpec::weights).sum()
    }
}

impl LinearSpec {
    /// Tensor of the weight, `[d_out, d_in]`.
    pub fn weight(&self) -> String {
        format!("{}.weight", self.name)
    }

    /// Tensor of the bias, `[d_out]`.
    pub fn bias(&self) -> String {
        format!("{}.bias", self.name)
    }

    /// Number of weights.
    pub fn weights(&self) -> u64 {
        self.d_out as u64 * self.d_in as u64
    }
}

impl AttentionSpec {
    /// What the operation needs to know, with positions out of `ropes`.
    pub(crate) fn shape<'a>(&self, ropes: &'a RopeTables) -> AttentionShape<'a> {
        AttentionShape {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            scale: self.scale,
            window: self.window,
            rope: ropes.get(self.rope),
        }
    }

    /// Width of all keys of a token.
    pub(crate) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}
