//! Greedy generation with a cache against recomputing the whole sequence for every token.

use std::path::Path;

use candle_core::{Device, IndexOp};
use secateur::engine::{
    Checkpoint, Decoder, EngineError, GenerateOptions, Generation, GenerationEnd, ResidentBlocks,
    Result, Silent, generate,
};

use crate::engine::log_likelihood::{logits_of, tiny_model};
use crate::engine::reference::{Tensors, reference_dir};

const PLENTY: GenerateOptions<'_> = GenerateOptions {
    max_new_tokens: 12,
    end_of_text: &[],
    cache_bytes: 1 << 30,
};

/// The chain of largest logits, each from the whole sequence so far.
fn recomputed(model: &Path, prompt: &[u32], n: usize) -> Vec<u32> {
    let checkpoint = Checkpoint::open(model).unwrap();
    let decoder = Decoder::open(&checkpoint, &Device::Cpu).unwrap();
    let mut ids = prompt.to_vec();
    for _ in 0..n {
        let last = logits_of(&decoder, &ids).i(ids.len() - 1).unwrap();
        ids.push(last.argmax(0).unwrap().to_scalar().unwrap());
    }
    ids.split_off(prompt.len())
}

fn generated(
    model: &Path,
    prompts: &[Vec<u32>],
    options: GenerateOptions<'_>,
    stop: &mut dyn FnMut(usize, &[u32]) -> bool,
    resident_bytes: u64,
) -> Result<Vec<Generation>> {
    let checkpoint = Checkpoint::open(model)?;
    let decoder = Decoder::open(&checkpoint, &Device::Cpu)?;
    let mut model = ResidentBlocks::new(&decoder, resident_bytes);
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    generate(&mut model, &prompts, &options, stop, &mut Silent)
}

fn never(_: usize, _: &[u32]) -> bool {
    false
}

/// Prompts of different lengths, most with a common beginning, one of them twice.
fn prompts(vocab: u32) -> Vec<Vec<u32>> {
    let shared: Vec<u32> = (0..40).map(|i| i * i % vocab).collect();
    let mut prompts: Vec<Vec<u32>> = (0..6_u32)
        .map(|i| {
            let own = (0..=i * 3).map(|j| (j * 17 + i * 5) % vocab);
            shared.iter().copied().chain(own).collect()
        })
        .collect();
    prompts.push(vec![7]);
    prompts.push(prompts[2].clone());
    prompts
}

fn check_model(model: &Path, vocab: u32) {
    let prompts = prompts(vocab);
    let expected: Vec<Vec<u32>> = prompts
        .iter()
        .map(|prompt| recomputed(model, prompt, 12))
        .collect();
    // All at once; in turns of about two; one by one with blocks read again for every token.
    for (cache_bytes, resident_bytes) in [(1 << 30, u64::MAX), (60_000, u64::MAX), (0, 0)] {
        let options = GenerateOptions {
            cache_bytes,
            ..PLENTY
        };
        let results = generated(model, &prompts, options, &mut never, resident_bytes).unwrap();
        for (result, expected) in results.iter().zip(&expected) {
            assert_eq!(&result.tokens, expected, "cache of {cache_bytes} bytes");
            assert_eq!(result.end, GenerationEnd::MaxNewTokens);
        }
    }
}

#[test]
fn a_trained_model_goes_on_as_if_everything_were_recomputed() {
    let Some(dir) = reference_dir().map(|dir| dir.join("tiny-trained")) else {
        return;
    };
    check_model(&dir, 256);
    // A text that the model knows the kind of.
    let eval = Tensors::read(&dir.join("eval.safetensors")).windows("eval_ids");
    let prompts: Vec<Vec<u32>> = eval.ids().chunks(32).map(|w| w[..20].to_vec()).collect();
    let results = generated(&dir, &prompts, PLENTY, &mut never, 0).unwrap();
    for (prompt, result) in prompts.iter().zip(results) {
        assert_eq!(result.tokens, recomputed(&dir, prompt, 12));
    }
}

#[test]
fn grouped_heads_and_a_sliding_window_go_on_as_if_everything_were_recomputed() {
    for sliding_window in [None, Some(7)] {
        check_model(tiny_model(sliding_window).path(), 128);
    }
}

#[test]
fn a_sequence_ends_where_it_is_told_to() {
    let dir = tiny_model(None);
    let prompts = prompts(128);
    let whole = generated(dir.path(), &prompts, PLENTY, &mut never, u64::MAX).unwrap();
    // An end of text is not part of the result.
    let end_of_text = [whole[0].tokens[3]];
    let options = GenerateOptions {
        end_of_text: &end_of_text,
        ..PLENTY
    };
    let results = generated(dir.path(), &prompts, options, &mut never, u64::MAX).unwrap();
    for (result, whole) in results.iter().zip(&whole) {
        let expected = whole.tokens.iter().position(|id| *id == end_of_text[0]);
        let expected = expected.unwrap_or(whole.tokens.len());
        assert_eq!(result.tokens, whole.tokens[..expected]);
        let ended = expected < whole.tokens.len();
        assert_eq!(result.end == GenerationEnd::EndOfText, ended);
    }
    // The caller sees each sequence grow by one token at a time, and may end it.
    let mut seen = vec![0; prompts.len()];
    let mut stop = |index: usize, tokens: &[u32]| {
        assert_eq!(tokens, &whole[index].tokens[..tokens.len()]);
        seen[index] += 1;
        assert_eq!(tokens.len(), seen[index]);
        tokens.len() == index + 1
    };
    let results = generated(dir.path(), &prompts, PLENTY, &mut stop, u64::MAX).unwrap();
    for (index, result) in results.iter().enumerate() {
        assert_eq!(
            (result.tokens.len(), result.end),
            (index + 1, GenerationEnd::Stopped)
        );
    }
}

#[test]
fn generation_ends_at_the_model_s_context_and_says_so() {
    // The model's context is 300 tokens.
    let dir = tiny_model(None);
    let prompts = [vec![5; 295], vec![5; 299], vec![5; 3]];
    let results = generated(dir.path(), &prompts, PLENTY, &mut never, u64::MAX).unwrap();
    let ends: Vec<_> = results.iter().map(|r| (r.tokens.len(), r.end)).collect();
    assert_eq!(
        ends,
        [
            (5, GenerationEnd::ContextFull),
            (1, GenerationEnd::ContextFull),
            (12, GenerationEnd::MaxNewTokens)
        ]
    );
    assert_eq!(results[0].tokens, recomputed(dir.path(), &prompts[0], 5));
    for bad in [Vec::new(), vec![5; 300]] {
        let prompts = [vec![1], bad];
        let error = generated(dir.path(), &prompts, PLENTY, &mut never, 0).unwrap_err();
        assert!(
            matches!(error, EngineError::InvalidSequence { sequence: 1, .. }),
            "{error}"
        );
    }
}
