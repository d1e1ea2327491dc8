//! Resume state: what lets a killed pass go on at the block it was in.
//!
//! After some of the blocks, as often as their time allows, the next block's inputs are written to `activations-K.bin`,
//! then `state.json` that names them. Both are on disk before they count (write beside, sync, rename), the pruned tensors before both. A state whose
//! fingerprint differs, or whose activations are not those it names, is ignored: the pass starts over.
//!
//! A portable state also keeps what the recipe changed of each finished block: with that and the source, the pruned
//! copy is made again on another machine. Every file but the state is written once and never changed.

mod changes;
mod durable;
mod saver;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use candle_core::{Storage, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use changes::ChangeKind;
use durable::{hex, sync_dir, write_durably};
pub(super) use saver::{Saver, Snapshot};

use super::checkpoint::PrunedCopy;
use super::error::{EngineError, Result};
use super::model::Decoder;
use super::prune::Propagation;
use super::recipe::{LinearOutcome, Recipe};
use super::windows::TokenWindows;

const STATE: &str = "state.json";
const ACTIVATIONS: &str = "activations-";
/// Changes when the meaning of the files changes.
const FORMAT: u32 = 6;

/// A directory that keeps the state of one pass.
#[derive(Debug)]
pub struct ResumeState {
    dir: PathBuf,
    fingerprint: String,
    compute_type: String,
    /// What is kept of finished blocks.
    changes: Option<ChangeKind>,
}

/// What a pass goes on with.
pub(super) struct Loaded {
    pub(super) next_block: usize,
    /// Digests of the changes of every block before it; empty when they were not kept.
    pub(super) changes: Vec<String>,
    /// Of the linears before it.
    pub(super) outcomes: Vec<LinearOutcome>,
    /// Zeros of each block, where they are shared.
    pub(super) zeros: Option<Vec<u64>>,
    /// Inputs of the next block, batch by batch, each `[n_tokens, hidden]`, row-major.
    pub(super) batches: Vec<Vec<f32>>,
}

#[derive(Serialize, Deserialize)]
struct State {
    format: u32,
    compute_type: String,
    fingerprint: String,
    next_block: usize,
    activations_sha256: String,
    /// Of the linears before the next block.
    outcomes: Vec<LinearOutcome>,
    /// Zeros of each block, where they are shared: what they go by is not measured again.
    zeros: Option<Vec<u64>>,
    changes: Option<KeptChanges>,
}

/// What is kept of the blocks before the next one.
#[derive(Serialize, Deserialize)]
struct KeptChanges {
    kind: ChangeKind,
    /// One per block.
    sha256: Vec<String>,
}

/// A saved state as files that can be carried elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedState {
    /// The block that comes next.
    pub next_block: usize,
    /// What `state.json` says.
    pub state: String,
    /// The other files of the state, with their SHA-256.
    pub files: Vec<(String, String)>,
}

impl ResumeState {
    /// A state in `dir`, which is made if needed.
    ///
    /// `fingerprint` stands for everything that the result depends on, weights, windows and specification, but the type of
    /// the computation.
    pub fn open(dir: &Path, fingerprint: &str, compute_type: &str) -> Result<Self> {
        fs::create_dir_all(dir).map_err(EngineError::io("create", dir))?;
        Ok(Self {
            dir: dir.to_path_buf(),
            fingerprint: fingerprint.to_owned(),
            compute_type: compute_type.to_owned(),
            changes: None,
        })
    }

    /// Keeps what it takes to go on elsewhere, for a pass by `recipe`.
    #[must_use]
    pub fn portable(self, recipe: Recipe) -> Self {
        Self {
            changes: Some(ChangeKind::of(recipe)),
            ..self
        }
    }

    /// The state of the same work in another directory.
    pub fn of_same_work(&self, dir: &Path) -> Result<Self> {
        Self::open(dir, &self.fingerprint, &self.compute_type)
    }

    /// The block that a saved state goes on with; `None` where this program, computing like that, cannot read it.
    pub fn block_of(state: &[u8], compute_type: &str) -> Option<usize> {
        let state: State = serde_json::from_slice(state).ok()?;
        let fits = state.format == FORMAT && state.compute_type == compute_type;
        fits.then_some(state.next_block)
    }

    /// The block that comes next; `None` when there is no state to go on from.
    pub fn next_block(&self) -> Option<usize> {
        Some(self.load_state()?.next_block)
    }

    /// The most bytes that it takes on disk: two states while one replaces the other, and all changes.
    pub fn most_bytes(
        &self,
        decoder: &Decoder<'_>,
        windows: &TokenWindows,
        propagation: Propagation,
    ) -> Result<u64> {
        let stream = windows.n_tokens() * decoder.plan().hidden * size_of::<f32>();
        let activations = propagation.streams() * stream;
        let changes = match self.changes {
            Some(kind) => kind.bytes(decoder)?,
            None => 0,
        };
        Ok(2 * activations as u64 + changes)
    }

    fn activations_path(&self, next_block: usize) -> PathBuf {
        self.dir.join(activations_name(next_block))
    }

    fn load_state(&self) -> Option<State> {
        let bytes = fs::read(self.dir.join(STATE)).ok()?;
        Self::block_of(&bytes, &self.compute_type)?;
        let state: State = serde_json::from_slice(&bytes).ok()?;
        (state.fingerprint == self.fingerprint).then_some(state)
    }

    /// Forgets what was saved.
    pub fn clear(&self) -> Result<()> {
        match fs::remove_file(self.dir.join(STATE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(EngineError::io("remove", &self.dir.join(STATE))(error))
            }
            _ => sync_dir(&self.dir),
        }
    }

