//! One request to the hub, or one file of it: watched for silence, checked, and tried again.

use std::time::Duration;

use hf_hub::progress::{DownloadEvent, FileStatus, ProgressEvent, ProgressHandler};
use hf_hub::{HFError, RepoType};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::error::HubError;
use super::listing::ListedFile;
use super::repository::Repository;
use crate::domain::report::manifest::FileEntry;

/// Attempts to fetch one file before the job fails.
const MAX_ATTEMPTS: u32 = 3;

/// How long it may take to connect to the hub.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Progress is reported in steps of this size; the library reports every packet.
const REPORT_BYTES: u64 = 1 << 18;

impl<K: RepoType> Repository<K> {
    /// Waits for an answer of the hub until the stall timeout, or until it is clear that none will come: the client
    /// library tries to connect again and again.
    pub(super) async fn answer<T>(
        &self,
        what: &str,
        request: impl Future<Output = Result<T, HFError>>,
    ) -> Result<T, HubError> {
        let answer = tokio::select! {
            answer = timeout(self.options.stall_timeout, request) => answer,
            error = self.refusal() => return Err(error),
        };
        match answer {
            Ok(Err(HFError::Request { source, .. })) if source.is_connect() => {
                let address = source.url().map_or(&*self.endpoint, |url| url.as_str());
                Err(HubError::unreachable(address, &source))
            }
            Ok(answer) => {
                answer.map_err(|error| HubError::from_client(what, self.cache.root(), error))
            }
            Err(_) => Err(self.silent(what)),
        }
    }

    /// Looks for itself when no answer has come for a moment; returns only where nobody can be connected to.
    async fn refusal(&self) -> HubError {
        sleep(self.options.first_look).await;
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .build();
        if let Ok(client) = client
            && let Err(error) = client.head(&self.endpoint).send().await
            && error.is_connect()
        {
            return HubError::unreachable(&self.endpoint, &error);
        }
        std::future::pending().await
    }

    fn silent(&self, what: &str) -> HubError {
        HubError::Unavailable {
            what: what.to_owned(),
            reason: format!(
                "nothing came for {} s",
                self.options.stall_timeout.as_secs_f64()
            ),
            is_away: true,
        }
    }

    /// Fetches a file until it is what the hub lists.
    pub(super) async fn download(
        &self,
        file: &ListedFile,
        report: &mut (dyn FnMut(u64) + Send),
    ) -> Result<FileEntry, HubError> {
        let what = format!("{} of {}", file.name, self.what);
        let mut delay = self.options.retry_delay;
        let mut attempt = 1;
        loop {
            match self.attempt(&what, file, report).await {
                Ok(entry) => return Ok(entry),
                Err(error) if attempt == MAX_ATTEMPTS || !error.is_transient() => {
                    return Err(error);
                }
                Err(error) => tracing::warn!(%error, attempt, "fetching the file again"),
            }
            sleep(delay).await;
            delay *= 2;
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        what: &str,
        file: &ListedFile,
        report: &mut (dyn FnMut(u64) + Send),
    ) -> Result<FileEntry, HubError> {
        self.transfer(what, &file.name, report).await?;
        match self.cache.verify(&self.commit, file, false).await? {
            Ok(entry) => Ok(entry),
            Err(mismatch) => {
                // The library stores the page of a refusal as if it were the file. Ask for one byte in the way in
                // which it does look at the status: that tells a refusal from a damaged file.
                self.probe(what, &file.name).await?;
                Err(HubError::Corrupt {
                    what: what.to_owned(),
                    mismatch,
                })
            }
        }
    }

    async fn transfer(
        &self,
        what: &str,
        name: &str,
        report: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), HubError> {
        let (sender, mut received) = watch::channel(0);
        let request = self
            .handle
            .download_file()
            .filename(name)
            .revision(&self.commit)
            // Where the cache's disk cannot link, the file itself is kept in the snapshot.
            .maybe_local_dir((!self.cache.can_link()).then(|| self.snapshot_dir()));
        let request = request.progress(ByteCount(sender)).send();
        tokio::pin!(request);
        loop {
            tokio::select! {
                biased;
                done = &mut request => {
                    let path = done.map_err(|error| HubError::from_client(what, self.cache.root(), error))?;
                    debug_assert_eq!(path, self.cache.snapshot_dir(&self.commit).join(name));
                    return Ok(());
                }
                moved = timeout(self.options.stall_timeout, received.changed()) => match moved {
                    Ok(Ok(())) => report(*received.borrow_and_update()),
                    // The library has let go of the counter: the file is being linked into the snapshot.
                    Ok(Err(_)) => return self.answer(what, async { (&mut request).await.map(drop) }).await,
                    Err(_) => return Err(self.silent(what)),
                },
            }
        }
    }

    async fn probe(&self, what: &str, name: &str) -> Result<(), HubError> {
        let request = self
            .handle
            .download_file_stream()
            .filename(name)
            .revision(&self.commit);
        self.answer(what, async { request.range(0..1).send().await.map(drop) })
            .await
    }
}

/// Passes the bytes of the one file on that is being fetched.
struct ByteCount(watch::Sender<u64>);

impl ProgressHandler for ByteCount {
    fn on_progress(&self, event: &ProgressEvent) {
        let (bytes, is_last) = match event {
            ProgressEvent::Download(DownloadEvent::Progress { files }) => {
                let Some(file) = files.first() else { return };
                (file.bytes_completed, file.status == FileStatus::Complete)
            }
            ProgressEvent::Download(DownloadEvent::AggregateProgress {
                bytes_completed, ..
            }) => (*bytes_completed, false),
            ProgressEvent::Download(DownloadEvent::Start { .. } | DownloadEvent::Complete)
            | ProgressEvent::Upload(_) => {
                return;
            }
        };
        self.0.send_if_modified(|seen| {
            let moved = is_last || bytes >= seen.saturating_add(REPORT_BYTES);
            if moved {
                *seen = bytes;
            }
            moved
        });
    }
}
