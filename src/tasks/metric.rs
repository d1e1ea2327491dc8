//! What is measured on a task.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A number that a task reports, as a mean over its documents unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Whether the most probable choice is the right one, see [`acc`](super::acc).
    Acc,
    /// The same with log-likelihoods by character, see [`acc_norm`](super::acc_norm).
    AccNorm,
    /// `exp(-mean log-likelihood)` of a target, over documents.
    Perplexity,
    /// `exp(-sum of log-likelihoods / sum of words)` over pages.
    WordPerplexity,
    /// `exp(-sum of log-likelihoods / sum of bytes)` over pages.
    BytePerplexity,
    /// The base-2 logarithm of the perplexity by byte.
    BitsPerByte,
    /// Whether the answer in the form of the examples is the right one.
    ExactMatchStrict,
    /// Whether the last number of the answer is the right one.
    ExactMatchFlexible,
}

impl Metric {
    /// Its name in results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Acc => "acc",
            Self::AccNorm => "acc_norm",
            Self::Perplexity => "perplexity",
            Self::WordPerplexity => "word_perplexity",
            Self::BytePerplexity => "byte_perplexity",
            Self::BitsPerByte => "bits_per_byte",
            Self::ExactMatchStrict => "exact_match_strict",
            Self::ExactMatchFlexible => "exact_match_flexible",
        }
    }

    /// Whether a better model has more of it.
    pub const fn higher_is_better(self) -> bool {
        match self {
            Self::Acc | Self::AccNorm | Self::ExactMatchStrict | Self::ExactMatchFlexible => true,
            Self::Perplexity | Self::WordPerplexity | Self::BytePerplexity | Self::BitsPerByte => {
                false
            }
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_json_are_those_in_print() {
        for metric in [
            Metric::Acc,
            Metric::AccNorm,
            Metric::Perplexity,
            Metric::WordPerplexity,
            Metric::BytePerplexity,
            Metric::BitsPerByte,
            Metric::ExactMatchStrict,
            Metric::ExactMatchFlexible,
        ] {
            let json = serde_json::to_value(metric).unwrap();
            assert_eq!(json, metric.to_string());
        }
    }
}
