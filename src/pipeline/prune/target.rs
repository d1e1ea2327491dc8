//! The copy of the model that is pruned: a fresh one, or one that an earlier attempt left, here or on another machine.

use std::path::Path;

use crate::engine::{Decoder, Propagation, PrunedCopy, ResumeState, TokenWindows};
use crate::pipeline::{PipelineError, Workspace, disk};

/// The copy that an earlier attempt left, if a state speaks of it; one made anew from a state that came from another
/// machine, if that is further; a fresh one otherwise. A state without its copy (which may have been published, its
/// commit lost) is forgotten first: its blocks would be taken for pruned.
pub(super) fn open(
    decoder: &Decoder<'_>,
    workspace: &Workspace,
    state: Option<&ResumeState>,
    windows: Option<&TokenWindows>,
    propagation: Propagation,
) -> Result<PrunedCopy, PipelineError> {
    let (source, dir) = (decoder.checkpoint(), &workspace.artifact);
    let left = match state.and_then(ResumeState::next_block) {
        Some(next_block) => PrunedCopy::reopen(source, dir)?.map(|copy| (next_block, copy)),
        None => None,
    };
    let reached = left.as_ref().map_or(0, |(next_block, _)| *next_block);
    let received = match (state, &workspace.received) {
        (Some(state), Some(received)) => {
            let received = state.of_same_work(received)?;
            let is_further = received.next_block().is_some_and(|block| block > reached);
            is_further.then_some((state, received))
        }
        _ => None,
    };
    if received.is_none()
        && let Some((_, copy)) = left
    {
        return Ok(copy);
    }
    state.map_or(Ok(()), ResumeState::clear)?;
    fresh_directory(dir)?;
    let state_bytes = match (state, windows) {
        (Some(state), Some(windows)) => state.most_bytes(decoder, windows, propagation)?,
        _ => 0,
    };
    disk::ensure_free(dir, source.tensor_bytes() + state_bytes)?;
    let copy = PrunedCopy::create(source, dir)?;
    if let Some((state, received)) = received
        && received.restore(decoder, &copy)?
    {
        // Before the state that speaks of it.
        copy.sync()?;
        state.take_over(&received)?;
    }
    Ok(copy)
}

/// An empty directory, whatever an earlier attempt left there.
pub(in crate::pipeline) fn fresh_directory(dir: &Path) -> Result<(), PipelineError> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(PipelineError::io("remove", dir, error));
        }
        _ => {}
    }
    std::fs::create_dir_all(dir).map_err(|error| PipelineError::io("create", dir, error))
}
