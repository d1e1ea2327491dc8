//! Measures one model, or two together. What is in the cache is not measured again.

use std::path::{Path, PathBuf};

use candle_core::Device;
use serde::{Deserialize, Serialize};

use super::cache::ScoreCache;
use super::pending::{Pending, fit, prompts_key, task_key, text_key};
use super::prepare::{Prepared, PreparedText};
use super::progress::Tally;
use super::score::{self, DocumentScore};
use super::task::{PreparedTask, Work};
use crate::engine::{
    Checkpoint, Decoder, GenerateOptions, Observer, ResidentBlocks, divergences, generate,
    log_likelihoods, perplexity,
};
use crate::pipeline::text::ModelTokenizer;
use crate::pipeline::{Listener, PipelineError};
use crate::tasks::Prompt;

/// Bytes of keys and values that are kept while texts are written.
const CACHE_BYTES: u64 = 512 << 20;

/// The most bytes of main memory that a model takes which need not write: reading a block again costs little beside the
/// products of many tokens.
const READING_BYTES: u64 = 2 << 30;

/// A model on disk.
pub(in crate::pipeline) struct Subject<'a> {
    /// Its directory.
    pub(in crate::pipeline) dir: &'a Path,
    /// Stands for its weights and its configuration.
    pub(in crate::pipeline) fingerprint: String,
    /// `dense`, `pruned`, …: what progress calls it.
    pub(in crate::pipeline) name: &'static str,
    /// Where the scores of its single documents go.
    pub(in crate::pipeline) samples: Option<PathBuf>,
}

/// Mean loss of each window, of one or two models, and how far these lie apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TextScore {
    pub(super) before: Option<f64>,
    pub(super) after: f64,
    pub(super) divergence: Option<WindowDivergence>,
}

/// KL divergence in each window, in nats per token, and the share of tokens where both models put the same one first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct WindowDivergence {
    pub(super) window_mean_kl: Vec<f64>,
    pub(super) top1_agreement: f64,
}

/// What one model made of the tasks and prompts, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct ModelScores {
    pub(super) tasks: Vec<Vec<DocumentScore>>,
    /// What it wrote after the fixed prompts.
    pub(super) written: Vec<Vec<u32>>,
}

/// Everything that was measured of one model and the one before it.
#[derive(Default)]
pub(super) struct Measured {
    pub(super) texts: Vec<TextScore>,
    pub(super) before: Option<ModelScores>,
    pub(super) after: ModelScores,
}

/// Measures every model of `after`, and `before` once with all of them, on a device and within this memory.
pub(super) fn measure(
    prepared: &Prepared,
    before: Option<&Subject<'_>>,
    after: &[Subject<'_>],
    (device, memory_bytes): (&Device, u64),
    cache: &ScoreCache,
    listener: &mut dyn Listener,
) -> Result<Vec<Measured>, PipelineError> {
    let Some(tokenizer) = &prepared.tokenizer else {
        return Ok(after.iter().map(|_| Measured::default()).collect());
    };
    let before_checkpoint = before
        .map(|subject| Checkpoint::open(subject.dir))
        .transpose()?;
    let before_decoder = before_checkpoint
        .as_ref()
        .map(|checkpoint| Decoder::open(checkpoint, device))
        .transpose()?;
    let checkpoints = after.iter().map(|subject| Checkpoint::open(subject.dir));
    let checkpoints = checkpoints.collect::<Result<Vec<_>, _>>()?;
    let decoders = checkpoints
        .iter()
        .map(|checkpoint| Decoder::open(checkpoint, device));
    let decoders = decoders.collect::<Result<Vec<_>, _>>()?;

    let models = (after.len() + usize::from(before.is_some())).max(1) as u64;
    let mut budget_bytes = memory_bytes / models;
    if device.is_cpu() && !prepared.must_write() {
        budget_bytes = budget_bytes.min(READING_BYTES);
    }
    let blocks = |decoder| ResidentBlocks::new(decoder, budget_bytes);
    let before_blocks = before_decoder.as_ref().map(blocks);
    let after_blocks: Vec<_> = decoders.iter().map(blocks).collect();
    let mut all_blocks = before_blocks.iter().chain(&after_blocks);
    let pending = Pending {
        prepared,
        cache,
        before,
        after,
        // A model that is read again for every token would take longer to write than to be measured.
        writes: !prepared.prompts.is_empty()
            && (prepared.writes_in_any_case || all_blocks.all(ResidentBlocks::keeps_blocks)),
    };
    let mut session = Session {
        prepared,
        writes: pending.writes,
        tokenizer,
        cache,
        tally: Tally::new(listener, pending.total()),
    };
    let mut before = before.zip(before_blocks).map(|(subject, blocks)| Model {
        blocks: fit(&pending.of_before(), blocks),
        subject,
    });
    let before_scores = before
        .as_mut()
        .map(|model| session.model(model))
        .transpose()?;
    let models = after.iter().zip(after_blocks);
    let mut models: Vec<_> = models
        .map(|(subject, blocks)| Model {
            blocks: fit(&pending.of_after(subject), blocks),
            subject,
        })
        .collect();
    let mut texts: Vec<Vec<TextScore>> = after.iter().map(|_| Vec::new()).collect();
    for text in &prepared.texts {
        let scores = session.text(text, before.as_mut(), &mut models)?;
        for (of_model, score) in texts.iter_mut().zip(scores) {
            of_model.push(score);
        }
    }
    drop(before);
    let measured = models.iter_mut().zip(texts).map(|(model, texts)| {
        Ok(Measured {
            texts,
            before: before_scores.clone(),
            after: session.model(model)?,
        })
    });
    measured.collect()
}

/// A model whose blocks stay in memory while it is measured, if they fit and are needed again.
struct Model<'a> {
    subject: &'a Subject<'a>,
    blocks: ResidentBlocks<'a>,
}

