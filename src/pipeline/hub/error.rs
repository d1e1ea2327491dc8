//! What can go wrong between the hub and the disk, in our words.
//!
//! The client library's own error texts are never passed on: they quote addresses (which may be signed) and bodies
//! that a server is free to fill with what it was sent. So no token can reach a message or a log from here.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use hf_hub::HFError;

use super::verify::Mismatch;
use crate::domain::ErrorCode;
use crate::pipeline::disk::DiskError;

/// Why a model could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The id would not be safe in a path, or can't be one of the hub's.
    #[error("{id:?} is not the id of a hub model, expected \"organisation/name\"")]
    InvalidId {
        /// As it came.
        id: String,
    },
    /// The revision would not be safe in a path.
    #[error("{revision:?} is not a revision, expected a branch, a tag or a commit")]
    InvalidRevision {
        /// As it came.
        revision: String,
    },
    /// No such model, revision or file, or none that the token may see.
    #[error("the hub has no {what}, or none that this token may see")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The hub answered 401 or 403.
    #[error(
        "the hub refuses {what} (HTTP {status}): it needs a token whose account was granted access"
    )]
    AccessDenied {
        /// What was asked for.
        what: String,
        /// The status of its answer.
        status: u16,
    },
    /// The token holds what no request can carry.
    #[error("HF_TOKEN is not a token: it holds blanks, control characters or letters beyond ASCII")]
    InvalidToken,
    /// No connection comes about.
    #[error(
        "the hub {host} cannot be reached: {reason}; name a local model, set HF_ENDPOINT to a mirror, or \
         HF_HUB_OFFLINE=1 to use what is in the cache"
    )]
    Unreachable {
        /// Its host, as HF_ENDPOINT names it.
        host: String,
        /// What happened.
        reason: &'static str,
    },
    /// No answer in time, or an answer that makes no sense.
    #[error("the hub cannot give {what}: {reason}")]
    Unavailable {
        /// What was asked for.
        what: String,
        /// What happened.
        reason: String,
        /// Whether the hub, or the way to it, is away: the same request works once it is back.
        is_away: bool,
    },
    /// Offline, and the cache does not hold it.
    #[error("the cache holds no complete {what}, and HF_HUB_OFFLINE forbids asking the hub")]
    NotCached {
        /// What was asked for.
        what: String,
    },
    /// There is nothing to tell the architecture from.
    #[error("{what} has no config.json")]
    MissingConfig {
        /// The model.
        what: String,
    },
    /// Weights are there, but none in safetensors.
    #[error("{what} has no safetensors weights, only {files}")]
    UnsafeFormat {
        /// The model.
        what: String,
        /// The weight files that were refused.
        files: String,
    },
    /// Neither `model.safetensors` nor an index of shards is there.
    #[error("{what} has no model.safetensors and no index of shards{}{found}", if found.is_empty() { "" } else { ", only " })]
    NoWeights {
        /// The model.
        what: String,
        /// Its other safetensors files.
        found: String,
    },
    /// An adapter is there, which transformers loads on top of the weights.
    #[error(
        "{what} has an adapter (adapter_config.json): merge it into the weights of its model first"
    )]
    Adapter {
        /// The model.
        what: String,
    },
    /// The job needs tokens, and there is no `tokenizer.json` to make them.
    #[error("{what} has no tokenizer.json")]
    NoTokenizer {
        /// The model.
        what: String,
    },
    /// The index names a file that the repository does not have.
    #[error("model.safetensors.index.json names {shard:?}, which {what} does not have")]
    MissingShard {
        /// The model.
        what: String,
        /// The absent file.
        shard: String,
    },
    /// The index is not what it should be.
    #[error("model.safetensors.index.json of {what} cannot be read")]
    InvalidIndex {
        /// The model.
        what: String,
        /// Where it breaks.
        #[source]
        source: serde_json::Error,
    },
    /// What is read whole is longer than any model has it.
    #[error("{what} has more than {most} {unit}")]
    TooLong {
        /// A file or a list.
        what: String,
        /// The most that is read.
        most: u64,
        /// Of what.
        unit: &'static str,
    },
    /// A file still differs from what the hub lists after it was fetched again.
    #[error("{what} {mismatch}")]
    Corrupt {
        /// The file.
        what: String,
        /// The difference.
        mismatch: Mismatch,
    },
    /// The files would not fit on the disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Reading or writing the cache failed.
    #[error("cannot use {path} of the cache", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl HubError {
    /// The stable reason.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidId { .. } | Self::InvalidRevision { .. } => ErrorCode::InvalidRequest,
            Self::NotFound { .. } => ErrorCode::ModelNotFound,
            Self::AccessDenied { .. } | Self::InvalidToken => ErrorCode::ModelAccessDenied,
            Self::Unreachable { .. } | Self::Unavailable { .. } | Self::NotCached { .. } => {
                ErrorCode::HubUnavailable
            }
            Self::MissingConfig { .. } => ErrorCode::InvalidConfig,
            Self::UnsafeFormat { .. } => ErrorCode::UnsafeFormat,
            Self::Adapter { .. } => ErrorCode::UnsupportedArchitecture,
            Self::NoTokenizer { .. } => ErrorCode::TokenizerMissing,
            Self::NoWeights { .. } | Self::MissingShard { .. } => ErrorCode::MissingShard,
            Self::InvalidIndex { .. } | Self::TooLong { .. } => ErrorCode::MalformedCheckpoint,
            Self::Corrupt { .. } => ErrorCode::DownloadCorrupt,
            Self::Disk(error) => error.code(),
            Self::Io { source, .. } => ErrorCode::of_io(source),
        }
    }

    /// Whether the hub, or the way to it, is away, and nothing else is wrong.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Unavailable { is_away: true, .. }
        )
    }

    /// Whether fetching the same file at once again may help.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Corrupt { .. })
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        |source| Self::Io { path, source }
    }

    /// Translates an error of the client library that came up while `what` was asked for.
    pub(super) fn from_client(what: &str, cache_dir: &Path, error: HFError) -> Self {
        let what = what.to_owned();
        let unavailable = |reason: String| Self::Unavailable {
            what: what.clone(),
            reason,
            is_away: true,
        };
        match error {
            HFError::RepoNotFound { .. }
            | HFError::RevisionNotFound { .. }
            | HFError::EntryNotFound { .. } => Self::NotFound { what },
            HFError::Http { context }
            | HFError::AuthRequired { context }
            | HFError::Forbidden { context }
            | HFError::Conflict { context }
            | HFError::RateLimited { context, .. } => {
                Self::from_status(what, context.status.as_u16(), context.error_code.as_deref())
            }
            HFError::Request { source, .. } => {
                let is_json = |error: &(dyn Error + 'static)| error.is::<serde_json::Error>();
                if sources(&source).any(is_json) {
                    return Self::from_another(what);
                }
                unavailable(without_addresses(&source))
            }
            HFError::Io(source) => Self::Io {
                path: cache_dir.to_path_buf(),
                source,
            },
            HFError::CacheLockTimeout { .. } => {
                unavailable("another program is fetching it".to_owned())
            }
            HFError::Xet { operation, source } => unavailable(format!(
                "{operation}: {}",
                without_addresses(source.as_ref())
            )),
            HFError::MalformedResponse { .. } | HFError::Json(_) => Self::from_another(what),
            // The enum may grow; its texts may quote addresses.
            _ => unavailable("the request failed".to_owned()),
        }
    }

    /// An answer that is none of the hub's. It is not away: another server is in its place, perhaps for good.
    fn from_another(what: String) -> Self {
        Self::Unavailable {
            what,
            reason: "its answer is not one of the hub's".to_owned(),
            is_away: false,
        }
    }

    /// Why `endpoint` cannot be connected to.
    pub(super) fn unreachable(endpoint: &str, error: &reqwest::Error) -> Self {
        let url = reqwest::Url::parse(endpoint);
        let host = url.as_ref().ok().and_then(reqwest::Url::host_str);
        let io_error = sources(error).find_map(|source| source.downcast_ref::<io::Error>());
        let is_refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        let reason = if sources(error).any(|source| source.to_string().starts_with("dns error")) {
            "its name is not known"
        } else if io_error.is_some_and(is_refused) {
            "the connection is refused"
        } else if error.is_timeout() {
            "it does not answer"
        } else {
            "there is no connection"
        };
        Self::Unreachable {
            host: host.unwrap_or(endpoint).to_owned(),
            reason,
        }
    }

    /// `error_code` is the header that tells what the status alone does not: to callers without access the hub answers
    /// 401 for models that do not exist.
    fn from_status(what: String, status: u16, error_code: Option<&str>) -> Self {
        let named_absent = matches!(
            error_code,
            Some("RepoNotFound" | "RevisionNotFound" | "EntryNotFound")
        );
        match status {
            _ if named_absent => Self::NotFound { what },
            401 | 403 => Self::AccessDenied { what, status },
            404 => Self::NotFound { what },
            _ => Self::Unavailable {
                what,
                reason: format!("HTTP {status}"),
                is_away: status >= 500 || matches!(status, 408 | 429),
            },
        }
    }
}

