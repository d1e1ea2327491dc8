mod experts;
mod olmo2_model;
mod rope;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::model::{BlockPlan, NormKind, RopeScaling};
use crate::ops::Activation;

fn config(architecture: &str, model_type: &str) -> Value {
    json!({
        "architectures": [architecture], "model_type": model_type, "hidden_size": 64, "intermediate_size": 176,
        "ffn_dim": 176, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": true,
        "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48,
    })
}

pub(super) fn of_family(family: &Family) -> Value {
    config(family.architecture, family.model_type)
}

fn parse_value(config: &Value) -> Result<ModelPlan> {
    parse(config.to_string().as_bytes())
}

/// The plan of a family with other values of some keys.
fn with(family: &Family, keys: &Value) -> Result<ModelPlan> {
    let mut config = of_family(family);
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    parse_value(&config)
}

fn without(family: &Family, key: &str) -> ModelPlan {
    let mut config = of_family(family);
    config.as_object_mut().unwrap().remove(key);
    parse_value(&config).unwrap()
}

fn windows(plan: &ModelPlan) -> Vec<Option<usize>> {
    let window_of = |block: &BlockPlan| block.attention.window;
    plan.blocks.iter().map(window_of).collect()
}

fn biases(plan: &ModelPlan) -> Vec<&str> {
    let of_block = plan.blocks[0].linears.iter();
    let with_bias = of_block.filter(|linear| linear.has_bias);
    with_bias
        .filter_map(|l| l.name.rsplit('.').next())
        .collect()
}

#[test]
fn a_plan_names_every_linear_with_its_shape_and_what_feeds_it() {
    let plan = with(&llama::FAMILY, &json!({})).unwrap();
    let of_block = plan.blocks[1].linears.iter();
    let linears: Vec<_> = of_block
        .map(|l| (l.name.as_str(), l.d_out, l.d_in, l.input.0))
        .collect();
    assert_eq!(
        linears,
        [
            ("model.layers.1.self_attn.q_proj", 64, 64, 0),
            ("model.layers.1.self_attn.k_proj", 32, 64, 0),
            ("model.layers.1.self_attn.v_proj", 32, 64, 0),
            ("model.layers.1.self_attn.o_proj", 64, 64, 1),
            ("model.layers.1.mlp.gate_proj", 176, 64, 2),
            ("model.layers.1.mlp.up_proj", 176, 64, 2),
            ("model.layers.1.mlp.down_proj", 64, 176, 3),
        ]
    );
    assert_eq!(plan.blocks[1].inputs, [64, 64, 64, 176]);
    assert_eq!(plan.linears().count(), 14);
}

#[test]
fn what_is_not_said_has_the_defaults_of_the_class() {
    let plan = without(&llama::FAMILY, "num_key_value_heads");
    let attention = &plan.blocks[0].attention;
    assert_eq!((attention.head_dim, attention.kv_heads), (16, 4));
    assert!((plan.ropes[0].theta - 10_000.0).abs() < 1e-9);
    assert_eq!(plan.ropes[0].scaling, RopeScaling::Default);
    assert!(biases(&plan).is_empty());
    assert!(plan.head.is_tied);

    let context = |family| without(family, "max_position_embeddings").max_seq_len;
    assert_eq!(context(&llama::FAMILY), 2048);
    assert_eq!(context(&mistral::FAMILY), 131_072);
    assert_eq!(context(&qwen::QWEN2), 32_768);
    assert_eq!(context(&gemma::GEMMA2), 8192);
    assert_eq!(context(&gemma::GEMMA3), 131_072);
    // 8 or 32 heads that 4 query heads cannot share.
    for family in [&mistral::FAMILY, &qwen::QWEN2, &qwen::QWEN3] {
        let mut config = of_family(family);
        config
            .as_object_mut()
            .unwrap()
            .remove("num_key_value_heads");
        assert!(parse_value(&config).is_err());
        config["num_key_value_heads"] = Value::Null;
        let plan = parse_value(&config).unwrap();
        assert_eq!(plan.blocks[0].attention.kv_heads, 4);
    }
}

