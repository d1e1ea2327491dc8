//! Where the rows of a data set are to be had.

use std::path::PathBuf;

use super::DatasetNotFound;
use crate::corpora::HubSplit;
use crate::domain::HubReach;
use crate::domain::spec::hub_name;

/// Where the rows of a data set are to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file of this machine.
    File(PathBuf),
    /// Files of the hub.
    Hub {
        /// Which.
        split: HubSplit,
        /// What to say when they cannot be had.
        otherwise: Box<DatasetNotFound>,
    },
}

/// Whether the files can be had now, as far as that can be known without asking the hub. Offline the cache must hold
/// them, in the layout that Hugging Face's tools share.
pub(super) fn can_be_had(split: &HubSplit, hub: &HubReach) -> bool {
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
