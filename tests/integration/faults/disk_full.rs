//! A file system of 64 MiB as the data directory.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::database::{Database, block_on};
use crate::support::processes::{Site, until};
use crate::support::synthetic::{Shape, write_local_model};

const SIZE: &str = "size=64m";

/// The model's weights: 27 MB.
const SHAPE: Shape = Shape {
    hidden: 512,
    intermediate: 1024,
    blocks: 2,
    vocab: 768,
};

/// A file system of its own, unmounted when dropped.
struct Disk {
    dir: TempDir,
}

impl Disk {
    /// `None`, and that was said, where mounting is not permitted, which `CI` forbids.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", SIZE, "tmpfs"])
            .arg(dir.path())
            .output()
            .unwrap();
        if mounted.status.success() {
            return Some(Self { dir });
        }
        let why = String::from_utf8_lossy(&mounted.stderr);
        assert!(std::env::var_os("CI").is_none(), "cannot mount: {why}");
        let line = format!("NOT RUN: tests of a full disk: {why}");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        None
    }

    fn filler(&self) -> PathBuf {
        self.dir.path().join("filler")
    }

    /// Leaves no more than so many bytes.
    fn fill(&self, left_bytes: u64) {
        let mut file = File::create(self.filler()).unwrap();
        while free_bytes(self.dir.path()) > left_bytes {
            let piece = (free_bytes(self.dir.path()) - left_bytes).min(1 << 20);
            // Somebody else may have taken the last ones.
            if file.write_all(&vec![0; piece as usize]).is_err() {
                return;
            }
        }
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount")
            .arg("-l")
            .arg(self.dir.path())
            .status();
        drop(unmounted);
    }
}

fn free_bytes(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    stat.f_bavail * stat.f_frsize
}

/// The data directory is on the small disk, models and logs are not.
fn site(dir: &Path, disk: &Disk) -> Site {
    write_local_model(&dir.join("models/wide"), SHAPE);
    let home = disk.dir.path().join("home");
    let url = format!("sqlite://{}", home.join("secateur.db").display());
    Site::new(dir, &Database::sqlite())
        .with("SECATEUR_HOME", home)
        .with("SECATEUR_DATABASE_URL", url)
}

fn body() -> Value {
    json!({
        "model": {"source": "local", "id": "wide"}, "sparsity": 0.5, "pattern": "unstructured",
        "calibration": {"dataset": "demo", "n_samples": 2, "seq_len": 64},
        "evaluation": {"perplexity": ["demo"], "seq_len": 64, "windows": 1},
    })
}

fn assert_database_is_whole(disk: &Disk) {
    let file = disk.dir.path().join("home/secateur.db");
    assert_eq!(block_on(Database::integrity(&file)), "ok");
}

#[test]
fn a_job_that_does_not_fit_waits_for_room_without_spending_an_attempt() {
    let Some(disk) = Disk::mount() else { return };
    let dir = tempfile::tempdir().unwrap();
    let server = site(dir.path(), &disk).server();
    // Enough to be accepted, too little for the artifact.
    disk.fill(20 << 20);
    let id = server.submit(&body());
    let job = server.job_when(&id, |job| job["status_reason"] == "no_worker_fits");
    let detail = job["status_detail"].as_str().unwrap();
    assert!(detail.contains("of disk"), "{job}");
    assert_eq!(job["failed_attempts"], 0, "{job}");
    assert_database_is_whole(&disk);

    disk.free();
    server.succeeded(&id);
    assert_database_is_whole(&disk);
}

#[test]
fn a_database_without_room_takes_no_job_and_loses_none() {
    let Some(disk) = Disk::mount() else { return };
    let dir = tempfile::tempdir().unwrap();
    let server = site(dir.path(), &disk).api();
    let mut accepted = vec![server.submit(&body())];
    disk.fill(0);
    // The last free pages of the database's own files are still there.
    let refusal = until("a refusal", || {
        let answer = server.post("/v1/jobs", &body());
        match answer["id"].as_str() {
            Some(id) => accepted.push(id.to_owned()),
            None => return Some(answer),
        }
        None
    });
    assert_eq!(refusal["code"], "unavailable", "{refusal}");
    assert_eq!(refusal["status"], 503, "{refusal}");
    let (ready, checks) = server.status_and_json("/readyz");
    assert_eq!(ready, 503, "{checks}");
    for id in &accepted {
        assert_eq!(server.job(id)["status"], "queued");
    }
    assert_database_is_whole(&disk);

    disk.free();
    // The answer to a refusal says that it may be tried again.
    let id = until("an answer with room", || {
        let answer = server.post("/v1/jobs", &body());
        answer["id"].as_str().map(str::to_owned)
    });
    accepted.push(id);
    let listed = server.get("/v1/jobs?limit=100");
    assert_eq!(listed["counts"]["queued"], accepted.len(), "{listed}");
}
