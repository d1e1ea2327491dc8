//! The engine against results of the original PyTorch implementation.
//!
//! The results lie beside the repository, in `../shared/reference`, and are not part of it: without them these tests say
//! that they were not run. `SECATEUR_REFERENCE_DIR` names another place and makes their absence a failure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use safetensors::SafeTensors;
use secateur::engine::{
    BlockStatistics, Checkpoint, Decoder, Goal, LinearOutcome, MethodId, ModelPlan, Observer,
    PassProgress, Propagation, PruneOptions, PrunedCopy, Recipe, ResidentBlocks, Silent, Targets,
    TokenWindows, perplexity, prune,
};

use crate::engine::log_likelihood::logits_of;

const WANDA_50: (&str, &str) = ("wanda-50", "unstructured");
const TWO_OF_FOUR: (&str, &str) = ("wanda-2of4", "2:4");
const FOUR_OF_EIGHT: (&str, &str) = ("wanda-4of8", "4:8");

pub(crate) fn method(name: &str) -> MethodId {
    name.parse().unwrap()
}

/// Half of the weights, in this pattern.
pub(crate) fn half(pattern: &str) -> Goal {
    Goal::new(pattern.parse().unwrap(), 0.5)
}

/// The folder of reference results, if it is there.
pub(crate) fn reference_dir() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("SECATEUR_REFERENCE_DIR") {
        let dir = PathBuf::from(dir);
        assert!(
            dir.is_dir(),
            "SECATEUR_REFERENCE_DIR names {}",
            dir.display()
        );
        return Some(dir);
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference");
    if !dir.is_dir() {
        eprintln!(
            "NOT RUN: there are no reference results in {}",
            dir.display()
        );
        return None;
    }
    Some(dir)
}

/// A safetensors file, read by the format's own crate.
pub(crate) struct Tensors(BTreeMap<String, (Vec<usize>, Vec<u8>)>);

impl Tensors {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        Self(
            file.tensors()
                .into_iter()
                .map(|(name, t)| (name, (t.shape().to_vec(), t.data().to_vec())))
                .collect(),
        )
    }

    pub(crate) fn bytes(&self, name: &str) -> &[u8] {
        &self
            .0
            .get(name)
            .unwrap_or_else(|| panic!("no tensor {name}"))
            .1
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn f32(&self, name: &str) -> Vec<f32> {
        self.bytes(name)
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    }

    pub(crate) fn windows(&self, name: &str) -> TokenWindows {
        let ids = self
            .bytes(name)
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
            .map(|id| id as u32);
        TokenWindows::new(ids.collect(), self.0[name].0[1]).unwrap()
    }
}

/// A pruned copy of a model, with Σx² and outcomes by linear.
pub(crate) struct Pruned {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) sums: BTreeMap<String, Vec<f64>>,
    pub(crate) outcomes: BTreeMap<String, LinearOutcome>,
}

impl Pruned {
    /// The mean layer error.
    pub(crate) fn mean_error(&self) -> f64 {
        let errors = self
            .outcomes
            .values()
            .map(|outcome| outcome.layer_error.unwrap());
        errors.sum::<f64>() / self.outcomes.len() as f64
    }
}

pub(crate) fn prune_model(
    model: &Path,
    recipe: impl Into<Recipe>,
    targets: impl Into<Targets>,
    windows: &TokenWindows,
) -> Pruned {
    let dir = tempfile::tempdir().unwrap();
    let source = Checkpoint::open(model).unwrap();
    let decoder = Decoder::open(&source, &Device::Cpu).unwrap();
    let target = PrunedCopy::create(&source, dir.path()).unwrap();
    let options = PruneOptions {
        recipe: recipe.into(),
        targets: &targets.into(),
        windows: Some(windows),
        resume_state: None,
    };
    let mut sums = Sums {
        plan: decoder.plan(),
        by_linear: BTreeMap::new(),
    };
    let outcomes = prune(&decoder, &target, &options, &mut sums).unwrap();
    let names = decoder.plan().linears().map(|linear| linear.name.clone());
    let outcomes = names.zip(outcomes).collect();
    let sums = sums.by_linear;
    Pruned {
        dir,
        sums,
        outcomes,
    }
}

/// Keeps Σx² by linear.
struct Sums<'a> {
    plan: &'a ModelPlan,
    by_linear: BTreeMap<String, Vec<f64>>,
}

impl Observer for Sums<'_> {
    fn progress(&mut self, _progress: PassProgress) {}

    fn observed(&mut self, block: usize, seen: &BlockStatistics) {
        for linear in &self.plan.blocks[block].linears {
            if let Ok(sums) = seen.of(linear.input).sum_of_squares() {
                let sums = sums.sums().to_vec();
                self.by_linear.insert(linear.name.clone(), sums);
            }
        }
    }
}

