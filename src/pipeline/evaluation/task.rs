//! A task made ready for one tokenizer, and the scores of its documents.

use serde::{Deserialize, Serialize};

use super::encode::Encoder;
use crate::domain::ErrorCode;
use crate::domain::report::protocol::Protocol;
use crate::engine::{LogLikelihood, ScoredSequence};
use crate::pipeline::PipelineError;
use crate::pipeline::text::ModelTokenizer;
use crate::tasks::{self, Documents, FormatError, Item, Metric, Page, Prompt, Task};

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

/// What a model made of one document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct DocumentScore {
    /// Its row in the split, from 0.
    pub(super) doc_id: usize,
    /// Its part of the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<String>,
    /// The right choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gold: Option<usize>,
    /// ln p of each choice, of the target, or of the whole text.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(super) lls: Vec<f64>,
    /// Whether it is right, by each of these metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) acc: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) acc_norm: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exact_match_strict: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exact_match_flexible: Option<bool>,
    /// Words and bytes of a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) words: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<usize>,
    /// What was written after a prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) generated: Option<String>,
}

impl DocumentScore {
    fn of(doc_id: usize) -> Self {
        Self {
            doc_id,
            group: None,
            gold: None,
            lls: Vec::new(),
            acc: None,
            acc_norm: None,
            exact_match_strict: None,
            exact_match_flexible: None,
            words: None,
            bytes: None,
            generated: None,
        }
    }

    /// Whether the document is right, by a metric that counts right ones.
    pub(super) fn is_right(&self, metric: Metric) -> Option<bool> {
        match metric {
            Metric::Acc => self.acc,
            Metric::AccNorm => self.acc_norm,
            Metric::ExactMatchStrict => self.exact_match_strict,
            Metric::ExactMatchFlexible => self.exact_match_flexible,
            Metric::Perplexity
            | Metric::WordPerplexity
            | Metric::BytePerplexity
            | Metric::BitsPerByte => None,
        }
    }

    /// What a perplexity divides the log-likelihood of this document by.
    pub(super) fn weight(&self, metric: Metric) -> usize {
        match metric {
            Metric::WordPerplexity => self.words.unwrap_or_default(),
            Metric::BytePerplexity | Metric::BitsPerByte => self.bytes.unwrap_or_default(),
            _ => 1,
        }
    }
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

/// The scores of documents from the log-likelihoods of their sequences.
pub(super) fn choices(items: &[Item], lls: &[LogLikelihood]) -> Vec<DocumentScore> {
    let mut rest = lls;
    let score = |item: &Item| {
        let (own, others) = rest.split_at(item.requests.len());
        rest = others;
        let values: Vec<f64> = own.iter().map(|ll| ll.value).collect();
        let (acc, acc_norm) = match item.gold {
            Some(gold) => (
                tasks::acc(&values, gold),
                Some(tasks::acc_norm(&values, &item.choice_chars, gold)),
            ),
            None => (own.iter().all(|ll| ll.is_greedy), None),
        };
        DocumentScore {
            group: item.group.clone(),
            gold: item.gold,
            lls: values,
            acc: Some(acc),
            acc_norm,
            ..DocumentScore::of(item.doc_id)
        }
    };
    items.iter().map(score).collect()
}

/// The log-likelihoods of pages.
pub(super) fn pages(pages: &[(Page, usize)], lls: &[LogLikelihood]) -> Vec<DocumentScore> {
    let mut rest = lls;
    let score = |(page, windows): &(Page, usize)| {
        let (own, others) = rest.split_at(*windows);
        rest = others;
        DocumentScore {
            lls: vec![own.iter().map(|ll| ll.value).sum()],
            words: Some(page.words),
            bytes: Some(page.bytes),
            ..DocumentScore::of(page.doc_id)
        }
    };
    pages.iter().map(score).collect()
}

/// The scores of what was written after prompts.
pub(super) fn answers(
    prompts: &[Prompt],
    written: &[Vec<u32>],
    tokenizer: &ModelTokenizer,
) -> Result<Vec<DocumentScore>, PipelineError> {
    let score = |(prompt, tokens): (&Prompt, &Vec<u32>)| {
        let text = tokenizer.decode(tokens)?;
        Ok(DocumentScore {
            exact_match_strict: Some(prompt.is_strict_match(&text)),
            exact_match_flexible: Some(prompt.is_flexible_match(&text)),
            generated: Some(prompt.answer(&text).to_owned()),
            ..DocumentScore::of(prompt.doc_id)
        })
    };
    prompts.iter().zip(written).map(score).collect()
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
