//! The engine as a library: resumed work, untouched tensors, an independent implementation, sick models.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_transformers::models::llama::{Cache, Llama, LlamaConfig};
use secateur::engine::model::BlockContext;
use secateur::engine::ops::TokenLayout;
use secateur::engine::{
    Checkpoint, Decoder, EngineError, LinearOutcome, Observer, PassProgress, PruneOptions,
    PrunedCopy, Result, ResumeState, Silent, Statistic, TokenWindows, observe, prune,
};

use crate::engine::reference::{Tensors, half, method, prune_model, reference_dir};
use crate::support::synthetic::{Shape, write_model};

const TINY: Shape = Shape {
    hidden: 64,
    intermediate: 96,
    blocks: 5,
    vocab: 128,
};

fn tiny_model() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path(), TINY);
    dir
}

fn tiny_windows() -> TokenWindows {
    TokenWindows::new((0..32 * 80).map(|i| i * i % 127).collect(), 32).unwrap()
}

/// Ends the pass before a block.
struct StopAt(usize, Option<usize>);

impl Observer for StopAt {
    fn progress(&mut self, progress: PassProgress) {
        self.0 = self.0.max(progress.blocks);
    }

    fn resumed(&mut self, block: usize, _total_blocks: usize) {
        self.1 = Some(block);
    }

    fn needs_state(&self, _blocks: usize) -> bool {
        true
    }

    fn should_stop(&self) -> bool {
        self.0 >= 3 && self.1.is_none()
    }
}

/// Counts the tokens that went through blocks.
#[derive(Default)]
struct Count(u64);

impl Observer for Count {
    fn progress(&mut self, progress: PassProgress) {
        self.0 = progress.tokens;
    }
}

fn prune_with(
    model: &Path,
    out: &Path,
    state: &ResumeState,
    observer: &mut dyn Observer,
) -> Result<Vec<LinearOutcome>> {
    let source = Checkpoint::open(model)?;
    let decoder = Decoder::open(&source, &Device::Cpu)?;
    let target = match PrunedCopy::reopen(&source, out)? {
        Some(copy) => copy,
        None => PrunedCopy::create(&source, out)?,
    };
    let windows = tiny_windows();
    let options = PruneOptions {
        recipe: method("wanda").into(),
        targets: &half("unstructured").into(),
        windows: Some(&windows),
        resume_state: Some(state),
    };
    prune(&decoder, &target, &options, observer)
}

#[test]
fn work_that_was_stopped_goes_on_at_its_block_and_gives_the_same_bytes() {
    let (model, work) = (tiny_model(), tempfile::tempdir().unwrap());
    let whole = prune_model(
        model.path(),
        method("wanda"),
        half("unstructured"),
        &tiny_windows(),
    );
    let state = ResumeState::open(&work.path().join("state"), "same", "f32").unwrap();
    let out = work.path().join("out");
    std::fs::create_dir(&out).unwrap();

    let stopped = prune_with(model.path(), &out, &state, &mut StopAt(0, None));
    assert!(matches!(stopped, Err(EngineError::Stopped)));
    let mut observer = StopAt(0, None);
    prune_with(model.path(), &out, &state, &mut observer).unwrap();
    assert_eq!(observer.1, Some(3));
    let bytes = |dir: &Path| std::fs::read(dir.join("model.safetensors")).unwrap();
    assert!(bytes(&out) == bytes(whole.dir.path()));
}

#[test]
fn a_block_is_observed_while_its_inputs_are_written() {
    let (model, work) = (tiny_model(), tempfile::tempdir().unwrap());
    let state = ResumeState::open(work.path(), "same", "f32").unwrap();
    // Nothing can be written there.
    std::fs::create_dir(work.path().join("activations-1.partial")).unwrap();
    let (out, mut count) = (tempfile::tempdir().unwrap(), Count::default());
    let failed = prune_with(model.path(), out.path(), &state, &mut count);
    assert!(matches!(failed, Err(EngineError::Io { .. })), "{failed:?}");
    // Both passes of the first block and the first one of the second, whose output would take the place of the inputs.
    assert_eq!(count.0, 3 * tiny_windows().n_tokens() as u64);
}

