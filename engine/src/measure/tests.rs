//! A model of every family: what generation with a cache and trees of shared prefixes give, against the plain forward.

use candle_core::{D, IndexOp as _, Tensor};

use super::{GenerateOptions, ResidentBlocks, ScoredSequence, generate, log_likelihoods};
use crate::model::test_model::for_each_family;
use crate::model::{BlockContext, Decoder};
use crate::observer::Silent;
use crate::ops::TokenLayout;

/// Logits `[n, vocab]` of one sequence.
fn logits_of(decoder: &Decoder<'_>, ids: &[u32]) -> Tensor {
    let layout = TokenLayout::Windows(ids.len());
    let ropes = decoder.ropes(ids.len()).unwrap();
    let context = BlockContext {
        ropes: &ropes,
        layout,
    };
    let mut x = decoder.embed(ids, context.layout).unwrap();
    for index in 0..decoder.plan().blocks.len() {
        x = decoder.block(index).unwrap().forward(&x, &context).unwrap();
    }
    decoder.head().unwrap().logits(&x).unwrap()
}

/// Sequences of different lengths, longer than the windows of the models, most with a common beginning.
fn sequences() -> Vec<Vec<u32>> {
    let shared: Vec<u32> = (0..30).map(|i| i * i % 256).collect();
    let mut sequences: Vec<Vec<u32>> = (0..5_u32)
        .map(|i| {
            let own = (0..=i * 3).map(|j| (j * 17 + i * 5) % 256);
            shared.iter().copied().chain(own).collect()
        })
        .collect();
    sequences.push(vec![7, 9, 200]);
    sequences
}

#[test]
fn generation_with_a_cache_follows_the_largest_logits_in_every_family() {
    const NEW: usize = 8;
    for_each_family(|decoder| {
        let prompts = sequences();
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let options = GenerateOptions {
            max_new_tokens: NEW,
            end_of_text: &[],
            cache_bytes: 1 << 20,
        };
        let mut model = ResidentBlocks::new(decoder, 1 << 30);
        let never = &mut |_: usize, _: &[u32]| false;
        let generated = generate(&mut model, &prompts, &options, never, &mut Silent).unwrap();
        for (prompt, generation) in prompts.iter().zip(generated) {
            let ids = [prompt, generation.tokens.as_slice()].concat();
            let chosen = logits_of(decoder, &ids).argmax(D::Minus1).unwrap();
            let chosen: Vec<u32> = chosen.to_vec1().unwrap();
            let family = decoder.plan().architecture;
            let expected = &chosen[prompt.len() - 1..][..NEW];
            assert_eq!(generation.tokens, expected, "{family}");
        }
    });
}

#[test]
fn trees_of_shared_prefixes_give_the_likelihoods_of_whole_sequences_in_every_family() {
    for_each_family(|decoder| {
        let scored: Vec<ScoredSequence> = sequences()
            .into_iter()
            .map(|tokens| ScoredSequence { tokens, scored: 2 })
            .collect();
        let mut model = ResidentBlocks::new(decoder, 0);
        let results = log_likelihoods(&mut model, &scored, &mut Silent).unwrap();
        for (sequence, result) in scored.iter().zip(results) {
            let ids = &sequence.tokens;
            let logits = logits_of(decoder, &ids[..ids.len() - 1]);
            let log_p = candle_nn::ops::log_softmax(&logits, D::Minus1).unwrap();
            let of = |at: usize| log_p.i((at - 1, ids[at] as usize)).unwrap();
            let of = |at: usize| f64::from(of(at).to_scalar::<f32>().unwrap());
            let expected = of(ids.len() - 2) + of(ids.len() - 1);
            let off = (result.value - expected).abs();
            let family = decoder.plan().architecture;
            assert!(off < 1e-4, "{family}: {} and {expected}", result.value);
        }
    });
}
