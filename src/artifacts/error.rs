//! What goes wrong with the artifact store.

use std::io;
use std::path::PathBuf;

use object_store::path::Path as Key;

/// The artifact store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The place cannot be used.
    #[error("cannot open the artifact store {place}")]
    Open {
        /// The folder or the bucket.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A finished directory could not be moved in.
    #[error("cannot move {} into the artifact store", path.display())]
    Publish {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of this machine could not be read or written.
    #[error("cannot {operation} {}", path.display())]
    Local {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A stored file could not be read, listed or deleted.
    #[error("cannot {operation} {key}")]
    Object {
        /// What was tried.
        operation: &'static str,
        /// On what.
        key: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// The same in a bucket.
    #[error("cannot {operation} {key} in the bucket")]
    Bucket {
        /// What was tried.
        operation: &'static str,
        /// On what.
        key: String,
        /// Why.
        #[source]
        source: Fault,
    },
    /// A file differs from what was stored, or from what was announced.
    #[error("{file} has {found}, expected {expected}")]
    Damaged {
        /// Which file.
        file: String,
        /// Its length or digest.
        found: String,
        /// What it should be.
        expected: String,
    },
}

/// What a bucket answered, without what must not be logged: the body of a refusal may repeat the key that a request was
/// signed with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{told}")]
pub struct Fault {
    told: String,
    may_pass: bool,
}

impl Fault {
    pub(super) fn new(error: &object_store::Error) -> Self {
        let text = error.to_string();
        let code = text.split_once("<Code>").and_then(|(_, rest)| {
            let (code, _) = rest.split_once("</Code>")?;
            code.chars()
                .all(|c| c.is_ascii_alphanumeric())
                .then(|| code.to_owned())
        });
        let told = text.split('<').next().unwrap_or_default();
        Self {
            told: format!("{told}{}", code.unwrap_or_default()),
            may_pass: may_pass(error, &text),
        }
    }
}

/// Whether the bucket was unavailable, as opposed to missing or closed to us.
///
/// The client reports the status of a refusal without a kind of its own in words only.
fn may_pass(error: &object_store::Error, text: &str) -> bool {
    use object_store::Error as E;
    let is_refusal = || {
        let status = text.split_once("status code: ").map(|(_, rest)| rest);
        let is_final = |rest: &str| {
            rest.starts_with('4') && !["408", "429"].iter().any(|s| rest.starts_with(s))
        };
        status.is_some_and(is_final) || text.contains("(code: AccessDenied)")
    };
    matches!(error, E::Generic { .. } | E::JoinError { .. }) && !is_refusal()
}

impl ArtifactError {
    /// Whether the same call may work in a while, though nothing but time changes: the bucket is away.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Bucket { source, .. } if source.may_pass)
    }
}

/// Names what was tried on which object.
pub(super) fn object_error(
    operation: &'static str,
    key: &Key,
) -> impl FnOnce(object_store::Error) -> ArtifactError {
    move |source| ArtifactError::Object {
        operation,
        key: key.to_string(),
        source,
    }
}

/// The same for a bucket.
pub(super) fn bucket_error(
    operation: &'static str,
    key: &Key,
) -> impl FnOnce(object_store::Error) -> ArtifactError {
    move |source| ArtifactError::Bucket {
        operation,
        key: key.to_string(),
        source: Fault::new(&source),
    }
}

/// The same for a file of this machine.
pub(super) fn local_error(
    operation: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(io::Error) -> ArtifactError {
    move |source| ArtifactError::Local {
        operation,
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_keeps_the_code_of_a_refusal_and_nothing_else_of_it() {
        let body = "Error performing GET http://s3/b/k in 1ms - Server returned non-2xx status code: 403 Forbidden: \
                    <Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>";
        let error = object_store::Error::Generic {
            store: "S3",
            source: body.into(),
        };
        let fault = Fault::new(&error).to_string();
        assert!(
            fault.ends_with("403 Forbidden: SignatureDoesNotMatch"),
            "{fault}"
        );
        assert!(!fault.contains("AKIA"), "{fault}");
    }

    #[test]
    fn an_outage_may_pass_and_a_refusal_does_not() {
        let generic = |text: &str| object_store::Error::Generic {
            store: "S3",
            source: text.into(),
        };
        let status =
            "Error performing PUT http://s3/b/k in 1ms - Server returned non-2xx status code:";
        let may_pass = |error: object_store::Error| {
            let error = bucket_error("write", &Key::from("k"))(error);
            error.may_pass()
        };
        for passing in [
            format!("{status} 503 Service Unavailable: "),
            format!("{status} 429 Too Many Requests: "),
            "error sending request: connection refused".to_owned(),
        ] {
            assert!(may_pass(generic(&passing)), "{passing}");
        }
        for lasting in [
            format!("{status} 400 Bad Request: "),
            "DeleteObjects request failed for key k: no (code: AccessDenied)".to_owned(),
        ] {
            assert!(!may_pass(generic(&lasting)), "{lasting}");
        }
        assert!(!may_pass(object_store::Error::NotFound {
            path: "k".to_owned(),
            source: "NoSuchBucket".into(),
        }));
        assert!(!may_pass(object_store::Error::PermissionDenied {
            path: "k".to_owned(),
            source: "no".into(),
        }));
    }
}
