mod olmo2_model;

use serde_json::{Value, json};

use super::*;
use crate::model::{BlockPlan, NormKind, RopeScaling};
use crate::ops::Activation;

fn config(architecture: &str, model_type: &str) -> Value {
    json!({
        "architectures": [architecture], "model_type": model_type, "hidden_size": 64, "intermediate_size": 176,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": true,
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
fn rotary_settings_are_found_in_every_spelling() {
    let rope = |keys| with(&llama::FAMILY, &keys).unwrap().ropes[0].clone();
    #[expect(clippy::cast_possible_truncation, reason = "whole numbers")]
    let theta = |keys| rope(keys).theta.round() as i64;
    assert_eq!(theta(json!({"rope_theta": 5e5})), 500_000);
    let inside = json!({"rope_type": "default", "rope_theta": 5e5});
    for key in ["rope_parameters", "rope_scaling"] {
        let beside = json!({key: inside, "rope_theta": 7e3});
        assert_eq!(theta(beside), 500_000, "{key}");
        let none = json!({key: {}, "rope_theta": 7e3});
        assert_eq!(theta(none), 7000, "{key}");
    }

    // The older key wins, with all that it says.
    let linear = json!({"type": "linear", "factor": 2.0});
    let both = json!({"rope_scaling": linear, "rope_parameters": inside});
    assert_eq!(
        rope(both.clone()).scaling,
        RopeScaling::Linear { factor: 2.0 }
    );
    assert_eq!(theta(both), 10_000);
}

#[test]
fn the_context_of_the_training_before_is_found_in_every_place() {
    let mut llama3 = json!({"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_type": "llama3"});
    let original = |keys: Value| match with(&llama::FAMILY, &keys).unwrap().ropes.remove(0).scaling
    {
        RopeScaling::Llama3 {
            original_max_seq_len,
            ..
        } => original_max_seq_len,
        other => panic!("{other:?}"),
    };
    assert_eq!(original(json!({"rope_scaling": llama3})), 128);
    llama3["original_max_position_embeddings"] = 32.into();
    assert_eq!(original(json!({"rope_scaling": llama3})), 32);
    let beside = json!({"rope_parameters": llama3, "original_max_position_embeddings": 64});
    assert_eq!(original(beside), 64);
}

#[test]
fn what_would_be_run_wrongly_is_refused_by_name() {
    for (key, value, name) in [
        ("model_type", json!("mixtral"), "mixtral"),
        (
            "architectures",
            json!(["LlamaForSequenceClassification"]),
            "LlamaForSequenceClassification",
        ),
        (
            "rope_scaling",
            json!({"type": "proportional", "factor": 4.0}),
            "proportional",
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
    let gemma = [&gemma::GEMMA2, &gemma::GEMMA3];
    for family in FAMILIES {
        let is_gemma = gemma
            .iter()
            .any(|it| it.architecture == family.architecture);
        let key = if is_gemma {
            "hidden_activation"
        } else {
            "hidden_act"
        };
        let of = |name: &str| {
            let plan = with(family, &json!({key: name}));
            plan.map(|plan| plan.blocks[0].feed_forward.mlp.activation)
        };
        assert_eq!(of("swish").unwrap(), Activation::Silu);
        assert_eq!(of("gelu_new").unwrap(), Activation::GeluTanh);
        let error = of("mish").unwrap_err().to_string();
        assert!(error.contains("mish"), "{error}");
    }
    let plan = without(&gemma::GEMMA2, "hidden_act");
    assert_eq!(
        plan.blocks[0].feed_forward.mlp.activation,
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
        assert_eq!(plan.head.norm.kind, NormKind::RmsFromOne);
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
fn gemma3_has_two_rotary_tables() {
    let gemma3 = |keys: Value| {
        let mut config =
            json!({"num_hidden_layers": 4, "sliding_window": 8, "sliding_window_pattern": 3});
        config
            .as_object_mut()
            .unwrap()
            .extend(keys.as_object().unwrap().clone());
        with(&gemma::GEMMA3, &config).unwrap()
    };
    let thetas = |plan: &ModelPlan| -> Vec<f64> { plan.ropes.iter().map(|r| r.theta).collect() };
    let plan = gemma3(json!({}));
    assert_eq!(windows(&plan), [Some(8), Some(8), None, Some(8)]);
    let tables: Vec<_> = plan.blocks.iter().map(|b| b.attention.rope.0).collect();
    assert_eq!(tables, [1, 1, 0, 1]);
    assert_eq!(thetas(&plan), [1e6, 1e4]);
    assert_eq!(plan.head.soft_cap, None);

    let older = gemma3(json!({
        "rope_theta": 5e5, "rope_local_base_freq": 2e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    }));
    assert_eq!(thetas(&older), [5e5, 2e4]);
    assert_eq!(older.ropes[0].scaling, RopeScaling::Linear { factor: 8.0 });
    assert_eq!(older.ropes[1].scaling, RopeScaling::Default);
    let newer = gemma3(json!({"rope_parameters": {"sliding_attention": {"rope_theta": 3e4}}}));
    assert_eq!(thetas(&newer), [1e6, 3e4]);
    let flat = with(
        &gemma::GEMMA3,
        &json!({"rope_parameters": {"rope_theta": 3e4}}),
    );
    assert!(flat.is_err());
    let nested = json!({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}});
    let error = with(&llama::FAMILY, &nested).unwrap_err().to_string();
    assert!(error.contains("full_attention"), "{error}");
}

#[test]
fn a_part_of_each_head_is_turned_where_the_class_does_so() {
    let half = json!({"partial_rotary_factor": 0.5});
    for family in [&llama::FAMILY, &mistral::FAMILY, &qwen::QWEN2, &qwen::QWEN3] {
        for keys in [&half, &json!({"rope_parameters": half})] {
            let error = with(family, keys).unwrap_err().to_string();
            assert!(error.contains("partial_rotary_factor"), "{error}");
        }
    }
    let width = |keys| with(&phi3::FAMILY, &keys).map(|plan| plan.ropes[0].width);
    assert_eq!(width(json!({})).unwrap(), 16);
    assert_eq!(width(json!({"rope_parameters": half})).unwrap(), 8);
    assert_eq!(width(half).unwrap(), 8);
    for odd in [0.2, 0.01, 1.5] {
        assert!(
            width(json!({"partial_rotary_factor": odd})).is_err(),
            "{odd}"
        );
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
fn longrope_is_run_up_to_the_context_of_the_training_before() {
    let factors = |n: usize| vec![2.0; n];
    let longrope = |short: usize, kind: &str| {
        let keys = json!({
            "max_position_embeddings": 512, "original_max_position_embeddings": 128,
            "rope_scaling": {"type": kind, "short_factor": factors(short), "long_factor": factors(8)},
        });
        with(&phi3::FAMILY, &keys)
    };
    for kind in ["longrope", "su", "yarn"] {
        let mut plan = longrope(8, kind).unwrap();
        assert_eq!(plan.max_seq_len, 128);
        let RopeScaling::LongRope {
            short_factors,
            attention_factor,
            ..
        } = plan.ropes.remove(0).scaling
        else {
            panic!("{:?}", plan.ropes);
        };
        assert_eq!(short_factors.len(), 8);
        // 512 tokens are four times 128: sqrt(1 + ln 4 / ln 128).
        assert!((attention_factor - (1.0 + 2.0 / 7.0f64).sqrt()).abs() < 1e-12);
    }
    let error = longrope(7, "longrope").unwrap_err().to_string();
    assert!(error.contains("short_factor"), "{error}");
}

#[test]
fn yarn_and_dynamic_scaling_are_those_of_transformers() {
    let scaling = |keys: Value| {
        let plan = with(&llama::FAMILY, &json!({"rope_scaling": keys}));
        plan.map(|mut plan| plan.ropes.remove(0).scaling)
    };
    let dynamic = json!({"type": "dynamic", "factor": 2.0});
    assert_eq!(scaling(dynamic).unwrap(), RopeScaling::Default);
    let yarn = |keys: Value| match scaling(keys).unwrap() {
        RopeScaling::Yarn {
            attention_factor,
            original_max_seq_len,
            ..
        } => (attention_factor, original_max_seq_len),
        other => panic!("{other:?}"),
    };
    let (factor, context) = yarn(json!({"type": "yarn", "factor": 4.0}));
    assert!((factor - (0.1 * 4f64.ln() + 1.0)).abs() < 1e-12);
    assert_eq!(context, 128);
    let scales = json!({"rope_type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 2.0});
    let expected = (0.1 * 4f64.ln() + 1.0) / (0.2 * 4f64.ln() + 1.0);
    assert!((yarn(scales).0 - expected).abs() < 1e-12);
    let named = json!({"rope_type": "yarn", "factor": 4.0, "attention_factor": 0.5, "original_max_position_embeddings": 32});
    assert_eq!(yarn(named), (0.5, 32));
    assert!(scaling(json!({"type": "yarn"})).is_err());
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
    let odd = with(&llama::FAMILY, &json!({"head_dim": 15}));
    assert!(matches!(odd, Err(EngineError::InvalidConfig(_))));
    for (key, value) in [
        ("hidden_size", json!(0)),
        ("hidden_size", json!(-1)),
        ("vocab_size", json!(1u64 << 40)),
        ("num_hidden_layers", json!(1 << 20)),
        ("num_key_value_heads", json!(3)),
        ("rope_theta", json!(-1.0)),
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