/// An error and what it came from.
fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        (*error).source()
    })
}

/// The texts of an error and its sources, every address cut out.
fn without_addresses(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    for error in sources(error) {
        let text = error.to_string();
        let words: Vec<&str> = text
            .split_whitespace()
            .map(|word| {
                if word.contains("://") {
                    "(address)"
                } else {
                    word
                }
            })
            .collect();
        parts.push(words.join(" "));
    }
    // Some errors print their source as well; each text is said once.
    parts.dedup_by(|later, earlier| earlier.contains(later.as_str()));
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_do_not_reach_a_message() {
        let inner = io::Error::other("no route to https://cdn.example/x?signature=secret today");
        let error = HubError::from_client(
            "file",
            Path::new("/cache"),
            HFError::xet(hf_hub::XetOperation::Download, inner),
        );
        assert_eq!(
            error.to_string(),
            "the hub cannot give file: download: no route to (address) today"
        );
    }

    #[test]
    fn a_full_disk_is_told_apart_from_other_failures_to_write() {
        let full = HubError::io(Path::new("/cache"))(io::ErrorKind::StorageFull.into());
        assert_eq!(full.code(), ErrorCode::InsufficientDisk);
        let other = HubError::io(Path::new("/cache"))(io::ErrorKind::BrokenPipe.into());
        assert_eq!(other.code(), ErrorCode::Io);
    }
}
