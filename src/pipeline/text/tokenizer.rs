//! Text → token ids, by the model's own `tokenizer.json`.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer;

use super::backtracking::Patterns;
use super::special_tokens::TokenFiles;
use crate::domain::{ErrorCode, LFS_POINTER, is_lfs_pointer};
use crate::pipeline::PipelineError;

/// A model's tokenizer, without truncation or padding.
pub(in crate::pipeline) struct ModelTokenizer {
    tokenizer: Tokenizer,
    patterns: Patterns,
    vocab: usize,
    bos: Option<u32>,
    eos: Option<u32>,
    /// Ids that end what the model writes.
    ends: Vec<u32>,
}

impl ModelTokenizer {
    /// Loads `tokenizer.json` of a model whose embedding has `vocab` rows.
    pub(in crate::pipeline) fn load(model_dir: &Path, vocab: usize) -> Result<Self, PipelineError> {
        let bytes = read(model_dir)?;
        let json: Value = serde_json::from_slice(&bytes).map_err(|error| unusable(&error))?;
        let mut tokenizer = contained(|| Tokenizer::from_bytes(bytes))?;
        contained(|| tokenizer.with_truncation(None).map(|_| ()))?;
        tokenizer.with_padding(None);
        let files = TokenFiles::read(model_dir)?;
        files.complete(&mut tokenizer)?;
        let known = |id: &u32| (*id as usize) < vocab;
        let eos = files.id("eos_token", &tokenizer).filter(known);
        let ends: BTreeSet<u32> = files.end_ids().into_iter().chain(eos).collect();
        Ok(Self {
            bos: files.id("bos_token", &tokenizer).filter(known),
            eos,
            ends: ends.into_iter().collect(),
            patterns: Patterns::of(&json),
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
        self.patterns
            .check(text)
            .map_err(|error| unusable(&error))?;
        let encoding = contained(|| self.tokenizer.encode_fast(text, add_special_tokens))?;
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
        contained(|| self.tokenizer.decode(ids, false))
    }

    /// What stands before a text that has nothing before it: the token for the beginning of text, or else for its end.
    pub(in crate::pipeline) fn prefix_token(&self) -> Option<u32> {
        self.bos.or(self.eos)
    }

    /// The tokens that end a text.
    pub(in crate::pipeline) fn end_tokens(&self) -> &[u32] {
        &self.ends
    }
}

/// Longest file of a tokenizer that is read. Gemma's `tokenizer.json` has 33 MB.
const MAX_BYTES: u64 = 256 << 20;

/// Reads a regular file that is not too long: a pipe might never end.
pub(super) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        let detail = format!("it is no file of at most {MAX_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, detail));
    }
    fs::read(path)
}

fn read(model_dir: &Path) -> Result<Vec<u8>, PipelineError> {
    let path = model_dir.join("tokenizer.json");
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => PipelineError::refused(
            ErrorCode::TokenizerMissing,
            format!("the model has no tokenizer.json in {}", model_dir.display()),
        ),
        io::ErrorKind::InvalidData => unusable(&error),
        _ => PipelineError::io("read", &path, error),
    };
    let bytes = read_bounded(&path).map_err(failed)?;
    if is_lfs_pointer(&bytes) {
        return Err(unusable(&LFS_POINTER));
    }
    Ok(bytes)
}

/// Makes an error of a panic of the library too, which a file that contradicts itself can cause.
fn contained<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, PipelineError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| unusable(&error)),
        Err(_panic) => Err(unusable(&"it contradicts itself")),
    }
}

fn unusable(reason: &dyn Display) -> PipelineError {
    invalid(format!("tokenizer.json cannot be used: {reason}"))
}

pub(super) fn invalid(message: String) -> PipelineError {
    PipelineError::refused(ErrorCode::TokenizerInvalid, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pipeline::text::fixture::{VOCAB, bundled_tokenizer, model};

    /// What is said when a tokenizer is loaded and encodes a text.
    fn refusal(tokenizer: &Value, text: &str) -> String {
        let dir = model(&[("tokenizer.json", &tokenizer.to_string())]);
        let encoded = ModelTokenizer::load(dir.path(), VOCAB).and_then(|it| it.encode(text));
        let error = encoded.unwrap_err();
        assert_eq!(error.code(), ErrorCode::TokenizerInvalid, "{error}");
        error.to_string()
    }

    fn with(part: &str, value: Value) -> Value {
        let mut tokenizer = bundled_tokenizer();
        tokenizer[part] = value;
        tokenizer
    }

    #[test]
    fn a_file_that_contradicts_itself_is_refused_and_nothing_panics() {
        let template = json!({
            "type": "TemplateProcessing", "pair": [], "special_tokens": {},
            "single": [{"SpecialToken": {"id": "[absent]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        });
        let mut prefixed = bundled_tokenizer();
        prefixed["model"]["continuing_subword_prefix"] = "longer than any merge".into();
        let fixed = json!({"type": "FixedLength", "length": 0});
        for tokenizer in [
            with("post_processor", template),
            with("pre_tokenizer", fixed),
            prefixed,
        ] {
            refusal(&tokenizer, "some words");
        }
    }

    #[test]
    fn a_pattern_that_gives_up_is_an_error_and_no_other_tokens() {
        let split = json!({
            "type": "Split", "behavior": "Isolated", "invert": false,
            "pattern": {"Regex": "(a+)+(?=b)|c"},
        });
        let tokenizer = with(
            "pre_tokenizer",
            json!({"type": "Sequence", "pretokenizers": [split]}),
        );
        let text = format!("cc {}", "a".repeat(64));
        assert!(refusal(&tokenizer, &text).contains("gives up"));
    }

    #[test]
    fn a_file_beyond_all_bounds_is_not_read() {
        for name in ["tokenizer.json", "tokenizer_config.json"] {
            let dir = model(&[]);
            let file = fs::File::create(dir.path().join(name)).unwrap();
            file.set_len(MAX_BYTES + 1).unwrap();
            assert_refused(dir.path());
        }
        let dir = model(&[]);
        let pipe = dir.path().join("special_tokens_map.json");
        let made = std::process::Command::new("mkfifo").arg(pipe).status();
        assert!(made.unwrap().success());
        assert_refused(dir.path());
    }

    fn assert_refused(dir: &Path) {
        let error = ModelTokenizer::load(dir, VOCAB).map(drop).unwrap_err();
        assert_eq!(error.code(), ErrorCode::TokenizerInvalid, "{error}");
        assert!(error.to_string().contains("it is no file of"), "{error}");
    }
}
