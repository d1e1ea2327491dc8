//! The copy of the model that is pruned: a fresh one, or one that an earlier attempt left, here or on another machine.

use std::path::Path;

use crate::engine::{Decoder, Journal, PrunedCopy, TokenWindows};
use crate::pipeline::{PipelineError, Workspace, disk};

/// The copy that an earlier attempt left, if the journal speaks of it; one made anew from a journal that came from another
/// machine, if that is further; a fresh one otherwise. A journal without its copy (which may have been published, its
/// commit lost) is forgotten first: its blocks would be taken for pruned.
pub(super) fn open(
    decoder: &Decoder<'_>,
    workspace: &Workspace,
    journal: Option<&Journal>,
    windows: Option<&TokenWindows>,
) -> Result<PrunedCopy, PipelineError> {
    let (source, dir) = (decoder.checkpoint(), &workspace.artifact);
    let left = match journal.and_then(Journal::next_block) {
        Some(next_block) => PrunedCopy::reopen(source, dir)?.map(|copy| (next_block, copy)),
        None => None,
    };
    let reached = left.as_ref().map_or(0, |(next_block, _)| *next_block);
    let received = match (journal, &workspace.received) {
        (Some(journal), Some(received)) => {
            let received = journal.of_same_work(received)?;
            let is_further = received.next_block().is_some_and(|block| block > reached);
            is_further.then_some((journal, received))
        }
        _ => None,
    };
    if received.is_none()
        && let Some((_, copy)) = left
    {
        return Ok(copy);
    }
    journal.map_or(Ok(()), Journal::clear)?;
    fresh_directory(dir)?;
    // The journal holds two states while one replaces the other.
    let tokens = windows
        .filter(|_| journal.is_some())
        .map_or(0, TokenWindows::n_tokens);
    let state_bytes = 2 * (tokens * decoder.plan().hidden * size_of::<f32>()) as u64;
    disk::ensure_free(dir, source.tensor_bytes() + state_bytes)?;
    let copy = PrunedCopy::create(source, dir)?;
    if let Some((journal, received)) = received
        && received.restore(decoder, &copy)?
    {
        // Before the state that speaks of it.
        copy.sync()?;
        journal.take_over(&received)?;
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
