//! What a feed-forward part is made of.

use super::{LinearId, PartNorms};
use crate::ops::Activation;

/// The second half of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedForward {
    /// Around it.
    pub norms: PartNorms,
    /// What it computes.
    pub mlps: Mlps,
}

/// The MLPs of a feed-forward part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mlps {
    /// One, which reads every token.
    One(Mlp),
    /// Experts, of which a router chooses some for each token.
    Routed {
        /// Chooses them.
        router: RouterSpec,
        /// All of them, in the order of the router's rows.
        experts: Vec<Mlp>,
    },
}

/// With the weight `R` `[experts, hidden]`, a token `m` and `p = softmax(R m)` over all experts:
///
/// ```text
/// T = the top_k experts with the largest p      g_e = p_e, or p_e / Σ_T p      output = Σ_T g_e · expert_e(m)
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterSpec {
    /// The module's name in the checkpoint.
    pub name: String,
    /// Experts that read a token.
    pub top_k: usize,
    /// Whether the weights `g` of a token's experts are made to sum to 1.
    pub renormalises: bool,
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

impl Mlps {
    /// All of them.
    pub fn all(&self) -> &[Mlp] {
        match self {
            Self::One(mlp) => std::slice::from_ref(mlp),
            Self::Routed { experts, .. } => experts,
        }
    }

    /// What chooses among them.
    pub fn router(&self) -> Option<&RouterSpec> {
        match self {
            Self::One(_) => None,
            Self::Routed { router, .. } => Some(router),
        }
    }

    /// How many of them read a token.
    pub(super) fn per_token(&self) -> u64 {
        self.router().map_or(1, |router| router.top_k as u64)
    }
}

impl RouterSpec {
    /// Tensor of the weight, `[experts, hidden]`.
    pub fn weight(&self) -> String {
        format!("{}.weight", self.name)
    }
}

impl Mlp {
    /// All of its linears.
    pub(crate) fn linears(self) -> impl Iterator<Item = LinearId> {
        self.up.linears().chain([self.down])
    }
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
