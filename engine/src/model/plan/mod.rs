//! What a decoder is made of: made of `config.json` by a [family](super::family), and all that the engine goes by.

mod attention;
mod feed_forward;
mod norm;
mod rest;

use std::collections::BTreeSet;

pub use attention::{AttentionSpec, QkvSpec};
pub use feed_forward::{FeedForward, Mlp, Mlps, RouterSpec, UpSpec};
pub use norm::{NormKind, NormSpec, PartNorms};

use super::family;
use super::rope::RopeSpec;
use crate::error::{EngineError, Result};

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
    /// What embeddings are multiplied by, rounded to their dtype.
    pub embedding_factor: Option<f32>,
    /// Learned positions, which are added to embeddings.
    pub positions: Option<PositionSpec>,
    /// Rotary settings, by [`RopeId`].
    pub ropes: Vec<RopeSpec>,
    /// Blocks in the order of the computation.
    pub blocks: Vec<BlockPlan>,
    /// From the last block to logits.
    pub head: HeadSpec,
    /// Ends of names of tensors that the class does not read.
    pub ignored: &'static [&'static str],
    /// Whether `config.json` names Python code of its own, which is not run.
    pub has_code: bool,
    /// Why no block can be left out, if none can. A family says `None`, and is asked what becomes of the others.
    pub fixed_blocks: Option<String>,
}

/// A table of positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionSpec {
    /// Tensor, `[offset + longest context, hidden]`.
    pub tensor: String,
    /// Row of position 0.
    pub offset: usize,
}

/// One decoder block: attention and a feed-forward part, with norms (see [`PartNorms`]).
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
    /// Whether the feed-forward part reads the block's input, as the attention does.
    pub is_parallel: bool,
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

/// A norm and the projection to logits.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadSpec {
    /// Of the last block's output.
    pub norm: Option<NormSpec>,
    /// Tensor of the projection, `[vocab, hidden]`.
    pub projection: String,
    /// Whether the embedding takes its place where the weights hold no other.
    pub is_tied: bool,
    /// Bound of the logits: `cap · tanh(logit / cap)`.
    pub soft_cap: Option<f32>,
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

    /// Refuses weights that lack a tensor, or hold one that no class of this architecture reads, such as scales or the
    /// matrices of an adapter: the model that was trained is another one.
    pub fn check_names(&self, names: &BTreeSet<&str>) -> Result<()> {
        let read: BTreeSet<String> = self.tensors().map(|(name, _)| name).collect();
        let may_lack = |name: &str| self.head.is_tied && name == self.head.projection;
        let mut all = read.iter();
        if let Some(name) = all.find(|name| !names.contains(name.as_str()) && !may_lack(name)) {
            return Err(EngineError::MissingTensor(name.clone()));
        }
        let is_ignored = |name: &str| {
            let mut ends = self.ignored.iter().chain(&[DERIVED]);
            ends.any(|end| name.ends_with(end))
        };
        let mut names = names.iter();
        match names.find(|name| !read.contains(**name) && !is_ignored(name)) {
            Some(name) => Err(EngineError::UnreadTensor((*name).to_owned())),
            None => Ok(()),
        }
    }

    /// Every tensor that is read, with its shape; that of the projection last.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        let vocabulary = vec![self.vocab, self.hidden];
        let embedding = (self.embedding.clone(), vocabulary.clone());
        let projection = (self.head.projection.clone(), vocabulary);
        let positions = self.positions.iter().map(|spec| {
            let rows = spec.offset + self.max_seq_len;
            (spec.tensor.clone(), vec![rows, self.hidden])
        });
        std::iter::once(embedding)
            .chain(positions)
            .chain(self.blocks.iter().flat_map(BlockPlan::tensors))
            .chain(self.head.norm.iter().flat_map(of_norm))
            .chain([projection])
    }
}

impl BlockPlan {
    fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        let linears = self.linears.iter().flat_map(|linear| {
            let bias = (linear.bias(), vec![linear.d_out]);
            let weight = (linear.weight(), vec![linear.d_out, linear.d_in]);
            [weight].into_iter().chain(linear.has_bias.then_some(bias))
        });
        let norms = self.norms().flat_map(of_norm);
        norms.chain(self.router_tensor()).chain(linears)
    }

    /// The router's tensor, `[experts, hidden]`.
    pub(super) fn router_tensor(&self) -> Option<(String, Vec<usize>)> {
        let mlps = &self.feed_forward.mlps;
        let router = mlps.router()?;
        let hidden = self.linear(mlps.all().first()?.up.first()).d_in;
        Some((router.weight(), vec![mlps.all().len(), hidden]))
    }

    fn norms(&self) -> impl Iterator<Item = &NormSpec> {
        let (attention, feed_forward) = (&self.attention, &self.feed_forward);
        let of_parts = attention.norms.iter().chain(feed_forward.norms.iter());
        of_parts.chain(attention.qk_norms.iter().flatten())
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

    /// The linears that write into the residual stream without a norm or a gate between.
    pub(crate) fn residual_linears(&self) -> impl Iterator<Item = &LinearSpec> {
        let (attention, feed_forward) = (&self.attention, &self.feed_forward);
        let o = (attention.norms.output.is_none()).then_some(attention.o);
        let down = match feed_forward.mlps {
            Mlps::One(mlp) if feed_forward.norms.output.is_none() => Some(mlp.down),
            _ => None,
        };
        o.into_iter().chain(down).map(|id| self.linear(id))
    }

    /// Their weights.
    pub(crate) fn residual_weights(&self) -> u64 {
        self.residual_linears().map(LinearSpec::weights).sum()
    }

    /// Width within the feed-forward part, of its widest MLP.
    pub fn inner_width(&self) -> u64 {
        let mlps = self.feed_forward.mlps.all().iter();
        let widths = mlps.map(|mlp| self.linear(mlp.down).d_in as u64);
        widths.max().unwrap_or_default()
    }

    /// Weights that a token is multiplied with, where experts are alike.
    pub fn weights_per_token(&self) -> u64 {
        let router = self
            .router_tensor()
            .map_or(0, |(_, shape)| shape.iter().product());
        let unrouted = self.weights() - self.weights_of_mlps(Mlp::linears);
        unrouted + self.mlp_weights_per_token(Mlp::linears) + router as u64
    }

    /// The same of some linears of its MLPs.
    pub(crate) fn mlp_weights_per_token<I: Iterator<Item = LinearId>>(
        &self,
        linears: impl Fn(Mlp) -> I,
    ) -> u64 {
        let mlps = &self.feed_forward.mlps;
        self.weights_of_mlps(linears) / mlps.all().len() as u64 * mlps.per_token()
    }

    fn weights_of_mlps<I: Iterator<Item = LinearId>>(&self, linears: impl Fn(Mlp) -> I) -> u64 {
        let mlps = self.feed_forward.mlps.all().iter();
        let linears = mlps.flat_map(|mlp| linears(*mlp));
        linears.map(|id| self.linear(id).weights()).sum()
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

fn of_norm(norm: &NormSpec) -> impl Iterator<Item = (String, Vec<usize>)> + use<> {
    let width = norm.width;
    let tensors = norm.tensors().into_iter();
    tensors.map(move |name| (name, vec![width]))
}
