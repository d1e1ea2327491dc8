//! What a feed-forward part is made of.

use super::{LinearId, PartNorms};
use crate::ops::Activation;

/// The second half of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedForward {
    /// Around it.
    pub norms: PartNorms,
    /// What it computes.
    pub mlp: Mlp,
}

/// `down(activation(gate(m)) · up(m))`, or `down(activation(up(m)))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mlp {
    /// Makes what is within.
    pub up: UpSpec,
    /// What is within goes through it.
    pub activation: Activation,
    /// Makes the output.
    pub down: LinearId,
}

/// The linears that make what is within a feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpSpec {
    /// A gate, and what it lets through.
    Gated {
        /// Makes the gate.
        gate: LinearId,
        /// Makes what the gate lets through.
        up: LinearId,
    },
    /// One for both: rows of the gate, then of what it lets through.
    Stacked(LinearId),
    /// No gate.
    Plain(LinearId),
}

impl UpSpec {
    /// The first of the linears.
    pub(crate) fn first(self) -> LinearId {
        match self {
            Self::Gated { gate: first, .. } | Self::Stacked(first) | Self::Plain(first) => first,
        }
    }

    /// All of them.
    pub(crate) fn linears(self) -> impl Iterator<Item = LinearId> {
        let (first, second) = match self {
            Self::Gated { gate, up } => (gate, Some(up)),
            Self::Stacked(only) | Self::Plain(only) => (only, None),
        };
        std::iter::once(first).chain(second)
    }
}
