//! Tokens that the files beside `tokenizer.json` name, as transformers 5 reads them.
//!
//! `added_tokens_decoder` of `tokenizer_config.json` rules; without it the older `special_tokens_map.json` and
//! `added_tokens.json` do. What `tokenizer.json` lacks of them is added to it.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Value, json};
use tokenizers::{AddedToken, PostProcessorWrapper, Tokenizer};

use super::tokenizer::{invalid, read_bounded};
use crate::engine::model::parse_json;
use crate::pipeline::PipelineError;

/// Special tokens with a name of their own.
const NAMED: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// Lists of further special tokens.
const FURTHER: [&str; 2] = ["extra_special_tokens", "additional_special_tokens"];

/// What a model directory says about its tokens; `null` for a file that is not there.
pub(super) struct TokenFiles {
    tokenizer_config: Value,
    special_tokens_map: Value,
    added_tokens: Value,
    config: Value,
    generation_config: Value,
}

impl TokenFiles {
    pub(super) fn read(model_dir: &Path) -> Result<Self, PipelineError> {
        let json = |name: &str| {
            let path = model_dir.join(name);
            let unusable = |error: &dyn Error| invalid(format!("{name} cannot be read: {error}"));
            match read_bounded(&path) {
                Ok(bytes) => parse_json(&bytes).map_err(|error| unusable(&error)),
                Err(error) => match error.kind() {
                    ErrorKind::NotFound => Ok(Value::Null),
                    ErrorKind::InvalidData => Err(unusable(&error)),
                    _ => Err(PipelineError::io("read", &path, error)),
                },
            }
        };
        Ok(Self {
            tokenizer_config: json("tokenizer_config.json")?,
            special_tokens_map: json("special_tokens_map.json")?,
            added_tokens: json("added_tokens.json")?,
            config: json("config.json")?,
            generation_config: json("generation_config.json")?,
        })
    }

    /// Gives the tokenizer the tokens that it lacks, and the beginning and end of text that are asked for.
    pub(super) fn complete(&self, tokenizer: &mut Tokenizer) -> Result<(), PipelineError> {
        let known = tokenizer.get_added_tokens_decoder();
        let known: BTreeSet<String> = known.into_values().map(|token| token.content).collect();
        let mut tokens = self.declared(&known)?;
        for token in self.special() {
            let is_there = |(_, other): &(_, AddedToken)| other.content == token.content;
            if !known.contains(&token.content) && !tokens.iter().any(is_there) {
                tokens.push((None, token));
            }
        }
        let added = tokens.iter().map(|(_, token)| token.clone());
        tokenizer
            .add_tokens(added)
            .map_err(|error| invalid(format!("tokens cannot be added: {error}")))?;
        for (declared, AddedToken { content, .. }) in tokens {
            let actual = tokenizer.token_to_id(&content);
            if declared.is_some() && declared != actual {
                let (declared, actual) = (declared.unwrap_or_default(), actual.unwrap_or_default());
                return Err(invalid(format!(
                    "the token {content:?} is to have the id {declared}, by tokenizer.json it gets {actual}"
                )));
            }
        }
        tokenizer.set_encode_special_tokens(self.tokenizer_config["split_special_tokens"] == true);
        self.set_template(tokenizer)
    }

    /// Tokens with ids, in the order of these.
    fn declared(
        &self,
        known: &BTreeSet<String>,
    ) -> Result<Vec<(Option<u32>, AddedToken)>, PipelineError> {
        let wrong = |what: &str| invalid(format!("{what} is no token with an id"));
        let mut tokens = Vec::new();
        if let Some(decoder) = self.decoder() {
            for (id, value) in decoder {
                let token = id.parse().ok().zip(added_token(value, false));
                let (id, token) =
                    token.ok_or_else(|| wrong(&format!("added_tokens_decoder {id:?}")))?;
                tokens.push((Some(id), token));
            }
        } else if let Some(added) = self.added_tokens.as_object() {
            let special: BTreeSet<String> = self.special().map(|token| token.content).collect();
            for (content, id) in added
                .iter()
                .filter(|(content, _)| !known.contains(*content))
            {
                let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
                let id = id.ok_or_else(|| wrong(&format!("added_tokens.json {content:?}")))?;
                let token = AddedToken::from(content.clone(), special.contains(content));
                tokens.push((Some(id), token));
            }
        }
        tokens.sort_by_key(|(id, _)| *id);
        Ok(tokens)
    }

