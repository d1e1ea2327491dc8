//! What is still to be measured: everything that is not in the cache, and the keys by which it is there.

use super::cache::{Key, KeyBuilder, ScoreCache};
use super::measure::Subject;
use super::prepare::{Prepared, PreparedText};
use super::task::{PreparedTask, Work};
use crate::engine::ResidentBlocks;

/// What is to be measured of every model.
pub(super) struct Pending<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) cache: &'a ScoreCache,
    pub(super) before: Option<&'a Subject<'a>>,
    pub(super) after: &'a [Subject<'a>],
    /// Whether the fixed prompts are continued.
    pub(super) writes: bool,
}

/// A measurement of one model.
pub(super) struct ToMeasure {
    tokens: u64,
    /// Whether every token that is written takes all blocks.
    is_written: bool,
}

impl Pending<'_> {
    /// Tokens of all models.
    pub(super) fn total(&self) -> u64 {
        let before = self.before.map(|_| self.of_before());
        let after = self.after.iter().map(|subject| self.of_after(subject));
        let parts = before.into_iter().chain(after).flatten();
        parts.map(|part| part.tokens).sum()
    }

    /// What is measured of the model before: a text goes through it once for all models that lack it.
    pub(super) fn of_before(&self) -> Vec<ToMeasure> {
        let Some(before) = self.before else {
            return Vec::new();
        };
        let texts = self.prepared.texts.iter().filter(|text| {
            let mut after = self.after.iter();
            after.any(|after| self.lacks(&text_key(text, self.before, after)))
        });
        texts.map(text_part).chain(self.of_model(before)).collect()
    }

    /// What is measured of a model after.
    pub(super) fn of_after(&self, subject: &Subject<'_>) -> Vec<ToMeasure> {
        let texts = self.prepared.texts.iter();
        let texts = texts.filter(|text| self.lacks(&text_key(text, self.before, subject)));
        texts.map(text_part).chain(self.of_model(subject)).collect()
    }

    /// Tasks and prompts.
    fn of_model(&self, subject: &Subject<'_>) -> Vec<ToMeasure> {
        let prepared = self.prepared;
        let tasks = prepared.tasks.iter().map(|task| {
            let part = ToMeasure {
                tokens: task.weight(),
                is_written: matches!(task.work, Work::Generate(..)),
            };
            (task_key(task, prepared.end_tokens(), subject), part)
        });
        let prompts = self.writes.then(|| {
            let part = ToMeasure {
                tokens: prepared.prompts_weight(),
                is_written: true,
            };
            (prompts_key(prepared, subject), part)
        });
        let parts = tasks.chain(prompts).filter(|(key, _)| self.lacks(key));
        parts.map(|(_, part)| part).collect()
    }

    fn lacks(&self, key: &Key) -> bool {
        !self.cache.contains(key)
    }
}

/// The blocks of a model that this is measured of: they are kept only where they are needed again.
pub(super) fn fit<'a>(parts: &[ToMeasure], blocks: ResidentBlocks<'a>) -> ResidentBlocks<'a> {
    let wave = blocks.tokens_per_wave() as u64;
    match parts {
        [only] if only.tokens <= wave && !only.is_written => blocks.once(),
        _ => blocks,
    }
}

fn text_part(text: &PreparedText) -> ToMeasure {
    ToMeasure {
        tokens: text.weight(),
        is_written: false,
    }
}

pub(super) fn text_key(
    text: &PreparedText,
    before: Option<&Subject<'_>>,
    after: &Subject<'_>,
) -> Key {
    KeyBuilder::new(&after.fingerprint)
        .with(before.map_or(b"", |before| before.fingerprint.as_bytes()))
        .with(text.protocol.id().as_bytes())
        .with_tokens(text.windows.ids())
        .finish()
}

pub(super) fn task_key(task: &PreparedTask, end_tokens: &[u32], subject: &Subject<'_>) -> Key {
    let builder = KeyBuilder::new(&subject.fingerprint).with(task.protocol.id().as_bytes());
    task.work
        .tokens()
        .fold(builder, KeyBuilder::with_tokens)
        .with_tokens(end_tokens)
        .finish()
}

pub(super) fn prompts_key(prepared: &Prepared, subject: &Subject<'_>) -> Key {
    let builder = KeyBuilder::new(&subject.fingerprint)
        .with(b"prompts")
        .with(prepared.device.as_bytes())
        .with_tokens(prepared.end_tokens())
        .with(&prepared.new_tokens.to_le_bytes());
    let prompts = prepared.prompts.iter();
    prompts
        .fold(builder, |builder, prompt| {
            builder.with_tokens(&prompt.tokens)
        })
        .finish()
}
