//! Two models on the same windows.

use candle_core::{D, Device};
use secateur::engine::{
    Checkpoint, Decoder, EngineError, Goal, Pattern, ResidentBlocks, Silent, TokenWindows,
    divergence, perplexity,
};

use crate::engine::log_likelihood::{TINY, logits_of, tiny_model};
use crate::engine::reference::{method, prune_model};
use crate::support::synthetic::{Shape, write_model};

fn windows() -> TokenWindows {
    TokenWindows::new((0..9 * 40).map(|i| i * i * 3 % 127).collect(), 40).unwrap()
}

#[test]
fn a_model_does_not_diverge_from_itself() {
    let dir = tiny_model(Some(9));
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let decoder = Decoder::open(&checkpoint, &Device::Cpu).unwrap();
    let (mut p, mut q) = (
        ResidentBlocks::new(&decoder, 0),
        ResidentBlocks::new(&decoder, u64::MAX),
    );
    let result = divergence(&mut p, &mut q, &windows(), &mut Silent).unwrap();
    assert!(result.mean_kl.abs() <= 1e-7, "{result:?}");
    assert_eq!(result.perplexity_p, result.perplexity_q);
    assert!((result.top_1_agreement - 1.0).abs() < f64::EPSILON);
}

#[test]
fn a_pruned_model_diverges_as_its_logits_say_and_keeps_its_perplexity() {
    let dense = tiny_model(None);
    let pruned = prune_model(
        dense.path(),
        method("magnitude"),
        Goal::new(Pattern::Unstructured, 0.3),
        &windows(),
    );
    let open = |path| Checkpoint::open(path).unwrap();
    let (p_checkpoint, q_checkpoint) = (open(dense.path()), open(pruned.dir.path()));
    let p = Decoder::open(&p_checkpoint, &Device::Cpu).unwrap();
    let q = Decoder::open(&q_checkpoint, &Device::Cpu).unwrap();
    let (mut p_blocks, mut q_blocks) = (ResidentBlocks::new(&p, 0), ResidentBlocks::new(&q, 0));
    let result = divergence(&mut p_blocks, &mut q_blocks, &windows(), &mut Silent).unwrap();
    for (blocks, expected) in [
        (&mut p_blocks, &result.perplexity_p),
        (&mut q_blocks, &result.perplexity_q),
    ] {
        assert_eq!(
            &perplexity(blocks, &windows(), &mut Silent).unwrap(),
            expected
        );
    }
    let (mut agreeing, mut positions) = (0, 0);
    for (ids, mean_kl) in windows().ids().chunks(40).zip(&result.window_mean_kl) {
        let logits = [&p, &q].map(|model| logits_of(model, ids));
        let rows = logits.clone().map(|x| {
            let ln = candle_nn::ops::log_softmax(&x, D::Minus1).unwrap();
            ln.to_vec2::<f32>().unwrap()
        });
        let kl = |t: usize| -> f64 {
            let pairs = rows[0][t].iter().zip(&rows[1][t]);
            pairs
                .map(|(p, q)| f64::from(*p).exp() * f64::from(p - q))
                .sum()
        };
        let expected = (0..39).map(kl).sum::<f64>() / 39.0;
        assert!(
            (mean_kl - expected).abs() < 1e-4 * expected,
            "{mean_kl}, expected {expected}"
        );
        let greedy = logits.map(|x| x.argmax(1).unwrap().to_vec1::<u32>().unwrap());
        agreeing += (0..39).filter(|&t| greedy[0][t] == greedy[1][t]).count();
        positions += 39;
    }
    let mean = result.window_mean_kl.iter().sum::<f64>() / 9.0;
    assert!(
        (result.mean_kl - mean).abs() < 1e-12 && mean > 0.01,
        "{result:?}"
    );
    let agreement = agreeing as f64 / f64::from(positions);
    assert!((result.top_1_agreement - agreement).abs() < 1e-9 && agreement < 1.0);
}

#[test]
fn models_of_different_vocabularies_are_refused() {
    let (one, other) = (tiny_model(None), tempfile::tempdir().unwrap());
    let shape = Shape {
        vocab: TINY.vocab + 1,
        ..TINY
    };
    write_model(other.path(), shape);
    let open = |path| Checkpoint::open(path).unwrap();
    let (one, other) = (open(one.path()), open(other.path()));
    let one = Decoder::open(&one, &Device::Cpu).unwrap();
    let other = Decoder::open(&other, &Device::Cpu).unwrap();
    let (mut p, mut q) = (ResidentBlocks::new(&one, 0), ResidentBlocks::new(&other, 0));
    let error = divergence(&mut p, &mut q, &windows(), &mut Silent).unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::VocabularyMismatch {
                first: 128,
                second: 129
            }
        ),
        "{error}"
    );
}
