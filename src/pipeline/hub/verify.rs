//! Compares a file with what the hub lists for it: its length and a digest of its content.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::domain::report::manifest::FileEntry;

/// The digest that the hub lists for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Digest {
    /// SHA-256 of the content, in hexadecimal: files in large file storage.
    Sha256(String),
    /// Git's object id, SHA-1 over `blob <length>\0` and the content, in hexadecimal: all other files.
    GitBlob(String),
}

impl Digest {
    /// Tells the two apart by their length; anything else is no digest.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_hex = text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match text.len() {
            64 if is_hex => Some(Self::Sha256(text.to_owned())),
            40 if is_hex => Some(Self::GitBlob(text.to_owned())),
            _ => None,
        }
    }
}

/// How a file differs from what the hub lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// There is no file.
    Absent,
    /// Another length.
    Length {
        /// On disk.
        actual: u64,
        /// Listed.
        listed: u64,
    },
    /// The right length, another content.
    Content {
        /// On disk.
        actual: String,
        /// Listed.
        listed: String,
    },
    /// The hub lists no digest, so the content cannot be trusted.
    Unlisted,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("is absent from the cache after its download"),
            Self::Length { actual, listed } => {
                write!(f, "has {actual} bytes, the hub lists {listed}")
            }
            Self::Content { actual, listed } => {
                write!(f, "has the digest {actual}, the hub lists {listed}")
            }
            Self::Unlisted => f.write_str("cannot be checked, the hub lists no digest for it"),
        }
    }
}

/// Reads the file once and compares it with what is listed; gives its entry, with the SHA-256 whichever digest that is.
pub(super) fn check(
    path: &Path,
    name: &str,
    size_bytes: u64,
    digest: Option<&Digest>,
) -> io::Result<Result<FileEntry, Mismatch>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(Mismatch::Absent)),
        Err(error) => return Err(error),
    };
    let actual = file.metadata()?.len();
    compare(&mut file, actual, name, size_bytes, digest)
}

/// The same for a content of `actual` bytes.
pub(super) fn compare(
    content: &mut impl Read,
    actual: u64,
    name: &str,
    size_bytes: u64,
    digest: Option<&Digest>,
) -> io::Result<Result<FileEntry, Mismatch>> {
    if actual != size_bytes {
        return Ok(Err(Mismatch::Length {
            actual,
            listed: size_bytes,
        }));
    }
    let mut git = matches!(digest, Some(Digest::GitBlob(_)))
        .then(|| Sha1::new().chain_update(format!("blob {size_bytes}\0").as_bytes()));
    let mut sha256 = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = content.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        sha256.update(&buffer[..length]);
        if let Some(git) = &mut git {
            git.update(&buffer[..length]);
        }
    }
    let sha256 = hex::encode(sha256.finalize());
    let actual = git.map_or_else(|| sha256.clone(), |git| hex::encode(git.finalize()));
    if let Some(Digest::GitBlob(listed) | Digest::Sha256(listed)) = digest
        && actual != *listed
    {
        return Ok(Err(Mismatch::Content {
            actual,
            listed: listed.clone(),
        }));
    }
    Ok(Ok(FileEntry {
        name: name.to_owned(),
        size_bytes,
        sha256,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    // `printf 'hello\n' | git hash-object --stdin` and `printf 'hello\n' | sha256sum`.
    const HELLO_GIT: &str = "ce013625030ba8dba906f756967f9e9ca394464a";
    const HELLO_SHA256: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

    fn check_hello(content: &str, digest: &str) -> Result<FileEntry, Mismatch> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hello");
        std::fs::write(&path, content).unwrap();
        check(&path, "hello", 6, Digest::parse(digest).as_ref()).unwrap()
    }

    #[test]
    fn both_kinds_of_digest_are_those_of_git_and_of_sha256sum() {
        for digest in [HELLO_GIT, HELLO_SHA256] {
            let entry = check_hello("hello\n", digest).unwrap();
            assert_eq!(entry.sha256, HELLO_SHA256);
            assert_eq!(entry.size_bytes, 6);
        }
    }

    #[test]
    fn another_length_and_another_content_are_told_apart() {
        for digest in [HELLO_GIT, HELLO_SHA256] {
            assert_eq!(
                check_hello("hello", digest).unwrap_err(),
                Mismatch::Length {
                    actual: 5,
                    listed: 6
                }
            );
            assert!(matches!(
                check_hello("jello\n", digest),
                Err(Mismatch::Content { .. })
            ));
        }
    }

    #[test]
    fn only_hexadecimal_of_the_right_length_is_a_digest() {
        for text in ["", "abc", &"A".repeat(40), &"g".repeat(64), &"a".repeat(63)] {
            assert_eq!(Digest::parse(text), None, "{text:?}");
        }
    }
}
