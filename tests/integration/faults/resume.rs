//! Jobs that go on after something went wrong between attempts.

use std::fs;
use std::path::Path;

use secateur::domain::job::progress::{Phase, Step};
use secateur::domain::report::manifest::Manifest;
use secateur::engine::{Propagation, Pruning, PruningMethod, Recipe, SavedState};
use secateur::pipeline::{
    CalibrationPlan, DeviceName, EvaluationPlan, Listener, ModelSource, PipelineError, Plan,
    Workspace, prune_job,
};
use tempfile::TempDir;

use crate::engine::reference::{half, method};
use crate::support::synthetic::{Shape, write_ids, write_model};

const SHAPE: Shape = Shape {
    hidden: 64,
    intermediate: 96,
    blocks: 5,
    vocab: 128,
};

/// Stops before a block, if told to; remembers where the work went on.
#[derive(Default)]
struct Witness {
    stop_after: Option<u64>,
    tokens: u64,
    resumed_at: Option<usize>,
    is_portable: bool,
    received: Option<std::path::PathBuf>,
    saved: Vec<SavedState>,
}

impl Listener for Witness {
    fn phase(&mut self, _phase: Phase) {}

    fn progress(&mut self, step: Step) {
        self.tokens = step.finished;
    }

    fn resumed(&mut self, block: usize, _blocks: usize) {
        self.resumed_at = Some(block);
    }

    fn needs_state(&self, _blocks: usize) -> bool {
        true
    }

    fn saved(&mut self, state: SavedState) {
        self.saved.push(state);
    }

    fn should_stop(&self) -> bool {
        self.stop_after.is_some_and(|tokens| self.tokens > tokens)
    }
}

struct Work {
    dir: TempDir,
    recipe: Recipe,
}

impl Work {
    fn new() -> Self {
        Self::with(method("wanda").into())
    }

    fn with(recipe: Recipe) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("model")).unwrap();
        write_model(&dir.path().join("model"), SHAPE);
        write_ids(&dir.path().join("ids.safetensors"), 4, 32, SHAPE.vocab);
        Self { dir, recipe }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn attempt(&self, scratch: &str, witness: &mut Witness) -> Result<Manifest, PipelineError> {
        let plan = Plan {
            model: ModelSource::Directory {
                id: "m".to_owned(),
                path: self.path("model"),
            },
            pruning: Pruning {
                method: PruningMethod::Linears(self.recipe.method),
                group: self.recipe.group,
                refine: self.recipe.refine,
                refit: self.recipe.refit,
                propagation: self.recipe.propagation,
                targets: half("unstructured").into(),
            },
            calibration: Some(CalibrationPlan::Given(self.path("ids.safetensors"))),
            evaluation: EvaluationPlan::default(),
            device: DeviceName::Cpu,
            spec: None,
        };
        let scratch = self.path(scratch);
        let workspace = Workspace {
            artifact: scratch.join("artifact"),
            resume_state: Some(scratch.join("state")),
            is_portable: witness.is_portable,
            received: witness.received.clone(),
        };
        prune_job(&plan, &workspace, witness)
    }

    fn undisturbed(&self) -> Manifest {
        self.attempt("undisturbed", &mut Witness::default())
            .unwrap()
    }

    /// An attempt that ends in the third block.
    fn interrupted(&self) {
        let mut witness = Witness {
            stop_after: Some(4 * 128),
            ..Witness::default()
        };
        assert!(self.attempt("scratch", &mut witness).is_err());
    }
}

fn assert_half_is_zero(manifest: &Manifest) {
    for linear in &manifest.linears {
        assert_eq!(
            linear.zeros as usize,
            linear.rows * (linear.cols / 2),
            "{}",
            linear.name
        );
    }
}

#[test]
fn an_interrupted_attempt_goes_on_where_it_was() {
    let work = Work::new();
    work.interrupted();
    let mut witness = Witness::default();
    let manifest = work.attempt("scratch", &mut witness).unwrap();
    assert_eq!(witness.resumed_at, Some(2));
    assert_half_is_zero(&manifest);
    assert_eq!(manifest.digest, work.undisturbed().digest);
}

#[test]
fn an_artifact_that_was_moved_away_before_its_commit_is_made_anew() {
    let work = Work::new();
    work.attempt("scratch", &mut Witness::default()).unwrap();
    fs::rename(work.path("scratch/artifact"), work.path("published")).unwrap();
    let mut witness = Witness::default();
    let manifest = work.attempt("scratch", &mut witness).unwrap();
    assert_eq!(witness.resumed_at, None);
    assert_half_is_zero(&manifest);
    assert_eq!(manifest.digest, work.undisturbed().digest);
}

#[test]
fn a_copy_that_is_not_whole_is_made_anew() {
    let work = Work::new();
    work.interrupted();
    let shard = work.path("scratch/artifact/model.safetensors");
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() / 2]).unwrap();
    let manifest = work.attempt("scratch", &mut Witness::default()).unwrap();
    assert_eq!(manifest.digest, work.undisturbed().digest);
}

