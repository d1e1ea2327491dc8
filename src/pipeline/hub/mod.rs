//! Fetches models and data sets from the hub into the Hugging Face cache, and believes no file that it has not checked.
//!
//! A model in two steps, so that a model that can't be pruned fails before gigabytes are fetched: [`HubModel::resolve`] pins the
//! revision to its commit and [`HubModel::fetch_config`] gives the model's description; [`HubModel::fetch`] gets the
//! rest. The files of a data set, which are named beforehand, in one: [`fetch_split`].
//!
//! Every file is compared with what the hub lists, in length and digest, also when it came from the cache: the
//! client library stores whatever a server sends, error pages included.

mod cache;
mod dataset;
mod download;
mod error;
mod listing;
mod look;
mod options;
mod recent;
mod repository;
mod shrink;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use futures::TryStreamExt;
use hf_hub::RepoTypeModel;

use self::listing::{CONFIG, INDEX, ListedFile, Listing};
use self::repository::Repository;
use crate::domain::job::progress::Step;
use crate::domain::report::manifest::FileEntry;
use crate::domain::spec::hub_name;
use crate::engine::ModelPlan;
use crate::engine::checkpoint::MAX_INDEX_BYTES;
use crate::engine::model::MAX_CONFIG_BYTES;
use crate::models::weight_map;

pub use self::dataset::fetch_split;
pub use self::error::HubError;
pub use self::look::HubLook;
pub use self::options::{HubOptions, cache_dirs, use_token};
pub use self::shrink::shrink_cache;
pub use self::verify::Mismatch;

/// The most files and folders at the top of a repository.
const MOST_ENTRIES: usize = 10_000;

/// A model at one commit of the hub, not fetched yet.
#[derive(Debug)]
pub struct HubModel {
    repository: Repository<RepoTypeModel>,
    listing: Listing,
    takes_code: bool,
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
    /// Keeps it in the cache.
    pub in_use: Arc<File>,
}

impl HubModel {
    /// Pins `revision` (a branch, a tag or a commit) to its commit and lists what is there. Fetches no file; fails if
    /// there are no weights in safetensors.
    pub async fn resolve(id: &str, revision: &str, options: &HubOptions) -> Result<Self, HubError> {
        let mut model = Self::open(id, revision, options)?;
        if options.offline {
            model.resolve_in_cache(revision)?;
        } else if let Err(error) = model.resolve_on_hub(revision).await {
            model.resolve_without_hub(revision, error)?;
        } else {
            model.listing.require_model(&model.repository.what)?;
        }
        Ok(model)
    }

    /// A model at no commit yet; the hub is asked for nothing.
    fn open(id: &str, revision: &str, options: &HubOptions) -> Result<Self, HubError> {
        let (owner, name) =
            hub_name::parse_id(id).ok_or_else(|| HubError::InvalidId { id: id.to_owned() })?;
        if !hub_name::is_revision(revision) {
            return Err(HubError::InvalidRevision {
                revision: revision.to_owned(),
            });
        }
        let what = format!("model {id:?}");
        Ok(Self {
            repository: Repository::open(RepoTypeModel, what, (owner, name), options)?,
            listing: Listing::default(),
            takes_code: false,
        })
    }

    /// Goes on with a model of the cache while the hub is away, if nothing is missing that was fetched with it before.
    fn resolve_without_hub(&mut self, revision: &str, error: HubError) -> Result<(), HubError> {
        if !error.is_outage() || self.resolve_in_cache(revision).is_err() {
            return Err(error);
        }
        let (cache, commit) = (&self.repository.cache, self.commit());
        if !cache.has_all_names(commit, &self.listing) {
            return Err(error);
        }
        tracing::warn!(%error, commit, "the hub is away, the model of the cache is used");
        self.repository.options.offline = true;
        Ok(())
    }

    async fn resolve_on_hub(&mut self, revision: &str) -> Result<(), HubError> {
        self.pin(revision).await?;
        self.list().await?;
        self.note(revision, None);
        Ok(())
    }

    /// Notes for work without the hub that this was the commit of the revision at a time, unless a later one is noted.
    pub fn note_unless_newer(&self, revision: &str, found_at: SystemTime) {
        self.note(revision, Some(found_at));
    }

    fn note(&self, revision: &str, found_at: Option<SystemTime>) {
        let (repository, commit) = (&self.repository, self.commit());
        if !repository.options.offline
            && commit != revision
            && let Err(error) = repository.cache.write_ref(revision, commit, found_at)
        {
            tracing::warn!(revision, %error, "the commit of the revision is not noted for offline use");
        }
    }

    /// Asks for the commit.
    async fn pin(&mut self, revision: &str) -> Result<(), HubError> {
        let repository = &mut self.repository;
        let what = format!("revision {revision:?} of {}", repository.what);
        // Only the commit: the rest of the answer is large and its form changes.
        let info = repository
            .handle
            .info()
            .revision(revision)
            .expand(vec!["sha".to_owned()])
            .send();
        let info = repository.answer(&what, info).await?;
        repository.commit = info
            .sha
            .filter(|sha| hub_name::is_commit(sha))
            .ok_or_else(|| HubError::Unavailable {
                what,
                reason: "its answer names no commit".to_owned(),
                is_away: false,
            })?;
        Ok(())
    }

    /// Asks for the listing at the commit.
    async fn list(&mut self) -> Result<(), HubError> {
        let repository = &self.repository;
        let what = format!("the list of the files of {}", repository.what);
        let listing = async {
            repository
                .handle
                .list_tree()
                .revision(&repository.commit)
                .limit(MOST_ENTRIES + 1)
                .send()?
                .try_collect::<Vec<_>>()
                .await
        };
        let listed = repository.answer(&what, listing).await?;
        if listed.len() > MOST_ENTRIES {
            return Err(HubError::TooLong {
                what,
                most: MOST_ENTRIES as u64,
                unit: "entries",
            });
        }
        self.listing = Listing::from_tree(listed);
        Ok(())
    }

