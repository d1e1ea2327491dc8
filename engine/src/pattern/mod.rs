//! Sparsity patterns: which weights of a linear may become zero, and the choice of those with the lowest scores.
//!
//! Scores are not negative, so their bits order like the numbers: they are compared as `u32` keys. Nothing is
//! sorted, no score matrix and no index exists; a row's keys live in a scratch buffer while the row is worked on.
//!
//! **Ties:** of equal scores the lower index is chosen first, as a stable sort would have it.
//! **Rounding:** `floor(n · sparsity)` in double precision: 100 features at 0.29 give 28 zeros.

mod choose;
mod element;
mod group;
mod keys;
mod linear;
mod row;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use choose::ComparisonGroup;
pub(crate) use choose::{Score, choose, choose_in_linear, zeros_of};
pub(crate) use element::Element;
pub(crate) use group::is_among_lowest;

/// Which positions may become zero. Written `"unstructured"` or `"N:M"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Pattern {
    /// Any position.
    #[default]
    Unstructured,
    /// Exactly `kept` of every `group` consecutive input features stay.
    ///
    /// Note that the reference's `prune_n` counts the zeros instead.
    KeptOfGroup {
        /// N of `N:M`.
        kept: usize,
        /// M of `N:M`.
        group: usize,
    },
}

/// What is asked of one linear.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goal {
    /// Which positions may become zero.
    pub pattern: Pattern,
    /// Fraction of zeros, in [0, 1); for `N:M` that of the pattern.
    pub sparsity: f64,
    /// Zeros of the whole linear, where they were counted: then its rows have equally many, give or take one. `None` = as
    /// many as the sparsity makes, rounded down in each group of weights that are compared.
    pub zeros: Option<u64>,
    /// Whose scores are compared where the pattern is unstructured; `None` = as the method does by itself.
    pub group: Option<ComparisonGroup>,
}

impl Goal {
    /// A sparsity in a pattern.
    pub const fn new(pattern: Pattern, sparsity: f64) -> Self {
        Self {
            pattern,
            sparsity,
            zeros: None,
            group: None,
        }
    }

    /// Zeros among the first `part` of `whole` weights of a linear where all of these are compared.
    pub(crate) fn zeros_until(self, part: usize, whole: usize) -> usize {
        match self.zeros {
            Some(zeros) => divided(zeros, part, whole),
            None => zeros_of(part, self.sparsity),
        }
    }

    /// Zeros of a row of a linear `[d_out, d_in]` where the weights of a row are compared.
    pub(crate) fn zeros_of_row(self, row: usize, d_out: usize, d_in: usize) -> usize {
        match self.zeros {
            Some(zeros) => divided(zeros, row + 1, d_out) - divided(zeros, row, d_out),
            None => zeros_of(d_in, self.sparsity),
        }
    }
}

/// `zeros · part / whole`, rounded down.
fn divided(zeros: u64, part: usize, whole: usize) -> usize {
    (u128::from(zeros) * part as u128 / whole as u128) as usize
}

impl Pattern {
    /// The widest group of an `N:M` pattern.
    pub const MAX_GROUP: usize = 64;

    const UNSTRUCTURED: &str = "unstructured";

    /// The patterns with a name of their own.
    pub const NAMED: [&str; 1] = [Self::UNSTRUCTURED];

    /// The fraction of zeros that follows from the pattern alone.
    pub fn implied_sparsity(self) -> Option<f64> {
        match self {
            Self::Unstructured => None,
            Self::KeptOfGroup { kept, group } => Some(1.0 - kept as f64 / group as f64),
        }
    }

    /// Whether a linear with `d_in` input features can have it.
    pub fn fits(self, d_in: usize) -> bool {
        match self {
            Self::Unstructured => true,
            Self::KeptOfGroup { group, .. } => d_in.is_multiple_of(group),
        }
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == Self::UNSTRUCTURED {
            return Ok(Self::Unstructured);
        }
        let digits = |part: &str| {
            (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
                .then(|| part.parse().ok())
                .flatten()
        };
        let numbers = text
            .split_once(':')
            .and_then(|(n, m)| Some((digits(n)?, digits(m)?)));
        let max = Self::MAX_GROUP;
        match numbers {
            Some((kept, group)) if kept >= 1 && kept < group && group <= max => {
                Ok(Self::KeptOfGroup { kept, group })
            }
            Some(_) => Err(format!(
                "in the pattern {text:?}, N:M needs 1 <= N < M <= {max}"
            )),
            None => Err(format!(
                "unknown pattern {text:?}, expected {:?} or \"N:M\" such as \"2:4\"",
                Self::UNSTRUCTURED
            )),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unstructured => f.write_str(Self::UNSTRUCTURED),
            Self::KeptOfGroup { kept, group } => write!(f, "{kept}:{group}"),
        }
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
