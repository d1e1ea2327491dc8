//! Removing parts: what is left is written as a smaller model.

use super::target::fresh_directory;
use crate::domain::report::manifest::{ModelProvenance, ModelSize, PartReport, StructureReport};
use crate::engine::{
    Checkpoint, Decoder, RankedPart, StructureId, TokenWindows, remove, tokens_per_second,
};
use crate::pipeline::listener::EngineObserver;
use crate::pipeline::plan::Plan;
use crate::pipeline::publish::file_entries;
use crate::pipeline::{Listener, PipelineError, Workspace, disk};

/// The parts of the dense model as a structure ranks them, and its pace: one pass for all artifacts of a series.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Rankings(Vec<(StructureId, Vec<RankedPart>, f64)>);

impl Rankings {
    fn of(
        &mut self,
        structure: StructureId,
        decoder: &Decoder<'_>,
        windows: &TokenWindows,
        listener: &mut dyn Listener,
    ) -> Result<&(StructureId, Vec<RankedPart>, f64), PipelineError> {
        let known = self.0.iter().position(|(known, ..)| *known == structure);
        let at = if let Some(at) = known {
            at
        } else {
            let mut observer = EngineObserver(listener);
            let parts = structure.rank(decoder, windows, &mut observer)?;
            let pace = tokens_per_second(decoder, windows)?;
            self.0.push((structure, parts, pace));
            self.0.len() - 1
        };
        Ok(&self.0[at])
    }
}

/// Writes what is left into the artifact's directory. An earlier attempt left nothing to go on with: the pass is made
/// again.
pub(in crate::pipeline) fn remove_parts(
    decoder: &Decoder<'_>,
    structure: StructureId,
    (plan, workspace): &(Plan, Workspace),
    (windows, provenance): (&TokenWindows, &ModelProvenance),
    rankings: &mut Rankings,
    listener: &mut dyn Listener,
) -> Result<StructureReport, PipelineError> {
    let (source, dir) = (decoder.checkpoint(), &workspace.artifact);
    fresh_directory(dir)?;
    let most = plan
        .pruning
        .most_bytes(decoder.plan(), source.tensor_bytes());
    disk::ensure_free(dir, most)?;
    let (_, parts, pace) = rankings.of(structure, decoder, windows, listener)?;
    let names = remove(decoder, structure, parts, plan.pruning.sparsity(), dir)?;
    let rest = Checkpoint::open(dir)?;
    let files = file_entries(dir, rest.shard_names())?;
    let after = ModelSize {
        parameters: rest.parameters(),
        size_bytes: files.iter().map(|file| file.size_bytes).sum(),
        tokens_per_second: tokens_per_second(&Decoder::open(&rest, decoder.device())?, windows)?,
    };
    let parts = parts.iter().cloned().zip(names);
    Ok(StructureReport {
        parts: parts
            .map(|(RankedPart { name, score, rank }, new_name)| PartReport {
                name,
                score,
                rank,
                new_name,
            })
            .collect(),
        before: ModelSize {
            parameters: provenance.parameters,
            size_bytes: provenance.size_bytes,
            tokens_per_second: *pace,
        },
        after,
    })
}
