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
    /// What came is not what was stored, or what shall be stored is not what was announced.
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
#[error("{0}")]
pub struct Fault(String);

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
        Self(format!("{told}{}", code.unwrap_or_default()))
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
}
