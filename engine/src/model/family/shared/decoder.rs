//! The decoder that families share: RMS norms, rotary attention with grouped heads, gated feed-forward.

use super::rope::{self, RopeDefaults};
use crate::error::Result;
use crate::model::config::{Config, missing};
use crate::model::family::{invalid, unsupported};
use crate::model::plan::{
    AttentionSpec, BlockPlan, FeedForward, HeadSpec, InputId, LinearId, LinearSpec, Mlp, ModelPlan,
    NormKind, NormSpec, PartNorms, QkvSpec, RopeId, UpSpec,
};
use crate::model::rope::RopeSpec;
use crate::ops::Activation;

/// Most blocks of a model: a plan names the tensors of each.
const MAX_BLOCKS: usize = 1 << 12;

/// What a class takes for keys that are absent.
pub(in crate::model::family) struct FamilyDefaults {
    /// `num_key_value_heads`; `None` = as many as query heads. An explicit null is that in every class.
    pub(in crate::model::family) kv_heads: Option<usize>,
    /// `head_dim`; `None` = the hidden size divided by the number of heads.
    pub(in crate::model::family) head_dim: Option<usize>,
    /// `max_position_embeddings`.
    pub(in crate::model::family) max_seq_len: usize,
    /// `rms_norm_eps`.
    pub(in crate::model::family) eps: f64,
    /// Rotary settings.
    pub(in crate::model::family) rope: RopeSource,
    /// `tie_word_embeddings`.
    pub(in crate::model::family) is_tied: bool,
    /// Key of the activation, and what stands for one that is absent.
    pub(in crate::model::family) activation: (&'static str, Activation),
}

/// Where rotary settings are found.
#[derive(Clone, Copy)]
pub(in crate::model::family) enum RopeSource {
    /// In one place for all blocks.
    One(RopeDefaults),
    /// By layer type, with these bases by default: of blocks that see all tokens, and of those with a sliding window.
    ByLayerType([f64; 2]),
}

impl Default for FamilyDefaults {
    /// Those of LLaMA.
    fn default() -> Self {
        Self {
            kv_heads: None,
            head_dim: None,
            max_seq_len: 2048,
            eps: 1e-6,
            rope: RopeSource::One(RopeDefaults::default()),
            is_tied: false,
            activation: ("hidden_act", Activation::Silu),
        }
    }
}

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

/// What can differ between families; by default it is as in LLaMA.
#[derive(Default)]
pub(in crate::model::family) struct DecoderStyle {
    /// Where the parts of a block have norms.
    pub(in crate::model::family) norms: NormPlaces,
    /// What norms of queries and keys see.
    pub(in crate::model::family) qk_norm: Option<QkNorm>,
    /// Whether one matrix makes queries, keys and values, and one gate and up.
    pub(in crate::model::family) is_fused: bool,
    /// What norms compute.
    pub(in crate::model::family) norm_kind: NormKind,
    /// The scores of the attention are divided by its root; `None` = the width of a head.
    pub(in crate::model::family) attention_scalar: Option<f32>,
    /// Bound of the scores of the attention.
    pub(in crate::model::family) attention_soft_cap: Option<f32>,
    /// Bound of the logits.
    pub(in crate::model::family) logit_soft_cap: Option<f32>,
    /// Whether embeddings are multiplied by the root of the hidden size.
    pub(in crate::model::family) scales_embedding: bool,
}

/// Where the parts of a block have norms.
#[derive(Clone, Copy, Default)]
pub(in crate::model::family) enum NormPlaces {
    /// Before each part.
    #[default]
    Before,
    /// After each part.
    After,
    /// Before and after each part.
    Around,
}

impl NormPlaces {
    /// Names of the norms before and after the attention.
    fn of_attention(self) -> [Option<&'static str>; 2] {
        match self {
            Self::Before => [Some("input_layernorm"), None],
            Self::After => [None, Some("post_attention_layernorm")],
            Self::Around => [Some("input_layernorm"), Some("post_attention_layernorm")],
        }
    }

