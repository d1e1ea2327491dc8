//! Which addresses messages may go to: public ones, unless the operator allows more.
//!
//! A URL is checked when it is registered and whenever something is sent there. The addresses that its host has are
//! checked by the resolver of the client that connects, so that nobody else looks them up again in between.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;
use ipnet::IpNet;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The port of `https`.
const HTTPS_PORT: u16 = 443;

/// What lies within the unicast space of version 4 and is not public: this network, private, carrier-grade NAT,
/// loopback, link-local with the metadata services of clouds, protocol assignments, documentation, 6to4 relays, benchmarks, multicast,
/// reserved, and the address at which one cloud serves metadata although it is public.
const FORBIDDEN_V4: [&str; 17] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

/// The only addresses of version 6 that are public. What embeds one of version 4 (mapped, compatible, NAT64), loopback,
/// unique local, link-local and multicast addresses all lie outside.
const PUBLIC_V6: &str = "2000::/3";

/// And what within that is not: protocol assignments with Teredo, documentation, 6to4.
const FORBIDDEN_V6: [&str; 5] = [
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
];

/// Why nothing is sent somewhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// No URL at all.
    #[error("this is not an absolute URL with a host")]
    NotAUrl,
    /// The scheme.
    #[error("the scheme is {0}, only https is allowed")]
    Scheme(String),
    /// The port.
    #[error("the port is {0}, only 443 is allowed")]
    Port(u16),
    /// A user name or a password.
    #[error("a user name or a password in the URL is not allowed")]
    UserInfo,
    /// An address, given as it is or by a name server.
    #[error("the address {0} is not a public one")]
    Address(IpAddr),
}

/// Where messages may go.
#[derive(Debug, Clone)]
pub struct Policy {
    allowed: Arc<[IpNet]>,
    forbidden: Arc<[IpNet]>,
    public_v6: Option<IpNet>,
    allows_http: bool,
}

impl Policy {
    /// Public addresses, and those in `allowed`. `allows_http` allows the scheme `http` and every port.
    pub fn new(allowed: &[IpNet], allows_http: bool) -> Self {
        let forbidden = FORBIDDEN_V4.iter().chain(&FORBIDDEN_V6);
        Self {
            allowed: allowed.into(),
            forbidden: forbidden.filter_map(|range| range.parse().ok()).collect(),
            public_v6: PUBLIC_V6.parse().ok(),
            allows_http,
        }
    }

    /// Checks a URL before its name is resolved.
    pub fn check_url(&self, text: &str) -> Result<Url, Forbidden> {
        let url = Url::parse(text).map_err(|_error| Forbidden::NotAUrl)?;
        let scheme = url.scheme();
        if scheme != "https" && !(scheme == "http" && self.allows_http) {
            return Err(Forbidden::Scheme(scheme.to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Forbidden::UserInfo);
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if port != HTTPS_PORT && !self.allows_http {
            return Err(Forbidden::Port(port));
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or(Forbidden::NotAUrl)?;
        // The parser has turned every spelling of an address into the usual one.
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            self.check_address(address)?;
        }
        Ok(url)
    }

    /// Checks an address.
    fn check_address(&self, address: IpAddr) -> Result<(), Forbidden> {
        let is_in = |ranges: &[IpNet]| ranges.iter().any(|range| range.contains(&address));
        let is_public = match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(_) => self.public_v6.is_some_and(|range| range.contains(&address)),
        };
        if is_in(&self.allowed) || (is_public && !is_in(&self.forbidden)) {
            Ok(())
        } else {
            Err(Forbidden::Address(address))
        }
    }
}

/// Looks up the addresses of a host.
pub(super) trait Lookup: Send + Sync {
    /// All of them.
    fn lookup(&self, host: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>>;
}

/// As the machine does it.
pub(super) struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, host: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// A resolver that returns only addresses that the policy allows.
pub(super) struct CheckedResolver {
    pub(super) policy: Policy,
    pub(super) lookup: Box<dyn Lookup>,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.lookup.lookup(name.as_str().to_owned());
        let policy = self.policy.clone();
        Box::pin(async move {
            let (mut allowed, mut refused) = (Vec::new(), None);
            for address in found.await? {
                match policy.check_address(address) {
                    // The client puts the URL's port in the place of 0.
                    Ok(()) => allowed.push(SocketAddr::new(address, 0)),
                    Err(forbidden) => refused = Some(forbidden),
                }
            }
            match refused {
                Some(forbidden) if allowed.is_empty() => Err(forbidden.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_can_be_read() {
        let policy = Policy::new(&[], false);
        assert_eq!(
            policy.forbidden.len(),
            FORBIDDEN_V4.len() + FORBIDDEN_V6.len()
        );
        assert!(policy.public_v6.is_some());
    }

    #[test]
    fn public_urls_pass() {
        let policy = Policy::new(&[], false);
        for url in [
            "https://example.com/hook?token=1",
            "https://example.com:443/",
            "https://8.8.8.8/",
            "https://[2606:4700:4700::1111]/",
            "https://bücher.example/",
        ] {
            assert!(policy.check_url(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn schemes_ports_and_user_names_are_the_operators_choice() {
        let strict = Policy::new(&[], false);
        let open = Policy::new(&["10.0.0.0/8".parse().unwrap()], true);
        for url in [
            "http://example.com/",
            "https://example.com:8443/",
            "http://10.1.2.3:8080/",
        ] {
            assert!(strict.check_url(url).is_err(), "{url}");
            assert!(open.check_url(url).is_ok(), "{url}");
        }
        for url in [
            "https://user@example.com/",
            "https://:secret@example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "//example.com/",
            "example.com",
            "https://",
            "",
            "http://192.168.0.1/",
            "http://[::ffff:10.0.0.1]/",
        ] {
            assert!(open.check_url(url).is_err(), "{url}");
        }
    }
}
