//! The finished artifact: its digests and its `secateur.json`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::PipelineError;
use super::memory::peak_rss_bytes;
use super::plan::Plan;
use super::prune_job::PrunedModel;
use super::resolve::ResolvedModel;
use super::stopwatch::Stopwatch;
use crate::domain::report::manifest::{
    Calibration, FileEntry, MANIFEST_VERSION, Manifest, ModelProvenance, PartReport, Sparsity,
};
use crate::engine::{Checkpoint, ModelPlan, Targets};

/// Name of the manifest in an artifact.
pub(crate) const MANIFEST_FILE: &str = "secateur.json";

/// Name of the scores of single documents in an artifact.
pub(super) const SAMPLES_FILE: &str = "secateur-samples.jsonl";

/// What the manifest says of the model, with the digests of its weight files.
pub(super) fn provenance(
    model: &ResolvedModel,
    source: &Checkpoint,
    config: &ModelPlan,
) -> Result<ModelProvenance, PipelineError> {
    let files = file_entries(&model.dir, source.shard_names())?;
    Ok(ModelProvenance {
        source: model.source.to_owned(),
        id: model.id.clone(),
        commit: model.commit.clone(),
        architecture: config.architecture.to_owned(),
        blocks: config.blocks.len(),
        parameters: source.parameters(),
        size_bytes: files.iter().map(|file| file.size_bytes).sum(),
        files,
    })
}

/// Digest of everything that the pruned weights depend on, but the type of the computation.
pub(super) fn fingerprint(
    model: &ModelProvenance,
    config: &ModelPlan,
    plan: &Plan,
    calibration: Option<&Calibration>,
) -> String {
    let mut digest = Sha256::new();
    let mut add = |part: &str| {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    };
    add(env!("CARGO_PKG_VERSION"));
    add(&weights_digest(&model.files));
    // The computation follows the configuration, so another one gives other activations.
    add(&format!("{config:?}"));
    add(&plan.pruning.work().to_string());
    let Targets {
        goal,
        rules,
        allocation,
    } = &plan.pruning.targets;
    add(&goal.pattern.to_string());
    add(&goal.sparsity.to_bits().to_string());
    for rule in rules {
        add(&rule.to_string());
    }
    add(&allocation.to_string());
    add(&plan.device.to_string());
    if let Some(calibration) = calibration {
        add(&calibration.window_sha256);
        // The same ids may be cut into other windows.
        add(&calibration.seq_len.to_string());
    }
    hex::encode(digest.finalize())
}

/// Identity of what a model computes: its weights and its configuration.
pub(super) fn model_fingerprint(files: &[FileEntry], config: &ModelPlan) -> String {
    format!("{} {config:?}", weights_digest(files))
}

/// Of several files, hashed on all threads.
pub(super) fn file_entries<'a>(
    dir: &Path,
    names: impl Iterator<Item = &'a str>,
) -> Result<Vec<FileEntry>, PipelineError> {
    let names: Vec<_> = names.collect();
    names.par_iter().map(|name| file_entry(dir, name)).collect()
}

/// SHA-256 over names and digests of weight files, in the order of their names.
pub(crate) fn weights_digest(files: &[FileEntry]) -> String {
    let mut digest = Sha256::new();
    for file in files
        .iter()
        .filter(|file| file.name.ends_with(".safetensors"))
    {
        digest.update(format!("{} {}\n", file.sha256, file.name));
    }
    hex::encode(digest.finalize())
}

/// Writes `secateur.json`, waits until the directory is on disk, and returns the manifest.
pub(super) fn finish(
    plan: &Plan,
    pruned: PrunedModel,
    dir: &Path,
    stopwatch: Stopwatch,
) -> Result<Manifest, PipelineError> {
    let files = list_files(dir, pruned.weights)?;
    let weights: u64 = pruned
        .linears
        .iter()
        .map(|linear| (linear.rows * linear.cols) as u64)
        .sum();
    let zeros: u64 = pruned.linears.iter().map(|linear| linear.zeros).sum();
    let achieved = match &pruned.structure {
        Some(structure) => share_of_removed(&structure.parts),
        None => zeros as f64 / weights as f64,
    };
    let pruning = &plan.pruning;
    let manifest = Manifest {
        manifest_version: MANIFEST_VERSION,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        digest: weights_digest(&files),
        model: pruned.provenance,
        spec: plan.spec.clone(),
        method: pruning.method.to_string(),
        group: pruning.group,
        refine: pruning.refine.map(|refine| refine.to_string()),
        refit: pruning.refit,
        propagation: pruning.propagation,
        pattern: pruning.targets.goal.pattern.to_string(),
        rules: pruning.targets.rules.clone(),
        allocation: pruning.targets.allocation.clone(),
        block_sparsity: pruned.block_sparsity,
        sparsity: Sparsity {
            requested: pruning.sparsity(),
            achieved,
        },
        structure: pruned.structure,
        calibration: pruned.calibration,
        linears: pruned.linears,
        results: pruned.results,
        device: plan.device.name(),
        compute_dtype: "f32".to_owned(),
        timings_s: stopwatch.stop(),
        peak_rss_bytes: peak_rss_bytes(),
        files,
    };
    let path = dir.join(MANIFEST_FILE);
    write_manifest(&path, &manifest).map_err(|error| PipelineError::io("write", &path, error))?;
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| PipelineError::io("sync", dir, error))?;
    Ok(manifest)
}

fn share_of_removed(parts: &[PartReport]) -> f64 {
    let removed = parts.iter().filter(|part| part.new_name.is_none());
    removed.count() as f64 / parts.len() as f64
}

fn write_manifest(path: &Path, manifest: &Manifest) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&serde_json::to_vec_pretty(manifest)?)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// Every file of the artifact; `known` ones are not read again.
fn list_files(dir: &Path, known: Vec<FileEntry>) -> Result<Vec<FileEntry>, PipelineError> {
    let mut known: BTreeMap<String, FileEntry> = known
        .into_iter()
        .map(|file| (file.name.clone(), file))
        .collect();
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| PipelineError::io("list", dir, error))? {
        let name = entry
            .map_err(|error| PipelineError::io("list", dir, error))?
            .file_name();
        names.extend(name.into_string().ok().filter(|name| name != MANIFEST_FILE));
    }
    names.sort();
    let entries = names.iter().map(|name| match known.remove(name) {
        Some(entry) => Ok(entry),
        None => file_entry(dir, name),
    });
    entries.collect()
}

fn file_entry(dir: &Path, name: &str) -> Result<FileEntry, PipelineError> {
    let path = dir.join(name);
    let hashed = File::open(&path).and_then(|mut file| {
        let mut digest = Sha256::new();
        let size_bytes = io::copy(&mut file, &mut DigestWriter(&mut digest))?;
        Ok(FileEntry {
            name: name.to_owned(),
            size_bytes,
            sha256: hex::encode(digest.finalize()),
        })
    });
    hashed.map_err(|error| PipelineError::io("read", &path, error))
}

struct DigestWriter<'a>(&'a mut Sha256);

impl io::Write for DigestWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
