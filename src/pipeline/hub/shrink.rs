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

/// Removes models until the cache holds at most `most_bytes`; gives the bytes that were freed.
pub fn shrink_cache(root: &Path, most_bytes: u64) -> io::Result<u64> {
    let mut used = used_bytes(root)?;
    let before = used;
    if used <= most_bytes {
        return Ok(0);
    }
    let mut commits = Vec::new();
    for (folder, path) in entries(root)? {
        if folder.starts_with("models--") {
            add_commits(&folder, &path, &mut commits)?;
        }
    }
    commits.sort();
    for cached in commits {
        if used <= most_bytes {
            break;
        }
        if cached.remove(root)? {
            let (model, commit) = (&cached.folder, &cached.commit);
            tracing::info!(model, commit, "removed from the cache of the hub");
            used = used_bytes(root)?;
        }
    }
    Ok(before.saturating_sub(used))
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
        let locks = root.join(".locks").join(&self.folder);
        fs::create_dir_all(&locks)?;
        let [fetching, using] = [FETCH_LOCK, USE_LOCK].map(|name| File::create(locks.join(name)));
        let (fetching, using) = (fetching?, using?);
        if fetching.try_lock().is_err() || using.try_lock().is_err() {
            return Ok(false);
        }
        let model = root.join(&self.folder);
        fs::remove_dir_all(model.join("snapshots").join(&self.commit))?;
        for file in files(&model.join("refs"))? {
            if fs::read_to_string(&file)?.trim() == self.commit {
                fs::remove_file(file)?;
            }
        }
        let mut needed = BTreeSet::new();
        for file in files(&model.join("snapshots"))? {
            needed.extend(fs::read_link(file).ok().as_deref().and_then(name_of));
        }
        for (name, blob) in entries(&model.join("blobs"))? {
            if !needed.contains(&name) {
                fs::remove_file(blob)?;
            }
        }
        Ok(true)
    }
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
