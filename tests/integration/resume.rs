//! Jobs that go on after something went wrong between attempts.

use std::fs;
use std::path::Path;

use secateur::domain::Manifest;
use secateur::domain::attempt::{Phase, Step};
use secateur::engine::{Saliency, Sparsity};
use secateur::pipeline::{
    CalibrationPlan, Corpus, DeviceName, EvaluationPlan, Listener, ModelSource, PipelineError,
    Plan, Workspace, run,
};
use tempfile::TempDir;

use crate::synthetic::{Shape, write_ids, write_model};

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
}

impl Listener for Witness {
    fn phase(&mut self, _phase: Phase) {}

    fn progress(&mut self, step: Step) {
        self.tokens = step.finished;
    }

    fn resumed(&mut self, block: usize, _blocks: usize) {
        self.resumed_at = Some(block);
    }

    fn should_stop(&self) -> bool {
        self.stop_after.is_some_and(|tokens| self.tokens > tokens)
    }
}

struct Work {
    dir: TempDir,
}

impl Work {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("model")).unwrap();
        write_model(&dir.path().join("model"), SHAPE);
        write_ids(&dir.path().join("ids.safetensors"), 4, 32, SHAPE.vocab);
        Self { dir }
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
            saliency: Saliency::Wanda,
            sparsity: Sparsity::Ratio(0.5),
            calibration: CalibrationPlan {
                corpus: Corpus::Ids(self.path("ids.safetensors")),
                n_samples: 4,
                seq_len: None,
                seed: 0,
            },
            evaluation: EvaluationPlan::default(),
            device: DeviceName::Cpu,
            spec: None,
        };
        let scratch = self.path(scratch);
        let workspace = Workspace {
            artifact: scratch.join("artifact"),
            journal: Some(scratch.join("journal")),
        };
        run(&plan, &workspace, witness)
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