#[test]
fn each_family_has_the_biases_of_its_class() {
    let all = json!({"attention_bias": true, "mlp_bias": true});
    let llama = with(&llama::FAMILY, &all).unwrap();
    assert_eq!(biases(&llama).len(), 7);
    let null = with(&llama::FAMILY, &json!({"attention_bias": null})).unwrap();
    assert!(biases(&null).is_empty());
    assert!(biases(&with(&mistral::FAMILY, &all).unwrap()).is_empty());
    let qwen2 = with(&qwen::QWEN2, &all).unwrap();
    assert_eq!(biases(&qwen2), ["q_proj", "k_proj", "v_proj"]);
    let qwen3 = with(&qwen::QWEN3, &all).unwrap();
    assert_eq!(biases(&qwen3), ["q_proj", "k_proj", "v_proj", "o_proj"]);
}

#[test]
fn llama_has_no_sliding_window_and_mistral_the_one_that_is_named() {
    let window = json!({"sliding_window": 16});
    assert_eq!(windows(&with(&llama::FAMILY, &window).unwrap()), [None; 2]);
    let mistral = |keys| with(&mistral::FAMILY, &keys).map(|plan| windows(&plan));
    assert_eq!(mistral(window).unwrap(), [Some(16); 2]);
    assert_eq!(mistral(json!({})).unwrap(), [Some(4096); 2]);
    assert_eq!(mistral(json!({"sliding_window": null})).unwrap(), [None; 2]);
    assert!(mistral(json!({"sliding_window": 0})).is_err());
    let error = mistral(json!({"layer_types": ["full_attention", "full_attention"]})).unwrap_err();
    assert!(error.to_string().contains("layer_types"), "{error}");
}

#[test]
fn qwen3_norms_queries_and_keys_head_by_head() {
    let plan = without(&qwen::QWEN3, "architectures");
    let [q, k] = plan.blocks[1].attention.qk_norms.as_ref().unwrap();
    assert_eq!(q.name, "model.layers.1.self_attn.q_norm");
    assert_eq!((q.width, k.width), (128, 128));
    let named = with(&qwen::QWEN3, &json!({"head_dim": 32})).unwrap();
    assert_eq!(named.blocks[0].linears[0].d_out, 4 * 32);
}

#[test]
fn qwen_models_have_windows_where_they_are_switched_on() {
    check_qwen_windows(&qwen::QWEN2);
    check_qwen_windows(&qwen::QWEN3);
}

fn check_qwen_windows(family: &Family) {
    let qwen = |keys| with(family, &keys).map(|plan| windows(&plan));
    let off = json!({"sliding_window": 16, "max_window_layers": 0});
    assert_eq!(qwen(off).unwrap(), [None; 2]);
    let on = json!({"use_sliding_window": true, "sliding_window": 16, "max_window_layers": 1});
    assert_eq!(qwen(on).unwrap(), [None, Some(16)]);
    let far = json!({"use_sliding_window": true, "sliding_window": 16});
    assert_eq!(qwen(far).unwrap(), [None; 2]);
    let types = json!(["sliding_attention", "full_attention"]);
    let named = json!({"use_sliding_window": true, "max_window_layers": 0, "layer_types": types});
    assert_eq!(qwen(named).unwrap(), [Some(4096), None]);
    for (types, complaint) in [
        (types, "without a window"),
        (json!(["full_attention"]), "1 entries for 2 blocks"),
        (
            json!(["full_attention", "chunked_attention"]),
            "chunked_attention",
        ),
    ] {
        let error = qwen(json!({"layer_types": types})).unwrap_err();
        assert!(error.to_string().contains(complaint), "{error}");
    }
}