#[test]
fn work_done_under_another_configuration_is_not_gone_on_with() {
    let work = Work::new();
    work.interrupted();
    edit(&work.path("model/config.json"), "10000.0", "500.0");
    let mut witness = Witness::default();
    let manifest = work.attempt("scratch", &mut witness).unwrap();
    assert_eq!(witness.resumed_at, None);
    assert_eq!(manifest.digest, work.undisturbed().digest);
    let delivered = fs::read_to_string(work.path("scratch/artifact/config.json")).unwrap();
    assert!(delivered.contains("500.0"), "{delivered}");
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

/// An attempt that ends in the third block, and what it left that can be carried elsewhere.
fn carried(work: &Work) -> std::path::PathBuf {
    let mut witness = Witness {
        stop_after: Some(4 * 128),
        is_portable: true,
        ..Witness::default()
    };
    assert!(work.attempt("scratch", &mut witness).is_err());
    let state = witness.saved.last().unwrap();
    assert_eq!(state.next_block, 2);
    let received = work.path("received");
    fs::create_dir(&received).unwrap();
    for (name, _) in &state.files {
        fs::copy(work.path("scratch/state").join(name), received.join(name)).unwrap();
    }
    fs::write(received.join("state.json"), &state.state).unwrap();
    received
}

/// An attempt in an empty directory that is given this state.
fn elsewhere(work: &Work, received: &Path) -> (Option<usize>, Manifest) {
    let mut witness = Witness {
        is_portable: true,
        received: Some(received.to_path_buf()),
        ..Witness::default()
    };
    let manifest = work.attempt("elsewhere", &mut witness).unwrap();
    (witness.resumed_at, manifest)
}

#[test]
fn an_attempt_goes_on_elsewhere_with_the_files_of_its_last_state() {
    let work = Work::new();
    let received = carried(&work);
    let (resumed_at, manifest) = elsewhere(&work, &received);
    assert_eq!(resumed_at, Some(2));
    assert_half_is_zero(&manifest);
    assert_eq!(manifest.digest, work.undisturbed().digest);
}

#[test]
fn changed_weights_are_carried_as_well_as_zeros() {
    let plain = Work::new().undisturbed();
    for recipe in [
        Recipe::from(method("sparsegpt")),
        method("alps").into(),
        Recipe {
            refine: Some("swaps".parse().unwrap()),
            refit: true,
            ..method("wanda").into()
        },
        Recipe {
            propagation: Propagation::Paired,
            ..method("alps").into()
        },
    ] {
        let work = Work::with(recipe);
        let received = carried(&work);
        assert!(received.join("tensors-1.bin").try_exists().unwrap());
        let (resumed_at, manifest) = elsewhere(&work, &received);
        assert_eq!(resumed_at, Some(2));
        let undisturbed = work.undisturbed();
        assert_eq!(manifest.digest, undisturbed.digest);
        assert_ne!(manifest.digest, plain.digest);
        for (linear, other) in manifest.linears.iter().zip(&undisturbed.linears) {
            let (error, other) = (linear.layer_error.unwrap(), other.layer_error.unwrap());
            assert!((error - other).abs() < 1e-12, "{recipe}: {error}, {other}");
        }
    }
}

#[test]
fn a_state_from_elsewhere_that_is_damaged_or_of_other_work_is_not_gone_on_with() {
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[0] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let damages: [&dyn Fn(&Path); 4] = [
        &|received| flip(&received.join("zeros-1.bin")),
        &|received| flip(&received.join("activations-2.bin")),
        &|received| fs::remove_file(received.join("zeros-0.bin")).unwrap(),
        &|received| {
            edit(
                &received.join("state.json"),
                "\"fingerprint\":\"",
                "\"fingerprint\":\"0",
            );
        },
    ];
    for (number, damage) in damages.iter().enumerate() {
        let work = Work::new();
        let received = carried(&work);
        damage(&received);
        let (resumed_at, manifest) = elsewhere(&work, &received);
        assert_eq!(resumed_at, None, "damage {number}");
        assert_half_is_zero(&manifest);
        assert_eq!(
            manifest.digest,
            work.undisturbed().digest,
            "damage {number}"
        );
    }
}

#[test]
fn what_this_machine_has_is_gone_on_with_where_it_is_further() {
    let work = Work::new();
    let received = carried(&work);
    let mut witness = Witness {
        stop_after: Some(6 * 128 + 64),
        received: Some(received.clone()),
        is_portable: true,
        ..Witness::default()
    };
    assert!(work.attempt("elsewhere", &mut witness).is_err());
    assert_eq!(witness.saved.last().unwrap().next_block, 3);
    let mut witness = Witness {
        received: Some(carried_again(&work)),
        is_portable: true,
        ..Witness::default()
    };
    let manifest = work.attempt("elsewhere", &mut witness).unwrap();
    assert_eq!(witness.resumed_at, Some(3));
    assert_eq!(
        witness.saved.last().unwrap().files.len(),
        5,
        "zeros of four blocks"
    );
    assert_eq!(manifest.digest, work.undisturbed().digest);
}

/// The same state once more: the first attempt took its files.
fn carried_again(work: &Work) -> std::path::PathBuf {
    fs::remove_dir_all(work.path("received")).unwrap();
    fs::remove_dir_all(work.path("scratch")).unwrap();
    carried(work)
}
