//! Durable state between blocks, so that a killed pass goes on at the block it was in.
//!
//! After each block the next block's inputs are written to `activations-K.bin`, then `state.json` that names them.
//! Both are on disk before they count (write beside, sync, rename), the pruned tensors before both. A state whose
//! fingerprint differs, or whose activations are not those it names, is ignored: the pass starts over.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use candle_core::{Storage, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::{EngineError, Result};

const STATE: &str = "state.json";
/// Changes when the meaning of a journal's files changes.
const FORMAT: u32 = 1;

/// A directory that keeps the state of one pass.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    fingerprint: String,
}

/// What a pass goes on with.
pub(super) struct Saved {
    pub(super) next_block: usize,
    /// Inputs of the next block, batch by batch, each `[n_tokens, hidden]`, row-major.
    pub(super) batches: Vec<Vec<f32>>,
}

#[derive(Serialize, Deserialize)]
struct State {
    format: u32,
    fingerprint: String,
    next_block: usize,
    activations_sha256: String,
}

impl Journal {
    /// A journal in `dir`, which is made if needed. `fingerprint` stands for everything that the result depends on:
    /// weights, windows, specification.
    pub fn open(dir: &Path, fingerprint: impl Into<String>) -> Result<Self> {
        fs::create_dir_all(dir).map_err(EngineError::io("create", dir))?;
        Ok(Self {
            dir: dir.to_path_buf(),
            fingerprint: fingerprint.into(),
        })
    }

    fn activations_path(&self, next_block: usize) -> PathBuf {
        self.dir.join(format!("activations-{next_block}.bin"))
    }

    /// Whether there is a state to go on from.
    pub fn has_state(&self) -> bool {
        self.load_state().is_some()
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
            batches,
        })
    }

    /// Saves the state before block `next_block`; `batches` are its inputs in order.
    pub(super) fn save(&self, next_block: usize, batches: &[Tensor]) -> Result<()> {
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
        };
        self.write_durably(&self.dir.join(STATE), |file| {
            Ok(serde_json::to_writer(file, &state)?)
        })?;
        self.remove_other_activations(next_block)
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
            if path.extension().is_some_and(|extension| extension == "bin") && path != kept {
                fs::remove_file(&path).map_err(EngineError::io("remove", &path))?;
            }
        }
        Ok(())
    }
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
