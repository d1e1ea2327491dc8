//! Pruning: into a copy of the model, block by block, going on where an earlier attempt stopped.

mod structure;
mod target;

use std::path::Path;

use super::listener::EngineObserver;
use super::plan::Plan;
use super::{Listener, PipelineError, Workspace};
use crate::domain::report::manifest::LinearReport;
use crate::engine::{
    Checkpoint, Decoder, LinearOutcome, ModelPlan, PruneOptions, Recipe, ResumeState, TokenWindows,
    prune,
};
pub(super) use structure::{Rankings, remove_parts};
pub(super) use target::fresh_directory;

/// Prunes into the artifact's directory, from where an earlier attempt stopped.
pub(super) fn prune_into(
    decoder: &Decoder<'_>,
    recipe: Recipe,
    (plan, workspace): &(Plan, Workspace),
    fingerprint: &str,
    windows: Option<&TokenWindows>,
    listener: &mut dyn Listener,
) -> Result<Vec<LinearOutcome>, PipelineError> {
    let dir = workspace.resume_state.as_deref();
    let compute_type = plan.device.compute_type();
    let state = dir.map(|dir| ResumeState::open(dir, fingerprint, &compute_type));
    let state = state.transpose()?.map(|state| {
        if workspace.is_portable {
            state.portable(recipe)
        } else {
            state
        }
    });
    let propagation = recipe.propagation;
    let target = target::open(decoder, workspace, state.as_ref(), windows, propagation)?;
    let options = PruneOptions {
        recipe,
        targets: &plan.pruning.targets,
        windows,
        resume_state: state.as_ref(),
    };
    let mut observer = EngineObserver(listener);
    Ok(prune(decoder, &target, &options, &mut observer)?)
}

/// The fraction of zeros of each block.
pub(super) fn block_sparsity(linears: &[LinearReport], model_plan: &ModelPlan) -> Vec<f64> {
    let mut linears = linears.iter();
    let blocks = model_plan.blocks.iter().map(|block| {
        let of_block = linears.by_ref().take(block.linears.len());
        let zeros: u64 = of_block.map(|linear| linear.zeros).sum();
        zeros as f64 / block.weights() as f64
    });
    blocks.collect()
}

/// Every linear with its zeros, counted in the files that are delivered.
pub(super) fn report(
    dir: &Path,
    model_plan: &ModelPlan,
    outcomes: &[LinearOutcome],
) -> Result<Vec<LinearReport>, PipelineError> {
    let delivered = Checkpoint::open(dir)?;
    let reports = model_plan.linears().enumerate().map(|(at, linear)| {
        let outcome = outcomes.get(at);
        Ok(LinearReport {
            name: linear.name.clone(),
            rows: linear.d_out,
            cols: linear.d_in,
            zeros: delivered.count_zeros(&linear.weight())?,
            input_tokens: outcome.map(|outcome| outcome.input_tokens),
            layer_error: outcome.and_then(|outcome| outcome.layer_error),
            layer_error_before_refit: outcome.and_then(|outcome| outcome.layer_error_before_refit),
            damping_steps: outcome.map_or(0, |outcome| outcome.damping_steps),
        })
    });
    reports.collect()
}
