//! The decoder that families share: RMS norms, rotary attention with grouped heads, gated feed-forward.

use super::linears::Linears;
use super::rope;
use super::settings::{self, activation};
use super::style::{BlockSettings, DecoderStyle, FamilyDefaults, QkNorm, RopeSource};
use crate::error::Result;
use crate::model::config::{Config, MAX_DIMENSION};
use crate::model::family::invalid;
use crate::model::plan::{
    AttentionSpec, BlockPlan, FeedForward, HeadSpec, Mlp, Mlps, ModelPlan, NormSpec, PartNorms,
    QkvSpec, RopeId, UpSpec,
};
use crate::model::rope::RopeSpec;
use crate::ops::Activation;

/// The numbers that every block has in common.
pub(in crate::model::family) struct Dimensions {
    pub(in crate::model::family) blocks: usize,
    hidden: usize,
    intermediate: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocab: usize,
    max_seq_len: usize,
    eps: f32,
    ropes: Vec<RopeSpec>,
    activation: Activation,
    tied_embeddings: bool,
    has_code: bool,
}

impl Dimensions {
    pub(in crate::model::family) fn read(
        config: &Config,
        defaults: &FamilyDefaults,
    ) -> Result<Self> {
        settings::refuse_other_computations(config)?;
        let hidden = config.required_size("hidden_size")?;
        let heads = config.required_size("num_attention_heads")?;
        let kv_heads = if config.names("num_key_value_heads") {
            config.size("num_key_value_heads")?
        } else {
            defaults.kv_heads
        }
        .unwrap_or(heads);
        let head_dim = config.size("head_dim")?.or(defaults.head_dim);
        let head_dim = head_dim.unwrap_or(hidden / heads);
        if !heads.is_multiple_of(kv_heads) {
            return invalid(format!(
                "{heads} query heads cannot share {kv_heads} key-value heads"
            ));
        }
        if head_dim == 0 || !head_dim.is_multiple_of(2) {
            return invalid(format!(
                "head_dim is {head_dim}, rotary embedding needs an even one"
            ));
        }
        if heads * head_dim > MAX_DIMENSION {
            return invalid(format!(
                "{heads} heads of {head_dim} are wider than {MAX_DIMENSION}"
            ));
        }
        let max_seq_len = config
            .size("max_position_embeddings")?
            .unwrap_or(defaults.max_seq_len);
        let ropes = match &defaults.rope {
            RopeSource::One(defaults) => {
                vec![rope::read(config, head_dim, max_seq_len, defaults)?]
            }
            RopeSource::ByLayerType(thetas) => {
                rope::read_by_layer_type(config, head_dim, max_seq_len, *thetas)?.into()
            }
        };
        let known = ropes
            .iter()
            .map(|rope| rope::longest_context(&rope.scaling, max_seq_len));
        let (activation_key, default) = defaults.activation;
        #[expect(clippy::cast_possible_truncation, reason = "the computation is in f32")]
        let eps = config.positive("rms_norm_eps")?.unwrap_or(defaults.eps) as f32;
        Ok(Self {
            blocks: settings::blocks(config)?,
            hidden,
            intermediate: config.required_size("intermediate_size")?,
            heads,
            kv_heads,
            head_dim,
            vocab: config.required_size("vocab_size")?,
            max_seq_len: known.min().unwrap_or(max_seq_len),
            eps,
            ropes,
            activation: activation(config, activation_key, default)?,
            tied_embeddings: config.flag_or("tie_word_embeddings", defaults.is_tied)?,
            has_code: config.says("auto_map"),
        })
    }

    /// The whole decoder, with the settings of each block.
    pub(in crate::model::family) fn plan(
        self,
        architecture: &'static str,
        style: &DecoderStyle,
        settings: impl Fn(usize) -> BlockSettings,
    ) -> ModelPlan {
        ModelPlan {
            architecture,
            hidden: self.hidden,
            vocab: self.vocab,
            max_seq_len: self.max_seq_len,
            embedding: "model.embed_tokens.weight".to_owned(),
            positions: None,
            embedding_factor: (style.scales_embedding).then(|| (self.hidden as f32).sqrt()),
            blocks: (0..self.blocks)
                .map(|index| self.block(index, style, settings(index)))
                .collect(),
            head: HeadSpec {
                norm: Some(self.norm("model.norm", self.hidden, style)),
                projection: "lm_head.weight".to_owned(),
                is_tied: self.tied_embeddings,
                soft_cap: style.logit_soft_cap,
            },
            ropes: self.ropes,
            ignored: &[],
            has_code: self.has_code,
            fixed_blocks: None,
        }
    }

