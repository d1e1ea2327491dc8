//! Models made from a seed: any shape, no training, the same bytes every time.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::json;

/// Numbers of a synthetic model.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) hidden: usize,
    pub(crate) intermediate: usize,
    pub(crate) blocks: usize,
    pub(crate) vocab: usize,
}

impl Shape {
    /// Big enough that a block weighs more than what the process needs anyway.
    pub(crate) fn with_blocks(blocks: usize) -> Self {
        Self {
            hidden: 512,
            intermediate: 1408,
            blocks,
            vocab: 512,
        }
    }
}

/// Writes `config.json` and `model.safetensors` of a LLaMA model with random weights.
pub(crate) fn write_model(dir: &Path, shape: Shape) {
    let Shape {
        hidden,
        intermediate,
        blocks,
        vocab,
    } = shape;
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "intermediate_size": intermediate, "num_hidden_layers": blocks, "num_attention_heads": 8,
        "num_key_value_heads": 4, "vocab_size": vocab, "max_position_embeddings": 1024, "rms_norm_eps": 1e-5,
        "hidden_act": "silu", "tie_word_embeddings": true, "rope_theta": 10000.0
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();

    let mut state = 1u64;
    let mut tensors = BTreeMap::new();
    let mut add = |name: String, shape: Vec<usize>, scale: f32, offset: f32| {
        let values = (0..shape.iter().product()).flat_map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let uniform = (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
            (uniform * scale + offset).to_le_bytes()
        });
        let bytes: Vec<u8> = values.collect();
        tensors.insert(name, (shape, bytes));
    };
    let scale = 3.0 / (hidden as f32).sqrt();
    add(
        "model.embed_tokens.weight".into(),
        vec![vocab, hidden],
        2.0,
        0.0,
    );
    add("model.norm.weight".into(), vec![hidden], 0.5, 1.0);
    for block in 0..blocks {
        let prefix = format!("model.layers.{block}");
        add(
            format!("{prefix}.input_layernorm.weight"),
            vec![hidden],
            1.0,
            1.0,
        );
        add(
            format!("{prefix}.post_attention_layernorm.weight"),
            vec![hidden],
            1.0,
            1.0,
        );
        for (name, d_out, d_in) in [
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", hidden / 2, hidden),
            ("self_attn.v_proj", hidden / 2, hidden),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", intermediate, hidden),
            ("mlp.up_proj", intermediate, hidden),
            ("mlp.down_proj", hidden, intermediate),
        ] {
            add(
                format!("{prefix}.{name}.weight"),
                vec![d_out, d_in],
                scale,
                0.0,
            );
        }
    }
    let views = tensors.iter().map(|(name, (shape, bytes))| {
        (
            name.clone(),
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    serialize_to_file(views, metadata, &dir.join("model.safetensors")).unwrap();
}

/// Makes the directory of a model that a job can name, with the tokenizer of the bundled one: `vocab` must be 768.
pub(crate) fn write_local_model(dir: &Path, shape: Shape) {
    std::fs::create_dir_all(dir).unwrap();
    write_model(dir, shape);
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    std::fs::copy(demo.join("tokenizer.json"), dir.join("tokenizer.json")).unwrap();
}

/// Writes `[n, seq_len]` random token ids below `vocab` as calibration windows.
pub(crate) fn write_ids(path: &Path, n: usize, seq_len: usize, vocab: usize) {
    let mut state = 7u64;
    let ids: Vec<u8> = (0..n * seq_len)
        .flat_map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % vocab as u64).to_le_bytes()
        })
        .collect();
    let view = TensorView::new(Dtype::I64, vec![n, seq_len], &ids).unwrap();
    serialize_to_file([("input_ids", view)], None, path).unwrap();
}