    /// The saved state, if it is whole and of this fingerprint. `lengths` are those of the batches, in numbers.
    pub(super) fn load(&self, lengths: impl Iterator<Item = usize>) -> Option<Loaded> {
        let state = self.load_state()?;
        let mut file = File::open(self.activations_path(state.next_block)).ok()?;
        let mut digest = Sha256::new();
        let batches = lengths.map(|length| {
            let mut values = vec![0f32; length];
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
            file.read_exact(bytes).ok()?;
            digest.update(&*bytes);
            Some(values)
        });
        let batches = batches.collect::<Option<Vec<_>>>()?;
        let is_whole =
            file.read(&mut [0]).ok()? == 0 && hex(&digest.finalize()) == state.activations_sha256;
        is_whole.then_some(Loaded {
            next_block: state.next_block,
            outcomes: state.outcomes,
            zeros: state.zeros,
            changes: state.changes.map_or(Vec::new(), |kept| kept.sha256),
            batches,
        })
    }

    /// Makes all finished blocks again in a fresh copy of the source. `false` when a file of their changes is missing
    /// or not what the state says.
    pub fn restore(&self, decoder: &Decoder<'_>, target: &PrunedCopy) -> Result<bool> {
        let Some(state) = self.load_state() else {
            return Ok(false);
        };
        let blocks = decoder.plan().blocks.len();
        let Some(kept) = state.changes.filter(|kept| {
            kept.sha256.len() == state.next_block && (1..blocks).contains(&state.next_block)
        }) else {
            return Ok(false);
        };
        for (block, digest) in kept.sha256.iter().enumerate() {
            if !changes::restore(&self.dir, kept.kind, block, digest, decoder, target)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes the files of another state over, `state.json` last.
    pub fn take_over(&self, other: &Self) -> Result<()> {
        let Some(state) = other.load_state() else {
            return Ok(());
        };
        let kept = state.changes.iter();
        let kept = kept.flat_map(|kept| (0..kept.sha256.len()).map(|block| kept.kind.file(block)));
        let names = std::iter::once(activations_name(state.next_block)).chain(kept);
        for name in names.chain([STATE.to_owned()]) {
            let from = other.dir.join(&name);
            fs::rename(&from, self.dir.join(&name)).map_err(EngineError::io("move", &from))?;
        }
        sync_dir(&self.dir)
    }

    /// Saves the state before a block, and the digests of the changes of all blocks before it, if they are kept. Then it
    /// gives what can be carried elsewhere.
    fn save(&self, snapshot: &Snapshot<'_>, changes: &[String]) -> Result<Option<SavedState>> {
        let Snapshot {
            next_block,
            batches,
            outcomes,
            zeros,
        } = *snapshot;
        let mut digest = Sha256::new();
        write_durably(&self.activations_path(next_block), |file| {
            for batch in batches {
                with_values(batch, |values| {
                    let bytes: &[u8] = bytemuck::cast_slice(values);
                    digest.update(bytes);
                    file.write_all(bytes)
                })?;
            }
            Ok(())
        })?;
        let kept = self.changes.map(|kind| (kind, changes));
        let state = State {
            format: FORMAT,
            compute_type: self.compute_type.clone(),
            fingerprint: self.fingerprint.clone(),
            next_block,
            activations_sha256: hex(&digest.finalize()),
            outcomes: outcomes.to_vec(),
            zeros: zeros.map(<[u64]>::to_vec),
            changes: kept.map(|(kind, digests)| KeptChanges {
                kind,
                sha256: digests.to_vec(),
            }),
        };
        let text = serde_json::to_string(&state)
            .map_err(|error| EngineError::io("write", &self.dir.join(STATE))(error.into()))?;
        write_durably(&self.dir.join(STATE), |file| {
            file.write_all(text.as_bytes())
        })?;
        self.remove_other_activations(next_block)?;
        let activations = (activations_name(next_block), state.activations_sha256);
        Ok(kept.map(|(kind, digests)| {
            let changes = digests.iter().enumerate();
            let changes = changes.map(|(block, digest)| (kind.file(block), digest.clone()));
            SavedState {
                next_block,
                state: text,
                files: changes.chain([activations]).collect(),
            }
        }))
    }

    fn remove_other_activations(&self, keep: usize) -> Result<()> {
        let kept = self.activations_path(keep);
        for entry in fs::read_dir(&self.dir).map_err(EngineError::io("list", &self.dir))? {
            let path = entry.map_err(EngineError::io("list", &self.dir))?.path();
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            if name.starts_with(ACTIVATIONS.as_bytes()) && path != kept {
                fs::remove_file(&path).map_err(EngineError::io("remove", &path))?;
            }
        }
        Ok(())
    }
}

fn activations_name(next_block: usize) -> String {
    format!("{ACTIVATIONS}{next_block}.bin")
}

/// Shows the values of a contiguous tensor, without a copy if they are in this machine's memory already.
fn with_values(x: &Tensor, see: impl FnOnce(&[f32]) -> std::io::Result<()>) -> std::io::Result<()> {
    let (storage, layout) = x.storage_and_layout();
    if let (Storage::Cpu(values), Some((start, end))) = (&*storage, layout.contiguous_offsets()) {
        let values = values.as_slice::<f32>().map_err(std::io::Error::other)?;
        return see(&values[start..end]);
    }
    drop(storage);
    let values = x.flatten_all().and_then(|x| x.to_vec1::<f32>());
    see(&values.map_err(std::io::Error::other)?)
}
