//! What a model is asked about a document.

use std::sync::Arc;

use super::format::gsm8k;
use super::row::Row;

/// The documents of a task, ready for a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Documents {
    /// To choose one continuation of several, or to guess the only one.
    Items(Vec<Item>),
    /// To predict from the first token to the last.
    Pages(Vec<Page>),
    /// To continue freely.
    Prompts(Vec<Prompt>),
}

/// How probable is this continuation after this context?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The text before. Requests of one item that share their context share the allocation.
    pub context: Arc<str>,
    /// The text that is scored, with the space that sets it off.
    pub continuation: String,
}

/// A document of which each request is one choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The document's row in its split, from 0.
    pub doc_id: usize,
    /// What it is scored with besides the whole, such as its subject.
    pub group: Option<String>,
    /// One for each choice, in their order.
    pub requests: Vec<Request>,
    /// The right choice. Without one there is one request, whose continuation is right.
    pub gold: Option<usize>,
    /// Characters (code points) of each choice, without the space that sets it off. Empty without choices.
    pub choice_chars: Vec<usize>,
}

/// A text of which every token is scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its place among the pages of the split, from 0.
    pub doc_id: usize,
    /// The text that is scored.
    pub text: String,
    /// Words of the page before its text was cleaned up: what a perplexity by word divides by.
    pub words: usize,
    /// Bytes (UTF-8) of the page before its text was cleaned up.
    pub bytes: usize,
}

/// A text to be continued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The document's row in its split, from 0.
    pub doc_id: usize,
    /// What stands before the answer.
    pub text: String,
    /// The right answer, in full.
    pub target: String,
    /// Texts at which an answer ends. The model's end of text is one more.
    pub stops: &'static [&'static str],
    /// Tokens after which an answer is cut off.
    pub max_new_tokens: usize,
}

impl Prompt {
    /// Generated text up to the first of the [`stops`](Self::stops).
    pub fn answer<'a>(&self, generated: &'a str) -> &'a str {
        let ends = self.stops.iter().filter_map(|stop| generated.find(stop));
        &generated[..ends.min().unwrap_or(generated.len())]
    }

    /// Whether the generated text gives the right number in the form of the examples, after `####`.
    pub fn is_strict_match(&self, generated: &str) -> bool {
        gsm8k::equal(gsm8k::strict(self.answer(generated)), &self.target)
    }

    /// Whether the last number of the generated text is the right one.
    pub fn is_flexible_match(&self, generated: &str) -> bool {
        gsm8k::equal(gsm8k::flexible(self.answer(generated)), &self.target)
    }
}

/// A document as a task reads it, before examples are put before it.
pub(super) enum Question {
    /// The choices follow one context.
    Choices {
        context: String,
        choices: Vec<String>,
        gold: usize,
    },
    /// The choices are part of the context; the same text follows each.
    Contexts {
        contexts: Vec<String>,
        continuation: String,
        gold: usize,
    },
    /// One text follows, verbatim.
    Target {
        context: String,
        continuation: String,
    },
}

impl Item {
    /// The requests of a document behind worked examples (`prefix`, may be empty).
    pub(super) fn new(
        row: &Row<'_>,
        group: Option<&str>,
        prefix: &str,
        question: Question,
    ) -> Self {
        let full = |context: &str| Arc::<str>::from(format!("{prefix}{context}"));
        let (requests, gold, choice_chars) = match question {
            Question::Choices {
                context,
                choices,
                gold,
            } => {
                let context = full(&context);
                let chars = choices
                    .iter()
                    .map(|choice| choice.chars().count())
                    .collect();
                let request = |choice| Request {
                    context: Arc::clone(&context),
                    continuation: format!(" {choice}"),
                };
                (
                    choices.into_iter().map(request).collect(),
                    Some(gold),
                    chars,
                )
            }
            Question::Contexts {
                contexts,
                continuation,
                gold,
            } => {
                let chars = contexts
                    .iter()
                    .map(|context| context.chars().count())
                    .collect();
                let request = |context: &String| Request {
                    context: full(context),
                    continuation: format!(" {continuation}"),
                };
                (contexts.iter().map(request).collect(), Some(gold), chars)
            }
            Question::Target {
                context,
                continuation,
            } => {
                let context = full(&context);
                (
                    vec![Request {
                        context,
                        continuation,
                    }],
                    None,
                    Vec::new(),
                )
            }
        };
        Self {
            doc_id: row.doc_id,
            group: group.map(str::to_owned),
            requests,
            gold,
            choice_chars,
        }
    }

    /// The document with its answer, as an example for others.
    pub(super) fn worked(&self) -> String {
        let answer = &self.requests[self.gold.unwrap_or(0)];
        format!("{}{}\n\n", answer.context, answer.continuation)
    }
}
