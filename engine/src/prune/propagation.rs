//! What a block is observed on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where the inputs come from that linears are pruned by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// From the dense block behind the pruned ones (arXiv 2306.11695, algorithm 1).
    #[default]
    Pruned,
    /// From the dense model.
    Dense,
    /// From the pruned model, linear after linear; kept weights are fitted to outputs of the dense one.
    Paired,
}

impl Propagation {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pruned, Self::Dense, Self::Paired];

    /// Its word in requests and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pruned => "pruned",
            Self::Dense => "dense",
            Self::Paired => "paired",
        }
    }

    /// Activations `[n_tokens, hidden]` of all windows that exist at a time: the streams, and of each of two what the
    /// attention makes of it.
    pub const fn activations(self) -> u64 {
        match self {
            Self::Pruned | Self::Dense => 1,
            Self::Paired => 4,
        }
    }

    /// Residual streams that go through the blocks: that of the pruned model, then that of the dense one.
    pub const fn streams(self) -> usize {
        match self {
            Self::Pruned | Self::Dense => 1,
            Self::Paired => 2,
        }
    }
}

impl fmt::Display for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Propagation {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|propagation| propagation.name() == word)
            .ok_or_else(|| {
                let known = Self::ALL.map(Self::name).join(", ");
                format!("unknown propagation {word:?}, expected one of {known}")
            })
    }
}
