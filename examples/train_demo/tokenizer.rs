//! The model's own tokenizer: byte-level pair encoding, trained on the generated text.

use std::collections::HashSet;

use anyhow::{Result, anyhow};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

/// Begins a text and separates documents. The first special token, so its id is [`END_OF_TEXT_ID`].
pub(crate) const END_OF_TEXT: &str = "<|endoftext|>";
pub(crate) const END_OF_TEXT_ID: u32 = 0;

/// All 256 bytes are in the vocabulary, so that any text can be encoded.
pub(crate) fn train(pages: &[String], vocab: usize) -> Result<Tokenizer> {
    let byte_level = ByteLevel::default().add_prefix_space(false);
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer
        .with_pre_tokenizer(Some(byte_level))
        .with_decoder(Some(byte_level));
    let trainer = BpeTrainer::builder()
        .vocab_size(vocab)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect::<HashSet<_>>())
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        .build();
    tokenizer
        .train(&mut TrainerWrapper::BpeTrainer(trainer), pages.iter())
        .map_err(|error| anyhow!("cannot train the tokenizer: {error}"))?;
    Ok(tokenizer)
}

/// The ids of all pages in one stream, each page after an end-of-text token.
pub(crate) fn encode_pages(tokenizer: &Tokenizer, pages: &[String]) -> Result<Vec<u32>> {
    let encodings = tokenizer
        .encode_batch_fast(pages.iter().map(String::as_str).collect(), false)
        .map_err(|error| anyhow!("cannot encode the text: {error}"))?;
    let mut ids = Vec::new();
    for encoding in &encodings {
        ids.push(END_OF_TEXT_ID);
        ids.extend_from_slice(encoding.get_ids());
    }
    Ok(ids)
}
