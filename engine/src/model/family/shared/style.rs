//! What differs between the families that share a decoder.

use super::experts::Experts;
use super::rope::RopeDefaults;
use crate::model::plan::NormKind;
use crate::ops::Activation;

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
    pub(super) fn of_attention(self) -> [Option<&'static str>; 2] {
        match self {
            Self::Before => [Some("input_layernorm"), None],
            Self::After => [None, Some("post_attention_layernorm")],
            Self::Around => [Some("input_layernorm"), Some("post_attention_layernorm")],
        }
    }

    /// Names of the norms before and after the feed-forward part.
    pub(super) fn of_feed_forward(self) -> [Option<&'static str>; 2] {
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
    /// What stands in place of one MLP.
    pub(in crate::model::family) experts: Option<Experts>,
}
