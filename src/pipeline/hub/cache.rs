//! One repository's folder in the Hugging Face cache, as far as the client library gives no access to it.
//!
//! ```text
//! models--org--name/blobs/<digest>             the content; of a data set, datasets--org--name/…
//! models--org--name/snapshots/<commit>/<name>  a link to its blob
//! models--org--name/refs/<revision>            the commit that a branch or tag had
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::error::HubError;
use super::listing::{ListedFile, Listing};
use super::verify::{self, Digest, Mismatch};
use crate::domain::report::manifest::FileEntry;
use crate::models::weight_map_of;

/// Locked by who fetches from a repository, in its folder of locks.
pub(super) const FETCH_LOCK: &str = "secateur.lock";

/// Locked together by all who use what lies in the cache of a repository.
pub(super) const USE_LOCK: &str = "secateur-use.lock";

/// How often a process that waits for another one's download looks again.
const LOCK_POLL: Duration = Duration::from_millis(200);

#[derive(Debug, Clone)]
pub(super) struct RepoCache {
    root: PathBuf,
    folder: String,
}

impl RepoCache {
    /// `kinds` is `models` or `datasets`; `owner` and `name` have been validated.
    pub(super) fn new(root: &Path, kinds: &str, owner: &str, name: &str) -> Self {
        Self {
            root: root.to_path_buf(),
            folder: format!("{kinds}--{owner}--{name}"),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn snapshot_dir(&self, commit: &str) -> PathBuf {
        self.root.join(&self.folder).join("snapshots").join(commit)
    }

    fn ref_path(&self, revision: &str) -> PathBuf {
        self.root.join(&self.folder).join("refs").join(revision)
    }

    /// The commit that a branch or tag had when it was last fetched.
    pub(super) fn read_ref(&self, revision: &str) -> Option<String> {
        let text = fs::read_to_string(self.ref_path(revision)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Notes the commit of a branch or tag for work without the hub; one that was found earlier only where none is noted
    /// that was found later. The time of the file is when its commit was found.
    pub(super) fn write_ref(
        &self,
        revision: &str,
        commit: &str,
        found_at: Option<SystemTime>,
    ) -> io::Result<()> {
        let path = self.ref_path(revision);
        let noted_at = fs::metadata(&path).and_then(|file| file.modified());
        if noted_at.is_ok_and(|noted_at| found_at.is_some_and(|found_at| noted_at > found_at)) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, commit)?;
        match found_at {
            Some(found_at) => File::options()
                .write(true)
                .open(path)?
                .set_modified(found_at),
            None => Ok(()),
        }
    }

    /// Notes which files a whole model of this commit consists of, for work without the hub: others fetch a part of them.
    pub(super) fn write_names(&self, commit: &str, names: &[&str]) -> io::Result<()> {
        fs::create_dir_all(self.own_dir())?;
        fs::write(self.names_path(commit), serde_json::to_vec(names)?)
    }

    /// Whether every file that was noted of this commit is listed; `false` where none were.
    pub(super) fn has_all_names(&self, commit: &str, listing: &Listing) -> bool {
        let noted = fs::read(self.names_path(commit)).ok();
        let names = noted.and_then(|text| serde_json::from_slice::<Vec<String>>(&text).ok());
        names.is_some_and(|names| names.iter().all(|name| listing.get(name).is_some()))
    }

    fn names_path(&self, commit: &str) -> PathBuf {
        self.own_dir().join(format!("{commit}.json"))
    }

    /// For files that no other tool of the cache knows.
    fn own_dir(&self) -> PathBuf {
        self.root.join(".locks").join(&self.folder)
    }

    /// Waits until no other task or process fetches from this repository. Dropping the file lets the next one in.
    ///
    /// The library's own locks give up after ten seconds, and it starts a blob again that another one just finished.
    pub(super) async fn lock(&self) -> Result<File, HubError> {
        self.wait_for(FETCH_LOCK, File::try_lock).await
    }

    /// Keeps what lies in the cache of this repository from being removed, until the file is dropped.
    pub(super) async fn lock_use(&self) -> Result<File, HubError> {
        self.wait_for(USE_LOCK, File::try_lock_shared).await
    }

    async fn wait_for(
        &self,
        name: &str,
        try_lock: fn(&File) -> Result<(), TryLockError>,
    ) -> Result<File, HubError> {
        let dir = self.own_dir();
        let path = dir.join(name);
        fs::create_dir_all(&dir).map_err(HubError::io(&dir))?;
        let file = File::create(&path).map_err(HubError::io(&path))?;
        loop {
            match try_lock(&file) {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_POLL).await,
                Err(TryLockError::Error(error)) => return Err(HubError::io(&path)(error)),
            }
        }
    }

    /// A file of a snapshot, by the name of its blob, which is a digest. `None` if it is not there or was never finished.
    pub(super) fn find(&self, commit: &str, name: &str) -> Option<ListedFile> {
        let pointer = self.snapshot_dir(commit).join(name);
        let metadata = fs::metadata(&pointer).ok()?;
        Some(ListedFile {
            name: name.to_owned(),
            size_bytes: metadata.len(),
            digest: blob_digest(&pointer),
        })
    }

    /// What lies at the top of a snapshot, by the names of its blobs.
    pub(super) fn list(&self, commit: &str) -> io::Result<Listing> {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.snapshot_dir(commit))? {
            let entry = entry?;
            // A dangling link is a file that was never finished.
            let (Ok(metadata), Ok(name)) =
                (fs::metadata(entry.path()), entry.file_name().into_string())
            else {
                continue;
            };
            files.push(ListedFile {
                name,
                size_bytes: metadata.len(),
                digest: blob_digest(&entry.path()),
            });
        }
        Ok(Listing::from_files(files))
    }

    /// Whether the snapshot has every shard that its index names.
    pub(super) fn has_shards(&self, commit: &str, listing: &Listing) -> bool {
        if !listing.is_sharded() {
            return true;
        }
        let map = weight_map_of(&self.snapshot_dir(commit));
        map.is_some_and(|map| map.values().all(|shard| listing.get(shard).is_some()))
    }

    /// Whether a file is a link into the blobs, or will be one: some disks know no links, and some caches hold files.
    pub(super) fn will_link(&self, commit: &str, name: &str) -> bool {
        match fs::symlink_metadata(self.snapshot_dir(commit).join(name)) {
            Ok(metadata) => metadata.is_symlink(),
            Err(_) => self.can_link(),
        }
    }

    /// Whether the cache's disk knows symbolic links.
    pub(super) fn can_link(&self) -> bool {
        let probe = self.own_dir().join("link");
        // A process that was killed after this left its own.
        let is_there = |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists;
        let made = std::os::unix::fs::symlink("nothing", &probe);
        drop(fs::remove_file(&probe));
        made.map_or_else(|error| is_there(&error), |()| true)
    }

    /// Compares a file of the snapshot with the listing.
    ///
    /// A file that differs is removed, so that no job reads it and the library fetches it again; offline nothing could bring it
    /// back, and a file whose digest is not known is taken as it is.
    pub(super) async fn verify(
        &self,
        commit: &str,
        file: &ListedFile,
        offline: bool,
    ) -> Result<Result<FileEntry, Mismatch>, HubError> {
        let pointer = self.snapshot_dir(commit).join(&file.name);
        let listed = file.clone();
        let path = pointer.clone();
        let check = move || verify_pointer(&path, &listed, offline);
        let checked = tokio::task::spawn_blocking(check).await;
        let verdict = checked.map_err(io::Error::other).flatten();
        let verdict = verdict.map_err(HubError::io(&pointer))?;
        if verdict.is_err() && !offline {
            remove_with_blob(&pointer).map_err(HubError::io(&pointer))?;
        }
        Ok(verdict)
    }
}

fn verify_pointer(
    pointer: &Path,
    listed: &ListedFile,
    offline: bool,
) -> io::Result<Result<FileEntry, Mismatch>> {
    if !pointer.try_exists()? {
        return Ok(Err(Mismatch::Absent));
    }
    let sent_with_file = || match blob_digest(pointer) {
        Some(Digest::Sha256(digest)) => Some(Digest::Sha256(digest)),
        // A short digest belongs to the text that stands for a large file in git, not to the file.
        Some(Digest::GitBlob(_)) | None => None,
    };
    match listed.digest.clone().or_else(sent_with_file) {
        None if !offline => Ok(Err(Mismatch::Unlisted)),
        digest => verify::check(pointer, &listed.name, listed.size_bytes, digest.as_ref()),
    }
}

/// The digest that a snapshot's link names.
fn blob_digest(pointer: &Path) -> Option<Digest> {
    let blob = fs::read_link(pointer).ok()?;
    Digest::parse(blob.file_name()?.to_str()?)
}

/// Removes a link of a snapshot and, if it leads into the blobs, what it leads to.
fn remove_with_blob(pointer: &Path) -> io::Result<()> {
    let target = fs::read_link(pointer).ok();
    let blob = target.and_then(|target| Some(pointer.parent()?.join(target)));
    let is_blob = |path: &PathBuf| {
        path.parent()
            .and_then(Path::file_name)
            .is_some_and(|dir| dir == "blobs")
    };
    for path in blob
        .iter()
        .filter(|path| is_blob(path))
        .map(PathBuf::as_path)
        .chain([pointer])
    {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_was_found_earlier_takes_no_place_of_a_later_one() {
        let root = tempfile::tempdir().unwrap();
        let cache = RepoCache::new(root.path(), "models", "org", "tiny");
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        // In the order in which their jobs end.
        for (commit, found_at, noted) in [
            ("b", at(20), "b"),
            ("a", at(10), "b"),
            ("c", at(30), "c"),
            ("b", at(20), "c"),
            ("d", None, "d"),
            ("c", at(30), "d"),
        ] {
            cache.write_ref("main", commit, found_at).unwrap();
            assert_eq!(cache.read_ref("main").as_deref(), Some(noted));
        }
    }

    #[test]
    fn the_link_of_a_killed_process_is_no_disk_without_links() {
        let root = tempfile::tempdir().unwrap();
        let cache = RepoCache::new(root.path(), "models", "org", "tiny");
        let left = cache.own_dir().join("link");
        fs::create_dir_all(cache.own_dir()).unwrap();
        std::os::unix::fs::symlink("nothing", &left).unwrap();
        assert!(cache.can_link());
        assert!(left.symlink_metadata().is_err());
    }
}
