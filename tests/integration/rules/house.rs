//! The rules that keep an addition to one file and one row, read from the source itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use secateur::corpora::{Corpus, DEMO};
use secateur::engine::model::ARCHITECTURES;
use secateur::engine::{ALLOCATIONS, Pattern, PruningMethod};

use super::architecture::sources;

/// What becomes part of the program.
const SHIPPED: [&str; 2] = ["src", "engine/src"];

const EVERYWHERE: [&str; 3] = ["src", "engine/src", "tests"];

/// Lines of a source file, its tests counted too.
const MOST_LINES: usize = 500;

/// Source files of a folder; with more it gets rooms.
const MOST_FILES: usize = 12;

/// Names that each layer has for itself.
const SHARED_TYPES: [&str; 2] = ["Args", "Error"];

/// The source files below these folders, by their paths from the root.
fn files(trees: &[&str]) -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for tree in trees {
        sources(&root.join(tree), &mut files);
    }
    assert!(files.len() > 200, "{}", files.len());
    let relative = |file: &Path| file.strip_prefix(root).unwrap().to_owned();
    files
        .iter()
        .map(|file| (relative(file), fs::read_to_string(file).unwrap()))
        .collect()
}

/// The code that is shipped: no files of tests, no tests at the foot of a file, no comments.
fn shipped() -> BTreeMap<PathBuf, String> {
    let mut files = files(&SHIPPED);
    files.retain(|path, _| {
        let mut names = path.iter().map(|name| name.to_str().unwrap());
        !names.any(|name| matches!(name, "tests" | "tests.rs"))
    });
    for text in files.values_mut() {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        *text = lines.collect::<Vec<_>>().join("\n");
    }
    files
}

/// The words of the tables. The bundled corpus has its name from the bundled model, which is no row.
fn variants() -> BTreeSet<&'static str> {
    // Progress is counted in blocks, too.
    let methods = PruningMethod::names()
        .into_iter()
        .filter(|name| *name != "blocks");
    let corpora = Corpus::names()
        .into_iter()
        .filter(|name| *name != DEMO.name);
    let allocations = ALLOCATIONS.iter().map(|allocation| allocation.name());
    let words = methods
        .chain(allocations)
        .chain(corpora)
        .chain(ARCHITECTURES)
        .chain(Pattern::NAMED);
    words.collect()
}

#[test]
fn the_word_of_a_variant_stands_in_one_file() {
    let files = shipped();
    let mut homes = BTreeMap::new();
    for word in variants() {
        let quoted = format!("\"{word}\"");
        let holders = files.iter().filter(|(_, text)| text.contains(&quoted));
        homes.insert(word, holders.map(|(path, _)| path).collect::<Vec<_>>());
    }
    assert!(homes.len() > 6, "{homes:#?}");
    homes.retain(|_, paths| paths.len() != 1);
    assert!(homes.is_empty(), "{homes:#?}");
}

/// The name of the public type that a line declares.
fn declared_type(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = match rest.strip_prefix('(') {
        Some(scope) => scope.split_once(')')?.1,
        None => rest,
    };
    let (kind, rest) = rest.trim_start().split_once(' ')?;
    let is_type = matches!(kind, "struct" | "enum" | "trait");
    let is_end = |c: char| !c.is_alphanumeric() && c != '_';
    is_type.then(|| rest.split(is_end).next())?
}

#[test]
fn the_name_of_a_type_exists_once() {
    let files = shipped();
    let mut homes = BTreeMap::<_, Vec<_>>::new();
    for (path, text) in &files {
        for name in text.lines().filter_map(declared_type) {
            homes.entry(name).or_default().push(path);
        }
    }
    assert!(homes.len() > 200, "{}", homes.len());
    homes.retain(|name, paths| paths.len() > 1 && !SHARED_TYPES.contains(name));
    assert!(homes.is_empty(), "{homes:#?}");
}

#[test]
fn a_module_with_rooms_is_the_mod_file_of_its_folder() {
    let files = files(&EVERYWHERE);
    let mixed = files.keys().filter(|path| {
        let folder = path.with_extension("");
        files.keys().any(|other| other.starts_with(&folder))
    });
    let mixed: Vec<_> = mixed.collect();
    assert!(mixed.is_empty(), "{mixed:?}");
}

#[test]
fn a_folder_holds_no_more_than_a_dozen_files() {
    let mut counts = BTreeMap::<_, usize>::new();
    let files = files(&EVERYWHERE);
    for path in files.keys() {
        *counts.entry(path.parent().unwrap()).or_default() += 1;
    }
    counts.retain(|_, count| *count > MOST_FILES);
    assert!(counts.is_empty(), "{counts:#?}");
}

#[test]
fn no_file_is_long() {
    let mut files = files(&EVERYWHERE);
    files.retain(|_, text| text.lines().count() > MOST_LINES);
    assert!(files.is_empty(), "{:#?}", files.keys());
}
