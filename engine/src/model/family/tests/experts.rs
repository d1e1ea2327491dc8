//! Plans of models with experts.

use super::*;

#[test]
fn experts_are_linears_with_inputs_of_their_own() {
    let plan = with(&mixtral::FAMILY, &json!({})).unwrap();
    let block = &plan.blocks[1];
    let linears: Vec<_> = block.linears[7..10]
        .iter()
        .map(|l| (l.name.as_str(), l.d_out, l.d_in, l.input.0))
        .collect();
    let name = |linear| format!("model.layers.1.block_sparse_moe.experts.1.{linear}");
    let [w1, w3, w2] = ["w1", "w3", "w2"].map(name);
    assert_eq!(
        linears,
        [(&*w1, 176, 64, 4), (&*w3, 176, 64, 4), (&*w2, 64, 176, 5)]
    );
    assert_eq!((block.linears.len(), block.inputs.len()), (16, 10));
    let router = "model.layers.1.block_sparse_moe.gate.weight";
    let mut tensors = plan.tensors();
    assert!(tensors.any(|(name, shape)| name == router && shape == [4, 64]));
    // Attention, two of four experts, and the router.
    let attention = 2 * 64 * (64 + 32);
    assert_eq!(block.weights(), attention + 4 * 3 * 64 * 176);
    assert_eq!(
        block.weights_per_token(),
        attention + 2 * 3 * 64 * 176 + 4 * 64
    );
    // An expert's output is not the whole of what is added to the residual stream.
    let residual: Vec<_> = block.residual_linears().map(|l| l.name.as_str()).collect();
    assert_eq!(residual, ["model.layers.1.self_attn.o_proj"]);
}

#[test]
fn experts_have_the_settings_of_their_class() {
    let router = |family, keys| {
        let plan = with(family, &keys).unwrap();
        let router = plan.blocks[0].feed_forward.mlps.router().unwrap().clone();
        (router.top_k, router.renormalises)
    };
    let (mixtral, qwen) = (&mixtral::FAMILY, &qwen::QWEN3_MOE);
    assert_eq!(router(mixtral, json!({"norm_topk_prob": false})), (2, true));
    assert_eq!(router(qwen, json!({})), (2, false));
    assert_eq!(router(qwen, json!({"norm_topk_prob": true})), (2, true));
    let older = json!({"num_local_experts": null, "num_experts": 16, "num_experts_per_tok": null});
    assert_eq!(
        (router(mixtral, older.clone()).0, router(qwen, older).0),
        (2, 8)
    );
    assert_eq!(windows(&with(mixtral, &json!({})).unwrap()), [None; 2]);
    let window = json!({"sliding_window": 16});
    assert_eq!(windows(&with(mixtral, &window).unwrap()), [Some(16); 2]);
    assert_eq!(windows(&with(qwen, &window).unwrap()), [None; 2]);
    let on = json!({"sliding_window": 16, "use_sliding_window": true, "max_window_layers": 1});
    assert_eq!(windows(&with(qwen, &on).unwrap()), [Some(16); 2]);
}

#[test]
fn qwen3_moe_has_experts_in_the_blocks_that_are_said() {
    let routed = |keys: Value| -> Vec<bool> {
        let mut config = json!({"num_hidden_layers": 5});
        let keys = keys.as_object().unwrap().clone();
        config.as_object_mut().unwrap().extend(keys);
        let plan = with(&qwen::QWEN3_MOE, &config).unwrap();
        let mlps = plan.blocks.iter().map(|block| &block.feed_forward.mlps);
        mlps.map(|mlps| mlps.router().is_some()).collect()
    };
    assert_eq!(routed(json!({})), [true; 5]);
    let every_second = json!({"decoder_sparse_step": 2});
    assert_eq!(routed(every_second), [false, true, false, true, false]);
    let but_some = json!({"decoder_sparse_step": 2, "mlp_only_layers": [3, 9]});
    assert_eq!(routed(but_some), [false, true, false, false, false]);
}

#[test]
fn impossible_experts_are_refused_by_the_keys_that_say_so() {
    for family in [&mixtral::FAMILY, &qwen::QWEN3_MOE] {
        for (keys, complaint) in [
            (
                json!({"num_local_experts": null}),
                "num_local_experts is missing",
            ),
            (
                json!({"num_experts": 8}),
                "num_local_experts is 4 and num_experts is 8",
            ),
            (json!({"num_local_experts": 0}), "num_local_experts is 0"),
            (
                json!({"num_experts_per_tok": 5}),
                "5 experts of a token, of 4",
            ),
            (
                json!({"intermediate_size": 1 << 23, "moe_intermediate_size": 1 << 23}),
                "wider than",
            ),
            (
                json!({"num_local_experts": 1024, "num_hidden_layers": 65}),
                "66560 experts in 65 blocks",
            ),
            (
                json!({"layer_types": ["full_attention", "full_attention"]}),
                "layer_types",
            ),
        ] {
            let error = with(family, &keys).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }
    for keys in [
        json!({"decoder_sparse_step": 0}),
        json!({"mlp_only_layers": [-1]}),
    ] {
        assert!(with(&qwen::QWEN3_MOE, &keys).is_err(), "{keys}");
    }
}
