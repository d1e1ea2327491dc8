//! Log-likelihoods of many sequences at once against each sequence by itself.

use std::path::Path;

use candle_core::{D, Device, IndexOp, Tensor};
use secateur::engine::model::BlockContext;
use secateur::engine::ops::TokenLayout;
use secateur::engine::{
    Checkpoint, Decoder, EngineError, LogLikelihood, Observer, PassProgress, ResidentBlocks,
    Result, ScoredSequence, Silent, TokenWindows, log_likelihoods, perplexity,
};

use crate::support::synthetic::{Shape, write_model};

pub(crate) const TINY: Shape = Shape {
    hidden: 64,
    intermediate: 96,
    blocks: 3,
    vocab: 128,
};

/// A tiny Mistral model: grouped key-value heads and, if asked, a sliding window.
pub(crate) fn tiny_model(sliding_window: Option<usize>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path(), TINY);
    let path = dir.path().join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["architectures"] = serde_json::json!(["MistralForCausalLM"]);
    config["model_type"] = "mistral".into();
    config["sliding_window"] = sliding_window.into();
    config["max_position_embeddings"] = 300.into();
    std::fs::write(&path, config.to_string()).unwrap();
    dir
}

/// Logits `[n, vocab]` of one sequence, by the plain forward.
pub(crate) fn logits_of(decoder: &Decoder<'_>, ids: &[u32]) -> Tensor {
    let ropes = decoder.ropes(ids.len()).unwrap();
    let context = BlockContext {
        ropes: &ropes,
        layout: TokenLayout::Windows(ids.len()),
    };
    let mut x = decoder.embed(ids, context.layout).unwrap();
    for index in 0..decoder.plan().blocks.len() {
        x = decoder.block(index).unwrap().forward(&x, &context).unwrap();
    }
    decoder.head().unwrap().logits(&x).unwrap()
}

fn alone(decoder: &Decoder<'_>, sequence: &ScoredSequence) -> LogLikelihood {
    let n = sequence.tokens.len();
    let logits = logits_of(decoder, &sequence.tokens[..n - 1]);
    let log_p = candle_nn::ops::log_softmax(&logits, D::Minus1).unwrap();
    let (mut value, mut is_greedy) = (0.0, true);
    for at in n - sequence.scored..n {
        let token = sequence.tokens[at];
        let row = log_p.i(at - 1).unwrap();
        value += f64::from(row.i(token as usize).unwrap().to_scalar::<f32>().unwrap());
        is_greedy &= row.argmax(0).unwrap().to_scalar::<u32>().unwrap() == token;
    }
    LogLikelihood {
        value,
        is_greedy,
        tokens: sequence.scored,
    }
}

/// `n` ids that depend on `seed`.
fn ids(seed: u32, n: usize) -> Vec<u32> {
    (0..n as u32)
        .map(|i| (i * i * 7 + i * seed * 31 + seed * 13) % 128)
        .collect()
}

fn sequence(parts: &[&[u32]], scored: usize) -> ScoredSequence {
    ScoredSequence {
        tokens: parts.concat(),
        scored,
    }
}

/// What tasks ask: several endings of a context, one-token answers, shared few-shot prefixes, and the same twice.
fn requests() -> Vec<ScoredSequence> {
    let shots = ids(1, 150);
    let mut requests = Vec::new();
    for question in 0..30 {
        let context = [&shots[..], &ids(question + 2, 20 + question as usize)].concat();
        for answer in [5, 6, 7] {
            requests.push(sequence(&[&context, &[answer]], 1));
        }
    }
    for document in 0..40 {
        let context = ids(document + 50, 30 + document as usize);
        for ending in 0..4 {
            let ending = ids(document * 4 + ending + 200, 1 + ending as usize * 6);
            requests.push(sequence(&[&context, &ending], ending.len()));
        }
    }
    requests.push(requests[17].clone());
    requests.push(sequence(&[&[3], &[4]], 1));
    // As long as the context allows: 300 tokens in, one more to predict.
    requests.push(sequence(&[&ids(9, 301)], 300));
    requests
}

fn score(model: &Path, requests: &[ScoredSequence], bytes: u64) -> Result<Vec<LogLikelihood>> {
    let checkpoint = Checkpoint::open(model)?;
    let decoder = Decoder::open(&checkpoint, &Device::Cpu)?;
    let mut model = ResidentBlocks::new(&decoder, bytes);
    log_likelihoods(&mut model, requests, &mut Silent)
}

#[test]
fn sequences_scored_together_have_the_likelihoods_that_each_has_alone() {
    for sliding_window in [None, Some(11)] {
        let model = tiny_model(sliding_window);
        let checkpoint = Checkpoint::open(model.path()).unwrap();
        let decoder = Decoder::open(&checkpoint, &Device::Cpu).unwrap();
        let mut requests = requests();
        // Among random endings, some that greedy decoding would choose.
        for request in requests.iter_mut().step_by(5) {
            let n = request.tokens.len();
            let last = logits_of(&decoder, &request.tokens[..n - 1])
                .i(n - 2)
                .unwrap();
            request.tokens[n - 1] = last.argmax(0).unwrap().to_scalar().unwrap();
            request.scored = 1;
        }
        let twice = requests.len() - 3;
        requests[twice] = requests[17].clone();
        let together = score(model.path(), &requests, 0).unwrap();
        for (index, (request, actual)) in requests.iter().zip(&together).enumerate() {
            let expected = alone(&decoder, request);
            let close = 2e-5 * (1.0 + request.scored as f64);
            assert!(
                (actual.value - expected.value).abs() < close,
                "sequence {index}: {actual:?}, expected {expected:?}"
            );
            assert_eq!(
                (actual.is_greedy, actual.tokens),
                (expected.is_greedy, expected.tokens)
            );
        }
        assert!(together.iter().filter(|result| result.is_greedy).count() >= requests.len() / 5);
        assert_eq!(together[17], together[twice]);
    }
}

