//! Durable state between blocks, so that a killed pass goes on at the block it was in.
//!
//! After each block the next block's inputs are written to `activations-K.bin`, then `state.json` that names them.
//! Both are on disk before they count (write beside, sync, rename), the pruned tensors before both. A state whose
//! fingerprint differs, or whose activations are not those it names, is ignored: the pass starts over.
//!
//! A journal that can be carried to another machine also keeps `zeros-K.bin`, which weights of block K are zero: with
//! these the pruned copy is made again from the source. Every file but the state is written once and never changed.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use candle_core::{Storage, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::checkpoint::PrunedCopy;
use super::error::{EngineError, Result};
use super::model::Decoder;
use super::zeros::{self, Zeros};

const STATE: &str = "state.json";
const ACTIVATIONS: &str = "activations-";
/// Changes when the meaning of a journal's files changes.
const FORMAT: u32 = 1;

/// A directory that keeps the state of one pass.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    fingerprint: String,
    is_portable: bool,
}

/// What a pass goes on with.
pub(super) struct Saved {
    pub(super) next_block: usize,
    /// Digests of the zeros of every block before it; empty when they were not kept.
    pub(super) zeros: Vec<String>,
    /// Inputs of the next block, batch by batch, each `[n_tokens, hidden]`, row-major.
    pub(super) batches: Vec<Vec<f32>>,
}

#[derive(Serialize, Deserialize)]
struct State {
    format: u32,
    fingerprint: String,
    next_block: usize,
    activations_sha256: String,
    /// Of each block before `next_block`; empty when they are not kept.
    #[serde(default)]
    zeros_sha256: Vec<String>,
}

/// A saved state as files that can be carried elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortableState {
    /// The block that comes next.
    pub next_block: usize,
    /// What `state.json` says.
    pub state: String,
    /// The other files in the journal's directory, with their SHA-256.
    pub files: Vec<(String, String)>,
}

impl Journal {
    /// A journal in `dir`, which is made if needed. `fingerprint` stands for everything that the result depends on:
    /// weights, windows, specification.
    pub fn open(dir: &Path, fingerprint: impl Into<String>) -> Result<Self> {
        fs::create_dir_all(dir).map_err(EngineError::io("create", dir))?;
        Ok(Self {
            dir: dir.to_path_buf(),
            fingerprint: fingerprint.into(),
            is_portable: false,
        })
    }

    /// Keeps what it takes to go on elsewhere.
    #[must_use]
    pub fn portable(self) -> Self {
        Self {
            is_portable: true,
            ..self
        }
    }

    /// One in another directory, of the same work.
    pub fn of_same_work(&self, dir: &Path) -> Result<Self> {
        Self::open(dir, self.fingerprint.clone())
    }

    pub(super) fn is_portable(&self) -> bool {
        self.is_portable
    }

    fn activations_path(&self, next_block: usize) -> PathBuf {
        self.dir.join(activations_name(next_block))
    }

    /// The block that comes next; `None` when there is no state to go on from.
    pub fn next_block(&self) -> Option<usize> {
        Some(self.load_state()?.next_block)
    }

    fn load_state(&self) -> Option<State> {
        let state: State = serde_json::from_slice(&fs::read(self.dir.join(STATE)).ok()?).ok()?;
        (state.format == FORMAT && state.fingerprint == self.fingerprint).then_some(state)
    }

    /// Forgets what was saved.
    pub fn clear(&self) -> Result<()> {
        match fs::remove_file(self.dir.join(STATE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(EngineError::io("remove", &self.dir.join(STATE))(error))
            }
            _ => self.sync_dir(),
        }
    }

    /// The saved state, if it is whole and of this fingerprint. `lengths` are those of the batches, in numbers.
    pub(super) fn load(&self, lengths: impl Iterator<Item = usize>) -> Option<Saved> {
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
        is_whole.then_some(Saved {
            next_block: state.next_block,
            zeros: state.zeros_sha256,
            batches,
        })
    }

    /// Keeps which weights of a block are zero; gives the digest.
    pub(super) fn keep_zeros(&self, block: usize, zeros: &Zeros) -> Result<String> {
        let bytes = zeros.as_bytes();
        self.write_durably(&self.dir.join(zeros_name(block)), |file| {
            file.write_all(bytes)
        })?;
        Ok(hex(&Sha256::digest(bytes)))
    }

