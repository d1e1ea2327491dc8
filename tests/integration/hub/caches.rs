//! Caches as other programs leave them: plain files, names that are no digests, disks without links.

use std::fs::{self, FileTimes};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use secateur::domain::ErrorCode;
use secateur::pipeline::hub::{HubModel, HubOptions, shrink_cache};
use tempfile::TempDir;

use crate::hub::models::{WEIGHTS, options};
use crate::hub::to_artifact::{hub_with_bundled_model, prune_with};
use crate::support::servers::mock_hub::{COMMIT, MODEL, MockHub, weights};

/// Makes plain files of a snapshot's links, as on a disk that knows none; gives the snapshot.
fn make_plain(cache: &TempDir) -> PathBuf {
    let root = cache.path().join("models--org--tiny");
    let snapshot = root.join("snapshots").join(COMMIT);
    for entry in fs::read_dir(&snapshot).unwrap() {
        let path = entry.unwrap().path();
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, content).unwrap();
    }
    fs::remove_dir_all(root.join("blobs")).unwrap();
    snapshot
}

/// Every file below a directory, but locks.
fn all_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match (
            path.is_dir() && !path.is_symlink(),
            path.ends_with(".locks"),
        ) {
            (_, true) => {}
            (true, _) => found.extend(all_files(&path)),
            _ => found.push(path),
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn offline_plain_files_and_blobs_of_a_mirror_are_used_as_they_are() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    let online = options(&hub, &cache);
    let offline = HubOptions {
        offline: true,
        ..online.clone()
    };
    let fetch = async |options: &HubOptions| {
        let model = HubModel::resolve(MODEL, "main", options).await?;
        model.fetch(&mut |_| ()).await
    };
    let fetched = fetch(&online).await.unwrap();
    let snapshot = make_plain(&cache);
    assert_eq!(fetch(&offline).await.unwrap().files, fetched.files);
    // A mirror's etags are no digests.
    let blobs = cache.path().join("models--org--tiny/blobs");
    fs::create_dir(&blobs).unwrap();
    fs::rename(snapshot.join(WEIGHTS), blobs.join("5f3a-600000")).unwrap();
    std::os::unix::fs::symlink("../../blobs/5f3a-600000", snapshot.join(WEIGHTS)).unwrap();
    assert_eq!(fetch(&offline).await.unwrap().files, fetched.files);
}

#[tokio::test]
async fn offline_nothing_is_removed_that_nothing_could_bring_back() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    let online = options(&hub, &cache);
    let model = HubModel::resolve(MODEL, "main", &online).await.unwrap();
    let fetched = model.fetch(&mut |_| ()).await.unwrap();
    fs::write(fetched.dir.join(WEIGHTS), b"damaged").unwrap();
    let before = all_files(cache.path());
    let offline = HubOptions {
        offline: true,
        ..online
    };
    let model = HubModel::resolve(MODEL, "main", &offline).await.unwrap();
    let error = model.fetch(&mut |_| ()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::HubUnavailable);
    assert_eq!(all_files(cache.path()), before);
}

#[tokio::test]
async fn plain_files_are_checked_and_not_fetched_again() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    let options = options(&hub, &cache);
    let model = HubModel::resolve(MODEL, "main", &options).await.unwrap();
    model.fetch(&mut |_| ()).await.unwrap();
    let snapshot = make_plain(&cache);
    model.fetch(&mut |_| ()).await.unwrap();
    assert_eq!(hub.downloads(WEIGHTS), 1);
    let mut flipped = weights();
    flipped[1000] ^= 1;
    fs::write(snapshot.join(WEIGHTS), flipped).unwrap();
    model.fetch(&mut |_| ()).await.unwrap();
    assert_eq!(hub.downloads(WEIGHTS), 2);
    assert_eq!(fs::read(snapshot.join(WEIGHTS)).unwrap(), weights());
}

/// Adds a commit with a blob of its own and one that all commits of the model share; gives its snapshot.
fn add_commit(cache: &Path, model: &str, commit: &str, used: u64) -> PathBuf {
    let root = cache.join(format!("models--org--{model}"));
    let (blobs, snapshot) = (root.join("blobs"), root.join("snapshots").join(commit));
    for dir in [&blobs, &snapshot, &root.join("refs")] {
        fs::create_dir_all(dir).unwrap();
    }
    for (name, blob) in [("own.safetensors", commit), ("shared.json", "shared")] {
        let path = blobs.join(blob);
        fs::write(&path, [0; 1000]).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(used);
        let times = FileTimes::new().set_accessed(time).set_modified(time);
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_times(times).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{blob}"), snapshot.join(name)).unwrap();
    }
    snapshot
}

