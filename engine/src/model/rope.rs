//! Rotary position embedding (RoFormer, arXiv 2104.09864) in the layout of Hugging Face's LLaMA.
//!
//! Of a head's vector, component `i` and `i + head_dim/2` form a pair that is rotated by `position · f_i`, with
//! `f_i = theta^(-2i / head_dim)`.

use std::f64::consts::PI;

use super::plan::RopeId;

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

impl RopeScaling {
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

/// How queries and keys are turned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeSpec {
    /// Base of the frequencies.
    pub theta: f64,
    /// Change of the frequencies.
    pub scaling: RopeScaling,
    /// Components of a head that are turned.
    pub head_dim: usize,
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
    pub fn new(spec: RopeSpec, seq_len: usize) -> Self {
        let half = spec.head_dim / 2;
        let frequency = |i: usize| 1.0 / spec.theta.powf(2.0 * i as f64 / spec.head_dim as f64);
        let frequencies: Vec<f32> = (0..half)
            .map(|i| spec.scaling.apply(frequency(i)) as f32)
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

/// The tables of a model's rotary settings.
#[derive(Debug, Clone)]
pub struct RopeTables(Vec<RopeTable>);

impl RopeTables {
    /// Positions 0 to `seq_len - 1`.
    pub(super) fn new(specs: &[RopeSpec], seq_len: usize) -> Self {
        let table = |spec: &RopeSpec| RopeTable::new(*spec, seq_len);
        Self(specs.iter().map(table).collect())
    }

    pub(super) fn get(&self, id: RopeId) -> &RopeTable {
        &self.0[id.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_computed_angles() {
        // head_dim 4, theta 100: frequencies 1 and 100^(-1/2) = 0.1; position 3 turns by 3 and 0.3.
        let spec = RopeSpec {
            theta: 100.0,
            scaling: RopeScaling::Default,
            head_dim: 4,
        };
        let table = RopeTable::new(spec, 4);
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
