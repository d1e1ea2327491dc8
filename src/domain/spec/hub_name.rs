//! Ids and revisions of the hub. What passes here is safe in an address of the hub and in a path of its cache.

const MAX_PART: usize = 96;
const MAX_REVISION: usize = 255;

/// Splits `organisation/name`.
pub fn parse_id(id: &str) -> Option<(&str, &str)> {
    let parts = id
        .split_once('/')
        .filter(|(owner, name)| is_part(owner) && is_part(name));
    // "--" would let two ids share one folder of the cache; the hub gives no such names.
    parts.filter(|_| !id.contains("--") && !id.contains(".."))
}

fn is_part(part: &str) -> bool {
    part.len() <= MAX_PART
        && part.starts_with(|c: char| c.is_ascii_alphanumeric())
        && part.bytes().all(is_word)
}

/// Whether this can be a branch (also nested with `/`), a tag or a commit.
pub fn is_revision(revision: &str) -> bool {
    let is_segment =
        |segment: &str| !segment.is_empty() && segment != "." && segment.bytes().all(is_word);
    revision.len() <= MAX_REVISION
        && !revision.contains("..")
        && revision.split('/').all(is_segment)
}

/// Whether this is a commit in full.
pub fn is_commit(revision: &str) -> bool {
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
            assert!(parse_id(id).is_none(), "{id:?}");
        }
    }

    #[test]
    fn branches_tags_and_commits_are_taken() {
        for revision in ["main", "v1.0", "refs/pr/1", "feature/x-y", &"0a".repeat(20)] {
            assert!(is_revision(revision), "{revision:?}");
        }
    }

    #[test]
    fn revisions_that_could_leave_the_cache_are_refused() {
        let long = "a".repeat(256);
        let hostile = [
            "", "/", "/etc", "..", "a/../b", "a..b", "a//b", "a/", "./a", "a\\b", "a b", "a\0",
            "a%2fb", "a#1", &long,
        ];
        for revision in hostile {
            assert!(!is_revision(revision), "{revision:?}");
        }
    }
}
