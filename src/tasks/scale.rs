//! The form in which a loss is reported.

use std::f64::consts::LN_2;

/// A function of a loss per unit, R = Σ nats / Σ units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// R.
    Nats,
    /// R / ln 2, such as bits per byte.
    Bits,
    /// exp(R): perplexity per word, byte or target.
    Perplexity,
}

impl Scale {
    /// The function itself.
    pub fn value(self, rate: f64) -> f64 {
        match self {
            Self::Nats => rate,
            Self::Bits => rate / LN_2,
            Self::Perplexity => rate.exp(),
        }
    }

    /// The derivative of [`value`](Self::value).
    pub fn slope(self, rate: f64) -> f64 {
        match self {
            Self::Nats => 1.0,
            Self::Bits => LN_2.recip(),
            Self::Perplexity => rate.exp(),
        }
    }
}
