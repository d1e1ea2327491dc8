//! Named files of a data set at a pinned commit.

use std::path::PathBuf;

use hf_hub::RepoTypeDataset;

use super::error::HubError;
use super::listing::ListedFile;
use super::options::HubOptions;
use super::repository::Repository;
use crate::corpora::HubSplit;
use crate::domain::job::progress::Step;
use crate::domain::spec::hub_name;

/// Fetches the files of a split into the cache and gives their paths, in the split's order. `progress` counts the bytes of
/// all of them.
///
/// A file that the cache holds is checked against the digest that it is kept under. If all of them are there, the hub is
/// asked for nothing: a commit never changes. It is asked for the digests of plain files, and those are taken as they are
/// while it is away.
pub async fn fetch_split(
    split: &HubSplit,
    options: &HubOptions,
    progress: &mut (dyn FnMut(Step) + Send),
) -> Result<Vec<PathBuf>, HubError> {
    let id = split.repo;
    let owner_and_name =
        hub_name::parse_id(id).ok_or_else(|| HubError::InvalidId { id: id.to_owned() })?;
    let what = format!("data set {id:?}");
    let mut repository = Repository::open(RepoTypeDataset, what, owner_and_name, options)?;
    split.revision.clone_into(&mut repository.commit);
    let absent = repository.absent(split.files).await?;
    if !absent.is_empty() {
        if options.offline {
            return Err(repository.not_cached());
        }
        let listed = repository.list(absent).await?;
        let listed: Vec<&ListedFile> = listed.iter().collect();
        repository.fetch_files(&listed, progress).await?;
    }
    let snapshot = repository.snapshot_dir();
    Ok(split.files.iter().map(|file| snapshot.join(file)).collect())
}

impl Repository<RepoTypeDataset> {
    /// The files that the cache does not hold, or not whole.
    async fn absent(&self, files: &[&str]) -> Result<Vec<String>, HubError> {
        let _only_one = self.cache.lock().await?;
        let mut absent = Vec::new();
        let mut offline = self.options.offline;
        for file in files {
            let is_whole = match self.cache.find(&self.commit, file) {
                Some(mut found) if !offline => {
                    match self.with_digest(&found).await {
                        Ok(with_digest) => found = with_digest,
                        Err(error) if error.is_outage() => {
                            tracing::warn!(%error, "the hub is away, the data set of the cache is used");
                            offline = true;
                        }
                        Err(error) => return Err(error),
                    }
                    self.is_whole(&found, offline).await?
                }
                Some(found) => self.is_whole(&found, offline).await?,
                None => false,
            };
            if !is_whole {
                absent.push((*file).to_owned());
            }
        }
        Ok(absent)
    }

    async fn is_whole(&self, file: &ListedFile, offline: bool) -> Result<bool, HubError> {
        let verdict = self.cache.verify(&self.commit, file, offline).await?;
        Ok(verdict.is_ok())
    }

    /// What the hub says of the files.
    async fn list(&self, files: Vec<String>) -> Result<Vec<ListedFile>, HubError> {
        let what = format!("{} at {}", self.what, self.commit);
        let request = self
            .handle
            .get_paths_info()
            .paths(files.clone())
            .revision(&self.commit)
            .send();
        let entries = self.answer(&what, request).await?;
        let listed: Vec<ListedFile> = entries
            .into_iter()
            .filter_map(ListedFile::from_entry)
            .filter(|listed| files.contains(&listed.name))
            .collect();
        let is_listed = |file: &&String| listed.iter().any(|listed| listed.name == **file);
        match files.iter().find(|file| !is_listed(file)) {
            Some(file) => Err(HubError::NotFound {
                what: format!("{file} of {} at {}", self.what, self.commit),
            }),
            None => Ok(listed),
        }
    }
}
