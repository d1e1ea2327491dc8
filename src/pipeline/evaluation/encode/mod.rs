//! Text of tasks → token sequences, as lm-evaluation-harness does it.

use crate::domain::ErrorCode;
use crate::domain::spec::BosRule;
use crate::engine::ScoredSequence;
use crate::pipeline::PipelineError;
use crate::pipeline::text::ModelTokenizer;
use crate::tasks::move_trailing_space;

/// Turns texts of tasks into token sequences for one model.
pub(super) struct Encoder<'a> {
    tokenizer: &'a ModelTokenizer,
    bos: BosRule,
    max_length: usize,
    /// The text of the prefix token: a text that begins with it gets no second one.
    prefix_text: Option<String>,
}

/// A sequence, and whether its beginning had to be cut off.
#[derive(Debug, PartialEq)]
pub(super) struct Encoded {
    pub(super) sequence: ScoredSequence,
    pub(super) is_truncated: bool,
}

impl<'a> Encoder<'a> {
    /// `max_length`: the model's context.
    pub(super) fn new(
        tokenizer: &'a ModelTokenizer,
        bos: BosRule,
        max_length: usize,
    ) -> Result<Self, PipelineError> {
        let prefix_text = tokenizer
            .prefix_token()
            .map(|id| tokenizer.decode(&[id]))
            .transpose()?
            .filter(|text| !text.is_empty());
        Ok(Self {
            tokenizer,
            bos,
            max_length,
            prefix_text,
        })
    }

    fn tokens(&self, text: &str) -> Result<Vec<u32>, PipelineError> {
        let begins_with_prefix = self
            .prefix_text
            .as_ref()
            .is_some_and(|prefix| text.starts_with(prefix.as_str()));
        let adds = self.bos == BosRule::Tokenizer && !begins_with_prefix;
        self.tokenizer.encode_with(text, adds)
    }

    /// The continuation's tokens are what the whole text has more than the context alone, by count. The context's own
    /// tokens are fed, and the last `max_length + 1` tokens are kept: the last one is only predicted.
    pub(super) fn pair(&self, context: &str, continuation: &str) -> Result<Encoded, PipelineError> {
        let (context, continuation) = move_trailing_space(context, continuation);
        if context.is_empty() {
            let mut tokens = vec![self.needed_prefix()?];
            let continuation = self.tokenizer.encode_with(&continuation, false)?;
            tokens.extend(&continuation);
            return self.fitted(tokens, continuation.len());
        }
        let whole = self.tokens(&format!("{context}{continuation}"))?;
        let mut tokens = self.tokens(context)?;
        let scored = whole.len().saturating_sub(tokens.len());
        tokens.extend(&whole[whole.len() - scored..]);
        if scored == 0 {
            let message = format!("the continuation {continuation:?} has no token of its own");
            return Err(PipelineError::refused(ErrorCode::TokenizerInvalid, message));
        }
        self.fitted(tokens, scored)
    }

    /// Every token of a text once, in windows of `max_length`, each predicted from at least one token before it.
    ///
    /// The last window reaches back into the one before it, so that it is as long.
    pub(super) fn rolling(&self, text: &str) -> Result<Vec<ScoredSequence>, PipelineError> {
        let mut tokens = vec![self.needed_prefix()?];
        tokens.extend(self.tokens(text)?);
        let total = tokens.len() - 1;
        let mut windows = Vec::new();
        let mut predicted = 0;
        while predicted < total {
            let scored = (total - predicted).min(self.max_length);
            let end = predicted + scored + 1;
            let start = end.saturating_sub(self.max_length + 1);
            windows.push(ScoredSequence {
                tokens: tokens[start..end].to_vec(),
                scored,
            });
            predicted += scored;
        }
        Ok(windows)
    }

    /// A prompt that leaves room for `new_tokens`; its beginning is cut off where it must be.
    pub(super) fn prompt(
        &self,
        text: &str,
        new_tokens: usize,
    ) -> Result<(Vec<u32>, bool), PipelineError> {
        let room = self.max_length.saturating_sub(new_tokens);
        if room == 0 {
            let message = format!(
                "{new_tokens} new tokens do not fit the model's context of {} tokens",
                self.max_length
            );
            return Err(PipelineError::refused(ErrorCode::ContextTooLong, message));
        }
        let mut tokens = self.tokens(text)?;
        let excess = tokens.len().saturating_sub(room);
        tokens.drain(..excess);
        if tokens.is_empty() {
            tokens.push(self.needed_prefix()?);
        }
        Ok((tokens, excess > 0))
    }

    fn fitted(&self, mut tokens: Vec<u32>, scored: usize) -> Result<Encoded, PipelineError> {
        if scored > self.max_length {
            let message = format!(
                "a continuation of {scored} tokens does not fit the model's context of {} tokens",
                self.max_length
            );
            return Err(PipelineError::refused(ErrorCode::ContextTooLong, message));
        }
        let excess = tokens.len().saturating_sub(self.max_length + 1);
        tokens.drain(..excess);
        Ok(Encoded {
            sequence: ScoredSequence { tokens, scored },
            is_truncated: excess > 0,
        })
    }

    fn needed_prefix(&self) -> Result<u32, PipelineError> {
        self.tokenizer.prefix_token().ok_or_else(|| {
            PipelineError::refused(
                ErrorCode::TokenizerInvalid,
                "the tokenizer names neither a bos_token nor an eos_token, and the first token of a text needs one \
                 before it"
                    .to_owned(),
            )
        })
    }
}

#[cfg(test)]
mod tests;
