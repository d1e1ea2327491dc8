//! Measures one model, or two together. What is in the cache is not measured again.

use std::path::{Path, PathBuf};

use candle_core::Device;
use serde::{Deserialize, Serialize};

use super::cache::{Key, KeyBuilder, ScoreCache};
use super::prepare::{Prepared, PreparedText};
use super::progress::Tally;
use super::score::{self, DocumentScore};
use super::task::{PreparedTask, Work};
use crate::engine::{
    Checkpoint, Decoder, GenerateOptions, Observer, ResidentBlocks, divergences, generate,
    log_likelihoods, perplexity,
};
use crate::pipeline::text::ModelTokenizer;
use crate::pipeline::{Listener, PipelineError, memory};
use crate::tasks::Prompt;

/// Share of the available memory that the blocks of all models may take to be kept between measurements.
const RESIDENT_SHARE: u64 = 2;

/// Bytes of keys and values that are kept while texts are written.
const CACHE_BYTES: u64 = 512 << 20;

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

/// Measures every model of `after`, and `before` once with all of them.
pub(super) fn measure(
    prepared: &Prepared,
    before: Option<&Subject<'_>>,
    after: &[Subject<'_>],
    device: &Device,
    cache: &ScoreCache,
    listener: &mut dyn Listener,
) -> Result<Vec<Measured>, PipelineError> {
    let Some(tokenizer) = &prepared.tokenizer else {
        return Ok(after.iter().map(|_| Measured::default()).collect());
    };
    // A model on its own takes no more than one of two.
    let models = (after.len() + usize::from(before.is_some())).max(2) as u64;
    let resident_bytes = memory::available_bytes() / RESIDENT_SHARE / models;
    let total = pending(prepared, before, after, cache);
    let mut session = Session {
        prepared,
        tokenizer,
        cache,
        tally: Tally::new(listener, total),
    };
    let before_checkpoint = before
        .map(|subject| Checkpoint::open(subject.dir))
        .transpose()?;
    let before_decoder = before_checkpoint
        .as_ref()
        .map(|checkpoint| Decoder::open(checkpoint, device))
        .transpose()?;
    let mut before = before
        .zip(before_decoder.as_ref())
        .map(|(subject, decoder)| Model::new(subject, decoder, resident_bytes));
    let before_scores = before
        .as_mut()
        .map(|model| session.model(model))
        .transpose()?;

    let checkpoints = after.iter().map(|subject| Checkpoint::open(subject.dir));
    let checkpoints = checkpoints.collect::<Result<Vec<_>, _>>()?;
    let decoders = checkpoints
        .iter()
        .map(|checkpoint| Decoder::open(checkpoint, device));
    let decoders = decoders.collect::<Result<Vec<_>, _>>()?;
    let models = after.iter().zip(&decoders);
    let mut models: Vec<_> = models
        .map(|(subject, decoder)| Model::new(subject, decoder, resident_bytes))
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

/// A model whose blocks stay in memory while it is measured, if they fit.
struct Model<'a> {
    subject: &'a Subject<'a>,
    blocks: ResidentBlocks<'a>,
}

impl<'a> Model<'a> {
    fn new(subject: &'a Subject<'a>, decoder: &'a Decoder<'a>, resident_bytes: u64) -> Self {
        Self {
            subject,
            blocks: ResidentBlocks::new(decoder, resident_bytes),
        }
    }
}

/// The tokens of everything that is not in the cache.
fn pending(
    prepared: &Prepared,
    before: Option<&Subject<'_>>,
    after: &[Subject<'_>],
    cache: &ScoreCache,
) -> u64 {
    let texts = prepared.texts.iter().map(|text| {
        let keys = after.iter().map(|after| text_key(text, before, after));
        let open = keys.filter(|key| !cache.contains(key)).count() as u64;
        text.weight() * text_passes(before.is_some(), open)
    });
    let of_model = |subject: &Subject<'_>| {
        let tasks = prepared
            .tasks
            .iter()
            .map(|task| (task_key(task, prepared.end_token(), subject), task.weight()));
        let prompts = (prompts_key(prepared, subject), prepared.prompts_weight());
        tasks.chain([prompts]).collect::<Vec<_>>()
    };
    let models = before.into_iter().chain(after).flat_map(of_model);
    let models = models.filter(|(key, _)| !cache.contains(key));
    texts.chain(models.map(|(_, weight)| weight)).sum()
}

/// Models that a text passes through, `open` of them beside a dense one if there is one.
fn text_passes(has_before: bool, open: u64) -> u64 {
    open + u64::from(has_before && open > 0)
}

fn text_key(text: &PreparedText, before: Option<&Subject<'_>>, after: &Subject<'_>) -> Key {
    KeyBuilder::new(&after.fingerprint)
        .with(before.map_or(b"", |before| before.fingerprint.as_bytes()))
        .with(text.protocol.id().as_bytes())
        .with_tokens(text.windows.ids())
        .finish()
}

fn task_key(task: &PreparedTask, end_token: Option<u32>, subject: &Subject<'_>) -> Key {
    let builder = KeyBuilder::new(&subject.fingerprint).with(task.protocol.id().as_bytes());
    task.work
        .tokens()
        .fold(builder, KeyBuilder::with_tokens)
        .with_tokens(end_token.as_slice())
        .finish()
}

fn prompts_key(prepared: &Prepared, subject: &Subject<'_>) -> Key {
    let builder = KeyBuilder::new(&subject.fingerprint)
        .with(b"prompts")
        .with(prepared.device.as_bytes())
        .with_tokens(prepared.end_token().as_slice())
        .with(&prepared.new_tokens.to_le_bytes());
    let prompts = prepared.prompts.iter();
    prompts
        .fold(builder, |builder, prompt| {
            builder.with_tokens(&prompt.tokens)
        })
        .finish()
}

struct Session<'a> {
    prepared: &'a Prepared,
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
        scores.written = self.prompts(model)?;
        Ok(scores)
    }

    fn task(
        &mut self,
        task: &PreparedTask,
        model: &mut Model<'_>,
    ) -> Result<Vec<DocumentScore>, PipelineError> {
        let key = task_key(task, self.prepared.end_token(), model.subject);
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
        let end_of_text: Vec<u32> = self.tokenizer.end_token().into_iter().collect();
        let options = GenerateOptions {
            max_new_tokens: self.prepared.new_tokens,
            end_of_text: &end_of_text,
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
        let weight = text.weight() * text_passes(true, models.len() as u64);
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
    let end_of_text: Vec<u32> = tokenizer.end_token().into_iter().collect();
    let options = GenerateOptions {
        max_new_tokens: max_new_tokens.unwrap_or_default(),
        end_of_text: &end_of_text,
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
