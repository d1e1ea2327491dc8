//! `Prefer` (RFC 7240): how long a client is willing to wait for an answer.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The longest wait that is granted.
pub(in crate::http) const MAX_WAIT: Duration = Duration::from_mins(1);

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The `wait=SECONDS` of a request.
///
/// As the RFC says, the first of several counts, and an invalid one is ignored.
pub(in crate::http) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(PREFER).iter();
    let preferences = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    let mut waits = preferences.filter_map(|preference| {
        // Parameters of a preference come after a semicolon.
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let value = value.trim();
        let value = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
            .unwrap_or(value);
        name.trim().eq_ignore_ascii_case("wait").then_some(value)
    });
    let seconds = waits.next()?;
    let is_number = !seconds.is_empty() && seconds.bytes().all(|b| b.is_ascii_digit());
    // More than fits is more than the longest.
    let seconds = is_number.then(|| seconds.parse().unwrap_or(u64::MAX))?;
    Some(Duration::from_secs(seconds).min(MAX_WAIT))
}

/// Confirms the preference with the wait that was granted.
pub(in crate::http) fn applied(headers: &mut HeaderMap, wait: Duration) {
    if let Ok(value) = HeaderValue::try_from(format!("wait={}", wait.as_secs())) {
        headers.insert(PREFERENCE_APPLIED, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_as_the_rfc_says() {
        let cases: [(&[&str], Option<u64>); 12] = [
            (&["wait=10"], Some(10)),
            (&["respond-async, wait=10"], Some(10)),
            (&["Wait = \"7\" ; foo=1"], Some(7)),
            (&["return=minimal", "wait=3"], Some(3)),
            (&["wait=3", "wait=4"], Some(3)),
            (&["wait=0"], Some(0)),
            (&["wait=99999999999999999999"], Some(60)),
            (&["wait"], None),
            (&["wait="], None),
            (&["wait=-1"], None),
            (&["wait=soon, wait=5"], None),
            (&[], None),
        ];
        for (lines, expected) in cases {
            let headers = lines
                .iter()
                .map(|line| (PREFER, line.parse().unwrap()))
                .collect();
            assert_eq!(
                wait(&headers).map(|wait| wait.as_secs()),
                expected,
                "{lines:?}"
            );
        }
    }
}
