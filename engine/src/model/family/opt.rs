//! OPT: `OPTForCausalLM` of transformers. Positions are learned, layer norms stand before each part or after the residual
//! stream has it, and the feed-forward part has no gate.

use super::shared::linears::Linears;
use super::shared::settings;
use super::{Family, invalid, unsupported};
use crate::error::Result;
use crate::model::config::Config;
use crate::model::plan::{
    AttentionSpec, BlockPlan, FeedForward, HeadSpec, Mlp, Mlps, ModelPlan, NormKind, NormSpec,
    PartNorms, PositionSpec, QkvSpec, UpSpec,
};
use crate::ops::Activation;

pub(super) const FAMILY: Family = Family {
    architecture: "OPTForCausalLM",
    model_type: "opt",
    plan,
};

/// The rows before that of position 0.
const POSITION_OFFSET: usize = 2;
/// Of every layer norm.
const EPS: f32 = 1e-5;

fn plan(config: &Config) -> Result<ModelPlan> {
    settings::refuse_other_computations(config)?;
    let dimensions = Dimensions::read(config)?;
    let has_final_norm = dimensions.norm_is_before && !config.flag("_remove_final_layer_norm")?;
    let final_norm = dimensions.norm("model.decoder.final_layer_norm");
    let blocks = 0..settings::blocks(config)?;
    Ok(ModelPlan {
        architecture: FAMILY.architecture,
        hidden: dimensions.hidden,
        vocab: config.required_size("vocab_size")?,
        max_seq_len: config.size("max_position_embeddings")?.unwrap_or(2048),
        embedding: "model.decoder.embed_tokens.weight".to_owned(),
        embedding_factor: None,
        positions: Some(PositionSpec {
            tensor: "model.decoder.embed_positions.weight".to_owned(),
            offset: POSITION_OFFSET,
        }),
        ropes: Vec::new(),
        blocks: blocks.map(|index| dimensions.block(index)).collect(),
        head: HeadSpec {
            norm: has_final_norm.then_some(final_norm),
            projection: "lm_head.weight".to_owned(),
            is_tied: config.flag_or("tie_word_embeddings", true)?,
            soft_cap: None,
        },
        ignored: &[],
        has_code: config.says("auto_map"),
        fixed_blocks: None,
    })
}

/// What every block has in common.
struct Dimensions {
    hidden: usize,
    inner: usize,
    heads: usize,
    bias: bool,
    /// Norms stand before each part, and otherwise after the sum.
    norm_is_before: bool,
    activation: Activation,
}

impl Dimensions {
    fn read(config: &Config) -> Result<Self> {
        let hidden = config.required_size("hidden_size")?;
        let heads = config.required_size("num_attention_heads")?;
        if !hidden.is_multiple_of(heads) {
            return invalid(format!("{heads} heads cannot share {hidden} features"));
        }
        let embedding = config.size("word_embed_proj_dim")?.unwrap_or(hidden);
        if embedding != hidden {
            return unsupported(format!(
                "word_embed_proj_dim {embedding} (project_in and project_out) for a hidden size of {hidden}"
            ));
        }
        if !config.flag_or("layer_norm_elementwise_affine", true)? {
            return unsupported("layer_norm_elementwise_affine false".to_owned());
        }
        Ok(Self {
            hidden,
            inner: config.required_size("ffn_dim")?,
            heads,
            bias: config.flag_or("enable_bias", true)?,
            norm_is_before: config.flag_or("do_layer_norm_before", true)?,
            activation: settings::activation(config, "activation_function", Activation::Relu)?,
        })
    }

    fn norm(&self, name: &str) -> NormSpec {
        NormSpec {
            name: name.to_owned(),
            kind: NormKind::Layer,
            width: self.hidden,
            eps: EPS,
        }
    }

    fn part_norms(&self, name: &str) -> PartNorms {
        let norm = Some(self.norm(name));
        let (input, sum) = if self.norm_is_before {
            (norm, None)
        } else {
            (None, norm)
        };
        PartNorms {
            input,
            sum,
            ..PartNorms::none()
        }
    }

    fn block(&self, index: usize) -> BlockPlan {
        let prefix = format!("model.decoder.layers.{index}");
        let mut linears = Linears::new(&prefix);
        let (hidden, inner, bias) = (self.hidden, self.inner, self.bias);
        let head_dim = hidden / self.heads;
        let attention = AttentionSpec {
            norms: self.part_norms(&format!("{prefix}.self_attn_layer_norm")),
            qkv: QkvSpec::Separate {
                q: linears.of_next_input(hidden, "self_attn.q_proj", hidden, bias),
                k: linears.of_same_input("self_attn.k_proj", hidden, bias),
                v: linears.of_same_input("self_attn.v_proj", hidden, bias),
            },
            qk_norms: None,
            o: linears.of_next_input(hidden, "self_attn.out_proj", hidden, bias),
            heads: self.heads,
            kv_heads: self.heads,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            soft_cap: None,
            window: None,
            rope: None,
        };
        let feed_forward = FeedForward {
            norms: self.part_norms(&format!("{prefix}.final_layer_norm")),
            mlps: Mlps::One(Mlp {
                up: UpSpec::Plain(linears.of_next_input(hidden, "fc1", inner, bias)),
                activation: self.activation,
                down: linears.of_next_input(inner, "fc2", hidden, bias),
            }),
        };
        BlockPlan {
            linears: linears.specs,
            inputs: linears.inputs,
            attention,
            feed_forward,
            is_parallel: false,
        }
    }
}