pub(crate) fn perplexity_of(model: &Path, windows: &TokenWindows) -> f64 {
    let checkpoint = Checkpoint::open(model).unwrap();
    let decoder = Decoder::open(&checkpoint, &Device::Cpu).unwrap();
    let mut model = ResidentBlocks::new(&decoder, 0);
    perplexity(&mut model, windows, &mut Silent).unwrap().value
}

/// Weights of a linear of the pruned copy.
pub(super) fn weights(dir: &Path, linear: &str) -> Vec<f32> {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let weights = checkpoint.read(&format!("{linear}.weight"));
    weights.unwrap().into_f32()
}

/// Which of them are zero.
fn zeros(dir: &Path, linear: &str) -> Vec<bool> {
    weights(dir, linear).iter().map(|&w| w == 0.0).collect()
}

pub(super) fn assert_close(actual: f64, expected: f64, relative: f64, what: &str) {
    let off = (actual - expected).abs() / expected.abs();
    assert!(
        off <= relative,
        "{what}: {actual}, expected {expected}, off by {off:.2e}"
    );
}

fn check_masks_and_statistics(
    pruned: &Pruned,
    mask: impl Fn(&str) -> Vec<u8>,
    sum: impl Fn(&str) -> Vec<f64>,
    run: &str,
) {
    for (linear, sums) in &pruned.sums {
        let expected: Vec<bool> = mask(linear).iter().map(|&m| m == 1).collect();
        assert!(
            zeros(pruned.dir.path(), linear) == expected,
            "{run}: the mask of {linear} differs"
        );
        for (actual, expected) in sums.iter().zip(sum(linear)) {
            assert_close(
                *actual,
                expected,
                1e-5,
                &format!("{run}: statistic of {linear}"),
            );
        }
    }
}

fn check_tiny(name: &str) {
    let Some(dir) = reference_dir().map(|dir| dir.join(name)) else {
        return;
    };
    let windows = Tensors::read(&dir.join("calib_ids.safetensors")).windows("input_ids");
    let eval = Tensors::read(&dir.join("eval.safetensors")).windows("eval_ids");
    let (masks, scaler) = (
        Tensors::read(&dir.join("masks.safetensors")),
        Tensors::read(&dir.join("scaler_row.safetensors")),
    );
    let expected: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("reference.json")).unwrap()).unwrap();
    let ppl = |run: &str| expected["runs"][run]["ppl"].as_f64().unwrap();

    assert_close(
        perplexity_of(&dir, &eval),
        ppl("dense"),
        1e-4,
        "dense perplexity",
    );
    for (run, pattern) in [WANDA_50, TWO_OF_FOUR, FOUR_OF_EIGHT] {
        let pruned = prune_model(&dir, method("wanda"), half(pattern), &windows);
        let sum = |linear: &str| {
            let statistic = scaler.f32(&format!("{run}/{linear}"));
            statistic
                .into_iter()
                .map(|s| f64::from(s) * windows.len() as f64)
                .collect()
        };
        check_masks_and_statistics(
            &pruned,
            |linear| masks.bytes(&format!("{run}/{linear}")).to_vec(),
            sum,
            run,
        );
        assert_close(perplexity_of(pruned.dir.path(), &eval), ppl(run), 1e-4, run);
    }
    let magnitude = prune_model(&dir, method("magnitude"), half("unstructured"), &windows);
    // The reference zeroes one weight more per linear: all that are not above the threshold.
    assert_close(
        perplexity_of(magnitude.dir.path(), &eval),
        ppl("magnitude-50"),
        0.03,
        "magnitude-50",
    );
}

#[test]
fn tiny_random_gives_the_masks_statistics_and_perplexities_of_the_reference() {
    check_tiny("tiny-random");
}

#[test]
fn tiny_trained_gives_the_masks_statistics_and_perplexities_of_the_reference() {
    check_tiny("tiny-trained");
}

/// Mean loss over all predictions of all windows.
pub(super) fn mean_nll(model: &Path, windows: &TokenWindows) -> f64 {
    perplexity_of(model, windows).ln()
}

/// Logits of the first windows, `[n, vocab]` end to end, against those of transformers.
fn check_logits(model: &Path, windows: &TokenWindows, expected: &[f32]) {
    let checkpoint = Checkpoint::open(model).unwrap();
    let decoder = Decoder::open(&checkpoint, &Device::Cpu).unwrap();
    let sequences = windows.ids().chunks(windows.seq_len());
    let logits = sequences.flat_map(|ids| {
        let logits = logits_of(&decoder, ids).flatten_all().unwrap();
        logits.to_vec1::<f32>().unwrap()
    });
    let scale = expected.iter().fold(0f32, |top, x| top.max(x.abs()));
    for (actual, expected) in logits.zip(expected) {
        let off = (actual - expected).abs() / scale;
        assert!(off <= 1e-4, "logit {actual}, expected {expected}");
    }
}

