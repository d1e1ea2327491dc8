//! Rotary position embedding (RoFormer, arXiv 2104.09864) in the layout of Hugging Face's LLaMA.
//!
//! Of the first `width` components of a head, `i` and `i + width/2` form a pair that is rotated by `position · f_i`, with
//! `f_i = theta^(-2i / width)`. What lies beyond them stays as it is.

use std::f64::consts::PI;

use super::plan::RopeId;

/// A change of the frequencies, made for contexts longer than those trained on.
#[derive(Debug, Clone, PartialEq)]
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
    /// YaRN (arXiv 2309.00071): pairs that turn more than `beta_fast` times within the context of the training before are
    /// kept, those that turn less than `beta_slow` times divided by `factor`, the ones between interpolated by their number.
    Yarn {
        /// Greater than 0.
        factor: f64,
        /// Of cos and sin.
        attention_factor: f64,
        /// Turns.
        beta_fast: f64,
        /// Turns.
        beta_slow: f64,
        /// Whether the range between is widened to whole pairs.
        truncate: bool,
        /// Context of the training before.
        original_max_seq_len: usize,
    },
    /// LongRoPE (arXiv 2402.13753): each frequency divided by a factor of its own.
    ///
    /// Known up to the context of the training before.
    LongRope {
        /// One per pair.
        short_factors: Vec<f64>,
        /// Of cos and sin.
        attention_factor: f64,
        /// Context of the training before, beyond which other factors would be needed.
        original_max_seq_len: usize,
    },
}

/// How queries and keys are turned.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeSpec {
    /// Base of the frequencies.
    pub theta: f64,
    /// Change of the frequencies.
    pub scaling: RopeScaling,
    /// Components of a head that are turned, an even number.
    pub width: usize,
}

impl RopeSpec {
    /// Radians per token, by pair.
    fn frequencies(&self) -> Vec<f64> {
        let width = self.width as f64;
        let pairs = 0..self.width / 2;
        let plain = pairs.map(|i| 1.0 / self.theta.powf(2.0 * i as f64 / width));
        match &self.scaling {
            RopeScaling::Default => plain.collect(),
            RopeScaling::Linear { factor } => plain.map(|f| f / factor).collect(),
            &RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_seq_len,
            } => {
                let context = original_max_seq_len as f64;
                let kept = |f: f64| {
                    let turns = context * f / (2.0 * PI);
                    (turns - low_freq_factor) / (high_freq_factor - low_freq_factor)
                };
                plain.map(|f| mixed(f, factor, kept(f))).collect()
            }
            &RopeScaling::Yarn { factor, .. } => {
                let (low, high) = self.yarn_range();
                let kept = |i: usize| 1.0 - (i as f64 - low) / (high - low);
                let pairs = plain.enumerate();
                pairs.map(|(i, f)| mixed(f, factor, kept(i))).collect()
            }
            RopeScaling::LongRope { short_factors, .. } => {
                plain.zip(short_factors).map(|(f, by)| f / by).collect()
            }
        }
    }

    /// The numbers of the pairs between which YaRN interpolates.
    fn yarn_range(&self) -> (f64, f64) {
        let RopeScaling::Yarn {
            beta_fast,
            beta_slow,
            truncate,
            original_max_seq_len,
            ..
        } = self.scaling
        else {
            return (0.0, 0.0);
        };
        let width = self.width as f64;
        let pair_of = |turns: f64| {
            let wavelength = original_max_seq_len as f64 / (turns * 2.0 * PI);
            width * wavelength.ln() / (2.0 * self.theta.ln())
        };
        let (mut low, mut high) = (pair_of(beta_fast), pair_of(beta_slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, high) = (low.max(0.0), high.min(width - 1.0));
        let is_empty = (high - low).abs() < f64::EPSILON;
        (low, if is_empty { high + 0.001 } else { high })
    }

    /// What cos and sin are multiplied by.
    fn attention_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::Default | RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. } => 1.0,
            RopeScaling::Yarn {
                attention_factor, ..
            }
            | RopeScaling::LongRope {
                attention_factor, ..
            } => attention_factor,
        }
    }
}

/// From a frequency divided by `factor` (`kept` ≤ 0) to the frequency itself (≥ 1).
fn mixed(frequency: f64, factor: f64, kept: f64) -> f64 {
    let kept = kept.clamp(0.0, 1.0);
    (1.0 - kept) * frequency / factor + kept * frequency
}

