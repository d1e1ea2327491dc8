//! A decoder whose blocks are read one at a time.

mod block;
mod config;
mod rope;

use candle_core::{Device, Tensor};

pub use block::{Block, BlockContext, LinearInput, LinearKind, Tap};
pub use config::{ModelConfig, SUPPORTED_ARCHITECTURES};
pub use rope::{RopeScaling, RopeTable};

use super::checkpoint::Checkpoint;
use super::error::{EngineError, Result};
use super::ops::{linear, rms_norm};

const EMBEDDING: &str = "model.embed_tokens.weight";
const FINAL_NORM: &str = "model.norm.weight";
const LM_HEAD: &str = "lm_head.weight";

/// A model directory with its architecture: hands out embeddings, blocks and the head.
#[derive(Debug)]
pub struct Decoder<'a> {
    checkpoint: &'a Checkpoint,
    config: ModelConfig,
    device: Device,
}

impl<'a> Decoder<'a> {
    /// Reads the configuration and checks that every tensor it calls for is there, with its shape and a float dtype.
    pub fn open(checkpoint: &'a Checkpoint, device: &Device) -> Result<Self> {
        let config = ModelConfig::read(checkpoint.dir())?;
        check_tensors(checkpoint, &config)?;
        Ok(Self {
            checkpoint,
            config,
            device: device.clone(),
        })
    }

    /// The model's numbers.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The checkpoint it reads.
    pub fn checkpoint(&self) -> &'a Checkpoint {
        self.checkpoint
    }

    /// The rotary table for windows of `seq_len`; refuses windows longer than the model's context.
    pub fn rope(&self, seq_len: usize) -> Result<RopeTable> {
        if seq_len > self.config.max_seq_len {
            return Err(EngineError::InvalidWindows(format!(
                "windows of {seq_len} tokens are longer than the model's context of {}",
                self.config.max_seq_len
            )));
        }
        Ok(RopeTable::new(
            self.config.rope_theta,
            self.config.rope_scaling,
            self.config.head_dim,
            seq_len,
        ))
    }

    /// `[ids.len(), hidden]`, f32. Only the rows asked for are read.
    pub fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        let hidden = self.config.hidden;
        let mut rows = Vec::with_capacity(ids.len() * hidden);
        for &id in ids {
            if id as usize >= self.config.vocab {
                return Err(EngineError::TokenOutOfVocabulary {
                    id,
                    vocab: self.config.vocab,
                });
            }
            rows.extend(self.checkpoint.read_row(EMBEDDING, id as usize)?.into_f32());
        }
        Ok(Tensor::from_vec(rows, (ids.len(), hidden), &self.device)?)
    }

    /// Reads block `index` into memory.
    pub fn block(&self, index: usize) -> Result<Block> {
        Block::load(self.checkpoint, &self.config, index, &self.device)
    }

    /// Reads the final norm and the output projection into memory.
    pub fn head(&self) -> Result<Head> {
        let (vocab, hidden) = (self.config.vocab, self.config.hidden);
        let projection = self.checkpoint.read(head_tensor(&self.config))?;
        Ok(Head {
            norm: self
                .checkpoint
                .read(FINAL_NORM)?
                .into_tensor(&[hidden], &self.device)?,
            projection: projection.into_tensor(&[vocab, hidden], &self.device)?,
            eps: self.config.rms_norm_eps,
        })
    }
}

/// The way from the last block to logits.
#[derive(Debug)]
pub struct Head {
    norm: Tensor,
    projection: Tensor,
    eps: f32,
}

impl Head {
    /// `x`: `[n, hidden]` → logits `[n, vocab]`.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let normed = rms_norm(x, &self.norm, self.eps)?;
        Ok(linear(&normed, &self.projection)?)
    }
}

fn head_tensor(config: &ModelConfig) -> &'static str {
    if config.tied_embeddings {
        EMBEDDING
    } else {
        LM_HEAD
    }
}

fn check_tensors(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<()> {
    checkpoint.expect(EMBEDDING, &[config.vocab, config.hidden])?;
    checkpoint.expect(FINAL_NORM, &[config.hidden])?;
    checkpoint.expect(head_tensor(config), &[config.vocab, config.hidden])?;
    for block in 0..config.blocks {
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            checkpoint.expect(
                &format!("model.layers.{block}.{norm}.weight"),
                &[config.hidden],
            )?;
        }
        for kind in LinearKind::ALL {
            let (d_out, d_in) = kind.shape(config);
            let name = kind.name(block);
            checkpoint.expect(&format!("{name}.weight"), &[d_out, d_in])?;
            let bias = format!("{name}.bias");
            if kind.has_bias(config) {
                checkpoint.expect(&bias, &[d_out])?;
            } else if checkpoint.contains(&bias) {
                return Err(EngineError::InvalidConfig(format!(
                    "it says that there are no biases, the weights have \"{bias}\""
                )));
            }
        }
    }
    Ok(())
}
