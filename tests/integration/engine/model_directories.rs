//! Model directories as people have them: what transformers makes of each, or a refusal that names the file or tensor.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use candle_core::Device;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};
use secateur::engine::{
    Checkpoint, Decoder, EngineError, PrunedCopy, ResidentBlocks, Result, Silent, TokenWindows,
    perplexity,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::command_line::{prune, secateur};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
const NORM: &str = "model.norm.weight";

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A copy of the bundled model, whose embedding is tied.
fn model() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_model(dir.path());
    dir
}

fn copy_model(to: &Path) {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn read(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    tensors
        .map(|(name, view)| {
            (
                name,
                (view.dtype(), view.shape().to_vec(), view.data().to_vec()),
            )
        })
        .collect()
}

fn write(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    fs::write(path, serialize(views, None).unwrap()).unwrap();
}

/// The model with other tensors in its file.
fn with(edit: impl FnOnce(&mut Tensors)) -> TempDir {
    let dir = model();
    let path = dir.path().join(WEIGHTS);
    let mut tensors = read(&path);
    edit(&mut tensors);
    write(&path, &tensors);
    dir
}

/// What a directory holds, sorted.
fn names(dir: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// Turns every number around.
fn negate(bytes: &[u8]) -> Vec<u8> {
    let numbers = bytes.chunks(2);
    numbers
        .flat_map(|number| [number[0], number[1] ^ 0x80])
        .collect()
}

fn set_config(dir: &Path, key: &str, value: Value) {
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(path, config.to_string()).unwrap();
}

fn measure(dir: &Path) -> Result<f64> {
    let checkpoint = Checkpoint::open(dir)?;
    let decoder = Decoder::open(&checkpoint, &Device::Cpu)?;
    let windows = TokenWindows::new((0..4 * 32).map(|i| i * i % 700).collect(), 32)?;
    let mut blocks = ResidentBlocks::new(&decoder, 0);
    Ok(perplexity(&mut blocks, &windows, &mut Silent)?.value)
}

fn refusal(dir: &Path) -> String {
    measure(dir).unwrap_err().to_string()
}

fn same(a: f64, b: f64) -> bool {
    (a - b).abs() < f64::EPSILON * a.abs()
}

#[test]
fn one_file_goes_before_an_index_of_other_shards() {
    let dir = model();
    let dense = measure(dir.path()).unwrap();
    for index in [
        r#"{"weight_map": {"x": "model-00001-of-00009.safetensors"}}"#,
        "{",
    ] {
        fs::write(dir.path().join(INDEX), index).unwrap();
        assert!(same(measure(dir.path()).unwrap(), dense));
    }
    fs::write(dir.path().join("pytorch_model.bin.index.json"), "{}").unwrap();
    let copy = tempfile::tempdir().unwrap();
    PrunedCopy::create(&Checkpoint::open(dir.path()).unwrap(), copy.path()).unwrap();
    assert_eq!(names(copy.path()), names(model().path()));
}

#[test]
fn of_two_shards_with_a_tensor_the_index_says_which_one_counts() {
    let dir = model();
    let dense = measure(dir.path()).unwrap();
    let base = read(&dir.path().join(WEIGHTS));
    let mut turned = base.clone();
    let norm = &mut turned.get_mut(NORM).unwrap().2;
    *norm = negate(norm);
    fs::remove_file(dir.path().join(WEIGHTS)).unwrap();
    write(&dir.path().join("a.safetensors"), &turned);
    write(&dir.path().join("b.safetensors"), &base);
    let index = |place: &dyn Fn(&str) -> Option<&'static str>| {
        let map = base
            .keys()
            .filter_map(|name| Some((name.clone(), place(name)?.into())));
        let map: serde_json::Map<String, Value> = map.collect();
        fs::write(
            dir.path().join(INDEX),
            json!({"weight_map": map}).to_string(),
        )
        .unwrap();
    };
    for (shard, is_dense) in [("a.safetensors", false), ("b.safetensors", true)] {
        index(&|name| Some(if name == NORM { shard } else { "a.safetensors" }));
        assert_eq!(
            same(measure(dir.path()).unwrap(), dense),
            is_dense,
            "{shard}"
        );
    }
    let parameters = |dir: &Path| Checkpoint::open(dir).unwrap().parameters();
    assert_eq!(parameters(dir.path()), parameters(model().path()));
    // Of two shards that the index names, neither is said to hold the norm.
    index(&|name| match name {
        NORM => None,
        EMBEDDING => Some("b.safetensors"),
        _ => Some("a.safetensors"),
    });
    assert!(refusal(dir.path()).contains(NORM));
}

#[test]
fn a_head_of_its_own_is_used_though_the_configuration_ties_it() {
    let own = with(|tensors| {
        let (dtype, shape, bytes) = tensors[EMBEDDING].clone();
        tensors.insert(HEAD.to_owned(), (dtype, shape, negate(&bytes)));
    });
    let tied = measure(own.path()).unwrap();
    assert!(!same(tied, measure(model().path()).unwrap()));
    set_config(own.path(), "tie_word_embeddings", false.into());
    assert!(same(tied, measure(own.path()).unwrap()));

    let equal = with(|tensors| {
        let embedding = tensors[EMBEDDING].clone();
        tensors.insert(HEAD.to_owned(), embedding);
    });
    let expected = measure(model().path()).unwrap();
    assert!(same(measure(equal.path()).unwrap(), expected));
    let narrow = with(|tensors| {
        let norm = tensors[NORM].clone();
        tensors.insert(HEAD.to_owned(), norm);
    });
    assert!(refusal(narrow.path()).contains(HEAD));
}

#[test]
fn tensors_that_the_class_does_not_read_are_named() {
    let attention = "model.layers.0.self_attn";
    for name in [
        format!("{attention}.q_proj.weight_scale"),
        format!("{attention}.q_proj.lora_A.weight"),
        format!("{attention}.q_norm.weight"),
        format!("{attention}.q_proj.bias"),
        "model.layers.4.mlp.up_proj.weight".to_owned(),
        "visual.patch_embed.weight".to_owned(),
    ] {
        let dir = with(|tensors| {
            let norm = tensors[NORM].clone();
            tensors.insert(name.clone(), norm);
        });
        let error = measure(dir.path()).unwrap_err();
        assert!(
            matches!(&error, EngineError::UnreadTensor(read) if *read == name),
            "{error}"
        );
    }
    let derived = with(|tensors| {
        let norm = tensors[NORM].clone();
        tensors.insert(format!("{attention}.rotary_emb.inv_freq"), norm);
    });
    assert!(same(
        measure(derived.path()).unwrap(),
        measure(model().path()).unwrap()
    ));
}

#[test]
fn an_adapter_beside_the_model_is_refused() {
    let dir = model();
    fs::write(dir.path().join("adapter_config.json"), "{}").unwrap();
    assert!(refusal(dir.path()).contains("adapter_config.json"));
}

#[test]
fn a_pointer_of_git_lfs_is_named() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    for file in [WEIGHTS, "config.json"] {
        let dir = model();
        fs::write(dir.path().join(file), pointer).unwrap();
        assert!(refusal(dir.path()).contains("git lfs pull"), "{file}");
    }
    let sharded = model();
    fs::remove_file(sharded.path().join(WEIGHTS)).unwrap();
    fs::write(sharded.path().join(INDEX), pointer).unwrap();
    assert!(refusal(sharded.path()).contains("git lfs pull"));
    let tokens = model();
    fs::write(tokens.path().join("tokenizer.json"), pointer).unwrap();
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/test.txt");
    let [path, text] = [tokens.path(), &text].map(|path| path.to_str().unwrap());
    let output = secateur(&["evaluate", "--model", path, "--eval-file", text]);
    let line = String::from_utf8_lossy(&output.stderr);
    assert!(
        line.starts_with("error: tokenizer_invalid") && line.contains("git lfs pull"),
        "{line}"
    );
}

