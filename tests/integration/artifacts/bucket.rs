//! The artifact store in a bucket: what is stored is what comes back, whatever happens on the way.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use hyper::{Method, StatusCode};
use secateur::artifacts::{self, ArtifactError, ArtifactStore, StoredState};
use secateur::domain::JobId;
use secateur::domain::report::manifest::FileEntry;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::support::servers::s3_server::{Fault, S3Server, SECRET};

/// More than two parts.
const LARGE: usize = (32 << 20) + 5;

const SLOW_DOWN: Fault = Fault::Status(StatusCode::SERVICE_UNAVAILABLE, "SlowDown");
const BROKEN: Fault = Fault::Status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
const DENIED: Fault = Fault::Status(StatusCode::FORBIDDEN, "AccessDenied");

struct Bucket {
    server: S3Server,
    artifacts: Arc<dyn ArtifactStore>,
    local: TempDir,
    files: Vec<FileEntry>,
}

impl Bucket {
    /// A large and a small file are there to be published.
    async fn open() -> Self {
        let server = S3Server::start();
        let settings = server.settings();
        let artifacts = artifacts::open(&S3Server::place(), &settings).await;
        let artifacts = artifacts.unwrap();
        let local = tempfile::tempdir().unwrap();
        let large: Vec<u8> = (0..LARGE as u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        std::fs::create_dir(local.path().join("finished")).unwrap();
        let files =
            [("model.safetensors", &large[..]), ("config.json", b"{}")].map(|(name, content)| {
                std::fs::write(local.path().join("finished").join(name), content).unwrap();
                FileEntry {
                    name: name.to_owned(),
                    size_bytes: content.len() as u64,
                    sha256: hex::encode(Sha256::digest(content)),
                }
            });
        Self {
            server,
            artifacts,
            local,
            files: files.to_vec(),
        }
    }

    async fn publish(&self) -> Result<(), ArtifactError> {
        let finished = self.local.path().join("finished");
        self.artifacts
            .publish(job(), 2, &finished, &self.files)
            .await
    }

    async fn published() -> Self {
        let bucket = Self::open().await;
        bucket.publish().await.unwrap();
        bucket
    }

    async fn fetch(&self, name: &str) -> Result<PathBuf, ArtifactError> {
        let target = self.local.path().join(name);
        self.artifacts
            .fetch(job(), 2, &self.files[0], &target)
            .await?;
        Ok(target)
    }

    fn assert_is_large(&self, path: &Path) {
        let digest = hex::encode(Sha256::digest(std::fs::read(path).unwrap()));
        assert_eq!(digest, self.files[0].sha256);
    }
}

fn job() -> JobId {
    "job_019abcde0123789a8bcdef0123456789".parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_comes_back_whole_and_in_parts_until_it_is_deleted() {
    let bucket = Bucket::published().await;
    let names = ["config.json", "model.safetensors"];
    let keys = names.map(|name| format!("jobs/{}/attempts/2/dense/{name}", job()));
    assert_eq!(bucket.server.objects(), keys, "no note is left");
    assert_eq!(bucket.server.parts(), 0);

    let artifacts = &bucket.artifacts;
    let size = async |name| artifacts.size(job(), 2, name).await.unwrap();
    assert_eq!(size("model.safetensors").await, Some(LARGE as u64));
    assert_eq!(size("nothing").await, None);
    bucket.assert_is_large(&bucket.fetch("whole").await.unwrap());
    let range = 16_777_210..16_777_220;
    let part = artifacts.read(job(), 2, "model.safetensors", range.clone());
    let part: Vec<_> = part.await.unwrap().try_collect().await.unwrap();
    let finished = std::fs::read(bucket.local.path().join("finished/model.safetensors")).unwrap();
    assert_eq!(
        part.concat(),
        finished[range.start as usize..range.end as usize]
    );

    let stored = artifacts.list(&HashSet::new()).await.unwrap();
    assert_eq!(stored[&job()].attempts, [2].into());
    artifacts.delete_attempt(job(), 2).await.unwrap();
    artifacts.delete_attempt(job(), 2).await.unwrap();
    assert_eq!(artifacts.list(&HashSet::new()).await.unwrap(), [].into());
    assert_eq!(bucket.server.objects(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_that_pass_are_got_over_while_publishing() {
    for (method, part, fault) in [
        (Method::PUT, "config.json", SLOW_DOWN),
        (Method::POST, "model.safetensors?uploads", SLOW_DOWN),
        (Method::PUT, "partNumber=2", BROKEN),
        (Method::PUT, "partNumber=1", Fault::Reset),
        (
            Method::PUT,
            "partNumber=3",
            Fault::Slow(Duration::from_millis(200)),
        ),
        (Method::POST, "model.safetensors?uploadId", SLOW_DOWN),
        (Method::PUT, "config.json", Fault::WrongTag),
        (Method::HEAD, "model.safetensors", BROKEN),
    ] {
        let bucket = Bucket::open().await;
        bucket.server.fail(method, part, fault, 2);
        let published = bucket.publish().await;
        assert!(published.is_ok(), "{part} {fault:?}: {published:?}");
        assert!(bucket.server.unmet() < 2, "{part} {fault:?} was never met");
        bucket.server.heal();
        bucket.assert_is_large(&bucket.fetch("copy").await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_fails_for_good_leaves_no_parts_and_says_no_secrets() {
    let bucket = Bucket::open().await;
    bucket.server.fail(Method::PUT, "partNumber=2", DENIED, 1);
    let error = bucket.publish().await.unwrap_err();
    assert!(matches!(error, ArtifactError::Bucket { .. }), "{error:?}");
    assert_eq!(bucket.server.parts(), 0, "the upload was ended");
    let told = format!("{error} {error:?}");
    assert!(told.contains("AccessDenied"), "{told}");
    assert!(!told.contains(SECRET) && !told.contains("AKIA"), "{told}");
    bucket.publish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parts_of_a_killed_upload_go_with_the_attempt() {
    let bucket = Bucket::open().await;
    bucket
        .server
        .fail(Method::PUT, "partNumber=3", Fault::Silent, 1);
    {
        let publish = bucket.publish();
        tokio::pin!(publish);
        let begun = async {
            while bucket.server.unmet() > 0 || bucket.server.parts() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            published = &mut publish => panic!("{published:?}"),
            () = begun => {}
        }
        // Dropped in the middle, as a worker that dies drops it.
    }
    assert!(bucket.server.parts() > 0);
    let stored = bucket.artifacts.list(&HashSet::new()).await.unwrap();
    assert_eq!(stored[&job()].attempts, [2].into(), "its note is seen");
    bucket.artifacts.delete_attempt(job(), 2).await.unwrap();
    assert_eq!(bucket.server.parts(), 0);
    assert_eq!(bucket.server.objects(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_what_was_announced_is_not_published() {
    let mut bucket = Bucket::open().await;
    bucket.files[0].sha256 = "0".repeat(64);
    let error = bucket.publish().await.unwrap_err();
    assert!(matches!(error, ArtifactError::Damaged { .. }), "{error:?}");
    assert_eq!(bucket.server.objects(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_download_is_repeated_and_one_that_stays_broken_is_refused() {
    let bucket = Bucket::published().await;
    for (number, fault) in [Fault::Truncated, Fault::Corrupt, BROKEN, Fault::Reset]
        .into_iter()
        .enumerate()
    {
        bucket
            .server
            .fail(Method::GET, "model.safetensors", fault, 1);
        let copy = bucket.fetch(&format!("copy-{number}")).await.unwrap();
        bucket.assert_is_large(&copy);
        assert_eq!(bucket.server.unmet(), 0, "{fault:?}");
    }
    bucket
        .server
        .fail(Method::GET, "model.safetensors", Fault::Corrupt, 100);
    let error = bucket.fetch("broken").await.unwrap_err();
    assert!(matches!(error, ArtifactError::Damaged { .. }), "{error:?}");
    let broken = bucket.local.path().join("broken");
    assert!(!broken.try_exists().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_or_not_ours_is_not_opened() {
    let server = S3Server::start();
    let other = "s3://nowhere".parse().unwrap();
    assert!(artifacts::open(&other, &server.settings()).await.is_err());
    let mut settings = server.settings();
    settings.credentials.as_mut().unwrap().secret_access_key = "wrong".to_owned();
    let refused = artifacts::open(&S3Server::place(), &settings).await;
    assert!(refused.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mark_of_an_unknown_job_lies_in_the_bucket() {
    let bucket = Bucket::published().await;
    let since =
        async || bucket.artifacts.list(&HashSet::new()).await.unwrap()[&job()].unknown_since;
    assert_eq!(since().await, None);
    bucket.artifacts.mark_unknown(job()).await.unwrap();
    let first = since().await;
    assert!(first.is_some());
    bucket.artifacts.mark_unknown(job()).await.unwrap();
    assert_eq!(since().await, first);
    bucket.artifacts.unmark_unknown(job()).await.unwrap();
    bucket.artifacts.unmark_unknown(job()).await.unwrap();
    assert_eq!(since().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_of_later_attempts_stay() {
    let bucket = Bucket::open().await;
    let checkpoints = bucket.artifacts.resume_states().unwrap();
    for attempt in [1, 2, 10] {
        let empty = StoredState::new(1, "{}".to_owned(), Vec::new());
        checkpoints.write(job(), attempt, &empty).await.unwrap();
    }
    checkpoints.delete_until(job(), 2).await.unwrap();
    let left = format!("jobs/{}/checkpoints/10/checkpoint.json", job());
    assert_eq!(bucket.server.objects(), [left]);
    checkpoints.delete_until(job(), u32::MAX).await.unwrap();
    assert!(bucket.server.objects().is_empty());
}
