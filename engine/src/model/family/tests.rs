use serde_json::{Value, json};

use super::*;
use crate::model::{BlockPlan, RopeScaling};

fn config(architecture: &str, model_type: &str) -> Value {
    json!({
        "architectures": [architecture], "model_type": model_type, "hidden_size": 64, "intermediate_size": 176,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": true
    })
}

fn of_family(family: &Family) -> Value {
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
    assert_eq!(context(&qwen2::FAMILY), 32_768);
    // 8 or 32 heads that 4 query heads cannot share.
    for family in [&mistral::FAMILY, &qwen2::FAMILY] {
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
    let qwen2 = with(&qwen2::FAMILY, &all).unwrap();
    assert_eq!(biases(&qwen2), ["q_proj", "k_proj", "v_proj"]);
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
fn qwen2_has_windows_where_they_are_switched_on() {
    let qwen2 = |keys| with(&qwen2::FAMILY, &keys).map(|plan| windows(&plan));
    let off = json!({"sliding_window": 16, "max_window_layers": 0});
    assert_eq!(qwen2(off).unwrap(), [None; 2]);
    let on = json!({"use_sliding_window": true, "sliding_window": 16, "max_window_layers": 1});
    assert_eq!(qwen2(on).unwrap(), [None, Some(16)]);
    let far = json!({"use_sliding_window": true, "sliding_window": 16});
    assert_eq!(qwen2(far).unwrap(), [None; 2]);
    let types = json!(["sliding_attention", "full_attention"]);
    let named = json!({"use_sliding_window": true, "max_window_layers": 0, "layer_types": types});
    assert_eq!(qwen2(named).unwrap(), [Some(4096), None]);
    for (types, complaint) in [
        (types, "without a window"),
        (json!(["full_attention"]), "1 entries for 2 blocks"),
        (
            json!(["full_attention", "chunked_attention"]),
            "chunked_attention",
        ),
    ] {
        let error = qwen2(json!({"layer_types": types})).unwrap_err();
        assert!(error.to_string().contains(complaint), "{error}");
    }
}

#[test]
fn rotary_settings_are_found_in_every_spelling() {
    let rope = |keys| with(&llama::FAMILY, &keys).unwrap().ropes[0];
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
    let original = |keys: Value| match with(&llama::FAMILY, &keys).unwrap().ropes[0].scaling {
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
        ("hidden_act", json!("gelu"), "gelu"),
        (
            "rope_scaling",
            json!({"type": "yarn", "factor": 4.0}),
            "yarn",
        ),
        (
            "rope_parameters",
            json!({"full_attention": {"rope_theta": 1e4}}),
            "full_attention",
        ),
        (
            "quantization_config",
            json!({"bits": 4}),
            "quantization_config",
        ),
        ("partial_rotary_factor", json!(0.5), "partial_rotary_factor"),
        (
            "rope_parameters",
            json!({"partial_rotary_factor": 0.5}),
            "partial_rotary_factor",
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
    for (key, value) in [
        ("hidden_size", json!(0)),
        ("hidden_size", json!(-1)),
        ("vocab_size", json!(1u64 << 40)),
        ("num_hidden_layers", json!(1 << 20)),
        ("num_key_value_heads", json!(3)),
        ("head_dim", json!(15)),
        ("head_dim", json!(1 << 23)),
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
