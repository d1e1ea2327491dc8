//! Which module may use which: reads the `use crate::` lines and the `crate::` paths of every source file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Everything a module may use besides itself. `app`, `cli` and `main` may use everything.
const ALLOWED: &[(&str, &[&str])] = &[
    ("domain", &["corpora", "engine", "tasks"]),
    ("corpora", &[]),
    ("request", &["corpora", "domain", "engine", "tasks"]),
    ("statistics", &["domain", "tasks"]),
    ("clock", &[]),
    ("machine", &[]),
    ("instruments", &[]),
    ("config", &["artifacts", "domain", "store"]),
    ("telemetry", &["config", "instruments"]),
    ("traces", &[]),
    ("scratch", &["domain"]),
    ("server", &["config"]),
    ("tasks", &["corpora"]),
    ("bundled", &["corpora", "domain"]),
    ("store", &["domain"]),
    ("artifacts", &["domain"]),
    ("models", &["domain", "engine"]),
    ("datasets", &["corpora", "domain", "tasks"]),
    (
        "pipeline",
        &[
            "engine",
            "corpora",
            "domain",
            "statistics",
            "machine",
            "models",
            "datasets",
            "tasks",
        ],
    ),
    (
        "jobs",
        &[
            "instruments",
            "corpora",
            "domain",
            "request",
            "store",
            "artifacts",
            "models",
            "datasets",
            "clock",
            "machine",
            "traces",
        ],
    ),
    (
        "worker",
        &[
            "instruments",
            "config",
            "domain",
            "store",
            "artifacts",
            "pipeline",
            "clock",
            "machine",
            "scratch",
            "traces",
        ],
    ),
    (
        "webhooks",
        &["instruments", "domain", "request", "store", "clock"],
    ),
    (
        "http",
        &[
            "instruments",
            "jobs",
            "webhooks",
            "config",
            "corpora",
            "request",
            "domain",
            "engine",
            "traces",
        ],
    ),
];

pub(super) fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules named after `crate::` in shipped code: comments and the tests at the foot of a file are left out.
fn used_modules(text: &str) -> BTreeSet<String> {
    let text = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let mut used = BTreeSet::new();
    for line in code {
        for (at, _) in line.match_indices("crate::") {
            let is_path =
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
            let rest = &line[at + "crate::".len()..];
            let name: String = rest
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            assert!(
                !rest.starts_with('{'),
                "write one `use crate::module` per module: {line}"
            );
            if is_path {
                used.insert(name);
            }
        }
    }
    used
}

#[test]
fn no_module_uses_what_lies_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 30, "{}", files.len());
    for file in files {
        let relative = file.strip_prefix(&root).unwrap();
        let module = relative
            .iter()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs");
        // Built for tests only.
        let is_fixture = relative.ends_with("fixture.rs");
        if is_fixture || matches!(module, "app" | "cli" | "main" | "lib") {
            continue;
        }
        let (_, allowed) = ALLOWED
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("no rule for {module}"));
        for used in used_modules(&fs::read_to_string(&file).unwrap()) {
            let is_allowed = used == module || allowed.contains(&used.as_str());
            assert!(is_allowed, "{} uses crate::{used}", relative.display());
        }
    }
}

/// The files of `domain` that a file's `use` lines name, tests left out.
fn used_files(file: &Path, root: &Path) -> BTreeSet<PathBuf> {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let here = if file.ends_with("mod.rs") {
        file.parent().unwrap().to_path_buf()
    } else {
        file.with_extension("")
    };
    let uses = code.split("use ").skip(1).filter_map(|rest| {
        let path = rest.split([';', '{']).next()?;
        let (start, rest) = match path.split_once("::")? {
            ("super", rest) => (here.parent().unwrap().to_path_buf(), rest),
            ("self", rest) => (here.clone(), rest),
            ("crate", rest) => (root.join("src"), rest),
            _ => return None,
        };
        let mut found = start.clone();
        for part in rest.split("::").filter(|part| !part.is_empty()) {
            let next = found.join(part);
            if next.with_extension("rs").is_file() {
                return Some(next.with_extension("rs"));
            }
            if !next.is_dir() {
                break;
            }
            found = next;
        }
        Some(found.join("mod.rs"))
    });
    uses.filter(|used| used.starts_with(root.join("src/domain")) && used != file)
        .collect()
}

#[test]
fn no_two_files_of_the_domain_need_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src/domain"), &mut files);
    let mut edges: BTreeMap<_, _> = files
        .into_iter()
        .map(|file| (file.clone(), used_files(&file, root)))
        .collect();
    assert!(edges.values().map(BTreeSet::len).sum::<usize>() > 30);
    // Takes away what needs nothing that is left; what stays stands in a circle, or needs one.
    while let Some(free) = edges
        .iter()
        .find(|(_, used)| used.is_empty())
        .map(|(file, _)| file.clone())
    {
        edges.remove(&free);
        for used in edges.values_mut() {
            used.remove(&free);
        }
    }
    assert!(edges.is_empty(), "{edges:#?}");
}

/// The times in the database are read in one place, where tests put another clock.
#[test]
fn no_other_statement_asks_for_the_time() {
    const CLOCKS: [&str; 6] = [
        "now()",
        "clock_timestamp",
        "current_timestamp",
        "unixepoch",
        "strftime",
        "datetime(",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src/store"), &mut files);
    for database in ["sqlite", "postgres"] {
        let migrations = fs::read_dir(root.join("migrations").join(database)).unwrap();
        files.extend(migrations.map(|entry| entry.unwrap().path()));
    }
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        // In Rust a statement is a string, and perhaps its line goes on below.
        let is_sql = file.extension().is_some_and(|extension| extension == "sql");
        let lines = text.lines().filter(|line| {
            let is_comment = line.trim_start().starts_with(['/', '-']);
            let is_statement = is_sql || line.contains('"') || line.ends_with('\\');
            !is_comment && is_statement && CLOCKS.iter().any(|clock| line.contains(clock))
        });
        found.extend(lines.map(str::to_owned));
    }
    assert_eq!(found.len(), 2, "{found:?}");
    for line in found {
        assert!(line.contains("const NOW: &str"), "{line}");
    }
}

#[test]
fn every_migration_is_there_for_both_databases_and_is_applied() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = fs::read_to_string(root.join("src/store/schema.rs")).unwrap();
    let lines = schema
        .lines()
        .map(|line| line.trim().trim_matches([',', '"']));
    let is_name = |line: &&str| line.starts_with("00");
    let applied: Vec<_> = lines
        .filter(is_name)
        .map(|name| format!("{name}.sql"))
        .collect();
    for (number, name) in (1..).zip(&applied) {
        assert!(name.starts_with(&format!("{number:04}_")), "{name}");
    }
    for database in ["sqlite", "postgres"] {
        let files = fs::read_dir(root.join("migrations").join(database)).unwrap();
        let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let files: BTreeSet<_> = files.collect();
        assert_eq!(Vec::from_iter(files), applied, "{database}");
    }
}
