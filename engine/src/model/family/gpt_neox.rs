//! GPT-NeoX and Pythia: `GPTNeoXForCausalLM` of transformers. Attention and feed-forward part read the block's input side by
//! side, after layer norms of their own; one matrix makes queries, keys and values, head by head, and a part of each head is
//! turned.

use super::shared::linears::Linears;
use super::shared::rope::{self, RopeDefaults};
use super::shared::settings;
use super::{Family, invalid};
use crate::error::Result;
use crate::model::config::Config;
use crate::model::plan::{
    AttentionSpec, BlockPlan, FeedForward, HeadSpec, Mlp, Mlps, ModelPlan, NormKind, NormSpec,
    PartNorms, QkvSpec, RopeId, UpSpec,
};
use crate::ops::Activation;

pub(super) const FAMILY: Family = Family {
    architecture: "GPTNeoXForCausalLM",
    model_type: "gpt_neox",
    plan,
};

/// The causal mask, which older checkpoints hold.
const IGNORED: [&str; 2] = [".attention.bias", ".attention.masked_bias"];

fn plan(config: &Config) -> Result<ModelPlan> {
    settings::refuse_other_computations(config)?;
    let dimensions = Dimensions::read(config)?;
    let max_seq_len = config.size("max_position_embeddings")?.unwrap_or(2048);
    let defaults = RopeDefaults {
        theta_key: "rotary_emb_base",
        partial: Some(("rotary_pct", 0.25)),
        ..RopeDefaults::default()
    };
    let rope = rope::read(config, dimensions.head_dim(), max_seq_len, &defaults)?;
    let blocks = 0..settings::blocks(config)?;
    Ok(ModelPlan {
        architecture: FAMILY.architecture,
        hidden: dimensions.hidden,
        vocab: config.required_size("vocab_size")?,
        max_seq_len: rope::longest_context(&rope.scaling, max_seq_len),
        embedding: "gpt_neox.embed_in.weight".to_owned(),
        embedding_factor: None,
        positions: None,
        ropes: vec![rope],
        blocks: blocks.map(|index| dimensions.block(index)).collect(),
        head: HeadSpec {
            norm: Some(dimensions.norm("gpt_neox.final_layer_norm")),
            projection: "embed_out.weight".to_owned(),
            is_tied: config.flag("tie_word_embeddings")?,
            soft_cap: None,
        },
        ignored: &IGNORED,
        has_code: config.says("auto_map"),
        fixed_blocks: None,
    })
}

/// What every block has in common.
struct Dimensions {
    hidden: usize,
    inner: usize,
    heads: usize,
    eps: f32,
    attention_bias: bool,
    is_parallel: bool,
    activation: Activation,
}

impl Dimensions {
    fn read(config: &Config) -> Result<Self> {
        let hidden = config.required_size("hidden_size")?;
        let heads = config.required_size("num_attention_heads")?;
        if !hidden.is_multiple_of(heads) {
            return invalid(format!("{heads} heads cannot share {hidden} features"));
        }
        #[expect(clippy::cast_possible_truncation, reason = "the computation is in f32")]
        let eps = config.positive("layer_norm_eps")?.unwrap_or(1e-5) as f32;
        Ok(Self {
            hidden,
            inner: config.required_size("intermediate_size")?,
            heads,
            eps,
            attention_bias: config.flag_or("attention_bias", true)?,
            is_parallel: config.flag_or("use_parallel_residual", true)?,
            activation: settings::activation(config, "hidden_act", Activation::Gelu)?,
        })
    }

    fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    fn norm(&self, name: &str) -> NormSpec {
        NormSpec {
            name: name.to_owned(),
            kind: NormKind::Layer,
            width: self.hidden,
            eps: self.eps,
        }
    }

    fn block(&self, index: usize) -> BlockPlan {
        let prefix = format!("gpt_neox.layers.{index}");
        let mut linears = Linears::new(&prefix);
        let (hidden, inner, bias) = (self.hidden, self.inner, self.attention_bias);
        let norms = |name| PartNorms {
            input: Some(self.norm(&format!("{prefix}.{name}"))),
            ..PartNorms::none()
        };
        let attention = AttentionSpec {
            norms: norms("input_layernorm"),
            qkv: QkvSpec::Interleaved(linears.of_next_input(
                hidden,
                "attention.query_key_value",
                3 * hidden,
                bias,
            )),
            qk_norms: None,
            o: linears.of_next_input(hidden, "attention.dense", hidden, bias),
            heads: self.heads,
            kv_heads: self.heads,
            head_dim: self.head_dim(),
            scale: 1.0 / (self.head_dim() as f32).sqrt(),
            soft_cap: None,
            window: None,
            rope: Some(RopeId(0)),
        };
        let up = linears.of_next_input(hidden, "mlp.dense_h_to_4h", inner, true);
        let feed_forward = FeedForward {
            norms: norms("post_attention_layernorm"),
            mlps: Mlps::One(Mlp {
                up: UpSpec::Plain(up),
                activation: self.activation,
                down: linears.of_next_input(inner, "mlp.dense_4h_to_h", hidden, true),
            }),
        };
        BlockPlan {
            linears: linears.specs,
            inputs: linears.inputs,
            attention,
            feed_forward,
            is_parallel: self.is_parallel,
        }
    }
}
