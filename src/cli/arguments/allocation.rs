//! How zeros are shared among blocks.

use std::fs;
use std::path::Path;

use crate::engine::{ALLOCATIONS, AllocationSpec};

/// Reads an allocation: its name, its name and parameters, or a file with the sparsity of each block.
pub(in crate::cli) fn parse(text: &str) -> Result<AllocationSpec, String> {
    let name = text.split(',').next().unwrap_or_default();
    let is_named = ALLOCATIONS
        .iter()
        .any(|allocation| allocation.name() == name);
    match text.parse::<AllocationSpec>() {
        Err(unknown) if !is_named && !Path::new(text).is_file() => {
            return Err(format!(
                "{unknown}, or a file with the sparsity of each block"
            ));
        }
        Err(_) if !is_named => {}
        read => return read,
    }
    let read = fs::read_to_string(text).map_err(|error| format!("cannot read {text}: {error}"))?;
    let numbers = read.trim().trim_start_matches('[').trim_end_matches(']');
    let numbers = numbers.split(|c: char| c == ',' || c.is_whitespace());
    let numbers = numbers.filter(|word| !word.is_empty());
    let sparsities: Result<Vec<f64>, String> = numbers
        .map(|word| {
            word.parse()
                .map_err(|_| format!("{text}: {word:?} is no number"))
        })
        .collect();
    let listed = AllocationSpec::listed(sparsities?).ok_or("no allocation takes a list")?;
    match listed.contradiction() {
        Some(contradiction) => Err(format!("{text}: {}", contradiction.detail)),
        None => Ok(listed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_lists_the_sparsity_of_each_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparsities.json");
        let path = path.to_str().unwrap();
        for text in ["[0.25, 0.5]\n", "0.25\n0.5\n"] {
            fs::write(path, text).unwrap();
            assert_eq!(
                parse(path),
                Ok(AllocationSpec::listed(vec![0.25, 0.5]).unwrap())
            );
        }
        for (text, reason) in [
            ("0.25 half", "\"half\" is no number"),
            ("0.5 1.5", "fractions in [0, 1)"),
        ] {
            fs::write(path, text).unwrap();
            assert!(parse(path).unwrap_err().contains(reason), "{text}");
        }
        assert!(
            parse("nowhere.json")
                .unwrap_err()
                .contains("or a file with")
        );
        assert_eq!(
            parse("owl,lambda=0.1")
                .unwrap()
                .to_string()
                .split(',')
                .count(),
            5
        );
    }
}
