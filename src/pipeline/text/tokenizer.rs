//! Text → token ids, by the model's own `tokenizer.json`.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer;

use crate::domain::ErrorCode;
use crate::pipeline::PipelineError;

/// A model's tokenizer, without truncation or padding.
pub(in crate::pipeline) struct ModelTokenizer {
    tokenizer: Tokenizer,
    vocab: usize,
    bos: Option<u32>,
    eos: Option<u32>,
}

impl ModelTokenizer {
    /// Loads `tokenizer.json` of a model whose embedding has `vocab` rows.
    pub(in crate::pipeline) fn load(model_dir: &Path, vocab: usize) -> Result<Self, PipelineError> {
        let path = model_dir.join("tokenizer.json");
        let bytes = fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => PipelineError::refused(
                ErrorCode::TokenizerMissing,
                format!("the model has no tokenizer.json in {}", model_dir.display()),
            ),
            _ => PipelineError::io("read", &path, error),
        })?;
        let unusable =
            |error: tokenizers::Error| invalid(format!("tokenizer.json cannot be used: {error}"));
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(unusable)?;
        tokenizer.with_truncation(None).map_err(unusable)?;
        tokenizer.with_padding(None);
        let special = SpecialTokens::read(model_dir);
        let known = |id: &u32| (*id as usize) < vocab;
        Ok(Self {
            bos: special.id("bos_token", &tokenizer).filter(known),
            eos: special.id("eos_token", &tokenizer).filter(known),
            tokenizer,
            vocab,
        })
    }

    /// Token ids with the tokenizer's default special tokens.
    pub(in crate::pipeline) fn encode(&self, text: &str) -> Result<Vec<u32>, PipelineError> {
        self.encode_with(text, true)
    }

    /// Token ids, with or without the special tokens that the tokenizer adds by itself.
    pub(in crate::pipeline) fn encode_with(
        &self,
        text: &str,
        add_special_tokens: bool,
    ) -> Result<Vec<u32>, PipelineError> {
        let encoding = self
            .tokenizer
            .encode_fast(text, add_special_tokens)
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

    /// The text of token ids, special tokens included.
    pub(in crate::pipeline) fn decode(&self, ids: &[u32]) -> Result<String, PipelineError> {
        self.tokenizer
            .decode(ids, false)
            .map_err(|error| invalid(format!("token ids cannot be turned into text: {error}")))
    }

    /// What stands before a text that has nothing before it: the token for the beginning of text, or else for its end.
    pub(in crate::pipeline) fn prefix_token(&self) -> Option<u32> {
        self.bos.or(self.eos)
    }

    /// The token that ends a text.
    pub(in crate::pipeline) fn end_token(&self) -> Option<u32> {
        self.eos
    }
}

fn invalid(message: String) -> PipelineError {
    PipelineError::refused(ErrorCode::TokenizerInvalid, message)
}

/// What a model directory says about its special tokens. A file that is not there or not readable says nothing: not
/// every measurement needs them.
struct SpecialTokens {
    tokenizer_config: Value,
    config: Value,
}

impl SpecialTokens {
    fn read(model_dir: &Path) -> Self {
        let json = |name: &str| {
            fs::read(model_dir.join(name))
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
                .unwrap_or_default()
        };
        Self {
            tokenizer_config: json("tokenizer_config.json"),
            config: json("config.json"),
        }
    }

    /// By its text in `tokenizer_config.json`, or else by its id in `config.json` (the first of several).
    fn id(&self, name: &str, tokenizer: &Tokenizer) -> Option<u32> {
        let token = &self.tokenizer_config[name];
        let text = token.as_str().or(token["content"].as_str());
        let by_text = text.and_then(|text| tokenizer.token_to_id(text));
        by_text.or_else(|| {
            let id = &self.config[format!("{name}_id")];
            let id = id.as_u64().or(id[0].as_u64());
            id.and_then(|id| u32::try_from(id).ok())
        })
    }
}