#[test]
fn weights_of_16_bits_score_the_same_however_they_are_kept() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    let sequences = [&ids(1, 200)[..], &ids(2, 7)].map(|ids| sequence(&[ids], 5));
    let read_again = score(&model, &sequences, 0).unwrap();
    let in_f32 = score(&model, &sequences, u64::MAX).unwrap();
    // Room for the blocks in their own dtype, but not in f32.
    let weights = Checkpoint::open(&model).unwrap().tensor_bytes();
    let narrow = score(&model, &sequences, weights).unwrap();
    assert_eq!(read_again, in_f32);
    assert_eq!(read_again, narrow);
}

#[test]
fn likelihoods_have_the_same_bits_for_any_number_of_threads_and_whatever_is_kept_in_memory() {
    let model = tiny_model(None);
    // All requests, and so few that products of few rows are taken.
    for requests in [&requests()[..], &requests()[90..92]] {
        let bits = |threads: usize, bytes: u64| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let results = pool.install(|| score(model.path(), requests, bytes));
            let values = results.unwrap();
            values
                .iter()
                .map(|result| result.value.to_bits())
                .collect::<Vec<_>>()
        };
        let expected = bits(1, 0);
        assert_eq!(bits(3, 0), expected);
        assert_eq!(bits(2, u64::MAX), expected);
    }
}

#[test]
fn the_likelihood_of_whole_windows_is_their_perplexity() {
    let dir = tiny_model(None);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let decoder = Decoder::open(&checkpoint, &Device::Cpu).unwrap();
    // One loaded model serves both.
    let mut model = ResidentBlocks::new(&decoder, u64::MAX);
    let windows = TokenWindows::new(ids(4, 8 * 64), 64).unwrap();
    let perplexity = perplexity(&mut model, &windows, &mut Silent).unwrap();
    let requests: Vec<ScoredSequence> = windows
        .ids()
        .chunks(64)
        .map(|window| sequence(&[window], 63))
        .collect();
    let results = log_likelihoods(&mut model, &requests, &mut Silent).unwrap();
    for (result, mean_nll) in results.iter().zip(&perplexity.window_mean_nll) {
        assert!((result.value / -63.0 - mean_nll).abs() < 1e-5 * mean_nll);
    }
}

#[test]
fn sequences_that_cannot_be_scored_are_refused_by_their_number() {
    let model = tiny_model(None);
    for (tokens, scored, reason) in [
        (vec![], 1, "no token before"),
        (vec![1], 1, "no token before"),
        (vec![1, 2], 2, "no token before"),
        (vec![1, 2], 0, "no token is scored"),
        (vec![1; 302], 1, "context of 300"),
    ] {
        let requests = [sequence(&[&[1, 2]], 1), ScoredSequence { tokens, scored }];
        let error = score(model.path(), &requests, 0).unwrap_err();
        assert!(
            matches!(error, EngineError::InvalidSequence { sequence: 1, .. }),
            "{error}"
        );
        assert!(error.to_string().contains(reason), "{error}");
    }
    let error = score(model.path(), &[sequence(&[&[1, 128]], 1)], 0).unwrap_err();
    assert!(
        matches!(error, EngineError::TokenOutOfVocabulary { id: 128, .. }),
        "{error}"
    );
    assert!(score(model.path(), &[], 0).unwrap().is_empty());
}

#[test]
fn logits_that_are_not_finite_name_the_sequence() {
    let model = tiny_model(None);
    let file = model.path().join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header_len]).unwrap();
    let norm = header["model.norm.weight"]["data_offsets"][0]
        .as_u64()
        .unwrap() as usize;
    let at = 8 + header_len + norm;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&file, bytes).unwrap();
    let error = score(model.path(), &[sequence(&[&[1, 2]], 1)], 0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "non-finite values in logits of sequence 0"
    );
}

/// Remembers the last progress; asks to stop after so many tokens.
struct Watch {
    last: Option<PassProgress>,
    stop_after: u64,
}

impl Observer for Watch {
    fn progress(&mut self, progress: PassProgress) {
        assert!(progress.tokens <= progress.total_tokens);
        self.last = Some(progress);
    }

    fn should_stop(&self) -> bool {
        self.last.is_some_and(|last| last.tokens > self.stop_after)
    }
}

#[test]
fn progress_ends_at_the_total_and_a_stop_is_heard() {
    let dir = tiny_model(None);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let decoder = Decoder::open(&checkpoint, &Device::Cpu).unwrap();
    let mut model = ResidentBlocks::new(&decoder, 0);
    let mut watch = Watch {
        last: None,
        stop_after: u64::MAX,
    };
    log_likelihoods(&mut model, &requests(), &mut watch).unwrap();
    let last = watch.last.unwrap();
    assert_eq!(
        (last.tokens, last.blocks),
        (last.total_tokens, last.total_blocks)
    );
    let all: usize = requests()
        .iter()
        .map(|request| request.tokens.len() - 1)
        .sum();
    assert!(
        last.total_tokens < (all * TINY.blocks / 3) as u64,
        "prefixes are not shared: {last:?}"
    );

    let mut watch = Watch {
        last: None,
        stop_after: 3000,
    };
    let stopped = log_likelihoods(&mut model, &requests(), &mut watch);
    assert!(matches!(stopped, Err(EngineError::Stopped)));
}
