//! Entity tags and byte ranges (RFC 9110, sections 8.8, 13 and 14).

use std::ops::Range;

use axum::http::{HeaderMap, HeaderName, header};
use jiff::Timestamp;

use crate::http::output::problem::{FieldProblem, Problem};

/// An entity tag around `text`.
pub(in crate::http) fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// Whether `If-None-Match` names `etag`: the client has it already.
pub(in crate::http) fn is_unchanged(headers: &HeaderMap, etag: &str) -> bool {
    any_tag(headers, |tag| tag == etag)
}

/// Whether `If-None-Match` is `*` or has such a tag. The comparison is the weak one.
fn any_tag(headers: &HeaderMap, is_meant: impl Fn(&str) -> bool) -> bool {
    let tags = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    tags.flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || is_meant(tag.strip_prefix("W/").unwrap_or(tag)))
}

/// The entity tag of a job: its version, and the time of the last change, which progress moves too.
pub(in crate::http) fn job_tag(version: u64, updated_at: Timestamp) -> String {
    quoted(&format!("{version}-{}", updated_at.as_millisecond()))
}

/// Whether `If-None-Match` names this version of a job, however far it was then.
pub(in crate::http) fn has_seen_version(headers: &HeaderMap, version: u64) -> bool {
    any_tag(headers, |tag| version_of(tag) == Some(version))
}

/// The version in the entity tag of a job: progress since then does not matter.
fn version_of(tag: &str) -> Option<u64> {
    let text = tag
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    number(text?.split_once('-')?.0)
}

/// The version of a job that `If-Match` asks for; `None` = any.
pub(in crate::http) fn expected_version(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let (value, further) = (values.next(), values.next());
    let Some(value) = value else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if further.is_some() || text.is_empty() || text.contains(',') {
        let detail = "expected one entity tag, or *".to_owned();
        let problem = FieldProblem::header(&header::IF_MATCH, "invalid_format", detail);
        return Err(Problem::invalid(vec![problem]));
    }
    if text == "*" {
        return Ok(None);
    }
    // No job is of the version 0.
    Ok(Some(version_of(text).unwrap_or(0)))
}

/// What part of a file a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) enum RequestedPart {
    /// All of it: no range is given, or it does not apply.
    Whole,
    /// A part of it.
    Range(Range<u64>),
    /// Nothing that the file has.
    Outside,
}

/// Reads `Range` and `If-Range`. A header that makes no sense, or names several ranges, is ignored, as RFC 9110 allows.
pub(in crate::http) fn part(headers: &HeaderMap, etag: &str, size: u64) -> RequestedPart {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(range) = text(header::RANGE) else {
        return RequestedPart::Whole;
    };
    // Only this very content may be continued; dates are not given out, so none can match.
    if text(header::IF_RANGE).is_some_and(|tag| tag != etag) {
        return RequestedPart::Whole;
    }
    byte_range(range, size).unwrap_or(RequestedPart::Whole)
}

/// `bytes=first-last`, `bytes=first-` or `bytes=-length`.
fn byte_range(text: &str, size: u64) -> Option<RequestedPart> {
    let (unit, set) = text.split_once('=')?;
    let (first, last) = set.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let range = if first.is_empty() {
        size.saturating_sub(number(last)?)..size
    } else {
        let first = number(first)?;
        let end = if last.is_empty() {
            size
        } else {
            number(last)?.saturating_add(1).min(size)
        };
        if !last.is_empty() && number(last)? < first {
            return None;
        }
        first..end
    };
    Some(if range.is_empty() {
        RequestedPart::Outside
    } else {
        RequestedPart::Range(range)
    })
}

/// Digits only: `parse` would also take a sign. A number too large is beyond every file.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        let cases = [
            ("bytes=0-0", RequestedPart::Range(0..1)),
            ("bytes=2-5", RequestedPart::Range(2..6)),
            ("bytes=2-", RequestedPart::Range(2..10)),
            ("bytes=2-99", RequestedPart::Range(2..10)),
            ("bytes=-3", RequestedPart::Range(7..10)),
            ("bytes=-99", RequestedPart::Range(0..10)),
            ("bytes=10-", RequestedPart::Outside),
            ("bytes=99-100", RequestedPart::Outside),
            ("bytes=-0", RequestedPart::Outside),
            ("bytes=5-2", RequestedPart::Whole),
            ("bytes=0-1,3-4", RequestedPart::Whole),
            ("bytes=+1-2", RequestedPart::Whole),
            ("bytes=-", RequestedPart::Whole),
            ("lines=0-1", RequestedPart::Whole),
            ("bytes=99999999999999999999-", RequestedPart::Outside),
            ("bytes=0-999999999999999999999", RequestedPart::Range(0..10)),
            ("Bytes=2-5", RequestedPart::Range(2..6)),
        ];
        for (text, expected) in cases {
            assert_eq!(
                part(&headers(&[(header::RANGE, text)]), "\"x\"", 10),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn every_range_of_an_empty_file_lies_outside() {
        assert_eq!(
            part(&headers(&[(header::RANGE, "bytes=0-")]), "\"x\"", 0),
            RequestedPart::Outside
        );
    }

    #[test]
    fn a_range_of_other_content_is_the_whole_file() {
        let with = |tag| headers(&[(header::RANGE, "bytes=1-2"), (header::IF_RANGE, tag)]);
        assert_eq!(
            part(&with("\"x\""), "\"x\"", 10),
            RequestedPart::Range(1..3)
        );
        assert_eq!(part(&with("\"y\""), "\"x\"", 10), RequestedPart::Whole);
        assert_eq!(part(&with("W/\"x\""), "\"x\"", 10), RequestedPart::Whole);
    }

    #[test]
    fn the_version_of_a_job_is_found_in_its_tags() {
        let seen = |value: &str| has_seen_version(&headers(&[(header::IF_NONE_MATCH, value)]), 7);
        assert!(
            ["\"7-1\"", "W/\"7-2\"", "\"6-1\", \"7-3\"", "*"]
                .into_iter()
                .all(seen)
        );
        assert!(
            !["\"6-7\"", "\"7\"", "7-1", "\"77-1\""]
                .into_iter()
                .any(seen)
        );
    }

    #[test]
    fn a_known_tag_is_found_in_a_list() {
        for (value, expected) in [
            ("\"a\", \"x\"", true),
            ("W/\"x\"", true),
            ("*", true),
            ("\"a\"", false),
            ("x", false),
        ] {
            assert_eq!(
                is_unchanged(&headers(&[(header::IF_NONE_MATCH, value)]), "\"x\""),
                expected,
                "{value}"
            );
        }
    }
}