    fn decoder(&self) -> Option<&serde_json::Map<String, Value>> {
        self.tokenizer_config["added_tokens_decoder"].as_object()
    }

    /// A key of `tokenizer_config.json`, or of the older file that goes before it.
    fn value(&self, name: &str) -> &Value {
        let older = self.special_tokens_map.get(name);
        match older.filter(|_| self.decoder().is_none()) {
            Some(value) => value,
            None => &self.tokenizer_config[name],
        }
    }

    /// Special tokens, whether they have an id or not.
    fn special(&self) -> impl Iterator<Item = AddedToken> {
        let further = FURTHER
            .into_iter()
            .flat_map(move |name| match self.value(name) {
                Value::Array(tokens) => tokens.iter().collect(),
                Value::Object(tokens) => tokens.values().collect(),
                _ => Vec::new(),
            });
        let named = NAMED.into_iter().map(move |name| self.value(name));
        named
            .chain(further)
            .filter_map(|value| added_token(value, true))
    }

    fn content(&self, name: &str) -> Option<&str> {
        let value = self.value(name);
        value.as_str().or(value["content"].as_str())
    }

    /// `add_bos_token` and `add_eos_token` take the place of what `tokenizer.json` puts around a text.
    fn set_template(&self, tokenizer: &mut Tokenizer) -> Result<(), PipelineError> {
        let asked = ["bos", "eos"].map(|end| self.tokenizer_config.get(format!("add_{end}_token")));
        if asked.iter().all(Option::is_none) {
            return Ok(());
        }
        let [bos, eos] = [("bos_token", asked[0]), ("eos_token", asked[1])].map(|(name, asked)| {
            let content = self
                .content(name)
                .filter(|_| asked == Some(&Value::Bool(true)))?;
            Some((content, tokenizer.token_to_id(content)?))
        });
        let piece = |token: Option<(&str, u32)>| {
            token.map(|(content, _)| json!({"SpecialToken": {"id": content, "type_id": 0}}))
        };
        let around = |sequence: &str| {
            let sequence = json!({"Sequence": {"id": sequence, "type_id": 0}});
            let pieces = piece(bos).into_iter().chain([sequence]).chain(piece(eos));
            pieces.collect::<Vec<_>>()
        };
        let tokens = bos.into_iter().chain(eos).map(|(content, id)| {
            let token = json!({"id": content, "ids": [id], "tokens": [content]});
            (content.to_owned(), token)
        });
        let pair = [around("A"), around("B")].concat();
        let template = json!({
            "type": "TemplateProcessing",
            "single": around("A"),
            "pair": pair,
            "special_tokens": Value::Object(tokens.collect()),
        });
        let template: PostProcessorWrapper = serde_json::from_value(template)
            .map_err(|error| invalid(format!("add_bos_token cannot be followed: {error}")))?;
        tokenizer.with_post_processor(Some(template));
        Ok(())
    }

    /// The id of a named token: by its text, or else as `config.json` says (the first of several).
    pub(super) fn id(&self, name: &str, tokenizer: &Tokenizer) -> Option<u32> {
        let by_text = self
            .content(name)
            .and_then(|text| tokenizer.token_to_id(text));
        by_text.or_else(|| ids(&self.config[format!("{name}_id")]).first().copied())
    }

    /// Ids that end a text that a model writes: those of `generation_config.json`, or else of `config.json`.
    pub(super) fn end_ids(&self) -> Vec<u32> {
        let configs = [&self.generation_config, &self.config];
        let config = configs.into_iter().find(|config| config.is_object());
        config.map_or_else(Vec::new, |config| ids(&config["eos_token_id"]))
    }
}

/// One id, or several.
fn ids(value: &Value) -> Vec<u32> {
    let several = value
        .as_array()
        .map_or(std::slice::from_ref(value), Vec::as_slice);
    let ids = several.iter().filter_map(Value::as_u64);
    ids.filter_map(|id| u32::try_from(id).ok()).collect()
}