    fn norm(&self, name: &str, width: usize, style: &DecoderStyle) -> NormSpec {
        NormSpec {
            name: name.to_owned(),
            kind: style.norm_kind,
            width,
            eps: self.eps,
        }
    }

    fn part_norms(
        &self,
        prefix: &str,
        names: [Option<&str>; 2],
        style: &DecoderStyle,
    ) -> PartNorms {
        let norm = |name| self.norm(&format!("{prefix}.{name}"), self.hidden, style);
        let [input, output] = names.map(|name| name.map(norm));
        PartNorms {
            input,
            output,
            ..PartNorms::none()
        }
    }

    fn block(&self, index: usize, style: &DecoderStyle, settings: BlockSettings) -> BlockPlan {
        let prefix = format!("model.layers.{index}");
        let mut linears = Linears::new(&prefix);
        let attention = self.attention(&mut linears, style, settings);
        let feed_forward = self.feed_forward(&mut linears, style, settings);
        BlockPlan {
            linears: linears.specs,
            inputs: linears.inputs,
            attention,
            feed_forward,
            is_parallel: false,
        }
    }

    fn attention(
        &self,
        linears: &mut Linears<'_>,
        style: &DecoderStyle,
        settings: BlockSettings,
    ) -> AttentionSpec {
        let BlockSettings {
            qkv_bias, o_bias, ..
        } = settings;
        let (prefix, hidden) = (linears.prefix, self.hidden);
        let (q_width, kv_width) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let qk_norms = style.qk_norm.map(|of| {
            let widths = match of {
                QkNorm::EachHead => [self.head_dim; 2],
                QkNorm::AllHeads => [q_width, kv_width],
            };
            let norm = |name, width| self.norm(&format!("{prefix}.self_attn.{name}"), width, style);
            [norm("q_norm", widths[0]), norm("k_norm", widths[1])]
        });
        let qkv = if style.is_fused {
            let rows = q_width + 2 * kv_width;
            QkvSpec::Stacked(linears.of_next_input(hidden, "self_attn.qkv_proj", rows, qkv_bias))
        } else {
            QkvSpec::Separate {
                q: linears.of_next_input(hidden, "self_attn.q_proj", q_width, qkv_bias),
                k: linears.of_same_input("self_attn.k_proj", kv_width, qkv_bias),
                v: linears.of_same_input("self_attn.v_proj", kv_width, qkv_bias),
            }
        };
        AttentionSpec {
            norms: self.part_norms(prefix, style.norms.of_attention(), style),
            qkv,
            qk_norms,
            o: linears.of_next_input(q_width, "self_attn.o_proj", hidden, o_bias),
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            scale: 1.0
                / style
                    .attention_scalar
                    .unwrap_or(self.head_dim as f32)
                    .sqrt(),
            soft_cap: style.attention_soft_cap,
            window: settings.window,
            rope: Some(RopeId(settings.rope)),
        }
    }

    fn feed_forward(
        &self,
        linears: &mut Linears<'_>,
        style: &DecoderStyle,
        settings: BlockSettings,
    ) -> FeedForward {
        let mlps = match &settings.experts {
            Some(experts) => experts.mlps(linears, self.hidden, self.activation),
            None => Mlps::One(self.mlp(linears, style, settings.mlp_bias)),
        };
        FeedForward {
            norms: self.part_norms(linears.prefix, style.norms.of_feed_forward(), style),
            mlps,
        }
    }

    fn mlp(&self, linears: &mut Linears<'_>, style: &DecoderStyle, bias: bool) -> Mlp {
        let (hidden, inner) = (self.hidden, self.intermediate);
        let up = if style.is_fused {
            UpSpec::Stacked(linears.of_next_input(hidden, "mlp.gate_up_proj", 2 * inner, bias))
        } else {
            UpSpec::Gated {
                gate: linears.of_next_input(hidden, "mlp.gate_proj", inner, bias),
                up: linears.of_same_input("mlp.up_proj", inner, bias),
            }
        };
        Mlp {
            up,
            activation: self.activation,
            down: linears.of_next_input(inner, "mlp.down_proj", hidden, bias),
        }
    }
}
