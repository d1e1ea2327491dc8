//! A model of every family, pruned with paired inputs.

mod experts;

use super::*;
use crate::method::MethodId;
use crate::model::ModelPlan;
use crate::model::test_model::for_each_family;
use crate::pattern::{Goal, Pattern};
use crate::statistic::BlockStatistics;

fn windows() -> TokenWindows {
    TokenWindows::new((0..32 * 6).map(|i| i * i % 251).collect(), 32).unwrap()
}

/// Keeps Σx² of every input; ends the pass after the first block where it shall.
struct Watch<'a> {
    plan: &'a ModelPlan,
    sums: Vec<Vec<f64>>,
    stops: bool,
    blocks: usize,
    resumed: bool,
}

impl<'a> Watch<'a> {
    fn new(decoder: &'a Decoder<'_>, stops: bool) -> Self {
        Self {
            plan: decoder.plan(),
            sums: Vec::new(),
            stops,
            blocks: 0,
            resumed: false,
        }
    }
}

impl Observer for Watch<'_> {
    fn progress(&mut self, progress: PassProgress) {
        self.blocks = progress.blocks;
    }

    fn observed(&mut self, block: usize, seen: &BlockStatistics) {
        for input in self.plan.blocks[block].input_ids() {
            let sums = seen.of(input).sum_of_squares().unwrap();
            self.sums.push(sums.sums().to_vec());
        }
    }

    fn resumed(&mut self, _block: usize, _total_blocks: usize) {
        self.resumed = true;
    }

    fn needs_state(&self, _blocks: usize) -> bool {
        true
    }

    fn should_stop(&self) -> bool {
        self.stops && self.blocks == 1
    }
}

fn run(
    decoder: &Decoder<'_>,
    out: &std::path::Path,
    propagation: Propagation,
    sparsity: f64,
    resume_state: Option<&ResumeState>,
    watch: &mut Watch<'_>,
) -> Result<Vec<LinearOutcome>> {
    let source = decoder.checkpoint();
    let target = match PrunedCopy::reopen(source, out)? {
        Some(copy) => copy,
        None => PrunedCopy::create(source, out)?,
    };
    let wanda: MethodId = "wanda".parse().unwrap();
    let options = PruneOptions {
        recipe: Recipe {
            refit: true,
            propagation,
            ..wanda.into()
        },
        targets: &Targets::from(Goal::new(Pattern::Unstructured, sparsity)),
        windows: Some(&windows()),
        resume_state,
    };
    prune(decoder, &target, &options, watch)
}

#[test]
fn two_streams_see_what_one_sees_where_nothing_is_pruned_in_every_family() {
    for_each_family(|decoder| {
        let sums = [Propagation::Dense, Propagation::Paired].map(|propagation| {
            let (out, mut watch) = (tempfile::tempdir().unwrap(), Watch::new(decoder, false));
            run(decoder, out.path(), propagation, 0.0, None, &mut watch).unwrap();
            watch.sums
        });
        let family = decoder.plan().architecture;
        assert!(sums[0].len() > 6 && sums[0].len() == sums[1].len());
        for (dense, paired) in sums[0].iter().zip(&sums[1]) {
            for (dense, paired) in dense.iter().zip(paired) {
                let off = (dense - paired).abs();
                assert!(off <= 1e-3 * dense, "{family}: {paired}, expected {dense}");
            }
        }
    });
}

#[test]
fn a_stopped_pass_goes_on_with_both_streams_in_every_family() {
    for_each_family(|decoder| {
        let dir = || tempfile::tempdir().unwrap();
        let (whole, out, work) = (dir(), dir(), dir());
        let state = ResumeState::open(work.path(), "same", "f32").unwrap();
        let run = |out: &std::path::Path, state, stops| {
            let mut watch = Watch::new(decoder, stops);
            let ended = run(decoder, out, Propagation::Paired, 0.5, state, &mut watch);
            (ended.map(|outcomes| outcomes.len()), watch.resumed)
        };
        let (linears, _) = run(whole.path(), None, false);
        let (stopped, _) = run(out.path(), Some(&state), true);
        assert!(matches!(stopped, Err(EngineError::Stopped)));
        let (again, resumed) = run(out.path(), Some(&state), false);
        assert!(resumed);
        assert_eq!(linears.unwrap(), again.unwrap());
        let bytes = |dir: &std::path::Path| std::fs::read(dir.join("model.safetensors")).unwrap();
        let family = decoder.plan().architecture;
        assert!(bytes(whole.path()) == bytes(out.path()), "{family}");
    });
}
