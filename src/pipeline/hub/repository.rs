//! What models and data sets have in common: a repository at one commit, and its files in the cache.

use std::path::PathBuf;

use hf_hub::{HFClient, HFError, HFRepository, RepoType};

use super::HubOptions;
use super::cache::RepoCache;
use super::error::HubError;
use super::listing::ListedFile;
use super::verify::Digest;
use crate::domain::job::progress::Step;
use crate::domain::report::manifest::FileEntry;
use crate::pipeline::disk;

/// A repository of the hub.
#[derive(Debug)]
pub(super) struct Repository<K: RepoType> {
    /// `model "organisation/name"`, for messages.
    pub(super) what: String,
    /// 40 hexadecimal digits; empty until it is known.
    pub(super) commit: String,
    pub(super) handle: HFRepository<K>,
    pub(super) cache: RepoCache,
    /// The hub's address.
    pub(super) endpoint: String,
    pub(super) options: HubOptions,
}

impl<K: RepoType> Repository<K> {
    /// The owner and the name have been validated. Asks the hub for nothing.
    pub(super) fn open(
        kind: K,
        what: String,
        (owner, name): (&str, &str),
        options: &HubOptions,
    ) -> Result<Self, HubError> {
        let client = options.client(&what)?;
        Ok(Self {
            cache: RepoCache::new(client.cache_dir(), kind.plural(), owner, name),
            endpoint: client.endpoint().to_owned(),
            handle: client.repository(kind, owner, name),
            what,
            commit: String::new(),
            options: options.clone(),
        })
    }

    pub(super) fn snapshot_dir(&self) -> PathBuf {
        self.cache.snapshot_dir(&self.commit)
    }

    pub(super) fn not_cached(&self) -> HubError {
        HubError::NotCached {
            what: self.what.clone(),
        }
    }

    /// Fetches those files that the cache does not hold as they are listed; gives all of them, sorted by name.
    pub(super) async fn fetch_files(
        &self,
        files: &[&ListedFile],
        progress: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Vec<FileEntry>, HubError> {
        let _only_one = self.cache.lock().await?;
        let mut entries = Vec::with_capacity(files.len());
        let mut wanted = Vec::new();
        let offline = self.options.offline;
        for file in files {
            let file = self.with_digest(file).await?;
            match self.cache.verify(&self.commit, &file, offline).await? {
                Ok(entry) => entries.push(entry),
                Err(_) if offline => return Err(self.not_cached()),
                Err(_) => wanted.push(file),
            }
        }
        let wanted_bytes = wanted
            .iter()
            .map(|file| file.size_bytes)
            .fold(0, u64::saturating_add);
        if wanted_bytes > 0 {
            disk::ensure_free(self.cache.root(), wanted_bytes)?;
        }
        let mut finished: u64 = entries.iter().map(|entry| entry.size_bytes).sum();
        let total = finished.saturating_add(wanted_bytes);
        for file in &wanted {
            let mut report = |bytes: u64| {
                // A server may send more than it listed.
                let finished = finished + bytes.min(file.size_bytes);
                progress(Step::new(file.name.clone(), "bytes", finished, total));
            };
            report(0);
            entries.push(self.download(file, &mut report).await?);
            report(file.size_bytes);
            finished += file.size_bytes;
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// A listed file with the digest that the hub sends with it, where neither the listing nor a link names one.
    pub(super) async fn with_digest(&self, file: &ListedFile) -> Result<ListedFile, HubError> {
        let is_known = file.digest.is_some() || self.cache.will_link(&self.commit, &file.name);
        if self.options.offline || is_known {
            return Ok(file.clone());
        }
        let what = format!("{} of {}", file.name, self.what);
        let request = self.handle.get_file_metadata();
        let request = request.filepath(&file.name).revision(&self.commit).send();
        let digest = Digest::parse(&self.answer(&what, request).await?.etag);
        Ok(ListedFile {
            digest,
            ..file.clone()
        })
    }
}

impl HubOptions {
    pub(super) fn client(&self, what: &str) -> Result<HFClient, HubError> {
        let mut builder = HFClient::builder()
            .user_agent(concat!("secateur/", env!("CARGO_PKG_VERSION")))
            .retry_base_delay(self.retry_delay);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.endpoint(endpoint.as_str());
        }
        if let Some(token) = self.token.as_ref().filter(|token| !token.is_empty()) {
            builder = builder.token(token.reveal().ok_or(HubError::InvalidToken)?);
        }
        if let Some(cache_dir) = &self.cache_dir {
            builder = builder.cache_dir(cache_dir);
        }
        builder.build().map_err(|error| HubError::Unavailable {
            what: what.to_owned(),
            reason: match error {
                HFError::Url(error) => format!("the hub's address is not a URL: {error}"),
                _ => "the HTTP client cannot be set up".to_owned(),
            },
            is_away: false,
        })
    }
}
