//! Fetches models from the hub into the Hugging Face cache, and believes no file that it has not checked.
//!
//! Two steps, so that a model that can't be pruned fails before gigabytes are fetched: [`HubModel::resolve`] pins the
//! revision to its commit and [`HubModel::fetch_config`] gives the model's description; [`HubModel::fetch`] gets the
//! rest. Every file is compared with what the hub lists, in length and digest, also when it came from the cache: the
//! client library stores whatever a server sends, error pages included.

mod cache;
mod download;
mod error;
mod listing;
mod options;
mod verify;

use std::path::PathBuf;

use futures::TryStreamExt;
use hf_hub::{HFClient, HFRepository, RepoTypeModel};

use self::cache::ModelCache;
use self::listing::{CONFIG, INDEX, ListedFile, Listing};
use super::disk;
use crate::domain::attempt::Step;
use crate::domain::hub_name;
use crate::domain::manifest::FileEntry;

pub use self::error::HubError;
pub use self::options::{HubOptions, HubToken, cache_dirs};
pub use self::verify::Mismatch;

/// A model at one commit of the hub, not fetched yet.
#[derive(Debug)]
pub struct HubModel {
    /// `model "organisation/name"`, for messages.
    what: String,
    commit: String,
    listing: Listing,
    repository: HFRepository<RepoTypeModel>,
    cache: ModelCache,
    options: HubOptions,
}

/// A model whose files lie in the cache, each of them checked.
#[derive(Debug, Clone)]
pub struct FetchedModel {
    /// The snapshot in the cache. It may hold files beside [`files`](Self::files) that others fetched.
    pub dir: PathBuf,
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    /// What was fetched, sorted by name.
    pub files: Vec<FileEntry>,
}

impl HubModel {
    /// Pins `revision` (a branch, a tag or a commit) to its commit and lists what is there. Fetches no file; fails if
    /// there are no weights in safetensors.
    pub async fn resolve(id: &str, revision: &str, options: &HubOptions) -> Result<Self, HubError> {
        let (owner, name) =
            hub_name::parse_id(id).ok_or_else(|| HubError::InvalidId { id: id.to_owned() })?;
        if !hub_name::is_revision(revision) {
            return Err(HubError::InvalidRevision {
                revision: revision.to_owned(),
            });
        }
        let what = format!("model {id:?}");
        let client = options.client(&what)?;
        let cache = ModelCache::new(client.cache_dir(), owner, name);
        let mut model = Self {
            what,
            commit: String::new(),
            listing: Listing::default(),
            repository: client.model(owner, name),
            cache,
            options: options.clone(),
        };
        if options.offline {
            model.resolve_in_cache(revision)?;
        } else {
            model.resolve_on_hub(revision).await?;
            model.listing.require_model(&model.what)?;
        }
        Ok(model)
    }

    async fn resolve_on_hub(&mut self, revision: &str) -> Result<(), HubError> {
        let what = format!("revision {revision:?} of {}", self.what);
        // Only the commit: the rest of the answer is large and its form changes.
        let info = self
            .repository
            .info()
            .revision(revision)
            .expand(vec!["sha".to_owned()])
            .send();
        let info = self.answer(&what, info).await?;
        self.commit = info
            .sha
            .filter(|sha| hub_name::is_commit(sha))
            .ok_or_else(|| HubError::Unavailable {
                what,
                reason: "its answer names no commit".to_owned(),
            })?;
        if self.commit != revision
            && let Err(error) = self.cache.write_ref(revision, &self.commit)
        {
            tracing::warn!(revision, %error, "the commit of the revision is not noted for offline use");
        }
        let what = format!("the files of {}", self.what);
        let listing = async {
            self.repository
                .list_tree()
                .revision(&self.commit)
                .send()?
                .try_collect::<Vec<_>>()
                .await
        };
        self.listing = Listing::from_tree(self.answer(&what, listing).await?);
        Ok(())
    }

