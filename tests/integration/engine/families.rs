//! A model of every family, through the service and by the command line.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use secateur::engine::ModelPlan;
use secateur::engine::model::ARCHITECTURES;
use serde_json::{Value, json};

use crate::support::command_line;
use crate::support::test_app::TestApp;

fn bundled_file(name: &str) -> PathBuf {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    bundled.join(name)
}

/// The bundled model as one of another architecture, in a folder of that name.
fn write_model(models: &Path, architecture: &str) {
    let model = models.join(architecture);
    fs::create_dir_all(&model).unwrap();
    for entry in fs::read_dir(bundled_file("")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), model.join(entry.file_name())).unwrap();
    }
    let path = model.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["architectures"] = json!([architecture]);
    match architecture {
        "LlamaForCausalLM" => {}
        "MistralForCausalLM" => {
            config["model_type"] = "mistral".into();
            config["sliding_window"] = 24.into();
        }
        "Qwen2ForCausalLM" => {
            config["model_type"] = "qwen2".into();
            add_biases(&model.join("model.safetensors"));
        }
        other => {
            config["model_type"] = model_type(other).into();
            config["ffn_dim"] = config["intermediate_size"].clone();
            config["num_local_experts"] = 4.into();
            config["num_experts_per_tok"] = 2.into();
            config["moe_intermediate_size"] = 48.into();
            write_random_weights(&model.join("model.safetensors"), &config, 0.05);
        }
    }
    fs::write(path, config.to_string()).unwrap();
}

/// Of the architectures whose models have weights of another shape than the bundled one.
fn model_type(architecture: &str) -> &'static str {
    match architecture {
        "Qwen3ForCausalLM" => "qwen3",
        "Qwen3MoeForCausalLM" => "qwen3_moe",
        "MixtralForCausalLM" => "mixtral",
        "Phi3ForCausalLM" => "phi3",
        "Olmo2ForCausalLM" => "olmo2",
        "Gemma2ForCausalLM" => "gemma2",
        "Gemma3ForCausalLM" => "gemma3_text",
        "GPTNeoXForCausalLM" => "gpt_neox",
        "OPTForCausalLM" => "opt",
        other => panic!("no model of {other}"),
    }
}

/// All tensors of a model with this configuration, at random up to `size`.
pub(super) fn write_random_weights(path: &Path, config: &Value, size: f32) {
    let plan = ModelPlan::parse(config.to_string().as_bytes()).unwrap();
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let tensors = plan.tensors().map(|(name, shape)| {
        let n: usize = shape.iter().product();
        let values = (0..n).flat_map(|_| (size * random()).to_le_bytes());
        (name, shape, values.collect::<Vec<u8>>())
    });
    let tensors: Vec<_> = tensors
        .filter(|(name, ..)| !(plan.head.is_tied && *name == plan.head.projection))
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Gives queries, keys and values biases of 1.
fn add_biases(path: &Path) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let one_bf16 = 0x3f80_u16.to_le_bytes();
    let biases: Vec<_> = file
        .tensors()
        .into_iter()
        .filter(|(name, _)| {
            ["q_proj", "k_proj", "v_proj"]
                .iter()
                .any(|part| name.contains(part))
        })
        .map(|(name, weight)| {
            let rows = weight.shape()[0];
            (
                name.replace(".weight", ".bias"),
                rows,
                one_bf16.repeat(rows),
            )
        })
        .collect();
    let added = biases.iter().map(|(name, rows, bias)| {
        let view = TensorView::new(Dtype::BF16, vec![*rows], bias).unwrap();
        (name.clone(), view)
    });
    let tensors: Vec<_> = file.tensors().into_iter().chain(added).collect();
    let written = safetensors::serialize(tensors, None).unwrap();
    fs::write(path, written).unwrap();
}

#[tokio::test]
async fn a_model_of_every_family_is_pruned_and_measured() {
    let app = TestApp::real(|models| {
        for architecture in ARCHITECTURES {
            write_model(models, architecture);
        }
    })
    .await;
    let listed = app.get("/v1/capabilities").await.json();
    assert_eq!(listed["architectures"], json!(ARCHITECTURES));
    for architecture in ARCHITECTURES {
        let body = json!({
            "model": {"source": "local", "id": architecture}, "sparsity": 0.5,
            "calibration": {"dataset": "demo", "n_samples": 8, "seq_len": 64},
            "evaluation": {"perplexity": ["demo"], "seq_len": 64, "windows": 8},
        });
        let job = app.post("/v1/jobs", &body).await.json();
        let id = job["id"].as_str().unwrap();
        app.job_with_status(id, "succeeded").await;
        let artifact = format!("/v1/jobs/{id}/artifacts/secateur.json");
        let manifest = app.get(&artifact).await.json();
        assert_eq!(manifest["model"]["architecture"], architecture);
        let perplexity = &manifest["results"]["perplexity"][0];
        for side in ["before", "after"] {
            let value = perplexity[side].as_f64().unwrap();
            // A little worse than a guess at most: some models have weights at random.
            assert!(
                value > 1.0 && value < 1000.0,
                "{architecture}: {perplexity}"
            );
        }

        let out = app.home().join(format!("{architecture}-pruned"));
        let by_hand = command_line::prune(&[
            "--model",
            app.home()
                .join("models")
                .join(architecture)
                .to_str()
                .unwrap(),
            "--sparsity",
            "0.5",
            "--calibration-file",
            bundled_file("calibration.txt").to_str().unwrap(),
            "--eval-file",
            bundled_file("test.txt").to_str().unwrap(),
            "--n-samples",
            "8",
            "--seq-len",
            "64",
            "--eval-seq-len",
            "64",
            "--eval-windows",
            "8",
            "--out",
            out.to_str().unwrap(),
        ]);
        assert_eq!(by_hand["digest"], manifest["digest"], "{architecture}");
    }
    app.stop().await;
}
