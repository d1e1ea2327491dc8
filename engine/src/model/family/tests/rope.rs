//! Rotary settings of every family.

use super::*;

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
    let thetas = |plan: &ModelPlan| -> Vec<String> {
        let thetas = plan.ropes.iter().map(|rope| rope.theta);
        thetas.map(|theta| theta.to_string()).collect()
    };
    let plan = gemma3(json!({}));
    assert_eq!(windows(&plan), [Some(8), Some(8), None, Some(8)]);
    let tables: Vec<_> = plan
        .blocks
        .iter()
        .map(|b| b.attention.rope.unwrap().0)
        .collect();
    assert_eq!(tables, [1, 1, 0, 1]);
    assert_eq!(thetas(&plan), ["1000000", "10000"]);
    assert_eq!(plan.head.soft_cap, None);

    let older = gemma3(json!({
        "rope_theta": 5e5, "rope_local_base_freq": 2e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    }));
    assert_eq!(thetas(&older), ["500000", "20000"]);
    assert_eq!(older.ropes[0].scaling, RopeScaling::Linear { factor: 8.0 });
    assert_eq!(older.ropes[1].scaling, RopeScaling::Default);
    let newer = gemma3(json!({"rope_parameters": {"sliding_attention": {"rope_theta": 3e4}}}));
    assert_eq!(thetas(&newer), ["1000000", "30000"]);
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
fn a_kind_of_scaling_that_is_not_known_is_refused_by_name() {
    let scaling = json!({"rope_scaling": {"type": "proportional", "factor": 4.0}});
    // OPT turns nothing.
    let turning = FAMILIES.iter().filter(|family| family.model_type != "opt");
    for family in turning {
        let error = with(family, &scaling).unwrap_err();
        assert!(matches!(error, EngineError::UnsupportedArchitecture(_)));
        assert!(error.to_string().contains("proportional"), "{error}");
    }
}
