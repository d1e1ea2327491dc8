//! Log-likelihoods of the ends of token sequences, as zero-shot tasks ask for them.
//!
//! For a sequence `t_0 … t_n-1` of which the last `scored` tokens are asked about, the log-likelihood is
//! `Σ ln p(t_i | t_0 … t_i-1)` over them. Sequences with a common prefix share its computation, and equal positions
//! share their row of logits.

use candle_core::Tensor;

use super::forward::{Batch, Meter, forward, rows_of_logits};
use super::resident_blocks::ResidentBlocks;
use super::token_tree::{TokenTree, waves};
use crate::error::{EngineError, Result};
use crate::model::ModelPlan;
use crate::observer::Observer;
use crate::ops::{Target, log_probabilities};

/// A sequence whose end is scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoredSequence {
    /// Token ids: a context of at least one token, then what is scored.
    pub tokens: Vec<u32>,
    /// How many of the last tokens are scored; at least 1.
    pub scored: usize,
}

/// How likely the end of a sequence is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogLikelihood {
    /// Σ ln p over the scored tokens, in nats.
    pub value: f64,
    /// Whether greedy decoding would produce all of the scored tokens; of equal logits the first counts.
    pub is_greedy: bool,
    /// Number of scored tokens.
    pub tokens: usize,
}

/// Scores `sequences`; the results are in their order.
///
/// The last token of a sequence is not fed to the model, so a sequence may have one token more than the model's
/// context. Longer ones are refused: how to cut them is the caller's choice.
pub fn log_likelihoods(
    model: &mut ResidentBlocks<'_>,
    sequences: &[ScoredSequence],
    observer: &mut dyn Observer,
) -> Result<Vec<LogLikelihood>> {
    let plan = model.decoder().plan();
    for (index, sequence) in sequences.iter().enumerate() {
        sequence.check(index, plan)?;
    }
    let inputs: Vec<&[u32]> = sequences.iter().map(ScoredSequence::input).collect();
    let trees = TokenTree::pack(&inputs);
    let longest = trees.iter().map(TokenTree::max_len).max().unwrap_or(0);
    let ropes = model.decoder().ropes(longest)?;
    let tokens: usize = trees.iter().map(|tree| tree.ids().len()).sum();
    let total_tokens = (tokens * plan.blocks.len()) as u64;
    let mut meter = Meter::new(observer, plan.blocks.len(), total_tokens);
    let mut results: Vec<LogLikelihood> = sequences.iter().map(LogLikelihood::of_nothing).collect();
    for wave in waves(&trees, model.tokens_per_wave()) {
        let batches: Vec<Batch<'_>> = wave.iter().map(TokenTree::batch).collect();
        meter.begin_wave();
        let states = forward(model, &batches, &ropes, &mut meter)?;
        let (x, readings) = Reading::of_wave(wave, sequences, &states)?;
        drop(states);
        read(model, &x, &readings, &mut results)?;
    }
    Ok(results)
}

impl ScoredSequence {
    fn check(&self, index: usize, plan: &ModelPlan) -> Result<()> {
        let (tokens, scored, context) = (self.tokens.len(), self.scored, plan.max_seq_len);
        let reason = if scored == 0 {
            "no token is scored".to_owned()
        } else if tokens <= scored {
            format!("{tokens} tokens of which {scored} are scored: there is no token before them")
        } else if tokens - 1 > context {
            format!(
                "{tokens} tokens are more than the model's context of {context} and one to predict"
            )
        } else {
            let vocab = plan.vocab;
            return match self.tokens.iter().find(|&&id| id as usize >= vocab) {
                Some(&id) => Err(EngineError::TokenOutOfVocabulary { id, vocab }),
                None => Ok(()),
            };
        };
        Err(EngineError::InvalidSequence {
            sequence: index,
            reason,
        })
    }

    /// What the model sees.
    fn input(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - 1]
    }
}

impl LogLikelihood {
    fn of_nothing(sequence: &ScoredSequence) -> Self {
        Self {
            value: 0.0,
            is_greedy: true,
            tokens: sequence.scored,
        }
    }
}

/// A token to be looked up in a row of logits.
struct Reading {
    target: Target,
    sequence: usize,
}

impl Reading {
    /// The rows `[n, hidden]` of the last block's output that are needed, and what to read in their logits, by row.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a tree has far fewer than 2³² rows"
    )]
    fn of_wave(
        wave: &[TokenTree],
        sequences: &[ScoredSequence],
        states: &[Tensor],
    ) -> Result<(Tensor, Vec<Self>)> {
        let (mut parts, mut readings, mut n_rows) = (Vec::new(), Vec::new(), 0);
        for (tree, x) in wave.iter().zip(states) {
            let mut of_tree = Self::of_tree(tree, sequences);
            of_tree.sort_by_key(|reading| (reading.target.row, reading.target.token));
            let mut rows: Vec<u32> = Vec::new();
            for reading in &mut of_tree {
                let row = reading.target.row as u32;
                if rows.last() != Some(&row) {
                    rows.push(row);
                }
                reading.target.row = n_rows + rows.len() - 1;
            }
            n_rows += rows.len();
            parts.push(x.index_select(&Tensor::new(rows, x.device())?, 0)?);
            readings.extend(of_tree);
        }
        Ok((Tensor::cat(&parts, 0)?, readings))
    }

    /// The tokens to look up, with the row of the tree that predicts each.
    fn of_tree(tree: &TokenTree, sequences: &[ScoredSequence]) -> Vec<Self> {
        let mut readings = Vec::new();
        for &path in tree.paths() {
            let ScoredSequence { tokens, scored } = &sequences[path.sequence];
            let first = tokens.len() - scored - 1;
            for segment in tree.segments_of(path) {
                let end = segment.position + segment.len;
                for position in segment.position.max(first)..end {
                    readings.push(Self {
                        target: Target {
                            row: segment.start + position - segment.position,
                            token: tokens[position + 1],
                        },
                        sequence: path.sequence,
                    });
                }
                if segment.position <= first {
                    break;
                }
            }
        }
        readings
    }
}

/// Adds what the logits of `x`, `[n, hidden]`, say to `results`.
fn read(
    model: &mut ResidentBlocks<'_>,
    x: &Tensor,
    readings: &[Reading],
    results: &mut [LogLikelihood],
) -> Result<()> {
    let (n, chunk) = (x.dim(0)?, rows_of_logits(model.decoder().plan()));
    model.with_head(|head| {
        let mut rest = readings;
        for start in (0..n).step_by(chunk) {
            let rows = chunk.min(n - start);
            let (now, later) =
                rest.split_at(rest.partition_point(|reading| reading.target.row < start + rows));
            rest = later;
            let targets: Vec<Target> = now
                .iter()
                .map(|reading| Target {
                    row: reading.target.row - start,
                    ..reading.target
                })
                .collect();
            let logits = head.logits(&x.narrow(0, start, rows)?)?;
            for (reading, score) in now.iter().zip(log_probabilities(&logits, &targets)?) {
                let result = &mut results[reading.sequence];
                if !score.log_probability.is_finite() {
                    return Err(EngineError::NonFinite {
                        what: "logits",
                        place: format!("sequence {}", reading.sequence),
                    });
                }
                result.value += score.log_probability;
                result.is_greedy &= score.is_greedy;
            }
        }
        Ok(())
    })
}
