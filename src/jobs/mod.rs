//! What can be done with jobs: the only door from HTTP to the database and the artifacts.

mod act;
mod archive;
mod capacity;
mod error;
mod follow;
mod gauges;
mod query;
mod queue;
mod readiness;
mod results;
mod submit;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, broadcast};
use uuid::{ContextV7, Uuid};

use crate::artifacts::ArtifactStore;
use crate::clock::Clock;
use crate::datasets::DataRoots;
use crate::domain::JobId;
use crate::models::{ModelHub, ModelLibrary};
use crate::request::Defaults;
use crate::store::Store;
pub use archive::Archive;
pub use capacity::Full;
pub use error::Error;
use follow::feed::Feed;
use follow::watches::Watches;
pub use follow::{Entry, Following, LogItem};
pub use query::{CheckedModel, FoundModel, JobPage, RegisteredData};
pub use readiness::Check;
pub use results::ArtifactFile;
pub use submit::{Acceptable, Submitted, Validation};

/// Signals to the workers and the dispatcher of this process, which else poll the database.
#[derive(Debug, Clone)]
pub struct Signals {
    /// A job was queued.
    pub wake: Arc<Notify>,
    /// An action was requested of the job's worker.
    pub asked: broadcast::Sender<JobId>,
    /// Something may have to be sent to a webhook.
    pub outbox: Arc<Notify>,
}

/// What the use-cases need.
#[derive(Debug)]
pub struct JobsParts {
    /// The database.
    pub store: Arc<dyn Store>,
    /// The artifacts.
    pub artifacts: Arc<dyn ArtifactStore>,
    /// The local models.
    pub models: ModelLibrary,
    /// Those of the hub.
    pub hub: Arc<dyn ModelHub>,
    /// The data sets. The workers read the same directories.
    pub datasets: DataRoots,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What a submission may leave out.
    pub defaults: Defaults,
    /// To the workers of this process.
    pub signals: Signals,
    /// Every directory that jobs are written to, by its use.
    pub directories: BTreeMap<&'static str, PathBuf>,
    /// The most jobs that may wait.
    pub most_queued: u32,
    /// How long a job that is over is retained; `None` = for ever.
    pub retention: Option<Duration>,
}

/// The use-cases. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Jobs {
    parts: Arc<JobsParts>,
    /// Ids made within one millisecond still sort in the order they were made.
    id_context: Arc<Mutex<ContextV7>>,
    /// The log, for its followers.
    feed: Feed,
    /// Jobs that clients watch.
    watches: Arc<Watches>,
    /// What the database calls this process.
    process: Arc<str>,
}

impl Jobs {
    /// Puts the parts together.
    pub fn new(parts: JobsParts) -> Self {
        let feed = Feed::new(Arc::clone(&parts.store));
        let watches = Watches::new(Arc::clone(&parts.store), feed.clone());
        Self {
            feed,
            watches,
            parts: Arc::new(parts),
            process: Uuid::now_v7().to_string().into(),
            id_context: Arc::new(Mutex::new(ContextV7::new())),
        }
    }
}
