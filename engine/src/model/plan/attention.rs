//! What an attention is made of.

use super::{LinearId, NormSpec, PartNorms, RopeId};
use crate::model::rope::RopeTables;
use crate::ops::AttentionShape;

/// Causal attention with grouped key-value heads.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionSpec {
    /// Around it.
    pub norms: PartNorms,
    /// Makes queries, keys and values.
    pub qkv: QkvSpec,
    /// Of queries and of keys, before they are turned.
    pub qk_norms: Option<[NormSpec; 2]>,
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
    /// Bound of the scores before the softmax: `cap · tanh(score / cap)`.
    pub soft_cap: Option<f32>,
    /// A query sees this many tokens, itself included; `None` = all before it.
    pub window: Option<usize>,
    /// How queries and keys are turned, if they are.
    pub rope: Option<RopeId>,
}

/// The linears that make queries, keys and values of one input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkvSpec {
    /// One each.
    Separate {
        /// Makes queries.
        q: LinearId,
        /// Makes keys.
        k: LinearId,
        /// Makes values.
        v: LinearId,
    },
    /// One for all: rows of queries, then of keys, then of values.
    Stacked(LinearId),
    /// One for all: of each head, rows of queries, keys, values.
    Interleaved(LinearId),
}

impl QkvSpec {
    /// The first of the linears.
    pub(crate) fn first(self) -> LinearId {
        match self {
            Self::Separate { q: first, .. } | Self::Stacked(first) | Self::Interleaved(first) => {
                first
            }
        }
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
            soft_cap: self.soft_cap,
            window: self.window,
            rope: self.rope.map(|id| ropes.get(id)),
        }
    }

    /// Width of all queries of a token.
    pub(crate) fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all keys of a token.
    pub(crate) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}
