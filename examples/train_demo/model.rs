//! The decoder as it is trained: LLaMA's architecture in f32, with Hugging Face's tensor names and layouts.

use candle_core::{D, DType, Device, Result, Tensor, Var};

use crate::ops::{Rotary, causal_softmax};
use crate::rng::Rng;

/// The shape of the model.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) vocab: usize,
    pub(crate) hidden: usize,
    pub(crate) intermediate: usize,
    pub(crate) n_blocks: usize,
    pub(crate) n_heads: usize,
    pub(crate) n_kv_heads: usize,
    pub(crate) max_positions: usize,
    pub(crate) rope_theta: f64,
    pub(crate) norm_eps: f64,
}

impl Shape {
    pub(crate) fn head_dim(&self) -> usize {
        self.hidden / self.n_heads
    }
}

/// Draws the starting weights, in a fixed order, and keeps them under their names.
struct Initializer<'a> {
    rng: &'a mut Rng,
    named: Vec<(String, Var)>,
}

impl Initializer<'_> {
    fn add(
        &mut self,
        name: &str,
        dims: &[usize],
        mut draw: impl FnMut(&mut Rng) -> f64,
    ) -> Result<Var> {
        let values: Vec<f64> = (0..dims.iter().product()).map(|_| draw(self.rng)).collect();
        let var =
            Var::from_tensor(&Tensor::from_vec(values, dims, &Device::Cpu)?.to_dtype(DType::F32)?)?;
        self.named.push((name.to_owned(), var.clone()));
        Ok(var)
    }

    /// A linear layer `[d_out, d_in]` that keeps the size of its input, times `gain`.
    fn linear(&mut self, name: &str, d_out: usize, d_in: usize, gain: f64) -> Result<Var> {
        let std = gain / (d_in as f64).sqrt();
        self.add(name, &[d_out, d_in], |rng| std * rng.normal())
    }

    /// Norm weights `exp(spread * z)` with `z` standard normal, scaled to a root mean square of 1 on average.
    ///
    /// Large language models grow a few channels that are much stronger than the others; a model of this size does not.
    /// The spread gives it uneven channels from the start, and training keeps them.
    fn norm(&mut self, name: &str, hidden: usize, spread: f64) -> Result<Var> {
        self.add(name, &[hidden], |rng| {
            (spread * rng.normal() - spread * spread).exp()
        })
    }
}

struct Block {
    input_norm: Var,
    q: Var,
    k: Var,
    v: Var,
    o: Var,
    post_attention_norm: Var,
    gate: Var,
    up: Var,
    down: Var,
}

impl Block {
    fn new(
        init: &mut Initializer<'_>,
        index: usize,
        shape: &Shape,
        norm_spread: f64,
    ) -> Result<Self> {
        let name = |part: &str| format!("model.layers.{index}.{part}.weight");
        let (hidden, intermediate) = (shape.hidden, shape.intermediate);
        let kv = shape.n_kv_heads * shape.head_dim();
        // Both residual branches of all blocks add up to about the size of one.
        let residual_gain = 1.0 / (2.0 * shape.n_blocks as f64).sqrt();
        Ok(Self {
            input_norm: init.norm(&name("input_layernorm"), hidden, norm_spread)?,
            q: init.linear(&name("self_attn.q_proj"), hidden, hidden, 1.0)?,
            k: init.linear(&name("self_attn.k_proj"), kv, hidden, 1.0)?,
            v: init.linear(&name("self_attn.v_proj"), kv, hidden, 1.0)?,
            o: init.linear(&name("self_attn.o_proj"), hidden, hidden, residual_gain)?,
            post_attention_norm: init.norm(
                &name("post_attention_layernorm"),
                hidden,
                norm_spread,
            )?,
            gate: init.linear(&name("mlp.gate_proj"), intermediate, hidden, 1.0)?,
            up: init.linear(&name("mlp.up_proj"), intermediate, hidden, 1.0)?,
            down: init.linear(&name("mlp.down_proj"), hidden, intermediate, residual_gain)?,
        })
    }

    /// `x` and the result are `[batch * seq_len, hidden]`.
    fn forward(&self, x: &Tensor, batch: usize, shape: &Shape, rotary: &Rotary) -> Result<Tensor> {
        let x = (x + self.attention(
            &rms_norm(x, &self.input_norm, shape.norm_eps)?,
            batch,
            shape,
            rotary,
        )?)?;
        let mlp_input = rms_norm(&x, &self.post_attention_norm, shape.norm_eps)?;
        let gated = (linear(&mlp_input, &self.gate)?.silu()? * linear(&mlp_input, &self.up)?)?;
        x + linear(&gated, &self.down)?
    }

