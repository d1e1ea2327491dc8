//! Greedy continuation of many prompts at once.
//!
//! The prompts go through the blocks as a tree of shared prefixes, and every block's keys and values are kept. Then
//! each step takes one token of every unfinished sequence through the blocks: the linears see all of them as one
//! matrix, the attention sees each with its own cache.

use candle_core::Tensor;

use super::forward::{Batch, Meter, forward_with, rows_of_logits};
use super::kv_cache::KvCache;
use super::resident_blocks::ResidentBlocks;
use super::token_tree::{TokenTree, waves};
use crate::error::{EngineError, Result};
use crate::model::{ModelPlan, RopeTables};
use crate::observer::Observer;
use crate::ops::{CachedSequence, argmax, cached_attention, causal_attention, rotate};

/// How long to go on.
#[derive(Debug, Clone, Copy)]
pub struct GenerateOptions<'a> {
    /// Most tokens that a prompt is continued by.
    pub max_new_tokens: usize,
    /// Ids that end a sequence; they are not part of the result.
    pub end_of_text: &'a [u32],
    /// Bytes that the cache of keys and values may take. Prompts that do not fit go in turns; one goes in any case.
    pub cache_bytes: u64,
}

/// Why a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GenerationEnd {
    /// The model chose an id of [`GenerateOptions::end_of_text`].
    EndOfText,
    /// The caller's `stop` said so.
    Stopped,
    /// [`GenerateOptions::max_new_tokens`] are there.
    MaxNewTokens,
    /// Prompt and continuation fill the model's context.
    ContextFull,
}

/// The continuation of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// The new tokens.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub end: GenerationEnd,
}

/// Asked after every new token, with the number of the prompt and all of its new tokens; true ends the sequence.
pub type Stop<'a> = &'a mut dyn FnMut(usize, &[u32]) -> bool;

/// Continues each of `prompts` by the token with the largest logit, of equal ones the first, until something ends it.
/// The results are in the order of the prompts; `stop` is asked in an order of its own.
pub fn generate(
    model: &mut ResidentBlocks<'_>,
    prompts: &[&[u32]],
    options: &GenerateOptions<'_>,
    stop: Stop<'_>,
    observer: &mut dyn Observer,
) -> Result<Vec<Generation>> {
    let plan = model.decoder().plan();
    for (index, prompt) in prompts.iter().enumerate() {
        check(prompt, index, plan)?;
    }
    let mut results = vec![
        Generation {
            tokens: Vec::new(),
            end: GenerationEnd::MaxNewTokens,
        };
        prompts.len()
    ];
    if options.max_new_tokens == 0 || prompts.is_empty() {
        return Ok(results);
    }
    let turns = Turn::all(prompts, options, plan);
    let rows = turns.iter().flat_map(|turn| &turn.sequences);
    let longest = rows.map(|sequence| sequence.room).max().unwrap_or(0);
    let ropes = model.decoder().ropes(longest)?;
    let tokens: usize = turns.iter().map(Turn::tokens).sum();
    let total_tokens = (tokens * plan.blocks.len()) as u64;
    let mut meter = Meter::new(observer, plan.blocks.len(), total_tokens);
    for turn in turns {
        let mut running = Running {
            plan,
            options,
            ropes: &ropes,
            cache: KvCache::new(plan, turn.rows(), model.decoder().device())?,
            sequences: turn.sequences,
            results: &mut results,
            stop: &mut *stop,
        };
        running.prefill(model, &turn.trees, &mut meter)?;
        while !running.sequences.is_empty() {
            running.step(model, &mut meter)?;
        }
    }
    Ok(results)
}

fn check(prompt: &[u32], index: usize, plan: &ModelPlan) -> Result<()> {
    let (tokens, context) = (prompt.len(), plan.max_seq_len);
    let reason = if tokens == 0 {
        "the prompt has no token".to_owned()
    } else if tokens >= context {
        format!("a prompt of {tokens} tokens leaves no room in the model's context of {context}")
    } else {
        return Ok(());
    };
    Err(EngineError::InvalidSequence {
        sequence: index,
        reason,
    })
}

