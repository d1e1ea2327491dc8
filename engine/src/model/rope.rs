//! Rotary position embedding (RoFormer, arXiv 2104.09864) in the layout of Hugging Face's LLaMA.
//!
//! Of a head's vector, component `i` and `i + head_dim/2` form a pair that is rotated by `position · f_i`, with
//! `f_i = theta^(-2i / head_dim)`.

use std::f64::consts::PI;

use serde::Deserialize;

use crate::error::{EngineError, Result};

/// A change of the frequencies, made for contexts longer than those trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// None.
    Default,
    /// Every frequency divided by `factor`.
    Linear {
        /// Greater than 0.
        factor: f64,
    },
    /// LLaMA 3.1: wavelengths beyond `original_max_seq_len / low_freq_factor` divided by `factor`, those below
    /// `original_max_seq_len / high_freq_factor` kept, the ones between interpolated.
    Llama3 {
        /// Greater than 0.
        factor: f64,
        /// Less than `high_freq_factor`.
        low_freq_factor: f64,
        /// Greater than `low_freq_factor`.
        high_freq_factor: f64,
        /// Context of the training before.
        original_max_seq_len: usize,
    },
}

#[derive(Deserialize)]
struct RawScaling {
    rope_type: Option<String>,
    /// The older name of `rope_type`; some configurations have both.
    #[serde(rename = "type")]
    legacy_type: Option<String>,
    partial_rotary_factor: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
}

impl RopeScaling {
    /// Parses `rope_scaling` or `rope_parameters`.
    pub(super) fn parse(json: &serde_json::Value) -> Result<Self> {
        let invalid =
            |reason: String| EngineError::InvalidConfig(format!("rotary settings: {reason}"));
        let raw = RawScaling::deserialize(json).map_err(|e| invalid(e.to_string()))?;
        let number = |name: &str, value: Option<f64>| {
            value
                .filter(|v| v.is_finite() && *v > 0.0)
                .ok_or_else(|| invalid(format!("{name} must be greater than 0")))
        };
        if let Some(factor) = raw
            .partial_rotary_factor
            .filter(|factor| (factor - 1.0).abs() > f64::EPSILON)
        {
            return Err(EngineError::UnsupportedArchitecture(format!(
                "partial_rotary_factor {factor}"
            )));
        }
        match raw.rope_type.as_deref().or(raw.legacy_type.as_deref()) {
            None | Some("default") => Ok(Self::Default),
            Some("linear") => Ok(Self::Linear {
                factor: number("factor", raw.factor)?,
            }),
            Some("llama3") => {
                let low_freq_factor = number("low_freq_factor", raw.low_freq_factor)?;
                let high_freq_factor = number("high_freq_factor", raw.high_freq_factor)?;
                let original_max_seq_len = raw
                    .original_max_position_embeddings
                    .filter(|&n| n > 0)
                    .ok_or_else(|| {
                        invalid(
                            "original_max_position_embeddings must be greater than 0".to_owned(),
                        )
                    })?;
                if low_freq_factor >= high_freq_factor {
                    return Err(invalid(
                        "low_freq_factor must be less than high_freq_factor".to_owned(),
                    ));
                }
                let factor = number("factor", raw.factor)?;
                Ok(Self::Llama3 {
                    factor,
                    low_freq_factor,
                    high_freq_factor,
                    original_max_seq_len,
                })
            }
            Some(other) => Err(EngineError::UnsupportedArchitecture(format!(
                "rope_type {other:?}"
            ))),
        }
    }

    /// The changed frequency for an unchanged one, in radians per token.
    fn apply(self, frequency: f64) -> f64 {
        match self {
            Self::Default => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_seq_len,
            } => {
                let turns = original_max_seq_len as f64 * frequency / (2.0 * PI);
                let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor))
                    .clamp(0.0, 1.0);
                (1.0 - kept) * frequency / factor + kept * frequency
            }
        }
    }
}

/// cos and sin of every position and pair: each `[seq_len, head_dim / 2]`, row-major.
#[derive(Debug, Clone)]
pub struct RopeTable {
    /// Pairs per position.
    pub half: usize,
    /// cos(position · frequency).
    pub cos: Vec<f32>,
    /// sin(position · frequency).
    pub sin: Vec<f32>,
}

impl RopeTable {
    /// Positions 0 to `seq_len - 1`. Frequencies and angles are rounded to f32, as the reference computes them.
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
    pub fn new(theta: f64, scaling: RopeScaling, head_dim: usize, seq_len: usize) -> Self {
        let half = head_dim / 2;
        let frequencies: Vec<f32> = (0..half)
            .map(|i| scaling.apply(1.0 / theta.powf(2.0 * i as f64 / head_dim as f64)) as f32)
            .collect();
        let angles = || {
            (0..seq_len).flat_map(|position| {
                frequencies
                    .iter()
                    .map(move |f| f64::from(position as f32 * f))
            })
        };
        Self {
            half,
            cos: angles().map(|a| a.cos() as f32).collect(),
            sin: angles().map(|a| a.sin() as f32).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_computed_angles() {
        // head_dim 4, theta 100: frequencies 1 and 100^(-1/2) = 0.1; position 3 turns by 3 and 0.3.
        let table = RopeTable::new(100.0, RopeScaling::Default, 4, 4);
        let expected = [3f32.cos(), 0.3f32.cos()];
        assert_eq!(table.half, 2);
        for (actual, expected) in table.cos[6..8].iter().zip(expected) {
            assert!((actual - expected).abs() < 1e-6);
        }
        assert_eq!((table.cos[0], table.sin[0]), (1.0, 0.0));
    }

    #[test]
    fn llama3_keeps_fast_and_divides_slow_frequencies() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_seq_len: 8192,
        };
        let of_wavelength = |tokens: f64| 2.0 * PI / tokens;
        // 8192/4 = 2048 tokens and shorter: kept. 8192/1 and longer: divided. Half way in turns (2.5): the mean.
        for (wavelength, expected) in [
            (2000.0, 1.0),
            (9000.0, 1.0 / 8.0),
            (8192.0 / 2.5, 0.5 + 0.5 / 8.0),
        ] {
            let f = of_wavelength(wavelength);
            assert!((scaling.apply(f) / f - expected).abs() < 1e-12);
        }
    }
}