/// A small model of a family with what transformers makes of it.
struct FamilyModel {
    dir: PathBuf,
    golden: Tensors,
    expected: serde_json::Value,
    windows: TokenWindows,
}

impl FamilyModel {
    fn read(family: &str) -> Option<Self> {
        let dir = reference_dir()?.join("families").join(family);
        let golden = Tensors::read(&dir.join("golden.safetensors"));
        let expected = std::fs::read(dir.join("golden.json")).unwrap();
        Some(Self {
            expected: serde_json::from_slice(&expected).unwrap(),
            windows: golden.windows("input_ids"),
            golden,
            dir,
        })
    }

    fn check_dense(&self) {
        let windows = &self.windows;
        check_logits(&self.dir, windows, &self.golden.f32("dense_logits"));
        let expected = self.expected["dense_mean_nll"].as_f64().unwrap();
        assert_close(mean_nll(&self.dir, windows), expected, 1e-5, "dense");
    }
}

fn check_family(family: &str) {
    let Some(model) = FamilyModel::read(family) else {
        return;
    };
    model.check_dense();
    let FamilyModel {
        dir: model,
        golden,
        expected,
        windows,
    } = model;
    for (run, pattern) in [WANDA_50, TWO_OF_FOUR] {
        let pruned = prune_model(&model, method("wanda"), half(pattern), &windows);
        let sum = |linear: &str| {
            golden
                .f32(&format!("{run}/sum_sq/{linear}"))
                .into_iter()
                .map(f64::from)
                .collect()
        };
        check_masks_and_statistics(
            &pruned,
            |linear| golden.bytes(&format!("{run}/{linear}")).to_vec(),
            sum,
            run,
        );
        let expected = expected["runs"][run]["mean_nll"].as_f64().unwrap();
        assert_close(mean_nll(pruned.dir.path(), &windows), expected, 1e-5, run);
    }
}

#[test]
fn llama_3_1_rotary_scaling_gives_the_results_of_the_reference() {
    check_family("llama31");
}

#[test]
fn biases_give_the_results_of_the_reference() {
    check_family("llama-bias");
}

#[test]
fn mistral_with_a_sliding_window_gives_the_results_of_the_reference() {
    check_family("mistral-sliding");
}

#[test]
fn qwen2_gives_the_results_of_the_reference() {
    check_family("qwen2");
}

#[test]
fn qwen3_gives_the_results_of_the_reference() {
    check_family("qwen3");
}

#[test]
fn mixtral_gives_the_dense_results_of_the_reference() {
    check_experts("mixtral");
}

#[test]
fn qwen3_moe_gives_the_dense_results_of_the_reference() {
    check_experts("qwen3-moe");
}

/// Of models with experts there are results of the dense model only: logits, loss, and how many tokens each expert reads.
fn check_experts(family: &str) {
    let Some(model) = FamilyModel::read(family) else {
        return;
    };
    model.check_dense();
    let reap = model.dir.join("../../methods/reap.json");
    let reap: serde_json::Value = serde_json::from_slice(&std::fs::read(reap).unwrap()).unwrap();
    let recipe = Recipe {
        propagation: Propagation::Dense,
        ..method("wanda").into()
    };
    let pruned = prune_model(&model.dir, recipe, half("2:4"), &model.windows);
    let checkpoint = Checkpoint::open(&model.dir).unwrap();
    let decoder = Decoder::open(&checkpoint, &Device::Cpu).unwrap();
    for (index, block) in decoder.plan().blocks.iter().enumerate() {
        let experts = block.feed_forward.mlps.all().iter();
        let tokens = experts.map(|mlp| {
            let down = block.linear(mlp.down);
            pruned.outcomes[&down.name].input_tokens
        });
        let tokens: Vec<u64> = tokens.collect();
        assert_eq!(
            serde_json::json!(tokens),
            reap[family]["blocks"][index]["tokens_per_expert"]
        );
    }
}

#[test]
fn phi3_with_fused_linears_gives_the_results_of_the_reference() {
    check_family("phi3");
}

#[test]
fn gemma2_gives_the_results_of_the_reference() {
    check_family("gemma2");
}

#[test]
fn gemma3_gives_the_results_of_the_reference() {
    check_family("gemma3");
}

#[test]
fn gpt_neox_gives_the_results_of_the_reference() {
    check_family("gpt-neox");
}

#[test]
fn opt_gives_the_results_of_the_reference() {
    check_family("opt");
}
