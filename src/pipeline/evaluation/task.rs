//! A task made ready for one tokenizer.

use super::encode::Encoder;
use crate::domain::ErrorCode;
use crate::domain::report::protocol::Protocol;
use crate::engine::ScoredSequence;
use crate::pipeline::PipelineError;
use crate::tasks::{Documents, FormatError, Item, Page, Prompt, Task};

/// A task with its documents as token sequences.
#[derive(Debug)]
pub(super) struct PreparedTask {
    pub(super) task: &'static Task,
    pub(super) protocol: Protocol,
    pub(super) work: Work,
    /// Documents that lost their beginning, because they are longer than the model's context.
    pub(super) truncated: usize,
}

/// What the model does with the documents.
#[derive(Debug, PartialEq)]
pub(super) enum Work {
    /// Scores the choices of each document: one sequence for each request, document by document.
    Choose(Vec<Item>, Vec<ScoredSequence>),
    /// Scores whole texts: one or more sequences for each page.
    Predict(Vec<(Page, usize)>, Vec<ScoredSequence>),
    /// Goes on after each prompt.
    Generate(Vec<Prompt>, Vec<Vec<u32>>),
}

impl Work {
    /// Turns texts into tokens; tells how many documents were too long.
    pub(super) fn prepare(
        documents: Documents,
        encoder: &Encoder<'_>,
    ) -> Result<(Self, usize), PipelineError> {
        let mut truncated = 0;
        let work = match documents {
            Documents::Items(items) => {
                let mut sequences = Vec::new();
                for item in &items {
                    let mut is_truncated = false;
                    for request in &item.requests {
                        let pair = encoder.pair(&request.context, &request.continuation)?;
                        is_truncated |= pair.is_truncated;
                        sequences.push(pair.sequence);
                    }
                    truncated += usize::from(is_truncated);
                }
                Self::Choose(items, sequences)
            }
            Documents::Pages(pages) => {
                let mut sequences = Vec::new();
                let mut counted = Vec::new();
                for page in pages {
                    let windows = encoder.rolling(&page.text)?;
                    counted.push((page, windows.len()));
                    sequences.extend(windows);
                }
                Self::Predict(counted, sequences)
            }
            Documents::Prompts(prompts) => {
                let mut tokens = Vec::new();
                for prompt in &prompts {
                    let (ids, is_truncated) =
                        encoder.prompt(&prompt.text, prompt.max_new_tokens)?;
                    truncated += usize::from(is_truncated);
                    tokens.push(ids);
                }
                Self::Generate(prompts, tokens)
            }
        };
        Ok((work, truncated))
    }

    /// Number of documents.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Choose(items, _) => items.len(),
            Self::Predict(pages, _) => pages.len(),
            Self::Generate(prompts, _) => prompts.len(),
        }
    }

    /// All token ids that the model is given, in order: two models are compared only on the same ones.
    pub(super) fn tokens(&self) -> impl Iterator<Item = &[u32]> {
        let (sequences, prompts): (&[ScoredSequence], &[Vec<u32>]) = match self {
            Self::Choose(_, sequences) | Self::Predict(_, sequences) => (sequences, &[]),
            Self::Generate(_, prompts) => (&[], prompts),
        };
        let sequences = sequences.iter().map(|sequence| sequence.tokens.as_slice());
        sequences.chain(prompts.iter().map(Vec::as_slice))
    }
}

impl From<FormatError> for PipelineError {
    fn from(error: FormatError) -> Self {
        let code = match error {
            FormatError::Column { .. } | FormatError::Examples { .. } => ErrorCode::DatasetInvalid,
            FormatError::Shots { .. } | FormatError::Refused { .. } => ErrorCode::InvalidRequest,
        };
        Self::refused(code, error.to_string())
    }
}
