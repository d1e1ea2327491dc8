//! Keeps web pages from using a server that trusts every program on this machine.
//!
//! A page can make its own name lead to 127.0.0.1 and then reads answers as its own: so the `Host` must be one of
//! this server's. A page can also send simple requests to any address without reading the answer: so a change is
//! refused when the browser says that another origin asks for it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::domain::ErrorCode;
use crate::http::output::problem::Problem;
use crate::http::routes::operations;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names that a server answers for.
#[derive(Debug, Clone)]
pub enum Hosts {
    /// Addresses, and names without a dot: no page of the web can have such a name.
    Unregistered,
    /// These only.
    Only(Arc<[String]>),
}

impl Hosts {
    /// The names of this machine for itself, and the address that is listened on.
    pub fn local(listening: IpAddr) -> Self {
        let own = match listening {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        Self::Only(
            ["localhost", "127.0.0.1", "[::1]", &own]
                .map(str::to_owned)
                .into(),
        )
    }

    fn has(&self, host: &HeaderValue) -> bool {
        authority(host).is_some_and(|authority| {
            let host = authority.host();
            match self {
                Self::Unregistered => !host.is_empty() && is_unregistered(host),
                Self::Only(names) => names.iter().any(|name| name.eq_ignore_ascii_case(host)),
            }
        })
    }
}

/// Whether a host is an address, or a name that cannot be had in the public DNS.
fn is_unregistered(host: &str) -> bool {
    !host.contains('.') || host.parse::<Ipv4Addr>().is_ok()
}

fn authority(host: &HeaderValue) -> Option<Authority> {
    host.to_str().ok()?.parse().ok()
}

/// The layer that refuses such requests.
pub(in crate::http) async fn guard(
    State(hosts): State<Hosts>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let headers = request.headers();
    // Browsers always send one; a client without it is no browser. Probes ask by address, and read no job.
    if !headers
        .get_all(header::HOST)
        .iter()
        .all(|host| hosts.has(host))
        && !operations::PROBED.contains(&request.uri().path())
    {
        let detail = "this server does not answer for the host that the request names; SECATEUR_HOSTS lists its names";
        return Err(Problem::new(ErrorCode::MisdirectedRequest, detail));
    }
    if !request.method().is_safe() && is_foreign(headers) {
        let detail = "the request comes from a page of another origin";
        return Err(Problem::new(ErrorCode::CrossOrigin, detail));
    }
    Ok(next.run(request).await)
}

fn is_foreign(headers: &HeaderMap) -> bool {
    let is_cross_site = headers
        .get(SEC_FETCH_SITE)
        .is_some_and(|site| site == "cross-site");
    let host = headers.get(header::HOST).and_then(authority);
    let is_other = |origin: &HeaderValue| {
        let origin = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"));
        let origin = origin.and_then(|(_, authority)| authority.parse::<Authority>().ok());
        origin.is_none() || origin != host
    };
    is_cross_site || headers.get_all(header::ORIGIN).iter().any(is_other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_server_has_few_names() {
        let hosts = Hosts::local(IpAddr::from([127, 0, 0, 2]));
        for (host, expected) in [
            ("localhost:8484", true),
            ("LOCALHOST", true),
            ("127.0.0.1:8484", true),
            ("127.0.0.2", true),
            ("[::1]:8484", true),
            ("rebound.example:8484", false),
            ("localhost.example", false),
            ("127.0.0.3", false),
            ("a b", false),
            ("", false),
        ] {
            assert_eq!(
                hosts.has(&HeaderValue::from_static(host)),
                expected,
                "{host}"
            );
        }
    }

    #[test]
    fn without_a_list_a_name_of_the_web_is_refused() {
        for (host, expected) in [
            ("10.1.2.3:8484", true),
            ("[fd00::1]:8484", true),
            ("secateur:8484", true),
            ("gateway.example", false),
            ("10.1.2.3.example", false),
            ("1.2.3", false),
            ("gateway.", false),
            ("", false),
        ] {
            let is_answered = Hosts::Unregistered.has(&HeaderValue::from_static(host));
            assert_eq!(is_answered, expected, "{host}");
        }
    }

    #[test]
    fn a_page_of_this_server_is_no_stranger() {
        for (name, value, expected) in [
            ("origin", "http://localhost:8484", false),
            ("origin", "https://LOCALHOST:8484", false),
            ("origin", "http://localhost:3000", true),
            ("origin", "https://evil.example", true),
            ("origin", "null", true),
            ("sec-fetch-site", "cross-site", true),
            ("sec-fetch-site", "same-origin", false),
            ("sec-fetch-site", "none", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("localhost:8484"));
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
            assert_eq!(is_foreign(&headers), expected, "{name}: {value}");
        }
    }
}