    /// Names of the norms before and after the feed-forward part.
    fn of_feed_forward(self) -> [Option<&'static str>; 2] {
        match self {
            Self::Before => [Some("post_attention_layernorm"), None],
            Self::After => [None, Some("post_feedforward_layernorm")],
            Self::Around => [
                Some("pre_feedforward_layernorm"),
                Some("post_feedforward_layernorm"),
            ],
        }
    }
}

/// What a norm of queries and keys sees.
#[derive(Clone, Copy)]
pub(in crate::model::family) enum QkNorm {
    /// A head at a time.
    EachHead,
    /// All heads at once.
    AllHeads,
}

/// What can differ between families and between blocks.
#[derive(Clone, Copy, Default)]
pub(in crate::model::family) struct BlockSettings {
    pub(in crate::model::family) qkv_bias: bool,
    pub(in crate::model::family) o_bias: bool,
    pub(in crate::model::family) mlp_bias: bool,
    /// Tokens that a query sees; `None` = all before it.
    pub(in crate::model::family) window: Option<usize>,
    /// Number of the rotary settings.
    pub(in crate::model::family) rope: usize,
}

impl Dimensions {
    pub(in crate::model::family) fn read(
        config: &Config,
        defaults: &FamilyDefaults,
    ) -> Result<Self> {
        refuse_other_computations(config)?;
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
        let (activation_key, activation) = defaults.activation;
        #[expect(clippy::cast_possible_truncation, reason = "the computation is in f32")]
        let eps = config.positive("rms_norm_eps")?.unwrap_or(defaults.eps) as f32;
        Ok(Self {
            blocks: config
                .size_up_to("num_hidden_layers", MAX_BLOCKS)?
                .ok_or_else(|| missing("num_hidden_layers"))?,
            hidden,
            intermediate: config.required_size("intermediate_size")?,
            heads,
            kv_heads,
            head_dim,
            vocab: config.required_size("vocab_size")?,
            max_seq_len: known.min().unwrap_or(max_seq_len),
            eps,
            ropes,
            activation: read_activation(config, activation_key, activation)?,
            tied_embeddings: if config.says("tie_word_embeddings") {
                config.flag("tie_word_embeddings")?
            } else {
                defaults.is_tied
            },
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
            embedding_factor: (style.scales_embedding).then(|| (self.hidden as f32).sqrt()),
            blocks: (0..self.blocks)
                .map(|index| self.block(index, style, settings(index)))
                .collect(),
            head: HeadSpec {
                norm: self.norm("model.norm", self.hidden, style),
                projection: "lm_head.weight".to_owned(),
                is_tied: self.tied_embeddings,
                soft_cap: style.logit_soft_cap,
            },
            ropes: self.ropes,
            has_code: self.has_code,
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
        PartNorms { input, output }
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
            rope: RopeId(settings.rope),
        }
    }

    fn feed_forward(
        &self,
        linears: &mut Linears<'_>,
        style: &DecoderStyle,
        settings: BlockSettings,
    ) -> FeedForward {
        let (hidden, inner) = (self.hidden, self.intermediate);
        let bias = settings.mlp_bias;
        let up = if style.is_fused {
            UpSpec::Stacked(linears.of_next_input(hidden, "mlp.gate_up_proj", 2 * inner, bias))
        } else {
            UpSpec::Gated {
                gate: linears.of_next_input(hidden, "mlp.gate_proj", inner, bias),
                up: linears.of_same_input("mlp.up_proj", inner, bias),
            }
        };
        FeedForward {
            norms: self.part_norms(linears.prefix, style.norms.of_feed_forward(), style),
            mlp: Mlp {
                up,
                activation: self.activation,
                down: linears.of_next_input(inner, "mlp.down_proj", hidden, bias),
            },
        }
    }
}

/// Settings that every family refuses.
fn refuse_other_computations(config: &Config) -> Result<()> {
    if config.says("quantization_config") {
        return unsupported("quantised weights (quantization_config)".to_owned());
    }
    Ok(())
}

/// An activation by its name in transformers.
pub(in crate::model::family) fn read_activation(
    config: &Config,
    key: &str,
    default: Activation,
) -> Result<Activation> {
    match config.text(key)? {
        None => Ok(default),
        Some("silu" | "swish") => Ok(Activation::Silu),
        // One formula, written in different ways.
        Some("gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" | "gelu_python_tanh") => {
            Ok(Activation::GeluTanh)
        }
        Some(other) => unsupported(format!("{key} {other:?}")),
    }
}

/// Collects the linears of a block in the order of the computation.
struct Linears<'a> {
    prefix: &'a str,
    specs: Vec<LinearSpec>,
    inputs: Vec<usize>,
}

impl<'a> Linears<'a> {
    fn new(prefix: &'a str) -> Self {
        Self {
            prefix,
            specs: Vec::new(),
            inputs: Vec::new(),
        }
    }

    /// A linear that is the first to see an input, of `d_in` features.
    fn of_next_input(&mut self, d_in: usize, name: &str, d_out: usize, has_bias: bool) -> LinearId {
        self.inputs.push(d_in);
        self.of_same_input(name, d_out, has_bias)
    }

    /// A linear that sees the input of the one before it.
    fn of_same_input(&mut self, name: &str, d_out: usize, has_bias: bool) -> LinearId {
        let input = self.inputs.len() - 1;
        self.specs.push(LinearSpec {
            name: format!("{}.{name}", self.prefix),
            d_out,
            d_in: self.inputs[input],
            has_bias,
            input: InputId(input),
        });
        LinearId(self.specs.len() - 1)
    }
}
