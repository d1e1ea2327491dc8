//! Text → token ids, by the model's own `tokenizer.json`.

use std::path::Path;

use tokenizers::Tokenizer;

use super::PipelineError;
use crate::domain::ErrorCode;

/// A model's tokenizer, without truncation or padding.
pub(super) struct ModelTokenizer {
    tokenizer: Tokenizer,
    vocab: usize,
}

impl ModelTokenizer {
    /// Loads `tokenizer.json` of a model whose embedding has `vocab` rows.
    pub(super) fn load(model_dir: &Path, vocab: usize) -> Result<Self, PipelineError> {
        let path = model_dir.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => PipelineError::refused(
                ErrorCode::TokenizerMissing,
                format!("the model has no tokenizer.json in {}", model_dir.display()),
            ),
            _ => PipelineError::io("read", &path, error),
        })?;
        let invalid = |error: tokenizers::Error| {
            PipelineError::refused(
                ErrorCode::TokenizerInvalid,
                format!("tokenizer.json cannot be used: {error}"),
            )
        };
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(invalid)?;
        tokenizer.with_truncation(None).map_err(invalid)?;
        tokenizer.with_padding(None);
        Ok(Self { tokenizer, vocab })
    }

    /// Token ids with the tokenizer's default special tokens.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, PipelineError> {
        let invalid =
            |message: String| PipelineError::refused(ErrorCode::TokenizerInvalid, message);
        let encoding = self
            .tokenizer
            .encode_fast(text, true)
            .map_err(|error| invalid(error.to_string()))?;
        let ids = encoding.get_ids();
        match ids.iter().find(|&&id| id as usize >= self.vocab) {
            Some(id) => Err(invalid(format!(
                "the tokenizer gives token id {id}, the model has {} embeddings",
                self.vocab
            ))),
            None => Ok(ids.to_vec()),
        }
    }
}
