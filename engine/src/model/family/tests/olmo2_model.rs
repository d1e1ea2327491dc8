//! OLMo-2 against plain loops in double precision, written after the class in transformers.

use candle_core::Device;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::model::{BlockContext, Decoder, test_model};
use crate::ops::TokenLayout;

const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 16;

type Rows = Vec<Vec<f64>>;

struct Weights<'a>(&'a Checkpoint);

impl Weights<'_> {
    fn vector(&self, name: &str) -> Vec<f64> {
        let values = self.0.read(&format!("{name}.weight")).unwrap().into_f32();
        values.into_iter().map(f64::from).collect()
    }

    /// `x · weightᵀ`.
    fn linear(&self, name: &str, x: &[Vec<f64>]) -> Rows {
        let weight = self.vector(name);
        let of_row = |x: &Vec<f64>| {
            let rows = weight.chunks(x.len());
            let dot = |w: &[f64]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
            rows.map(dot).collect()
        };
        x.iter().map(of_row).collect()
    }

    fn norm(&self, name: &str, x: &[Vec<f64>]) -> Rows {
        let weight = self.vector(name);
        let of_row = |x: &Vec<f64>| {
            let mean_square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
            let root = (mean_square + 1e-5).sqrt();
            let pairs = x.iter().zip(&weight);
            pairs.map(|(x, w)| w * (x / root)).collect()
        };
        x.iter().map(of_row).collect()
    }
}

fn sum(x: &[Vec<f64>], y: &[Vec<f64>]) -> Rows {
    let add = |(x, y): (&Vec<f64>, &Vec<f64>)| x.iter().zip(y).map(|(x, y)| x + y).collect();
    x.iter().zip(y).map(add).collect()
}

/// Turns each head of each row by the row's position.
fn turned(x: &[Vec<f64>]) -> Rows {
    let mut y = x.to_vec();
    for (position, row) in y.iter_mut().enumerate() {
        for head in row.chunks_mut(HEAD_DIM) {
            for i in 0..HEAD_DIM / 2 {
                let frequency = 10_000f64.powf(-2.0 * i as f64 / HEAD_DIM as f64);
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                let (a, b) = (head[i], head[i + HEAD_DIM / 2]);
                head[i] = a * cos - b * sin;
                head[i + HEAD_DIM / 2] = b * cos + a * sin;
            }
        }
    }
    y
}

fn attention(q: &[Vec<f64>], k: &[Vec<f64>], v: &[Vec<f64>]) -> Rows {
    let of_head = |x: &[f64], head: usize| x[head * HEAD_DIM..][..HEAD_DIM].to_vec();
    let row = |t: usize| {
        let heads = (0..HEADS).flat_map(|head| {
            let kv_head = head / (HEADS / KV_HEADS);
            let query = of_head(&q[t], head);
            let scores = (0..=t).map(|s| {
                let key = of_head(&k[s], kv_head);
                let dot: f64 = query.iter().zip(key).map(|(q, k)| q * k).sum();
                (dot / (HEAD_DIM as f64).sqrt()).exp()
            });
            let scores: Vec<f64> = scores.collect();
            let all: f64 = scores.iter().sum();
            (0..HEAD_DIM)
                .map(|j| {
                    let weighted = (0..=t).map(|s| scores[s] * of_head(&v[s], kv_head)[j]);
                    weighted.sum::<f64>() / all
                })
                .collect::<Vec<f64>>()
        });
        heads.collect()
    };
    (0..q.len()).map(row).collect()
}

fn naive_logits(checkpoint: &Checkpoint, ids: &[u32]) -> Rows {
    let weights = Weights(checkpoint);
    let embedding = weights.vector("model.embed_tokens");
    let row = |id: &u32| embedding[*id as usize * 64..][..64].to_vec();
    let mut x: Rows = ids.iter().map(row).collect();
    for block in 0..2 {
        let of = |name: &str| format!("model.layers.{block}.{name}");
        let project = |name: &str| weights.linear(&of(&format!("self_attn.{name}")), &x);
        let q = weights.norm(&of("self_attn.q_norm"), &project("q_proj"));
        let k = weights.norm(&of("self_attn.k_norm"), &project("k_proj"));
        let attended = attention(&turned(&q), &turned(&k), &project("v_proj"));
        let y = weights.linear(&of("self_attn.o_proj"), &attended);
        let h = sum(&x, &weights.norm(&of("post_attention_layernorm"), &y));
        let gate = weights.linear(&of("mlp.gate_proj"), &h);
        let up = weights.linear(&of("mlp.up_proj"), &h);
        let silu = |(g, u): (&f64, &f64)| g / (1.0 + (-g).exp()) * u;
        let gated = |(g, u): (&Vec<f64>, &Vec<f64>)| g.iter().zip(u).map(silu).collect();
        let gated: Rows = gate.iter().zip(&up).map(gated).collect();
        let y = weights.linear(&of("mlp.down_proj"), &gated);
        x = sum(&h, &weights.norm(&of("post_feedforward_layernorm"), &y));
    }
    weights.linear("lm_head", &weights.norm("model.norm", &x))
}

#[test]
fn logits_are_those_of_plain_loops() {
    let mut config = of_family(&olmo2::FAMILY);
    config["tie_word_embeddings"] = false.into();
    let dir = test_model::write(&config);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let decoder = Decoder::open(&checkpoint, &Device::Cpu).unwrap();
    let ids: Vec<u32> = (0..20).map(|i| i * 37 % 256).collect();
    let layout = TokenLayout::Windows(ids.len());
    let context = BlockContext {
        ropes: &decoder.ropes(ids.len()).unwrap(),
        layout,
    };
    let mut x = decoder.embed(&ids, layout).unwrap();
    for index in 0..2 {
        x = decoder.block(index).unwrap().forward(&x, &context).unwrap();
    }
    let logits = decoder.head().unwrap().logits(&x).unwrap();
    let (logits, expected) = (
        logits.to_vec2::<f32>().unwrap(),
        naive_logits(&checkpoint, &ids),
    );
    let scale = expected
        .iter()
        .flatten()
        .fold(0f64, |top, x| top.max(x.abs()));
    for (actual, expected) in logits.iter().flatten().zip(expected.iter().flatten()) {
        let off = (f64::from(*actual) - expected).abs() / scale;
        assert!(off < 1e-5, "{actual}, expected {expected}");
    }
}

#[test]
fn norms_stand_after_each_part_and_see_all_heads() {
    let plan = with(&olmo2::FAMILY, &json!({})).unwrap();
    let block = &plan.blocks[0];
    assert!(block.attention.norms.input.is_none() && block.feed_forward.norms.input.is_none());
    let [q, k] = block.attention.qk_norms.as_ref().unwrap();
    assert_eq!((q.width, k.width), (64, 32));
    // A norm stands between each part and the residual stream.
    assert_eq!(block.residual_linears().count(), 0);
    let bias = with(&olmo2::FAMILY, &json!({"attention_bias": true})).unwrap();
    assert_eq!(biases(&bias), ["q_proj", "k_proj", "v_proj", "o_proj"]);
}