    fn attention(
        &self,
        x: &Tensor,
        batch: usize,
        shape: &Shape,
        rotary: &Rotary,
    ) -> Result<Tensor> {
        let seq_len = x.dim(0)? / batch;
        let head_dim = shape.head_dim();
        let (n_heads, n_kv_heads) = (shape.n_heads, shape.n_kv_heads);
        let heads = |projected: Tensor, n_heads: usize| {
            projected
                .reshape((batch, seq_len, n_heads, head_dim))?
                .transpose(1, 2)?
                .contiguous()
        };
        let q = rotary.apply(&heads(linear(x, &self.q)?, n_heads)?)?;
        let k = rotary.apply(&heads(linear(x, &self.k)?, n_kv_heads)?)?;
        let v = heads(linear(x, &self.v)?, n_kv_heads)?;
        // Query heads that share a key head lie next to each other, so they become further rows of one product.
        let grouped_rows = n_heads / n_kv_heads * seq_len;
        let q = q.reshape((batch, n_kv_heads, grouped_rows, head_dim))?;
        let scores = q.matmul(&k.t()?)?;
        let weights = causal_softmax(&scores, 1.0 / (head_dim as f32).sqrt())?;
        let mixed = weights
            .matmul(&v)?
            .reshape((batch, n_heads, seq_len, head_dim))?;
        linear(
            &mixed
                .transpose(1, 2)?
                .reshape((batch * seq_len, n_heads * head_dim))?,
            &self.o,
        )
    }
}

/// The decoder with its trainable weights; the output matrix is the embedding.
pub(crate) struct Decoder {
    embedding: Var,
    blocks: Vec<Block>,
    final_norm: Var,
    rotary: Rotary,
    shape: Shape,
    named: Vec<(String, Var)>,
}

impl Decoder {
    pub(crate) fn new(shape: Shape, norm_spread: f64, rng: &mut Rng) -> Result<Self> {
        let mut init = Initializer {
            rng,
            named: Vec::new(),
        };
        let embedding_std = 1.0 / (shape.hidden as f64).sqrt();
        let embedding = init.add(
            "model.embed_tokens.weight",
            &[shape.vocab, shape.hidden],
            |rng| embedding_std * rng.normal(),
        )?;
        let blocks = (0..shape.n_blocks)
            .map(|index| Block::new(&mut init, index, &shape, norm_spread))
            .collect::<Result<_>>()?;
        let final_norm = init.norm("model.norm.weight", shape.hidden, 0.0)?;
        let rotary = Rotary::new(shape.head_dim(), shape.max_positions, shape.rope_theta);
        Ok(Self {
            embedding,
            blocks,
            final_norm,
            rotary,
            named: init.named,
            shape,
        })
    }

    /// All weights under their Hugging Face names, in a fixed order.
    pub(crate) fn weights(&self) -> &[(String, Var)] {
        &self.named
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The mean negative log-likelihood, in nats, of each next token.
    ///
    /// `windows` is `[batch][seq_len + 1]`, row after row: a window's tokens and the one that follows.
    pub(crate) fn loss(&self, windows: &[u32], batch: usize) -> Result<Tensor> {
        let rows: Vec<&[u32]> = windows.chunks_exact(windows.len() / batch).collect();
        let inputs: Vec<u32> = rows
            .iter()
            .flat_map(|row| &row[..row.len() - 1])
            .copied()
            .collect();
        let targets: Vec<u32> = rows.iter().flat_map(|row| &row[1..]).copied().collect();
        let n_tokens = inputs.len();
        let mut x = self
            .embedding
            .index_select(&Tensor::from_vec(inputs, n_tokens, &Device::Cpu)?, 0)?;
        for block in &self.blocks {
            x = block.forward(&x, batch, &self.shape, &self.rotary)?;
        }
        let logits = linear(
            &rms_norm(&x, &self.final_norm, self.shape.norm_eps)?,
            &self.embedding,
        )?;
        candle_nn::loss::cross_entropy(&logits, &Tensor::from_vec(targets, n_tokens, &Device::Cpu)?)
    }
}

/// `x @ weight^T`, with `weight` as `[d_out, d_in]`.
fn linear(x: &Tensor, weight: &Var) -> Result<Tensor> {
    x.matmul(&weight.t()?)
}

/// `x / sqrt(mean(x^2) + eps) * weight`
fn rms_norm(x: &Tensor, weight: &Var, eps: f64) -> Result<Tensor> {
    let root_mean_square = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    x.broadcast_div(&root_mean_square)?.broadcast_mul(weight)
}
