//! The place of a data set.

use std::path::PathBuf;

use super::DatasetNotFound;
use crate::corpora::HubSplit;
use crate::domain::HubReach;
use crate::domain::spec::hub_name;

/// The place of a data set's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file of this machine.
    File(PathBuf),
    /// Files of the hub.
    Hub {
        /// Which.
        split: HubSplit,
        /// The error if they cannot be fetched.
        otherwise: Box<DatasetNotFound>,
    },
}

/// Whether the files are available without asking the hub: online always, offline if the cache holds them.
pub(super) fn is_available(split: &HubSplit, hub: &HubReach) -> bool {
    match hub {
        HubReach::Online => true,
        HubReach::Offline { cache_dir } => {
            let Some((owner, name)) = hub_name::parse_id(split.repo) else {
                return false;
            };
            let snapshot = cache_dir
                .join(format!("datasets--{owner}--{name}"))
                .join("snapshots")
                .join(split.revision);
            split.files.iter().all(|file| snapshot.join(file).is_file())
        }
    }
}