/// A token by its text, or with how it is found in a text.
fn added_token(value: &Value, is_special: bool) -> Option<AddedToken> {
    let content = value.as_str().or(value["content"].as_str())?;
    let flag = |name: &str| value[name].as_bool();
    let special = is_special || flag("special").unwrap_or(false);
    Some(AddedToken {
        content: content.to_owned(),
        single_word: flag("single_word").unwrap_or(false),
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(!special),
        special,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ErrorCode;
    use crate::pipeline::text::ModelTokenizer;
    use crate::pipeline::text::fixture::{VOCAB, bundled_tokenizer, model};

    fn load(files: &[(&str, &str)]) -> Result<ModelTokenizer, PipelineError> {
        ModelTokenizer::load(model(files).path(), VOCAB)
    }

    /// The id that the next token gets.
    fn next_id() -> u32 {
        let tokenizer: Tokenizer = serde_json::from_value(bundled_tokenizer()).unwrap();
        u32::try_from(tokenizer.get_vocab_size(true)).unwrap()
    }

    fn decoder(id: u32) -> String {
        let token = json!({"content": "<|turn|>", "special": true});
        json!({"added_tokens_decoder": {(id.to_string()): token}}).to_string()
    }

    #[test]
    fn tokens_that_stand_beside_the_tokenizer_are_one_token_each() {
        let next = next_id();
        let older = json!({"<|turn|>": next}).to_string();
        for files in [
            [("tokenizer_config.json", decoder(next).as_str())],
            [("added_tokens.json", &older)],
        ] {
            let ids = load(&files).unwrap().encode("a<|turn|>b").unwrap();
            assert_eq!((ids.len(), ids[1]), (3, next), "{files:?}");
        }
        assert!(load(&[]).unwrap().encode("a<|turn|>b").unwrap().len() > 3);
    }

    #[test]
    fn a_token_that_would_get_another_id_is_named() {
        let error = load(&[("tokenizer_config.json", &decoder(next_id() + 5))]);
        let error = error.map(drop).unwrap_err();
        assert_eq!(error.code(), ErrorCode::TokenizerInvalid);
        assert!(error.to_string().contains("<|turn|>"), "{error}");
    }

    #[test]
    fn the_map_of_special_tokens_names_them_where_the_configuration_lists_no_tokens() {
        let map = r#"{"bos_token": {"content": "e"}, "eos_token": "<|endoftext|>"}"#;
        let e = load(&[]).unwrap().encode("e").unwrap()[0];
        let prefix = |config: &str| {
            let ids = r#"{"bos_token_id": 7}"#;
            let files = [
                ("special_tokens_map.json", map),
                ("tokenizer_config.json", config),
                ("config.json", ids),
            ];
            load(&files).unwrap().prefix_token()
        };
        assert_eq!(prefix(r#"{"bos_token": "a"}"#), Some(e));
        assert_eq!(prefix(&decoder(next_id())), Some(7));
    }

    #[test]
    fn the_beginning_of_text_is_added_as_the_configuration_says() {
        let encode = |config: &str| {
            let tokenizer = load(&[("tokenizer_config.json", config)]).unwrap();
            tokenizer.encode("e").unwrap()
        };
        let [e] = encode("{}")[..] else { panic!() };
        let both = r#"{"bos_token": "<|endoftext|>", "eos_token": "e", "add_bos_token": true, "add_eos_token": true}"#;
        assert_eq!(encode(both), [0, e, e]);
        let none = r#"{"bos_token": "<|endoftext|>", "add_bos_token": false}"#;
        assert_eq!(encode(none), [e]);
    }

    #[test]
    fn every_end_of_text_ends_what_a_model_writes() {
        let ends = |generation: Option<&str>| {
            let mut files = vec![
                ("tokenizer_config.json", r#"{"eos_token": "<|endoftext|>"}"#),
                ("config.json", r#"{"eos_token_id": 9}"#),
            ];
            files.extend(generation.map(|text| ("generation_config.json", text)));
            load(&files).unwrap().end_tokens().to_vec()
        };
        assert_eq!(ends(None), [0, 9]);
        assert_eq!(ends(Some(r#"{"eos_token_id": [5, 6]}"#)), [0, 5, 6]);
        assert_eq!(ends(Some("{}")), [0]);
    }

    #[test]
    fn the_constants_of_python_are_read_and_what_is_broken_is_not_passed_over() {
        let config = r#"{"model_max_length": Infinity, "bos_token": "<|endoftext|>"}"#;
        let tokenizer = load(&[("tokenizer_config.json", config)]).unwrap();
        assert_eq!(tokenizer.prefix_token(), Some(0));
        let error = load(&[("tokenizer_config.json", "{\"bos_token\": ")]);
        let error = error.map(drop).unwrap_err();
        assert_eq!(error.code(), ErrorCode::TokenizerInvalid);
        assert!(
            error.to_string().contains("tokenizer_config.json"),
            "{error}"
        );
    }
}