/// The snapshots that are left.
fn left(snapshots: &[&PathBuf]) -> Vec<bool> {
    let left = snapshots.iter().map(|snapshot| snapshot.is_dir());
    left.collect()
}

#[test]
fn a_cache_that_is_too_large_loses_superseded_commits_and_then_what_was_not_read_for_longest() {
    let cache = TempDir::new().unwrap();
    let dir = cache.path();
    let old = add_commit(dir, "a", "a1", 900);
    let new = add_commit(dir, "a", "a2", 1000);
    let other = add_commit(dir, "b", "b1", 500);
    for (model, commit) in [("a", "a2"), ("b", "b1")] {
        fs::write(dir.join(format!("models--org--{model}/refs/main")), commit).unwrap();
    }
    let all = [&old, &new, &other];
    // Five blobs, and the refs.
    assert_eq!(shrink_cache(dir, 5004).unwrap(), 0);
    assert_eq!(shrink_cache(dir, 5003).unwrap(), 1000);
    assert_eq!(left(&all), [false, true, true]);
    assert!(new.join("shared.json").is_file(), "others need it");
    assert_eq!(shrink_cache(dir, 4000).unwrap(), 2002);
    assert_eq!(left(&all), [false, true, false]);
    assert!(!dir.join("models--org--b/refs/main").try_exists().unwrap());
    assert_eq!(shrink_cache(dir, 0).unwrap(), 2002);
    assert_eq!(left(&all), [false; 3]);
}

#[test]
fn blobs_that_a_killed_process_left_go_before_any_model() {
    let cache = TempDir::new().unwrap();
    let dir = cache.path();
    let used = add_commit(dir, "a", "a1", 900);
    let killed = add_commit(dir, "b", "b1", 1000);
    // It died here.
    fs::remove_dir_all(&killed).unwrap();
    let unfinished = dir.join("models--org--b/blobs/b2.incomplete");
    fs::write(&unfinished, [0; 10]).unwrap();
    assert_eq!(shrink_cache(dir, 2010).unwrap(), 2000);
    assert!(used.is_dir());
    assert!(unfinished.is_file(), "another program may be fetching it");
}

#[test]
fn what_cannot_be_read_or_removed_keeps_no_other_model() {
    let cache = TempDir::new().unwrap();
    let dir = cache.path();
    let locked = add_commit(dir, "a", "a1", 100);
    let unreadable = add_commit(dir, "b", "b1", 200);
    let other = add_commit(dir, "c", "c1", 300);
    // No folder of locks can be made.
    fs::create_dir(dir.join(".locks")).unwrap();
    fs::write(dir.join(".locks/models--org--a"), "").unwrap();
    fs::write(dir.join("models--org--b/refs/main"), [0xff]).unwrap();
    assert_eq!(shrink_cache(dir, 0).unwrap(), 2000);
    assert_eq!(left(&[&locked, &unreadable, &other]), [true, true, false]);
}

#[tokio::test]
async fn a_model_that_is_used_stays_in_the_cache() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    let options = options(&hub, &cache);
    let model = HubModel::resolve(MODEL, "main", &options).await.unwrap();
    let fetched = model.fetch(&mut |_| ()).await.unwrap();
    assert_eq!(shrink_cache(cache.path(), 0).unwrap(), 0);
    let (dir, copy) = (fetched.dir.clone(), fetched.clone());
    drop(fetched);
    assert_eq!(shrink_cache(cache.path(), 0).unwrap(), 0);
    assert!(dir.join(WEIGHTS).is_file());
    drop(copy);
    assert!(shrink_cache(cache.path(), 0).unwrap() > 600_000);
    assert!(!dir.try_exists().unwrap());
}

/// A library that makes the disk one without symbolic links.
fn without_links(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("no_links.c"), dir.join("no_links.so"));
    let code = "#include <errno.h>
        int symlink(const char *a, const char *b) { (void)a; (void)b; errno = EPERM; return -1; }
        int symlinkat(const char *a, int d, const char *b) { (void)a; (void)d; (void)b; errno = EPERM; return -1; }";
    fs::write(&source, code).unwrap();
    let mut cc = Command::new("cc");
    let compiled = cc
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source);
    assert!(compiled.status().unwrap().success());
    library
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_links_holds_the_files_themselves() {
    let (hub, dir) = (hub_with_bundled_model().await, TempDir::new().unwrap());
    let library = without_links(dir.path());
    for out in ["one", "two"] {
        let output = prune_with(
            &hub,
            dir.path(),
            out,
            &[("LD_PRELOAD", library.as_os_str())],
        )
        .await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
    assert_eq!(hub.downloads(WEIGHTS), 1);
}
