//! What a recipe changed of a block: which weights are zero, or whole tensors.
//!
//! Zeros take one bit per weight, a sixteenth of the block's size or less. With the source's weights at hand the pruned
//! ones come back bit by bit.

use std::fs::File;
use std::io::{BufReader, Read, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::durable::{Hashing, digest_of, move_into_place};
use crate::checkpoint::PrunedCopy;
use crate::error::{EngineError, Result};
use crate::mask::Mask;
use crate::model::Decoder;
use crate::recipe::Recipe;

/// What is kept of a linear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChangeKind {
    /// Its mask.
    Zeros,
    /// Its weights.
    Tensors,
}

impl ChangeKind {
    /// What it takes to repeat a recipe's work.
    pub(super) fn of(recipe: Recipe) -> Self {
        if recipe.only_zeroes() {
            Self::Zeros
        } else {
            Self::Tensors
        }
    }

    /// The file with the changes of a block.
    pub(super) fn file(self, block: usize) -> String {
        match self {
            Self::Zeros => format!("zeros-{block}.bin"),
            Self::Tensors => format!("tensors-{block}.bin"),
        }
    }

    /// Bytes of the changes of all blocks.
    pub(super) fn bytes(self, decoder: &Decoder<'_>) -> Result<u64> {
        let linears = decoder.plan().linears();
        let bytes = linears.map(|linear| match self {
            Self::Zeros => Ok(Mask::bytes_of(linear.d_out, linear.d_in)),
            Self::Tensors => {
                let shape = [linear.d_out, linear.d_in];
                let entry = decoder.checkpoint().expect(&linear.weight(), &shape)?;
                Ok(entry.len)
            }
        });
        bytes.sum()
    }
}

/// Keeps the changes of a block, read from the copy that has them; waits until they are on disk, and gives their digest.
pub(super) fn keep(
    dir: &Path,
    kind: ChangeKind,
    block: usize,
    decoder: &Decoder<'_>,
    copy: &PrunedCopy,
) -> Result<String> {
    let path = dir.join(kind.file(block));
    let beside = path.with_extension("partial");
    let file = File::create(&beside).map_err(EngineError::io("write", &path))?;
    let mut file = Hashing::new(file);
    for linear in &decoder.plan().blocks[block].linears {
        let weights = copy.read(decoder.checkpoint(), &linear.weight())?;
        let written = match kind {
            ChangeKind::Zeros => {
                let mask = Mask::of_zeros(&weights, linear.d_out, linear.d_in);
                file.write_all(mask.as_bytes())
            }
            ChangeKind::Tensors => file.write_all(weights.as_bytes()),
        };
        written.map_err(EngineError::io("write", &path))?;
    }
    let (file, digest) = file.finish();
    move_into_place(&file, &beside, &path)?;
    Ok(digest)
}

/// Makes a block's pruned tensors in `target`. `false` when the file of its changes is missing or another one.
pub(super) fn restore(
    dir: &Path,
    kind: ChangeKind,
    block: usize,
    digest: &str,
    decoder: &Decoder<'_>,
    target: &PrunedCopy,
) -> Result<bool> {
    let path = dir.join(kind.file(block));
    if digest_of(&path).ok().as_deref() != Some(digest) {
        return Ok(false);
    }
    let mut file = File::open(&path)
        .map(BufReader::new)
        .map_err(EngineError::io("read", &path))?;
    let source = decoder.checkpoint();
    for linear in &decoder.plan().blocks[block].linears {
        let mut weights = source.read(&linear.weight())?;
        let read = match kind {
            ChangeKind::Zeros => {
                let mut mask = Mask::none(linear.d_out, linear.d_in);
                let read = file.read_exact(mask.as_bytes_mut());
                mask.apply(&mut weights);
                read
            }
            ChangeKind::Tensors => file.read_exact(weights.as_bytes_mut()),
        };
        if read.is_err() {
            return Ok(false);
        }
        target.overwrite(source, &linear.weight(), &weights)?;
    }
    Ok(file.read(&mut [0]).is_ok_and(|n| n == 0))
}