    fn resolve_in_cache(&mut self, revision: &str) -> Result<(), HubError> {
        let commit = if hub_name::is_commit(revision) {
            Some(revision.to_owned())
        } else {
            self.cache
                .read_ref(revision)
                .filter(|commit| hub_name::is_commit(commit))
        };
        self.commit = commit.ok_or_else(|| self.not_cached())?;
        self.listing = self.cache.list(&self.commit).unwrap_or_default();
        self.listing
            .require_model(&self.what)
            .map_err(|_| self.not_cached())
    }

    fn not_cached(&self) -> HubError {
        HubError::NotCached {
            what: self.what.clone(),
        }
    }

    /// The commit, 40 hexadecimal digits.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// Fetches `config.json` alone and gives its path.
    pub async fn fetch_config(&self) -> Result<PathBuf, HubError> {
        self.fetch_small(CONFIG).await
    }

    /// Fetches the weights, the tokenizer and what belongs to them. `progress` counts the bytes of all files.
    pub async fn fetch(
        &self,
        progress: &mut (dyn FnMut(Step) + Send),
    ) -> Result<FetchedModel, HubError> {
        let shards = if self.listing.is_sharded() {
            let path = self.fetch_small(INDEX).await?;
            let text = std::fs::read(&path).map_err(HubError::io(&path))?;
            let shards =
                listing::shards_of_index(&text).map_err(|source| HubError::InvalidIndex {
                    what: self.what.clone(),
                    source,
                })?;
            Some(shards)
        } else {
            None
        };
        let needed = self.listing.needed(&self.what, shards.as_ref());
        let needed = needed.map_err(|error| {
            if self.options.offline {
                self.not_cached()
            } else {
                error
            }
        })?;
        Ok(FetchedModel {
            dir: self.cache.snapshot_dir(&self.commit),
            commit: self.commit.clone(),
            files: self.fetch_files(&needed, progress).await?,
        })
    }

    async fn fetch_small(&self, name: &str) -> Result<PathBuf, HubError> {
        let file = self.listing.get(name).ok_or_else(|| HubError::NotFound {
            what: format!("{name} of {}", self.what),
        })?;
        self.fetch_files(&[file], &mut |_| ()).await?;
        Ok(self.cache.snapshot_dir(&self.commit).join(name))
    }

    async fn fetch_files(
        &self,
        files: &[&ListedFile],
        progress: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Vec<FileEntry>, HubError> {
        let _only_one = self.cache.lock().await?;
        let mut entries = Vec::with_capacity(files.len());
        let mut wanted = Vec::new();
        for file in files {
            match self.cache.verify(&self.commit, file).await? {
                Ok(entry) => entries.push(entry),
                Err(_) => wanted.push(*file),
            }
        }
        if self.options.offline && !wanted.is_empty() {
            return Err(self.not_cached());
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
        for file in wanted {
            let mut report = |bytes: u64| {
                progress(Step {
                    name: file.name.clone(),
                    // A server may send more than it listed.
                    finished: finished + bytes.min(file.size_bytes),
                    total,
                    unit: "bytes".to_owned(),
                });
            };
            report(0);
            entries.push(self.download(file, &mut report).await?);
            report(file.size_bytes);
            finished += file.size_bytes;
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }
}

impl HubOptions {
    fn client(&self, what: &str) -> Result<HFClient, HubError> {
        let mut builder = HFClient::builder()
            .user_agent(concat!("secateur/", env!("CARGO_PKG_VERSION")))
            .retry_base_delay(self.retry_delay);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.endpoint(endpoint.as_str());
        }
        if let Some(token) = &self.token {
            builder = builder.token(token.reveal());
        }
        if let Some(cache_dir) = &self.cache_dir {
            builder = builder.cache_dir(cache_dir);
        }
        builder.build().map_err(|error| HubError::Unavailable {
            what: what.to_owned(),
            reason: match error {
                hf_hub::HFError::Url(error) => format!("the hub's address is not a URL: {error}"),
                _ => "the HTTP client cannot be set up".to_owned(),
            },
        })
    }
}
