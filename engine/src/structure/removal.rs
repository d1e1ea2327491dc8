//! Writes a model without some of its parts.

use std::collections::BTreeMap;
use std::path::Path;

use super::{RankedPart, Rest, StructureId};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::Decoder;

/// Writes a model without the lowest of its ranked parts into the empty directory `dir`, and opens it as a check.
///
/// The result: what each part is called there; `None` = it is gone.
pub fn remove(
    decoder: &Decoder<'_>,
    structure: StructureId,
    parts: &[RankedPart],
    sparsity: f64,
    dir: &Path,
) -> Result<Vec<Option<String>>> {
    structure.check(decoder.plan(), sparsity)?;
    let count = structure.count(decoder.plan(), sparsity);
    let Rest { names, config } = structure.rest(decoder, parts, count)?;
    let new_names: BTreeMap<&str, Option<&str>> = parts
        .iter()
        .zip(&names)
        .map(|(part, name)| (part.name.as_str(), name.as_deref()))
        .collect();
    let source = decoder.checkpoint();
    source.rewrite(dir, &config, |tensor| renamed(tensor, &new_names))?;
    Decoder::open(&Checkpoint::open(dir)?, decoder.device())?;
    Ok(names)
}

/// The new name of a tensor: that of its part, if it is of one, with what follows.
fn renamed(tensor: &str, parts: &BTreeMap<&str, Option<&str>>) -> Option<String> {
    let mut dots = tensor.match_indices('.');
    let part = dots.find_map(|(dot, _)| Some((dot, parts.get(&tensor[..dot])?)));
    match part {
        Some((dot, name)) => name.map(|name| format!("{name}{}", &tensor[dot..])),
        None => Some(tensor.to_owned()),
    }
}