/// A sequence on its way.
struct Sequence {
    /// Number of the prompt.
    index: usize,
    /// Its first row of the cache.
    start: usize,
    /// Rows that it may have, which is the most tokens that it can grow to.
    room: usize,
    /// Rows that are filled.
    len: usize,
    /// The token to go through the blocks next.
    next: u32,
}

/// Prompts whose caches exist together.
struct Turn {
    sequences: Vec<Sequence>,
    trees: Vec<TokenTree>,
}

impl Turn {
    /// Sorted prompts, so that those with a common prefix meet.
    fn all(prompts: &[&[u32]], options: &GenerateOptions<'_>, plan: &ModelPlan) -> Vec<Self> {
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.sort_by_key(|&index| (prompts[index], index));
        let rows_in_cache = options.cache_bytes / KvCache::bytes_per_row(plan);
        let mut turns = Vec::new();
        let mut turn: Vec<Sequence> = Vec::new();
        let mut start = 0;
        for index in order {
            let len = prompts[index].len();
            let room = len.saturating_add(options.max_new_tokens);
            let room = room.min(plan.max_seq_len);
            if !turn.is_empty() && (start + room) as u64 > rows_in_cache {
                turns.push(std::mem::take(&mut turn));
                start = 0;
            }
            turn.push(Sequence {
                index,
                start,
                room,
                len,
                next: 0,
            });
            start += room;
        }
        turns.push(turn);
        let with_trees = turns.into_iter().map(|sequences| {
            let prompts: Vec<&[u32]> = sequences.iter().map(|s| prompts[s.index]).collect();
            Self {
                trees: TokenTree::pack(&prompts),
                sequences,
            }
        });
        with_trees.collect()
    }

    /// Rows of the cache.
    fn rows(&self) -> usize {
        self.sequences.iter().map(|sequence| sequence.room).sum()
    }

    /// Most tokens that go through a block.
    fn tokens(&self) -> usize {
        let prompts: usize = self.trees.iter().map(|tree| tree.ids().len()).sum();
        let rest = self.sequences.iter().map(|s| s.room - s.len);
        prompts + rest.sum::<usize>()
    }
}

/// A turn at work.
struct Running<'a> {
    plan: &'a ModelPlan,
    options: &'a GenerateOptions<'a>,
    ropes: &'a RopeTables,
    cache: KvCache,
    /// Those that are not finished.
    sequences: Vec<Sequence>,
    results: &'a mut [Generation],
    stop: Stop<'a>,
}

