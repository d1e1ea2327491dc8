//! Pruning: into a copy of the model, block by block, going on where an earlier attempt stopped.

mod target;

use std::path::Path;

use super::listener::EngineObserver;
use super::plan::Plan;
use super::{Listener, PipelineError, Workspace};
use crate::domain::report::manifest::LinearReport;
use crate::engine::{
    Checkpoint, Decoder, ModelPlan, PruneOptions, ResumeState, TokenWindows, prune,
};
pub(super) use target::fresh_directory;

/// Prunes into the artifact's directory, from where an earlier attempt stopped; counts the zeros that were written.
pub(super) fn prune_into(
    decoder: &Decoder<'_>,
    plan: &Plan,
    workspace: &Workspace,
    fingerprint: &str,
    windows: Option<&TokenWindows>,
    listener: &mut dyn Listener,
) -> Result<Vec<LinearReport>, PipelineError> {
    let dir = workspace.resume_state.as_deref();
    let state = dir.map(|dir| ResumeState::open(dir, fingerprint));
    let state = state.transpose()?.map(|state| {
        if workspace.is_portable {
            state.portable(plan.method)
        } else {
            state
        }
    });
    let target = target::open(decoder, workspace, state.as_ref(), windows)?;
    let options = PruneOptions {
        method: plan.method,
        goal: plan.goal,
        windows,
        resume_state: state.as_ref(),
    };
    prune(decoder, &target, &options, &mut EngineObserver(listener))?;
    count_zeros(&workspace.artifact, decoder.plan())
}

/// Every pruned linear with its zeros, counted in the files that are delivered.
fn count_zeros(dir: &Path, model_plan: &ModelPlan) -> Result<Vec<LinearReport>, PipelineError> {
    let delivered = Checkpoint::open(dir)?;
    let reports = model_plan.linears().map(|linear| {
        Ok(LinearReport {
            name: linear.name.clone(),
            rows: linear.d_out,
            cols: linear.d_in,
            zeros: delivered.read(&linear.weight())?.count_zeros(),
        })
    });
    reports.collect()
}