/// cos and sin of every position and pair: each `[seq_len, width / 2]`, row-major.
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
    pub fn new(spec: &RopeSpec, seq_len: usize) -> Self {
        let frequencies: Vec<f32> = spec.frequencies().iter().map(|f| *f as f32).collect();
        let factor = spec.attention_factor() as f32;
        let angles = || {
            (0..seq_len).flat_map(|position| {
                frequencies
                    .iter()
                    .map(move |f| f64::from(position as f32 * f))
            })
        };
        Self {
            half: frequencies.len(),
            cos: angles().map(|a| a.cos() as f32 * factor).collect(),
            sin: angles().map(|a| a.sin() as f32 * factor).collect(),
        }
    }
}

/// The tables of a model's rotary settings.
#[derive(Debug, Clone)]
pub struct RopeTables(Vec<RopeTable>);

impl RopeTables {
    /// Positions 0 to `seq_len - 1`.
    pub(super) fn new(specs: &[RopeSpec], seq_len: usize) -> Self {
        let table = |spec: &RopeSpec| RopeTable::new(spec, seq_len);
        Self(specs.iter().map(table).collect())
    }

    pub(super) fn get(&self, id: RopeId) -> &RopeTable {
        &self.0[id.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(scaling: RopeScaling) -> RopeSpec {
        RopeSpec {
            theta: 100.0,
            scaling,
            width: 4,
        }
    }

    fn assert_close(actual: &[f64], expected: &[f64]) {
        assert_eq!(actual.len(), expected.len());
        for (actual, expected) in actual.iter().zip(expected) {
            assert!((actual - expected).abs() < 1e-12, "{actual}, {expected}");
        }
    }

    #[test]
    fn hand_computed_angles() {
        // width 4, theta 100: frequencies 1 and 100^(-1/2) = 0.1; position 3 turns by 3 and 0.3.
        let table = RopeTable::new(&spec(RopeScaling::Default), 4);
        let expected = [3f32.cos(), 0.3f32.cos()];
        assert_eq!(table.half, 2);
        for (actual, expected) in table.cos[6..8].iter().zip(expected) {
            assert!((actual - expected).abs() < 1e-6);
        }
        assert_eq!((table.cos[0], table.sin[0]), (1.0, 0.0));
    }

    #[test]
    fn llama3_keeps_fast_and_divides_slow_frequencies() {
        let llama3 = |original_max_seq_len| RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_seq_len,
        };
        // Wavelengths of 2π and 20π tokens: 25 tokens are 3.98 and 0.398 turns, 157 are 25 and 2.4987 turns.
        let turns = 25.0 / (2.0 * PI);
        let kept = (turns - 1.0) / 3.0;
        let first = (1.0 - kept) / 8.0 + kept;
        assert_close(&spec(llama3(25)).frequencies(), &[first, 0.1 / 8.0]);
        let kept = (157.0 / (20.0 * PI) - 1.0) / 3.0;
        let second = 0.1 * ((1.0 - kept) / 8.0 + kept);
        assert_close(&spec(llama3(157)).frequencies(), &[1.0, second]);
    }

    #[test]
    fn linear_scaling_divides_every_frequency() {
        let linear = spec(RopeScaling::Linear { factor: 4.0 });
        assert_close(&linear.frequencies(), &[0.25, 0.025]);
    }

    #[test]
    fn yarn_interpolates_between_the_pairs_of_two_numbers_of_turns() {
        let yarn = |truncate| RopeSpec {
            theta: 10_000.0,
            width: 8,
            scaling: RopeScaling::Yarn {
                factor: 4.0,
                attention_factor: 1.5,
                beta_fast: 4.0,
                beta_slow: 1.0,
                truncate,
                original_max_seq_len: 200,
            },
        };
        // Frequencies 1, 0.1, 0.01, 0.001. Pair of 4 turns: 8 ln(200 / 8π) / (2 ln 10⁴) = 0.9008; of 1 turn: 1.5028.
        let (low, high) = yarn(false).yarn_range();
        assert!(
            (low - 0.900_8).abs() < 1e-4 && (high - 1.502_8).abs() < 1e-4,
            "{low} {high}"
        );
        // Whole pairs: 0 to 2, so the first is kept, the second is half way, the others are divided.
        let expected = [1.0, 0.1 * (0.5 + 0.5 / 4.0), 0.01 / 4.0, 0.001 / 4.0];
        assert_close(&yarn(true).frequencies(), &expected);
        let table = RopeTable::new(&yarn(true), 1);
        assert!((table.cos[0] - 1.5).abs() < 1e-6);
    }

    #[test]
    fn longrope_divides_each_frequency_by_its_own_factor() {
        let longrope = spec(RopeScaling::LongRope {
            short_factors: vec![1.0, 2.0],
            attention_factor: 1.25,
            original_max_seq_len: 8,
        });
        assert_close(&longrope.frequencies(), &[1.0, 0.05]);
        let table = RopeTable::new(&longrope, 2);
        assert!((table.sin[3] - 1.25 * 0.05f32.sin()).abs() < 1e-6);
    }
}
