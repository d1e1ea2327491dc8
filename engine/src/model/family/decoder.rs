//! The decoder that families share: RMS norms, rotary attention with grouped heads, gated feed-forward with SiLU.

use super::{invalid, rope, unsupported};
use crate::error::Result;
use crate::model::config::{Config, MAX_DIMENSION, missing};
use crate::model::plan::{
    AttentionSpec, BlockPlan, FeedForward, HeadSpec, InputId, LinearId, LinearSpec, ModelPlan,
    NormSpec, RopeId,
};
use crate::model::rope::RopeSpec;

/// Most blocks of a model: a plan names the tensors of each.
const MAX_BLOCKS: usize = 1 << 12;

/// What a class takes for keys that are absent.
pub(super) struct FamilyDefaults {
    /// `num_key_value_heads`; `None` = as many as query heads. An explicit null is that in every class.
    pub(super) kv_heads: Option<usize>,
    /// `max_position_embeddings`.
    pub(super) max_seq_len: usize,
}

/// The numbers that every block has in common.
pub(super) struct Dimensions {
    pub(super) blocks: usize,
    hidden: usize,
    intermediate: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocab: usize,
    max_seq_len: usize,
    eps: f32,
    rope: RopeSpec,
    tied_embeddings: bool,
    has_code: bool,
}

/// What can differ between families and between blocks.
#[derive(Clone, Copy, Default)]
pub(super) struct BlockSettings {
    pub(super) qkv_bias: bool,
    pub(super) o_bias: bool,
    pub(super) mlp_bias: bool,
    /// Tokens that a query sees; `None` = all before it.
    pub(super) window: Option<usize>,
}

impl Dimensions {
    pub(super) fn read(config: &Config, defaults: &FamilyDefaults) -> Result<Self> {
        refuse_other_computations(config)?;
        let hidden = config.required_size("hidden_size")?;
        let heads = config.required_size("num_attention_heads")?;
        let kv_heads = if config.names("num_key_value_heads") {
            config.size("num_key_value_heads")?
        } else {
            defaults.kv_heads
        }
        .unwrap_or(heads);
        let head_dim = config.size("head_dim")?.unwrap_or(hidden / heads);
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
        #[expect(clippy::cast_possible_truncation, reason = "the computation is in f32")]
        let eps = config.positive("rms_norm_eps")?.unwrap_or(1e-6) as f32;
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
            max_seq_len,
            eps,
            rope: rope::read(config, head_dim, max_seq_len)?,
            tied_embeddings: config.flag("tie_word_embeddings")?,
            has_code: config.says("auto_map"),
        })
    }

    /// The whole decoder, with the settings of each block.
    pub(super) fn plan(
        self,
        architecture: &'static str,
        settings: impl Fn(usize) -> BlockSettings,
    ) -> ModelPlan {
        ModelPlan {
            architecture,
            hidden: self.hidden,
            vocab: self.vocab,
            max_seq_len: self.max_seq_len,
            embedding: "model.embed_tokens.weight".to_owned(),
            blocks: (0..self.blocks)
                .map(|index| self.block(index, settings(index)))
                .collect(),
            head: HeadSpec {
                norm: self.norm("model.norm"),
                projection: "lm_head.weight".to_owned(),
                is_tied: self.tied_embeddings,
            },
            ropes: vec![self.rope],
            has_code: self.has_code,
        }
    }

    fn norm(&self, module: &str) -> NormSpec {
        NormSpec {
            tensor: format!("{module}.weight"),
            eps: self.eps,
        }
    }

    fn block(&self, index: usize, settings: BlockSettings) -> BlockPlan {
        let BlockSettings {
            qkv_bias,
            o_bias,
            mlp_bias,
            window,
        } = settings;
        let prefix = format!("model.layers.{index}");
        let mut linears = Linears::new(&prefix);
        let (q_width, kv_width) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let attention = AttentionSpec {
            norm: self.norm(&format!("{prefix}.input_layernorm")),
            q: linears.of_next_input(self.hidden, "self_attn.q_proj", q_width, qkv_bias),
            k: linears.of_same_input("self_attn.k_proj", kv_width, qkv_bias),
            v: linears.of_same_input("self_attn.v_proj", kv_width, qkv_bias),
            o: linears.of_next_input(q_width, "self_attn.o_proj", self.hidden, o_bias),
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            scale: 1.0 / (self.head_dim as f32).sqrt(),
            window,
            rope: RopeId(0),
        };
        let (hidden, inner) = (self.hidden, self.intermediate);
        let feed_forward = FeedForward {
            norm: self.norm(&format!("{prefix}.post_attention_layernorm")),
            gate: linears.of_next_input(hidden, "mlp.gate_proj", inner, mlp_bias),
            up: linears.of_same_input("mlp.up_proj", inner, mlp_bias),
            down: linears.of_next_input(inner, "mlp.down_proj", hidden, mlp_bias),
        };
        BlockPlan {
            linears: linears.specs,
            inputs: linears.inputs,
            attention,
            feed_forward,
        }
    }
}

/// Settings that every family refuses.
fn refuse_other_computations(config: &Config) -> Result<()> {
    let activation = config.text("hidden_act")?.unwrap_or("silu");
    if activation != "silu" && activation != "swish" {
        return unsupported(format!("hidden_act {activation:?}, expected \"silu\""));
    }
    if config.says("quantization_config") {
        return unsupported("quantised weights (quantization_config)".to_owned());
    }
    Ok(())
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
