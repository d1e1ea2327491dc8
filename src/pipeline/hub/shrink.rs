//! Removes models from the hub's cache until it is small enough.
//!
//! First commits that no branch or tag of the cache names any more, then those that were not read for longest. What a process
//! works on is locked, and stays.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::cache::{FETCH_LOCK, USE_LOCK};
use crate::machine::used_bytes;

/// The ending of a blob that is not whole yet.
const UNFINISHED: &str = ".incomplete";

/// A commit of a model in the cache.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CachedCommit {
    /// Whether a branch or tag names it.
    is_named: bool,
    /// When one of its files was read last.
    used_at: SystemTime,
    /// The folder of its model.
    folder: String,
    commit: String,
}

/// Removes models until the cache holds at most `most_bytes`; gives the bytes that were freed. What cannot be read or removed
/// stays, and keeps nothing else.
pub fn shrink_cache(root: &Path, most_bytes: u64) -> io::Result<u64> {
    let before = used_bytes(root);
    if before <= most_bytes {
        return Ok(0);
    }
    let mut commits = Vec::new();
    for (model, path) in entries(root)? {
        if model.starts_with("models--") {
            log_failure(&model, remove_orphans(root, &model));
            log_failure(&model, add_commits(&model, &path, &mut commits));
        }
    }
    commits.sort();
    let mut used = used_bytes(root);
    for cached in commits {
        if used <= most_bytes {
            break;
        }
        let (model, commit) = (&cached.folder, &cached.commit);
        let removed = cached.remove(root);
        if let Ok(true) = removed {
            tracing::info!(model, commit, "removed from the cache of the hub");
        }
        log_failure(model, removed.map(drop));
        used = used_bytes(root);
    }
    Ok(before.saturating_sub(used))
}

fn log_failure(model: &str, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!(model, %error, "part of the cache of the hub cannot be read or removed");
    }
}

fn add_commits(folder: &str, path: &Path, found: &mut Vec<CachedCommit>) -> io::Result<()> {
    let mut named = BTreeSet::new();
    for file in files(&path.join("refs"))? {
        named.insert(fs::read_to_string(file)?.trim().to_owned());
    }
    for (commit, snapshot) in entries(&path.join("snapshots"))? {
        let times = files(&snapshot)?.into_iter().filter_map(|file| {
            // Of what a link leads to; one that leads nowhere was never finished.
            let file = fs::metadata(file).ok()?;
            file.accessed().or_else(|_| file.modified()).ok()
        });
        found.push(CachedCommit {
            is_named: named.contains(&commit),
            used_at: times.max().unwrap_or(SystemTime::UNIX_EPOCH),
            folder: folder.to_owned(),
            commit,
        });
    }
    Ok(())
}

impl CachedCommit {
    /// Removes it with the blobs that only it needs; `false` where a process fetches or uses this model.
    fn remove(&self, root: &Path) -> io::Result<bool> {
        let Some(_locks) = try_lock(root, &self.folder)? else {
            return Ok(false);
        };
        let model = root.join(&self.folder);
        fs::remove_dir_all(model.join("snapshots").join(&self.commit))?;
        for file in files(&model.join("refs"))? {
            if fs::read_to_string(&file)?.trim() == self.commit {
                fs::remove_file(file)?;
            }
        }
        remove_blobs(&model, |_| true)?;
        Ok(true)
    }
}

/// Removes the blobs that a process left behind which died while it removed their commit.
fn remove_orphans(root: &Path, folder: &str) -> io::Result<()> {
    let Some(_locks) = try_lock(root, folder)? else {
        return Ok(());
    };
    // Another program may be fetching these.
    remove_blobs(&root.join(folder), |name| !name.ends_with(UNFINISHED))
}

/// Locks a model against those who fetch or use it; `None` where a process does.
fn try_lock(root: &Path, folder: &str) -> io::Result<Option<[File; 2]>> {
    let locks = root.join(".locks").join(folder);
    fs::create_dir_all(&locks)?;
    let [fetching, using] = [FETCH_LOCK, USE_LOCK].map(|name| File::create(locks.join(name)));
    let (fetching, using) = (fetching?, using?);
    let are_free = fetching.try_lock().is_ok() && using.try_lock().is_ok();
    Ok(are_free.then_some([fetching, using]))
}

/// Removes the blobs of a model that no snapshot links to, as far as their names may be removed.
fn remove_blobs(model: &Path, may_go: impl Fn(&str) -> bool) -> io::Result<()> {
    let mut needed = BTreeSet::new();
    for file in files(&model.join("snapshots"))? {
        needed.extend(fs::read_link(file).ok().as_deref().and_then(name_of));
    }
    let mut removed = Ok(());
    for (name, blob) in entries(&model.join("blobs"))? {
        if !needed.contains(&name) && may_go(&name) {
            removed = removed.and(fs::remove_file(blob));
        }
    }
    removed
}

fn name_of(path: &Path) -> Option<String> {
    path.file_name()?.to_str().map(str::to_owned)
}

/// What lies in a directory, by name; nothing where it does not exist.
fn entries(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        found.extend(name_of(&path).map(|name| (name, path)));
    }
    Ok(found)
}

/// The files below a directory, links among them.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for (_, path) in entries(dir)? {
        if fs::symlink_metadata(&path)?.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}