    fn resolve_in_cache(&mut self, revision: &str) -> Result<(), HubError> {
        let repository = &mut self.repository;
        let commit = if hub_name::is_commit(revision) {
            Some(revision.to_owned())
        } else {
            let commit = repository.cache.read_ref(revision);
            commit.filter(|commit| hub_name::is_commit(commit))
        };
        repository.commit = commit.ok_or_else(|| repository.not_cached())?;
        self.listing = repository
            .cache
            .list(&repository.commit)
            .unwrap_or_default();
        let listing = &self.listing;
        listing
            .require_model(&repository.what)
            .map_err(|error| match error {
                HubError::Adapter { .. } => error,
                _ => repository.not_cached(),
            })?;
        let is_complete = repository.cache.has_shards(&repository.commit, listing);
        is_complete
            .then_some(())
            .ok_or_else(|| repository.not_cached())
    }

    /// The commit, 40 hexadecimal digits.
    pub fn commit(&self) -> &str {
        &self.repository.commit
    }

    /// Fetches `config.json` alone and gives its path.
    pub async fn fetch_config(&self) -> Result<PathBuf, HubError> {
        self.fetch_small(CONFIG).await
    }

    /// Fails when the repository has no tokenizer that can be read.
    pub fn require_tokenizer(&self) -> Result<(), HubError> {
        self.listing.require_tokenizer(&self.repository.what)
    }

    /// Takes Python files along, if the model names some.
    #[must_use]
    pub fn with_code_of(self, plan: &ModelPlan) -> Self {
        Self {
            takes_code: plan.has_code,
            ..self
        }
    }

    /// The shard of each tensor by the index, which is fetched alone; `None` for a model in one file.
    pub async fn weight_map(&self) -> Result<Option<BTreeMap<String, String>>, HubError> {
        if !self.listing.is_sharded() {
            return Ok(None);
        }
        let path = self.fetch_small(INDEX).await?;
        let text = std::fs::read(&path).map_err(HubError::io(&path))?;
        parse_index(&self.repository.what, &text).map(Some)
    }

    /// Fetches the weights, the tokenizer and what belongs to them. `progress` counts the bytes of all files.
    pub async fn fetch(
        &self,
        progress: &mut (dyn FnMut(Step) + Send),
    ) -> Result<FetchedModel, HubError> {
        let shards = self.shards().await?;
        let needed = self.needed(shards.as_ref());
        let needed = needed.map_err(|error| {
            if self.repository.options.offline {
                self.repository.not_cached()
            } else {
                error
            }
        })?;
        let in_use = self.repository.cache.lock_use().await?;
        let fetched = FetchedModel {
            in_use: Arc::new(in_use),
            dir: self.repository.snapshot_dir(),
            commit: self.repository.commit.clone(),
            files: self.repository.fetch_files(&needed, progress).await?,
        };
        if !self.repository.options.offline {
            let names: Vec<_> = needed.iter().map(|file| file.name.as_str()).collect();
            let noted = self.repository.cache.write_names(&fetched.commit, &names);
            if let Err(error) = noted {
                tracing::warn!(%error, "the files of the model are not noted for work without the hub");
            }
        }
        Ok(fetched)
    }

    /// Bytes of the files that [`fetch`](Self::fetch) gets: of all, and of those that the cache lacks.
    pub async fn sizes(&self) -> Result<(u64, u64), HubError> {
        self.sizes_with(self.shards().await?.as_ref())
    }

    fn sizes_with(&self, shards: Option<&BTreeSet<String>>) -> Result<(u64, u64), HubError> {
        let needed = self.needed(shards)?;
        let dir = self.repository.snapshot_dir();
        let is_missing = |file: &&&ListedFile| !dir.join(&file.name).is_file();
        let bytes = |files: &[&ListedFile]| files.iter().map(|file| file.size_bytes).sum();
        let missing: Vec<_> = needed.iter().filter(is_missing).copied().collect();
        Ok((bytes(&needed), bytes(&missing)))
    }

    /// The shards that the index names, if there is one.
    async fn shards(&self) -> Result<Option<BTreeSet<String>>, HubError> {
        let map = self.weight_map().await?;
        Ok(map.map(|map| map.into_values().collect()))
    }

    fn needed(&self, shards: Option<&BTreeSet<String>>) -> Result<Vec<&ListedFile>, HubError> {
        let what = &self.repository.what;
        self.listing.needed(what, shards, self.takes_code)
    }

    /// A file that is read whole: the configuration or the index.
    fn listed_small(&self, name: &str) -> Result<&ListedFile, HubError> {
        let what = || format!("{name} of {}", self.repository.what);
        let listed = self.listing.get(name);
        let file = listed.ok_or_else(|| HubError::NotFound { what: what() })?;
        let most = if name == CONFIG {
            MAX_CONFIG_BYTES
        } else {
            MAX_INDEX_BYTES
        };
        if file.size_bytes > most {
            return Err(HubError::TooLong {
                what: what(),
                most,
                unit: "bytes",
            });
        }
        Ok(file)
    }

    async fn fetch_small(&self, name: &str) -> Result<PathBuf, HubError> {
        let file = self.listed_small(name)?;
        self.repository.fetch_files(&[file], &mut |_| ()).await?;
        Ok(self.repository.snapshot_dir().join(name))
    }
}

fn parse_index(what: &str, text: &[u8]) -> Result<BTreeMap<String, String>, HubError> {
    weight_map(text).map_err(|source| HubError::InvalidIndex {
        what: what.to_owned(),
        source,
    })
}
