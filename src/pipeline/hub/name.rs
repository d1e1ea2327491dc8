//! Ids and revisions, checked before they become parts of paths: the client library joins them as they are.

use super::error::HubError;

const MAX_PART: usize = 96;
const MAX_REVISION: usize = 256;

/// Splits `organisation/name`.
pub(super) fn parse_id(id: &str) -> Result<(&str, &str), HubError> {
    let parts = id
        .split_once('/')
        .filter(|(owner, name)| is_part(owner) && is_part(name));
    // "--" would let two ids share one folder of the cache; the hub gives no such names.
    parts
        .filter(|_| !id.contains("--") && !id.contains(".."))
        .ok_or_else(|| HubError::InvalidId { id: id.to_owned() })
}

fn is_part(part: &str) -> bool {
    part.len() <= MAX_PART
        && part.starts_with(|c: char| c.is_ascii_alphanumeric())
        && part.bytes().all(is_word)
}

/// Takes branches (also nested with `/`), tags and commits.
pub(super) fn check_revision(revision: &str) -> Result<(), HubError> {
    let is_segment =
        |segment: &str| !segment.is_empty() && segment != "." && segment.bytes().all(is_word);
    if revision.len() <= MAX_REVISION
        && !revision.contains("..")
        && revision.split('/').all(is_segment)
    {
        return Ok(());
    }
    Err(HubError::InvalidRevision {
        revision: revision.to_owned(),
    })
}

/// Whether this is a commit in full.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40
        && revision
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_hub_are_taken_apart() {
        assert_eq!(
            parse_id("HuggingFaceTB/SmolLM2-135M").unwrap(),
            ("HuggingFaceTB", "SmolLM2-135M")
        );
        assert_eq!(parse_id("a/b_c.d").unwrap(), ("a", "b_c.d"));
    }

    #[test]
    fn ids_that_could_leave_the_cache_are_refused() {
        let long = format!("a/{}", "b".repeat(97));
        let hostile = [
            "",
            "a",
            "/",
            "a/",
            "/b",
            "../b",
            "a/..",
            "a/b/c",
            "a\\b/c",
            "a/b\0",
            "a/.b",
            "-a/b",
            "a%2f/b",
            "a/b#1",
            "a--b/c",
            "a/b..c",
            "/etc/passwd",
            "ä/b",
            &long,
        ];
        for id in hostile {
            assert!(parse_id(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn branches_tags_and_commits_are_taken() {
        for revision in ["main", "v1.0", "refs/pr/1", "feature/x-y", &"0a".repeat(20)] {
            check_revision(revision).unwrap();
        }
    }

    #[test]
    fn revisions_that_could_leave_the_cache_are_refused() {
        let long = "a".repeat(257);
        let hostile = [
            "", "/", "/etc", "..", "a/../b", "a..b", "a//b", "a/", "./a", "a\\b", "a b", "a\0",
            "a%2fb", "a#1", &long,
        ];
        for revision in hostile {
            assert!(check_revision(revision).is_err(), "{revision:?}");
        }
    }
}