#[test]
fn a_directory_without_weights_says_what_it_has_instead() {
    let dir = model();
    let weights = dir.path().join(WEIGHTS);
    fs::rename(&weights, dir.path().join("consolidated.safetensors")).unwrap();
    assert!(refusal(dir.path()).contains("it has consolidated.safetensors"));
}

/// Prunes by magnitude, which reads no text.
fn prune_quickly(model: &Path, out: &Path) -> std::process::Output {
    let [model, out] = [model, out].map(|path| path.to_str().unwrap());
    let method = ["--method", "magnitude", "--sparsity", "0.5"];
    secateur(&[&["prune", "--model", model, "--out", out], &method[..]].concat())
}

#[test]
fn a_linked_directory_is_followed_and_a_linked_file_is_refused_at_the_beginning() {
    let (dir, work) = (model(), tempfile::tempdir().unwrap());
    let linked = work.path().join("linked");
    symlink(dir.path(), &linked).unwrap();
    assert!(
        prune_quickly(&linked, &work.path().join("out"))
            .status
            .success()
    );
    assert!(work.path().join("out/tokenizer.json").is_file());

    let farm = work.path().join("farm");
    fs::create_dir(&farm).unwrap();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        symlink(entry.path(), farm.join(entry.file_name())).unwrap();
    }
    let output = prune_quickly(&farm, &work.path().join("no"));
    let line = String::from_utf8_lossy(&output.stderr);
    assert!(
        line.starts_with("error: linked_file: calibration.txt is a link"),
        "{line}"
    );
    assert!(!work.path().join("no").try_exists().unwrap());
}

#[test]
fn code_goes_along_with_a_warning_and_odd_names_stay_behind() {
    let (dir, work) = (model(), tempfile::tempdir().unwrap());
    set_config(
        dir.path(),
        "auto_map",
        json!({"AutoModelForCausalLM": "modeling_x.X"}),
    );
    for name in [
        "modeling_x.py",
        "README (1).md",
        "lies mich…md",
        "100%.md",
        "a\"b.md",
    ] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    let out = work.path().join("out");
    let manifest = prune(&[
        "--model",
        dir.path().to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
        "--method",
        "magnitude",
        "--sparsity",
        "0.5",
    ]);
    let files = manifest["files"].as_array().unwrap().iter();
    let names: Vec<_> = files.map(|file| file["name"].as_str().unwrap()).collect();
    assert!(
        names.contains(&"modeling_x.py") && names.contains(&"README (1).md"),
        "{names:?}"
    );
    assert!(
        !names.iter().any(|name| name.contains(['%', '"', '…'])),
        "{names:?}"
    );
    assert_eq!(manifest["results"]["warnings"][0]["code"], "code_not_run");
}
