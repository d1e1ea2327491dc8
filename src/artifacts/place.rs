//! The place of the artifact store, as the operator names it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use object_store::path::Path as Key;

const SCHEME: &str = "s3://";

/// A folder, or a bucket that speaks S3 and a prefix in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactPlace {
    /// On this machine.
    Folder(PathBuf),
    /// Shared by as many machines as one likes.
    Bucket {
        /// Of the bucket.
        name: String,
        /// Without a slash at either end; may be empty.
        prefix: String,
    },
}

/// What was given names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a directory or s3://BUCKET/PREFIX")]
pub struct InvalidPlace;

impl FromStr for ArtifactPlace {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let Some(rest) = text.strip_prefix(SCHEME) else {
            // `https://…` as the name of a directory is a mistake.
            let is_path = !text.is_empty() && !text.contains("://");
            return is_path
                .then(|| Self::Folder(text.into()))
                .ok_or(InvalidPlace);
        };
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let is_prefix = !prefix.starts_with('/')
            && prefix.chars().all(|c| is_plain(c) || c == '/')
            && Key::parse(prefix).is_ok();
        if name.is_empty() || !name.chars().all(is_plain) || !is_prefix {
            return Err(InvalidPlace);
        }
        Ok(Self::Bucket {
            name: name.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

impl fmt::Display for ArtifactPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Bucket { name, prefix } => write!(f, "{SCHEME}{name}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_directory_or_a_bucket() {
        let bucket = |name: &str, prefix: &str| ArtifactPlace::Bucket {
            name: name.to_owned(),
            prefix: prefix.to_owned(),
        };
        assert_eq!("s3://b".parse(), Ok(bucket("b", "")));
        assert_eq!("s3://b/".parse(), Ok(bucket("b", "")));
        assert_eq!("s3://b-1/x/y.z/".parse(), Ok(bucket("b-1", "x/y.z")));
        assert_eq!(
            "./artifacts".parse(),
            Ok(ArtifactPlace::Folder("./artifacts".into()))
        );
        for wrong in [
            "",
            "s3://",
            "s3:///x",
            "s3://b//x",
            "s3://b/../x",
            "s3://k:v@b",
            "https://b",
        ] {
            assert_eq!(wrong.parse::<ArtifactPlace>(), Err(InvalidPlace), "{wrong}");
        }
    }
}