    /// Makes the weights of all finished blocks zero in a fresh copy of the source. `false` when a file of them is not
    /// there or not what the state says.
    pub fn restore(&self, decoder: &Decoder<'_>, target: &PrunedCopy) -> Result<bool> {
        let Some(state) = self.load_state() else {
            return Ok(false);
        };
        let is_complete = state.zeros_sha256.len() == state.next_block
            && (1..decoder.plan().blocks.len()).contains(&state.next_block);
        if !is_complete {
            return Ok(false);
        }
        for (block, digest) in state.zeros_sha256.iter().enumerate() {
            let Ok(bytes) = fs::read(self.dir.join(zeros_name(block))) else {
                return Ok(false);
            };
            if hex(&Sha256::digest(&bytes)) != *digest
                || !restore_block(decoder, target, block, &bytes)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes the files of another journal over, its state last.
    pub fn take_over(&self, other: &Self) -> Result<()> {
        let Some(state) = other.load_state() else {
            return Ok(());
        };
        let zeros = (0..state.next_block).map(zeros_name);
        let names = std::iter::once(activations_name(state.next_block)).chain(zeros);
        for name in names.chain([STATE.to_owned()]) {
            let from = other.dir.join(&name);
            fs::rename(&from, self.dir.join(&name)).map_err(EngineError::io("move", &from))?;
        }
        self.sync_dir()
    }

    /// Saves the state before block `next_block`; `batches` are its inputs in order, `zeros` the digests of what was kept
    /// of each block before it. Gives what can be carried elsewhere, if that is everything.
    pub(super) fn save(
        &self,
        next_block: usize,
        batches: &[Tensor],
        zeros: &[String],
    ) -> Result<Option<PortableState>> {
        let mut digest = Sha256::new();
        self.write_durably(&self.activations_path(next_block), |file| {
            for batch in batches {
                with_values(batch, |values| {
                    let bytes: &[u8] = bytemuck::cast_slice(values);
                    digest.update(bytes);
                    file.write_all(bytes)
                })?;
            }
            Ok(())
        })?;
        let state = State {
            format: FORMAT,
            fingerprint: self.fingerprint.clone(),
            next_block,
            activations_sha256: hex(&digest.finalize()),
            zeros_sha256: zeros.to_vec(),
        };
        let text = serde_json::to_string(&state)
            .map_err(|error| EngineError::io("write", &self.dir.join(STATE))(error.into()))?;
        self.write_durably(&self.dir.join(STATE), |file| {
            file.write_all(text.as_bytes())
        })?;
        self.remove_other_activations(next_block)?;
        let kept = zeros.iter().enumerate();
        let kept = kept.map(|(block, digest)| (zeros_name(block), digest.clone()));
        let activations = (activations_name(next_block), state.activations_sha256);
        Ok((zeros.len() == next_block).then(|| PortableState {
            next_block,
            state: text,
            files: kept.chain([activations]).collect(),
        }))
    }

    fn write_durably(
        &self,
        path: &Path,
        write: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> Result<()> {
        let beside = path.with_extension("partial");
        let written = File::create(&beside).and_then(|mut file| {
            write(&mut file)?;
            file.sync_all()
        });
        written
            .and_then(|()| fs::rename(&beside, path))
            .map_err(EngineError::io("write", path))?;
        self.sync_dir()
    }

    fn sync_dir(&self) -> Result<()> {
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(EngineError::io("sync", &self.dir))
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

fn zeros_name(block: usize) -> String {
    format!("zeros-{block}.bin")
}

fn restore_block(
    decoder: &Decoder<'_>,
    target: &PrunedCopy,
    block: usize,
    mut bits: &[u8],
) -> Result<bool> {
    let source = decoder.checkpoint();
    for linear in &decoder.plan().blocks[block].linears {
        let tensor = linear.weight();
        let mut weights = source.read(&tensor)?;
        let Some(rest) = zeros::apply(bits, &mut weights) else {
            return Ok(false);
        };
        target.overwrite(source, &tensor, &weights)?;
        bits = rest;
    }
    Ok(bits.is_empty())
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

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let written = write!(text, "{byte:02x}");
        debug_assert!(written.is_ok(), "a String takes everything");
        text
    })
}