struct Session<'a> {
    prepared: &'a Prepared,
    writes: bool,
    tokenizer: &'a ModelTokenizer,
    cache: &'a ScoreCache,
    tally: Tally<'a>,
}

impl Session<'_> {
    /// Tasks and prompts.
    fn model(&mut self, model: &mut Model<'_>) -> Result<ModelScores, PipelineError> {
        let mut scores = ModelScores::default();
        for task in &self.prepared.tasks {
            scores.tasks.push(self.task(task, model)?);
        }
        if self.writes {
            scores.written = self.prompts(model)?;
        }
        Ok(scores)
    }

    fn task(
        &mut self,
        task: &PreparedTask,
        model: &mut Model<'_>,
    ) -> Result<Vec<DocumentScore>, PipelineError> {
        let key = task_key(task, self.prepared.end_tokens(), model.subject);
        let is_sound = |known: &Vec<DocumentScore>| known.len() == task.work.len();
        if let Some(known) = self.cache.find(&key, is_sound) {
            return Ok(known);
        }
        let tokenizer = self.tokenizer;
        let name = format!("{} {}", model.subject.name, task.task.name);
        let scores = self.tally.part(name, task.weight(), |observer| {
            Ok::<_, PipelineError>(match &task.work {
                Work::Choose(items, sequences) => score::choices(
                    items,
                    &log_likelihoods(&mut model.blocks, sequences, observer)?,
                ),
                Work::Predict(pages, sequences) => score::pages(
                    pages,
                    &log_likelihoods(&mut model.blocks, sequences, observer)?,
                ),
                Work::Generate(prompts, tokens) => {
                    let written = write_answers(model, prompts, tokens, tokenizer, observer)?;
                    score::answers(prompts, &written, tokenizer)?
                }
            })
        })?;
        self.cache.keep(&key, &scores)
    }

    fn prompts(&mut self, model: &mut Model<'_>) -> Result<Vec<Vec<u32>>, PipelineError> {
        if self.prepared.prompts.is_empty() {
            return Ok(Vec::new());
        }
        let key = prompts_key(self.prepared, model.subject);
        let is_sound = |known: &Vec<Vec<u32>>| known.len() == self.prepared.prompts.len();
        if let Some(known) = self.cache.find(&key, is_sound) {
            return Ok(known);
        }
        let prompts = self.prepared.prompts.iter();
        let prompts: Vec<&[u32]> = prompts.map(|prompt| prompt.tokens.as_slice()).collect();
        let options = GenerateOptions {
            max_new_tokens: self.prepared.new_tokens,
            end_of_text: self.prepared.end_tokens(),
            cache_bytes: CACHE_BYTES,
        };
        let name = format!("{} generations", model.subject.name);
        let weight = self.prepared.prompts_weight();
        let written = self.tally.part(name, weight, |observer| {
            let never = &mut |_: usize, _: &[u32]| false;
            generate(&mut model.blocks, &prompts, &options, never, observer)
        })?;
        let written: Vec<Vec<u32>> = written.into_iter().map(|one| one.tokens).collect();
        self.cache.keep(&key, &written)
    }

    /// The score of each model of `after`, of all that are not in the cache beside one pass over `before`.
    fn text(
        &mut self,
        text: &PreparedText,
        before: Option<&mut Model<'_>>,
        after: &mut [Model<'_>],
    ) -> Result<Vec<TextScore>, PipelineError> {
        let before_subject = before.as_ref().map(|model| model.subject);
        let is_sound = |known: &TextScore| known.divergence.is_some() == before_subject.is_some();
        let (mut scores, mut open, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for model in after {
            let key = text_key(text, before_subject, model.subject);
            let known = self.cache.find(&key, is_sound);
            if known.is_none() {
                open.push(model);
                keys.push(key);
            }
            scores.push(known);
        }
        let measured = match before {
            Some(before) if !open.is_empty() => self.pairs(text, before, &mut open)?,
            _ => self.singles(text, &mut open)?,
        };
        let unknown = scores.iter_mut().filter(|score| score.is_none());
        for ((slot, key), score) in unknown.zip(&keys).zip(&measured) {
            *slot = Some(self.cache.keep(key, score)?);
        }
        Ok(scores.into_iter().flatten().collect())
    }

    fn singles(
        &mut self,
        text: &PreparedText,
        models: &mut [&mut Model<'_>],
    ) -> Result<Vec<TextScore>, PipelineError> {
        let scores = models.iter_mut().map(|model| {
            let name = format!("{} {}", model.subject.name, text.protocol.dataset);
            let measured = self.tally.part(name, text.weight(), |observer| {
                perplexity(&mut model.blocks, &text.windows, observer)
            })?;
            Ok(TextScore {
                before: None,
                after: measured.value,
                divergence: None,
            })
        });
        scores.collect()
    }

    fn pairs(
        &mut self,
        text: &PreparedText,
        before: &mut Model<'_>,
        models: &mut [&mut Model<'_>],
    ) -> Result<Vec<TextScore>, PipelineError> {
        let (dense, dataset) = (before.subject.name, &text.protocol.dataset);
        let others = match &*models {
            [model] => model.subject.name.to_owned(),
            several => format!("{} others", several.len()),
        };
        let weight = text.weight() * (1 + models.len() as u64);
        let name = format!("{dense} and {others} {dataset}");
        let measured = self.tally.part(name, weight, |observer| {
            let others = models.iter_mut().map(|model| &mut model.blocks);
            let mut others: Vec<_> = others.collect();
            divergences(&mut before.blocks, &mut others, &text.windows, observer)
        })?;
        let scores = measured.into_iter().map(|measured| TextScore {
            before: Some(measured.perplexity_p.value),
            after: measured.perplexity_q.value,
            divergence: Some(WindowDivergence {
                window_mean_kl: measured.window_mean_kl,
                top1_agreement: measured.top_1_agreement,
            }),
        });
        Ok(scores.collect())
    }
}

/// Tokens that a stop text may be spread over, and some more.
const STOP_TOKENS: usize = 16;

/// Answers to prompts of one task, each until one of the task's stops.
fn write_answers(
    model: &mut Model<'_>,
    prompts: &[Prompt],
    tokens: &[Vec<u32>],
    tokenizer: &ModelTokenizer,
    observer: &mut dyn Observer,
) -> Result<Vec<Vec<u32>>, PipelineError> {
    let max_new_tokens = prompts.iter().map(|prompt| prompt.max_new_tokens).max();
    let options = GenerateOptions {
        max_new_tokens: max_new_tokens.unwrap_or_default(),
        end_of_text: tokenizer.end_tokens(),
        cache_bytes: CACHE_BYTES,
    };
    let tokens: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
    let mut is_answered = |index: usize, written: &[u32]| {
        let end = &written[written.len().saturating_sub(STOP_TOKENS)..];
        let end = tokenizer.decode(end).unwrap_or_default();
        prompts[index].stops.iter().any(|stop| end.contains(stop))
    };
    let written = generate(
        &mut model.blocks,
        &tokens,
        &options,
        &mut is_answered,
        observer,
    )?;
    Ok(written.into_iter().map(|one| one.tokens).collect())
}