impl Running<'_> {
    /// Takes the prompts through the blocks and chooses the first token of each.
    fn prefill(
        &mut self,
        model: &mut ResidentBlocks<'_>,
        trees: &[TokenTree],
        meter: &mut Meter<'_>,
    ) -> Result<()> {
        let mut chosen = vec![None; self.sequences.len()];
        for wave in waves(trees, model.tokens_per_wave()) {
            let batches: Vec<Batch<'_>> = wave.iter().map(TokenTree::batch).collect();
            meter.begin_wave();
            let states = forward_with(model, &batches, meter, &mut |block, batch, q, k, v| {
                let shape = self.plan.blocks[block].attention.shape(self.ropes);
                self.keep(
                    block,
                    &wave[batch],
                    &rotate(k, &wave[batch].positions(), &shape)?,
                    v,
                )?;
                Ok(causal_attention(q, k, v, &shape, batches[batch].layout)?)
            })?;
            for (tree, x) in wave.iter().zip(states) {
                let rows: Vec<u32> = tree
                    .paths()
                    .iter()
                    .map(|&path| tree.last_row(path))
                    .collect();
                let x = x.index_select(&Tensor::new(rows, x.device())?, 0)?;
                for (path, token) in tree.paths().iter().zip(self.choose(model, &x)?) {
                    chosen[path.sequence] = token;
                }
            }
        }
        self.accept(chosen, meter)
    }

    /// Writes the turned keys, and the values, of a tree of prompts to the rows of each of its sequences.
    fn keep(&self, block: usize, tree: &TokenTree, k: &Tensor, v: &Tensor) -> Result<()> {
        for &path in tree.paths() {
            let start = self.sequences[path.sequence].start;
            for segment in tree.segments_of(path) {
                let k = k.narrow(0, segment.start, segment.len)?;
                let v = v.narrow(0, segment.start, segment.len)?;
                self.cache.write(block, start + segment.position, &k, &v)?;
            }
        }
        Ok(())
    }

    /// Takes one token of each sequence through the blocks and chooses the next.
    fn step(&mut self, model: &mut ResidentBlocks<'_>, meter: &mut Meter<'_>) -> Result<()> {
        let ids: Vec<u32> = self
            .sequences
            .iter()
            .map(|sequence| sequence.next)
            .collect();
        let positions: Vec<usize> = self.sequences.iter().map(|sequence| sequence.len).collect();
        for sequence in &mut self.sequences {
            sequence.len += 1;
        }
        let seen: Vec<CachedSequence> = self
            .sequences
            .iter()
            .map(|sequence| CachedSequence {
                start: sequence.start,
                len: sequence.len,
            })
            .collect();
        meter.begin_wave();
        let states = forward_with(
            model,
            &[Batch::of_rows(&ids, &positions)],
            meter,
            &mut |block, _, q, k, v| {
                let shape = self.plan.blocks[block].attention.shape(self.ropes);
                let k = rotate(k, &positions, &shape)?;
                for (row, sequence) in seen.iter().enumerate() {
                    let (k, v) = (k.narrow(0, row, 1)?, v.narrow(0, row, 1)?);
                    self.cache
                        .write(block, sequence.start + sequence.len - 1, &k, &v)?;
                }
                let (k, v) = self.cache.of(block);
                Ok(cached_attention(q, k, v, &shape, &seen)?)
            },
        )?;
        let chosen = self.choose(model, &states[0])?;
        self.accept(chosen, meter)
    }

    /// The token with the largest logit for each row of `x`, `[n, hidden]`; `None` if a logit is not finite.
    fn choose(&self, model: &mut ResidentBlocks<'_>, x: &Tensor) -> Result<Vec<Option<u32>>> {
        let (n, chunk) = (x.dim(0)?, rows_of_logits(self.plan));
        model.with_head(|head| {
            let mut chosen = Vec::with_capacity(n);
            for start in (0..n).step_by(chunk) {
                let logits = head.logits(&x.narrow(0, start, chunk.min(n - start))?)?;
                chosen.extend(argmax(&logits)?);
            }
            Ok(chosen)
        })
    }

    /// Takes up the chosen tokens and lets finished sequences go.
    fn accept(&mut self, chosen: Vec<Option<u32>>, meter: &mut Meter<'_>) -> Result<()> {
        let mut unfinished = Vec::with_capacity(self.sequences.len());
        for (mut sequence, token) in self.sequences.drain(..).zip(chosen) {
            let index = sequence.index;
            let Some(token) = token else {
                return Err(EngineError::NonFinite {
                    what: "logits",
                    place: format!("sequence {index}"),
                });
            };
            let result = &mut self.results[index];
            let end = if self.options.end_of_text.contains(&token) {
                Some(GenerationEnd::EndOfText)
            } else {
                result.tokens.push(token);
                if (self.stop)(index, &result.tokens) {
                    Some(GenerationEnd::Stopped)
                } else if result.tokens.len() == self.options.max_new_tokens {
                    Some(GenerationEnd::MaxNewTokens)
                } else if sequence.len + 1 == self.plan.max_seq_len {
                    Some(GenerationEnd::ContextFull)
                } else {
                    None
                }
            };
            if let Some(end) = end {
                result.end = end;
                meter.skipped((sequence.room - sequence.len) * self.plan.blocks.len());
            } else {
                sequence.next = token;
                unfinished.push(sequence);
            }
        }
        self.sequences = unfinished;
        Ok(())
    }
}
