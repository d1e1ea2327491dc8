//! A decoder as its plan says, whose blocks are read one at a time.

mod block;
mod block_keys;
mod config;
mod config_text;
mod family;
mod plan;
mod rope;
#[cfg(test)]
pub(crate) mod test_model;

use block::Norm;
use candle_core::{Device, Tensor};

pub use block::{Block, BlockContext, Tap};
pub use config::{MAX_CONFIG_BYTES, parse_json};
pub use family::ARCHITECTURES;
pub use plan::{
    AttentionSpec, BlockPlan, FeedForward, HeadSpec, InputId, LinearId, LinearSpec, Mlp, Mlps,
    ModelPlan, NormKind, NormSpec, PartNorms, PositionSpec, QkvSpec, RopeId, RouterSpec, UpSpec,
};
pub use rope::{RopeScaling, RopeSpec, RopeTable, RopeTables};

use super::checkpoint::Checkpoint;
use super::error::{EngineError, Result};
use super::ops::{TokenLayout, linear, soft_cap};

/// A model directory with its plan: hands out embeddings, blocks and the head.
#[derive(Debug)]
pub struct Decoder<'a> {
    checkpoint: &'a Checkpoint,
    plan: ModelPlan,
    device: Device,
}

impl<'a> Decoder<'a> {
    /// Reads the configuration and checks that every tensor it calls for is there, with its shape and a float dtype, and
    /// that the weights hold no other.
    pub fn open(checkpoint: &'a Checkpoint, device: &Device) -> Result<Self> {
        let mut plan = ModelPlan::read(checkpoint.dir())?;
        plan.check_names(&checkpoint.tensor_names().collect())?;
        tie_head(checkpoint, &mut plan)?;
        check_tensors(checkpoint, &plan)?;
        Ok(Self {
            checkpoint,
            plan,
            device: device.clone(),
        })
    }

    /// What the model is made of.
    pub fn plan(&self) -> &ModelPlan {
        &self.plan
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The checkpoint it reads.
    pub fn checkpoint(&self) -> &'a Checkpoint {
        self.checkpoint
    }

    /// Rotary tables for sequences of `seq_len` tokens; refuses more than the model's context.
    pub fn ropes(&self, seq_len: usize) -> Result<RopeTables> {
        let context = self.plan.max_seq_len;
        if seq_len > context {
            return Err(EngineError::InvalidWindows(format!(
                "windows of {seq_len} tokens are longer than the model's context of {context}"
            )));
        }
        Ok(RopeTables::new(&self.plan.ropes, seq_len))
    }

    /// The first block's input `[ids.len(), hidden]`, f32, of tokens laid out like that.
    ///
    /// Only the rows asked for are read.
    pub fn embed(&self, ids: &[u32], layout: TokenLayout<'_>) -> Result<Tensor> {
        let (hidden, vocab) = (self.plan.hidden, self.plan.vocab);
        let mut rows = Vec::with_capacity(ids.len() * hidden);
        for &id in ids {
            if id as usize >= vocab {
                return Err(EngineError::TokenOutOfVocabulary { id, vocab });
            }
            let row = self
                .checkpoint
                .read_row(&self.plan.embedding, id as usize)?;
            let factor = self.plan.embedding_factor.map(row.rounding());
            let row = row.into_f32().into_iter();
            rows.extend(row.map(|value| factor.map_or(value, |factor| value * factor)));
        }
        if let Some(PositionSpec { tensor, offset }) = &self.plan.positions {
            let positions = layout.positions(ids.len())?;
            for (row, position) in rows.chunks_exact_mut(hidden).zip(positions) {
                let learned = self.checkpoint.read_row(tensor, offset + position)?;
                let pairs = row.iter_mut().zip(learned.into_f32());
                pairs.for_each(|(value, position)| *value += position);
            }
        }
        Ok(Tensor::from_vec(rows, (ids.len(), hidden), &self.device)?)
    }

    /// Reads block `index` into memory.
    pub fn block(&self, index: usize) -> Result<Block<'_>> {
        let plan = &self.plan.blocks[index];
        Block::load(self.checkpoint, plan, &self.device)
    }

    /// Reads the final norm and the output projection into memory.
    pub fn head(&self) -> Result<Head> {
        let (vocab, hidden) = (self.plan.vocab, self.plan.hidden);
        let HeadSpec {
            norm,
            projection,
            soft_cap,
            ..
        } = &self.plan.head;
        let projection = self.checkpoint.read(projection)?;
        Ok(Head {
            norm: match norm {
                Some(norm) => Some(Norm::load(self.checkpoint, norm, &self.device)?),
                None => None,
            },
            projection: projection.into_tensor(&[vocab, hidden], &self.device)?,
            soft_cap: *soft_cap,
        })
    }
}

/// `config.json` of a decoder whose blocks `kept` alone stay, in their order.
///
/// Refuses one that would not be read as just those blocks; the reason names what is in the way.
pub(crate) fn config_without(
    decoder: &Decoder<'_>,
    kept: &[usize],
) -> Result<std::result::Result<Vec<u8>, String>> {
    let json = config::read_text(decoder.checkpoint().dir())?;
    // Not that of the decoder, which knows the weights, too.
    let plan = ModelPlan::parse(&json)?;
    if let Some(reason) = plan.fixed_blocks {
        return Ok(Err(reason));
    }
    let config = config::Config::parse(&json)?;
    let changed = match block_keys::without(config.entries(), kept, plan.blocks.len()) {
        Ok(changed) => changed,
        Err(reason) => return Ok(Err(reason)),
    };
    let changed = config_text::with_values(&json, &changed);
    let rest = ModelPlan::parse(&changed)?;
    Ok(if rest.is_rest_of(&plan, kept) {
        Ok(changed)
    } else {
        Err("config.json cannot be made to say what is left".to_owned())
    })
}

/// The way from the last block to logits.
#[derive(Debug)]
pub struct Head {
    norm: Option<Norm>,
    projection: Tensor,
    soft_cap: Option<f32>,
}

impl Head {
    /// `x`: `[n, hidden]` → logits `[n, vocab]`.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let logits = match &self.norm {
            Some(norm) => linear(&norm.forward(x)?, &self.projection)?,
            None => linear(x, &self.projection)?,
        };
        Ok(match self.soft_cap {
            Some(cap) => soft_cap(logits, cap)?,
            None => logits,
        })
    }
}

/// Makes the embedding the projection of a tied head, unless the weights hold another one: transformers 5 uses that.
fn tie_head(checkpoint: &Checkpoint, plan: &mut ModelPlan) -> Result<()> {
    let projection = &plan.head.projection;
    if plan.head.is_tied {
        let vocabulary = [plan.vocab, plan.hidden];
        checkpoint.expect(&plan.embedding, &vocabulary)?;
        let has_own = checkpoint.contains(projection) && {
            checkpoint.expect(projection, &vocabulary)?;
            !checkpoint.are_equal(&plan.embedding, projection)?
        };
        if !has_own {
            plan.head.projection.clone_from(&plan.embedding);
        }
    }
    Ok(())
}

fn check_tensors(checkpoint: &Checkpoint, plan: &ModelPlan) -> Result<()> {
    for (name, shape) in plan.tensors() {
        checkpoint.expect(&name, &shape)?;
    }
    Ok(())
}