#[test]
fn the_inputs_of_the_last_block_are_kept_in_any_case() {
    let (model, work) = (tiny_model(), tempfile::tempdir().unwrap());
    let state = ResumeState::open(work.path(), "same", "f32").unwrap();
    let out = tempfile::tempdir().unwrap();
    prune_with(model.path(), out.path(), &state, &mut Silent).unwrap();
    assert_eq!(state.next_block(), Some(TINY.blocks - 1));
}

#[test]
fn a_dense_pass_sees_the_inputs_of_the_first_block_as_pruning_does() {
    let model = tiny_model();
    let source = Checkpoint::open(model.path()).unwrap();
    let decoder = Decoder::open(&source, &Device::Cpu).unwrap();
    let windows = tiny_windows();
    let pruned = prune_model(
        model.path(),
        method("wanda"),
        half("unstructured"),
        &windows,
    );
    let mut equal = Vec::new();
    let wanted = &[Statistic::SumOfSquares];
    observe(
        &decoder,
        &windows,
        wanted,
        &mut Silent,
        &mut |block, seen| {
            let linears = &decoder.plan().blocks[block].linears;
            equal.push(linears.iter().all(|linear| {
                let sums = seen.of(linear.input).sum_of_squares().unwrap().sums();
                sums == pruned.sums[&linear.name]
            }));
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(equal, [true, false, false, false, false]);
}

#[test]
fn a_state_of_other_work_is_ignored() {
    let (model, work) = (tiny_model(), tempfile::tempdir().unwrap());
    let state = ResumeState::open(work.path(), "one", "f32").unwrap();
    let out = tempfile::tempdir().unwrap();
    assert!(prune_with(model.path(), out.path(), &state, &mut StopAt(0, None)).is_err());
    assert!(state.next_block().is_some());
    let another = ResumeState::open(work.path(), "another", "f32").unwrap();
    assert_eq!(another.next_block(), None);
    let computed_otherwise = ResumeState::open(work.path(), "one", "f32 cuda").unwrap();
    assert_eq!(computed_otherwise.next_block(), None);
    // Activations that are not those of the state: cut off by a crash of the machine, say.
    let activations = work.path().join("activations-3.bin");
    std::fs::write(&activations, &std::fs::read(&activations).unwrap()[..100]).unwrap();
    let mut observer = StopAt(0, None);
    assert!(prune_with(model.path(), out.path(), &state, &mut observer).is_err());
    assert_eq!(observer.1, None);
}

#[test]
fn what_is_not_pruned_stays_byte_identical() {
    let model = tiny_model();
    let pruned = prune_model(model.path(), method("wanda"), half("2:4"), &tiny_windows());
    let file = |dir: &Path| Tensors::read(&dir.join("model.safetensors"));
    let (dense, pruned) = (file(model.path()), file(pruned.dir.path()));
    for name in dense.names() {
        let (dense, pruned) = (dense.bytes(name), pruned.bytes(name));
        if name.contains("proj") {
            let words = dense.chunks_exact(4).zip(pruned.chunks_exact(4));
            assert!(
                words.clone().all(|(d, p)| p == d || p == [0; 4]),
                "{name}: a kept weight changed"
            );
            assert!(
                words.filter(|(_, p)| *p == [0; 4]).count() * 2 == dense.len() / 4,
                "{name}"
            );
        } else {
            assert!(dense == pruned, "{name} changed");
        }
    }
}

/// Logits of the last token by our own decoder.
fn last_logits(model: &Path, ids: &[u32]) -> Vec<f32> {
    let checkpoint = Checkpoint::open(model).unwrap();
    let decoder = Decoder::open(&checkpoint, &Device::Cpu).unwrap();
    let ropes = decoder.ropes(ids.len()).unwrap();
    let context = BlockContext {
        ropes: &ropes,
        layout: TokenLayout::Windows(ids.len()),
    };
    let mut x = decoder.embed(ids, context.layout).unwrap();
    for index in 0..decoder.plan().blocks.len() {
        x = decoder.block(index).unwrap().forward(&x, &context).unwrap();
    }
    let last = x.narrow(0, ids.len() - 1, 1).unwrap();
    decoder
        .head()
        .unwrap()
        .logits(&last)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// Logits of the last token by candle-transformers.
fn independent_logits(model: &Path, ids: &[u32]) -> Vec<f32> {
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(model.join("config.json")).unwrap()).unwrap();
    let mut json = json;
    // It does not know the newer spelling of rotary settings.
    if let Some(parameters) = json.get("rope_parameters").cloned() {
        json["rope_theta"] = parameters["rope_theta"].clone();
        if parameters["rope_type"] == "llama3" {
            json["rope_scaling"] = parameters;
        }
    }
    let config: LlamaConfig = serde_json::from_value(json).unwrap();
    let config = config.into_config(false);
    let bytes = std::fs::read(model.join("model.safetensors")).unwrap();
    let weights =
        candle_nn::VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu).unwrap();
    let llama = Llama::load(weights, &config).unwrap();
    let mut cache = Cache::new(false, DType::F32, &config, &Device::Cpu).unwrap();
    let input = Tensor::new(ids, &Device::Cpu)
        .unwrap()
        .unsqueeze(0)
        .unwrap();
    llama
        .forward(&input, 0, &mut cache)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

pub(crate) fn assert_same_logits(model: &Path, ids: &[u32]) {
    let (ours, theirs) = (last_logits(model, ids), independent_logits(model, ids));
    let worst = ours
        .iter()
        .zip(&theirs)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    eprintln!(
        "{}: last-token logits differ by at most {worst:.2e}",
        model.display()
    );
    assert!(worst <= 1e-4, "logits differ by {worst}");
}

#[test]
fn logits_are_those_of_an_independent_implementation() {
    let model = tiny_model();
    assert_same_logits(model.path(), &tiny_windows().ids()[..100]);
    let Some(reference) = reference_dir() else {
        return;
    };
    let ids: Vec<u32> = (0..96).map(|i| i * 37 % 256).collect();
    for name in ["tiny-random", "tiny-trained", "families/llama31"] {
        assert_same_logits(&reference.join(name), &ids);
    }
}

#[test]
fn a_model_with_nan_fails_with_block_and_linear_named() {
    let model = tiny_model();
    let path = model.path().join("model.safetensors");
    let offset = {
        let bytes = std::fs::read(&path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensor = file.tensor("model.layers.2.mlp.up_proj.weight").unwrap();
        tensor.data().as_ptr() as usize - bytes.as_ptr() as usize
    };
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[offset..offset + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let source = Checkpoint::open(model.path()).unwrap();
    let decoder = Decoder::open(&source, &Device::Cpu).unwrap();
    let out = tempfile::tempdir().unwrap();
    let target = PrunedCopy::create(&source, out.path()).unwrap();
    for (name, place) in [
        ("wanda", "model.layers.2.mlp.down_proj"),
        ("magnitude", "model.layers.2.mlp.up_proj"),
    ] {
        let windows = tiny_windows();
        let options = PruneOptions {
            recipe: method(name).into(),
            targets: &half("unstructured").into(),
            windows: Some(&windows),
            resume_state: None,
        };
        let error = prune(&decoder, &target, &options, &mut Silent).unwrap_err();
        assert!(
            matches!(&error, EngineError::NonFinite { place: named, .. } if named == place),
            "{error}"
        );
    }
}