#[test]
fn what_would_be_run_wrongly_is_refused_by_name() {
    for (key, value, name) in [
        ("model_type", json!("mamba"), "mamba"),
        (
            "architectures",
            json!(["LlamaForSequenceClassification"]),
            "LlamaForSequenceClassification",
        ),
        (
            "quantization_config",
            json!({"bits": 4}),
            "quantization_config",
        ),
    ] {
        for family in FAMILIES {
            let error = with(family, &json!({key: value})).unwrap_err();
            assert!(
                matches!(error, EngineError::UnsupportedArchitecture(_)),
                "{error}"
            );
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

#[test]
fn an_activation_is_known_by_its_names_and_another_is_refused() {
    for family in FAMILIES {
        let key = match family.model_type {
            "gemma2" | "gemma3_text" => "hidden_activation",
            "opt" => "activation_function",
            _ => "hidden_act",
        };
        let of = |name: &str| {
            let plan = with(family, &json!({key: name}));
            plan.map(|plan| plan.blocks[0].feed_forward.mlps.all()[0].activation)
        };
        assert_eq!(of("swish").unwrap(), Activation::Silu);
        assert_eq!(of("gelu_new").unwrap(), Activation::GeluTanh);
        assert_eq!(of("gelu").unwrap(), Activation::Gelu);
        assert_eq!(of("relu").unwrap(), Activation::Relu);
        let error = of("mish").unwrap_err().to_string();
        assert!(error.contains("mish"), "{error}");
    }
    let plan = without(&gemma::GEMMA2, "hidden_act");
    assert_eq!(
        plan.blocks[0].feed_forward.mlps.all()[0].activation,
        Activation::GeluTanh
    );
}

#[test]
fn gemma_models_have_what_their_classes_have() {
    for family in [&gemma::GEMMA2, &gemma::GEMMA3] {
        let plan = with(
            family,
            &json!({"head_dim": null, "tie_word_embeddings": null}),
        )
        .unwrap();
        let attention = &plan.blocks[0].attention;
        assert_eq!((attention.head_dim, plan.head.is_tied), (256, true));
        assert!((attention.scale - 1.0 / 16.0).abs() < 1e-9);
        assert!((plan.embedding_factor.unwrap() - 8.0).abs() < 1e-9);
        assert_eq!(plan.head.norm.unwrap().kind, NormKind::RmsFromOne);
        for (keys, complaint) in [
            (
                json!({"use_bidirectional_attention": true}),
                "bidirectional",
            ),
            (json!({"sliding_window": null}), "sliding_window"),
        ] {
            let error = with(family, &keys).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }
    let gemma2 = with(&gemma::GEMMA2, &json!({"sliding_window": 8})).unwrap();
    assert_eq!(windows(&gemma2), [Some(8), None]);
    assert_eq!(gemma2.blocks[0].attention.soft_cap, Some(50.0));
    assert_eq!(gemma2.head.soft_cap, Some(30.0));
    let uncapped = json!({"attn_logit_softcapping": null, "final_logit_softcapping": 20.0});
    let uncapped = with(&gemma::GEMMA2, &uncapped).unwrap();
    assert_eq!(uncapped.blocks[0].attention.soft_cap, None);
    assert_eq!(uncapped.head.soft_cap, Some(20.0));
}

#[test]
fn gpt_neox_reads_its_own_keys() {
    let neox = |keys| with(&gpt_neox::FAMILY, &keys).unwrap();
    let plan = neox(json!({"rotary_pct": 0.5, "rotary_emb_base": 5e3, "rope_theta": 7.0}));
    let block = &plan.blocks[0];
    let shapes: Vec<_> = block
        .linears
        .iter()
        .map(|l| (l.d_out, l.d_in, l.has_bias))
        .collect();
    let expected = [
        (192, 64, true),
        (64, 64, true),
        (176, 64, true),
        (64, 176, true),
    ];
    assert_eq!(shapes, expected);
    assert!(block.is_parallel && !plan.ropes.is_empty());
    assert_eq!(plan.ropes[0].width, 8);
    assert!((plan.ropes[0].theta - 5e3).abs() < 1e-9);
    assert_eq!(neox(json!({})).ropes[0].width, 4);
    let other = neox(json!({"use_parallel_residual": false, "attention_bias": false}));
    assert!(!other.blocks[0].is_parallel);
    assert_eq!(biases(&other), ["dense_h_to_4h", "dense_4h_to_h"]);

    let tensors: Vec<String> = plan.tensors().map(|(name, _)| name).collect();
    let mut names: BTreeSet<&str> = tensors.iter().map(String::as_str).collect();
    names.insert("gpt_neox.layers.0.attention.bias");
    names.insert("gpt_neox.layers.1.attention.masked_bias");
    plan.check_names(&names).unwrap();
    names.insert("gpt_neox.layers.1.attention.scale");
    assert!(plan.check_names(&names).is_err());
}

#[test]
fn opt_has_norms_before_each_part_or_after_the_sum() {
    let opt = |keys| with(&opt::FAMILY, &keys);
    let before = opt(json!({})).unwrap();
    let norms = &before.blocks[0].attention.norms;
    assert!(norms.input.is_some() && norms.sum.is_none() && before.head.norm.is_some());
    assert_eq!(before.positions.as_ref().unwrap().offset, 2);
    let table = "model.decoder.embed_positions.weight";
    let mut tensors = before.tensors();
    assert!(tensors.any(|(name, shape)| name == table && shape == [130, 64]));
    let after = opt(json!({"do_layer_norm_before": false})).unwrap();
    let norms = &after.blocks[0].attention.norms;
    assert!(norms.input.is_none() && norms.sum.is_some() && after.head.norm.is_none());
    let removed = opt(json!({"_remove_final_layer_norm": true})).unwrap();
    assert!(removed.head.norm.is_none());
    for (keys, complaint) in [
        (json!({"word_embed_proj_dim": 32}), "project_in"),
        (
            json!({"layer_norm_elementwise_affine": false}),
            "layer_norm_elementwise_affine",
        ),
    ] {
        let error = opt(keys).unwrap_err();
        assert!(matches!(error, EngineError::UnsupportedArchitecture(_)));
        assert!(error.to_string().contains(complaint), "{error}");
    }
}

#[test]
fn phi3_has_one_matrix_for_qkv_and_one_for_gate_and_up() {
    let plan = with(&phi3::FAMILY, &json!({"sliding_window": 16})).unwrap();
    let of_block = plan.blocks[0].linears.iter();
    let linears: Vec<_> = of_block
        .map(|l| (l.name.as_str(), l.d_out, l.d_in, l.input.0))
        .collect();
    assert_eq!(
        linears,
        [
            ("model.layers.0.self_attn.qkv_proj", 128, 64, 0),
            ("model.layers.0.self_attn.o_proj", 64, 64, 1),
            ("model.layers.0.mlp.gate_up_proj", 352, 64, 2),
            ("model.layers.0.mlp.down_proj", 64, 176, 3),
        ]
    );
    assert_eq!(windows(&plan), [Some(16); 2]);
    for kind in ["linear", "dynamic", "llama3"] {
        let scaling = json!({"rope_scaling": {"type": kind, "factor": 2.0}});
        let error = with(&phi3::FAMILY, &scaling).unwrap_err().to_string();
        assert!(error.contains(kind), "{error}");
    }
}

#[test]
fn a_family_is_known_by_both_names_and_the_others_are_listed() {
    let mixed = parse_value(&config(
        llama::FAMILY.architecture,
        mistral::FAMILY.model_type,
    ));
    let error = mixed.unwrap_err().to_string();
    for name in ARCHITECTURES {
        assert!(error.contains(name), "{error}");
    }
    for family in FAMILIES {
        let plan = without(family, "architectures");
        assert_eq!(plan.architecture, family.architecture);
    }
}

#[test]
fn impossible_numbers_are_refused() {
    for keys in [
        json!({"head_dim": 15}),
        json!({"head_dim": 1 << 23}),
        json!({"num_key_value_heads": 3}),
        json!({"rope_theta": -1.0}),
    ] {
        let refused = with(&llama::FAMILY, &keys);
        assert!(matches!(refused, Err(EngineError::InvalidConfig(_))));
    }
    for family in [&gpt_neox::FAMILY, &opt::FAMILY] {
        let refused = with(family, &json!({"num_attention_heads": 5}));
        assert!(matches!(refused, Err(EngineError::InvalidConfig(_))));
    }
    for (key, value) in [
        ("hidden_size", json!(0)),
        ("hidden_size", json!(-1)),
        ("vocab_size", json!(1u64 << 40)),
        ("num_hidden_layers", json!(1 << 20)),
        ("architectures", json!(llama::FAMILY.architecture)),
    ] {
        for family in FAMILIES {
            let refused = with(family, &json!({key: value}));
            assert!(
                matches!(refused, Err(EngineError::InvalidConfig(_))),
                "{key}"
            );
        }
    }
}
