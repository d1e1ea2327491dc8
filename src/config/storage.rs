//! Where a server keeps its data.

use std::collections::BTreeMap;
use std::iter;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::BucketArgs;
use crate::artifacts::ArtifactPlace;
use crate::domain::HubReach;
use crate::store::DatabaseUrl;

/// The directory of artifacts within the home.
const ARTIFACTS: &str = "artifacts";

/// Where a server keeps its data.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Storage")]
pub struct StorageArgs {
    /// Directory of this server: its database, artifacts, and jobs in progress
    #[arg(
        long,
        value_name = "DIR",
        env = "SECATEUR_HOME",
        default_value = "./secateur-data"
    )]
    pub home: PathBuf,

    /// Database: `sqlite://PATH` or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`; a file in the home unless given. With a password, set the variable: flags are seen by everybody on the machine
    #[arg(
        long,
        value_name = "URL",
        env = "SECATEUR_DATABASE_URL",
        hide_env_values = true
    )]
    pub database_url: Option<DatabaseUrl>,

    /// Artifact store: a directory, or `s3://BUCKET/PREFIX` for workers on several machines; a directory in the home unless given
    #[arg(long, value_name = "PLACE", env = "SECATEUR_ARTIFACTS")]
    pub artifacts: Option<ArtifactPlace>,

    /// How a bucket is reached
    #[command(flatten)]
    pub bucket: BucketArgs,

    /// Directory of local models: a job's `{"source": "local", "id": …}` is a directory below it
    #[arg(long, value_name = "DIR", env = "SECATEUR_MODELS_DIR")]
    pub models_dir: Option<PathBuf>,

    /// Directory of data sets: `c4/en_train.jsonl`, `wikitext2/wiki.test.raw`, `boolq/validation.jsonl`, and files of your own. Registered data sets that are not here come from the hub; the API and all workers need the same one
    #[arg(long, value_name = "DIR", env = "SECATEUR_DATA_DIR")]
    pub data_dir: Option<PathBuf>,

    /// Days after which the API deletes a job that is over, with its log and its artifact, and a worker what a paused job has done so far, unless the job is kept; 0 = never
    #[arg(
        long,
        value_name = "DAYS",
        env = "SECATEUR_RETAIN_DAYS",
        default_value_t = 90
    )]
    pub retain_days: u32,

    /// Whether data sets may come from the hub; as `HF_HUB_OFFLINE` says unless set
    #[arg(skip)]
    pub hub: Option<HubReach>,
}

impl StorageArgs {
    /// The database.
    pub fn database(&self) -> DatabaseUrl {
        let default = || DatabaseUrl::file(&self.home.join("secateur.db"));
        self.database_url.clone().unwrap_or_else(default)
    }

    /// The artifact store.
    pub fn artifacts(&self) -> ArtifactPlace {
        let default = || ArtifactPlace::Folder(self.home.join(ARTIFACTS));
        self.artifacts.clone().unwrap_or_else(default)
    }

    /// How long a job that is over is retained; `None` = for ever.
    pub fn retention(&self) -> Option<Duration> {
        let days = u64::from(self.retain_days);
        (days > 0).then(|| Duration::from_hours(24 * days))
    }

    /// Every directory that jobs are written to, by its use.
    pub fn directories(&self) -> BTreeMap<&'static str, PathBuf> {
        let artifacts = match self.artifacts() {
            ArtifactPlace::Folder(root) => Some(root),
            ArtifactPlace::Bucket { .. } => None,
        };
        let others = [
            ("artifacts", artifacts),
            ("database", self.database().directory()),
        ];
        let others = others
            .into_iter()
            .filter_map(|(name, path)| Some((name, path?)));
        let outside = others.filter(|(_, path)| !path.starts_with(&self.home));
        iter::once(("home", self.home.clone()))
            .chain(outside)
            .collect()
    }

    /// Directories within the home that only this server uses.
    pub fn own_directories(&self) -> Vec<PathBuf> {
        let mut directories = vec![self.scratch(), self.workers(), self.scores()];
        if self.artifacts.is_none() {
            directories.push(self.home.join(ARTIFACTS));
        }
        directories
    }

    /// Fails unless the directories that are only read are there.
    pub fn check(&self) -> Result<(), String> {
        let read = [
            ("--models-dir", &self.models_dir),
            ("--data-dir", &self.data_dir),
        ];
        for (flag, dir) in read {
            if let Some(dir) = dir
                && let Err(error) = std::fs::read_dir(dir)
            {
                return Err(format!("{flag} {} cannot be read: {error}", dir.display()));
            }
        }
        Ok(())
    }

    /// One directory per job in progress.
    pub fn scratch(&self) -> PathBuf {
        self.home.join("scratch")
    }

    /// Lock files of the workers.
    pub fn workers(&self) -> PathBuf {
        self.home.join("workers")
    }

    /// Scores of models by their content, kept so that a baseline is measured once.
    pub fn scores(&self) -> PathBuf {
        self.home.join("scores")
    }

    /// Where the bundled model is unpacked.
    pub fn bundled(&self) -> PathBuf {
        self.home.join("bundled")
    }
}
