//! A decoder with experts and Wanda on it, in plain loops and double precision, written after the classes in transformers.

use std::collections::BTreeMap;

use safetensors::SafeTensors;
use serde_json::Value;

pub(super) type Rows = Vec<Vec<f64>>;

/// Shows the name of a linear and the tokens that it reads.
type Tap<'a> = &'a mut dyn FnMut(&str, &[Vec<f64>]);

/// Σx² of each input feature, and the number of tokens.
pub(super) type Seen = BTreeMap<String, (Vec<f64>, u64)>;

/// Mixtral or Qwen3-MoE, without biases, windows or scaled positions.
pub(super) struct PlainModel {
    tensors: BTreeMap<String, Vec<f64>>,
    config: Value,
}

impl PlainModel {
    pub(super) fn read(dir: &std::path::Path) -> Self {
        let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.tensors().into_iter().map(|(name, tensor)| {
            let values = tensor.data().chunks_exact(4);
            let values = values.map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())));
            (name, values.collect())
        });
        let config = std::fs::read(dir.join("config.json")).unwrap();
        Self {
            tensors: tensors.collect(),
            config: serde_json::from_slice(&config).unwrap(),
        }
    }

    fn number(&self, key: &str) -> f64 {
        self.config[key].as_f64().unwrap()
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole numbers"
    )]
    fn count(&self, key: &str) -> usize {
        self.number(key) as usize
    }

    fn is_mixtral(&self) -> bool {
        self.config["model_type"] == "mixtral"
    }

    pub(super) fn blocks(&self) -> usize {
        self.count("num_hidden_layers")
    }

    pub(super) fn weight(&self, linear: &str) -> &[f64] {
        &self.tensors[&format!("{linear}.weight")]
    }

    fn linear(&self, name: &str, x: &[Vec<f64>], tap: Tap<'_>) -> Rows {
        tap(name, x);
        let weight = self.weight(name);
        let of_row = |x: &Vec<f64>| weight.chunks(x.len()).map(|row| dot(row, x)).collect();
        x.iter().map(of_row).collect()
    }

    /// Each run of features as wide as the weight is normed by itself.
    fn norm(&self, name: &str, x: &[Vec<f64>]) -> Rows {
        let (weight, eps) = (self.weight(name), self.number("rms_norm_eps"));
        let of_run = |run: &[f64]| -> Vec<f64> {
            let root = (dot(run, run) / run.len() as f64 + eps).sqrt();
            run.iter().zip(weight).map(|(x, w)| w * x / root).collect()
        };
        let of_row = |x: &Vec<f64>| x.chunks(weight.len()).flat_map(of_run).collect();
        x.iter().map(of_row).collect()
    }

    pub(super) fn embed(&self, ids: &[u32]) -> Rows {
        let table = self.weight("model.embed_tokens");
        let hidden = self.count("hidden_size");
        let row = |id: &u32| table[*id as usize * hidden..][..hidden].to_vec();
        ids.iter().map(row).collect()
    }

    /// A block's output for one window.
    pub(super) fn block(&self, index: usize, x: &[Vec<f64>], tap: Tap<'_>) -> Rows {
        let prefix = format!("model.layers.{index}");
        let of = |name: &str| format!("{prefix}.{name}");
        let a = self.norm(&of("input_layernorm"), x);
        let mut project = |name: &str| self.linear(&of(&format!("self_attn.{name}")), &a, tap);
        let [q, k, v] = ["q_proj", "k_proj", "v_proj"].map(&mut project);
        let [q, k] = [("q_norm", q), ("k_norm", k)].map(|(norm, x)| {
            let x = if self.is_mixtral() {
                x
            } else {
                self.norm(&of(&format!("self_attn.{norm}")), &x)
            };
            self.turned(&x)
        });
        let attended = self.attention(&q, &k, &v);
        let h = sum(x, &self.linear(&of("self_attn.o_proj"), &attended, tap));
        let m = self.norm(&of("post_attention_layernorm"), &h);
        let (part, names) = if self.is_mixtral() {
            ("block_sparse_moe", ["w1", "w3", "w2"])
        } else {
            ("mlp", ["gate_proj", "up_proj", "down_proj"])
        };
        let part = of(part);
        let y = if self.tensors.contains_key(&format!("{part}.gate.weight")) {
            self.experts(&part, names, &m, tap)
        } else {
            self.mlp(&part, names, &m, tap)
        };
        sum(&h, &y)
    }

    fn mlp(&self, part: &str, names: [&str; 3], m: &[Vec<f64>], tap: Tap<'_>) -> Rows {
        let [gate, up, down] = names.map(|name| format!("{part}.{name}"));
        let (gate, up) = (self.linear(&gate, m, tap), self.linear(&up, m, tap));
        let silu = |(g, u): (&f64, &f64)| g / (1.0 + (-g).exp()) * u;
        let pairs = gate.iter().zip(&up);
        let gated: Rows = pairs
            .map(|(g, u)| g.iter().zip(u).map(silu).collect())
            .collect();
        self.linear(&down, &gated, tap)
    }

    fn experts(&self, part: &str, names: [&str; 3], m: &[Vec<f64>], tap: Tap<'_>) -> Rows {
        let logits = self.linear(&format!("{part}.gate"), m, &mut |_, _| {});
        let gates: Rows = logits.iter().map(|logits| self.gates(logits)).collect();
        let mut y = vec![vec![0.0; m[0].len()]; m.len()];
        for expert in 0..logits[0].len() {
            let gate: Vec<f64> = gates.iter().map(|gates| gates[expert]).collect();
            let tokens: Vec<usize> = (0..m.len()).filter(|&t| gate[t] > 0.0).collect();
            if tokens.is_empty() {
                continue;
            }
            let read: Rows = tokens.iter().map(|&t| m[t].clone()).collect();
            let made = self.mlp(&format!("{part}.experts.{expert}"), names, &read, tap);
            for (&t, made) in tokens.iter().zip(made) {
                let pairs = y[t].iter_mut().zip(made);
                pairs.for_each(|(y, made)| *y += gate[t] * made);
            }
        }
        y
    }

    /// Weights of the experts for a token; 0 for those that do not read it.
    fn gates(&self, logits: &[f64]) -> Vec<f64> {
        let all: f64 = logits.iter().map(|l| l.exp()).sum();
        let p: Vec<f64> = logits.iter().map(|l| l.exp() / all).collect();
        let mut order: Vec<usize> = (0..p.len()).collect();
        order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
        let chosen = &order[..self.count("num_experts_per_tok")];
        let renormalises = self.is_mixtral() || self.config["norm_topk_prob"] == true;
        let of_chosen: f64 = chosen.iter().map(|&expert| p[expert]).sum();
        let divisor = if renormalises { of_chosen } else { 1.0 };
        let gate = |expert: usize| {
            let reads = chosen.contains(&expert);
            if reads { p[expert] / divisor } else { 0.0 }
        };
        (0..p.len()).map(gate).collect()
    }

    /// Turns each head of each row by the row's position.
    fn turned(&self, x: &[Vec<f64>]) -> Rows {
        let theta = self.config["rope_parameters"]["rope_theta"]
            .as_f64()
            .unwrap();
        let width = self.count("head_dim");
        let mut y = x.to_vec();
        for (position, row) in y.iter_mut().enumerate() {
            for head in row.chunks_mut(width) {
                for i in 0..width / 2 {
                    let frequency = theta.powf(-2.0 * i as f64 / width as f64);
                    let (sin, cos) = (position as f64 * frequency).sin_cos();
                    let (a, b) = (head[i], head[i + width / 2]);
                    head[i] = a * cos - b * sin;
                    head[i + width / 2] = b * cos + a * sin;
                }
            }
        }
        y
    }

    fn attention(&self, q: &[Vec<f64>], k: &[Vec<f64>], v: &[Vec<f64>]) -> Rows {
        let width = self.count("head_dim");
        let heads = self.count("num_attention_heads");
        let per_kv_head = heads / self.count("num_key_value_heads");
        let of_head = |t: usize, head: usize| -> Vec<f64> {
            let kv = head / per_kv_head * width;
            let query = &q[t][head * width..][..width];
            let scores = (0..=t).map(|s| dot(query, &k[s][kv..][..width]) / (width as f64).sqrt());
            let scores: Vec<f64> = scores.map(f64::exp).collect();
            let all: f64 = scores.iter().sum();
            let values = |j: usize| (0..=t).map(move |s| v[s][kv + j]);
            let mean = |j: usize| scores.iter().zip(values(j)).map(|(p, v)| p / all * v).sum();
            (0..width).map(mean).collect()
        };
        let row = |t: usize| (0..heads).flat_map(|head| of_head(t, head)).collect();
        (0..q.len()).map(row).collect()
    }

    /// Sum of the losses of all predictions of a window.
    fn loss(&self, ids: &[u32], x: &[Vec<f64>]) -> f64 {
        let x = self.norm("model.norm", x);
        let logits = self.linear("lm_head", &x, &mut |_, _| {});
        let predictions = logits.iter().zip(&ids[1..]);
        let loss = |(logits, next): (&Vec<f64>, &u32)| {
            let all: f64 = logits.iter().map(|l| l.exp()).sum();
            all.ln() - logits[*next as usize]
        };
        predictions.map(loss).sum()
    }

    /// The mean loss over all predictions of all windows.
    pub(super) fn mean_loss(&self, windows: &[&[u32]]) -> f64 {
        let of_window = |ids: &&[u32]| {
            let blocks = 0..self.blocks();
            let x = blocks.fold(self.embed(ids), |x, at| self.block(at, &x, &mut |_, _| {}));
            self.loss(ids, &x)
        };
        let predictions: usize = windows.iter().map(|ids| ids.len() - 1).sum();
        windows.iter().map(of_window).sum::<f64>() / predictions as f64
    }

    /// Zeroes half of the weights by `|w| ‖x‖`, block by block, behind the pruned ones: of each row, or of each `group`
    /// consecutive ones.
    pub(super) fn wanda(&mut self, windows: &[&[u32]], group: Option<usize>) -> Seen {
        let mut all = Seen::new();
        let mut xs: Vec<Rows> = windows.iter().map(|ids| self.embed(ids)).collect();
        for index in 0..self.blocks() {
            let mut seen = Seen::new();
            for x in &xs {
                self.block(index, x, &mut |name, x| add(&mut seen, name, x));
            }
            for (name, (sums, _)) in &seen {
                let weight = self.tensors.get_mut(&format!("{name}.weight")).unwrap();
                for row in weight.chunks_mut(sums.len()) {
                    let group = group.unwrap_or(sums.len());
                    for (row, sums) in row.chunks_mut(group).zip(sums.chunks(group)) {
                        zero_half(row, sums);
                    }
                }
            }
            all.extend(seen);
            for x in &mut xs {
                *x = self.block(index, x, &mut |_, _| {});
            }
        }
        all
    }
}

fn add(seen: &mut Seen, name: &str, x: &[Vec<f64>]) {
    let (sums, tokens) = seen.entry(name.to_owned()).or_default();
    sums.resize(x[0].len(), 0.0);
    *tokens += x.len() as u64;
    for x in x {
        sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x * x);
    }
}

fn zero_half(weights: &mut [f64], sums: &[f64]) {
    let pairs = weights.iter().zip(sums);
    let scores: Vec<f64> = pairs.map(|(w, sum)| w.abs() * sum.sqrt()).collect();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    for &at in &order[..scores.len() / 2] {
        weights[at] = 0.0;
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn sum(x: &[Vec<f64>], y: &[Vec<f64>]) -> Rows {
    let add = |(x, y): (&Vec<f64>, &Vec<f64>)| x.iter().zip(y).map(|(x, y)| x + y).collect();
    x.iter().zip(y).map(add).collect()
}
