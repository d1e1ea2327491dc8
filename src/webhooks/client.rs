//! Sends one message once.

use std::error::Error;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderName};
use reqwest::{StatusCode, redirect};

use super::policy::{CheckedResolver, Forbidden, Lookup, Policy, SystemLookup};
use super::signature::sign;
use crate::domain::webhook::{DeliveryError, Secret, Sent};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot prepare to send webhooks")]
pub struct ClientError(#[source] reqwest::Error);

/// One message to send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Letter<'a> {
    pub(super) url: &'a str,
    pub(super) id: &'a str,
    pub(super) secrets: &'a [Secret],
    /// Unix seconds of this attempt.
    pub(super) timestamp: i64,
    pub(super) body: &'a str,
}

/// An HTTP client that connects only where the policy allows, and reads only the status.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    policy: Policy,
    timeout: Duration,
}

impl Client {
    /// A client that gives up a message after `timeout`.
    pub fn new(policy: Policy, timeout: Duration) -> Result<Self, ClientError> {
        Self::with_lookup(policy, timeout, Box::new(SystemLookup))
    }

    fn with_lookup(
        policy: Policy,
        timeout: Duration,
        lookup: Box<dyn Lookup>,
    ) -> Result<Self, ClientError> {
        let resolver = CheckedResolver {
            policy: policy.clone(),
            lookup,
        };
        let http = reqwest::Client::builder()
            // A proxy would look the host up once more, and connect to what it likes.
            .no_proxy()
            .redirect(redirect::Policy::none())
            .dns_resolver(std::sync::Arc::new(resolver))
            .pool_max_idle_per_host(0)
            .timeout(timeout)
            .user_agent(concat!("secateur/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ClientError)?;
        Ok(Self {
            http,
            policy,
            timeout,
        })
    }

    /// The longest that sending takes.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends, and says how it went.
    pub(super) async fn send(&self, letter: &Letter<'_>) -> Sent {
        let started = Instant::now();
        let (status, error) = match self.post(letter).await {
            Ok(status) => (Some(status.as_u16()), failure(status)),
            Err(error) => (None, Some(error)),
        };
        Sent {
            status,
            error,
            duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    async fn post(&self, letter: &Letter<'_>) -> Result<StatusCode, DeliveryError> {
        // Addresses in a URL pass no resolver, and the settings may have changed since it was registered.
        let url = self.policy.check_url(letter.url);
        let url = url.map_err(|_forbidden| DeliveryError::Forbidden)?;
        let signature = sign(letter.secrets, letter.id, letter.timestamp, letter.body);
        let request = self
            .http
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(ID, letter.id)
            .header(TIMESTAMP, letter.timestamp)
            .header(SIGNATURE, signature)
            .body(letter.body.to_owned());
        match request.send().await {
            Ok(response) => Ok(response.status()),
            Err(error) => Err(reason(&error)),
        }
    }
}

/// What a status means; `None` = success.
fn failure(status: StatusCode) -> Option<DeliveryError> {
    match status {
        status if status.is_success() => None,
        StatusCode::GONE => Some(DeliveryError::Gone),
        status if status.is_redirection() => Some(DeliveryError::Redirect),
        _ => Some(DeliveryError::Status),
    }
}

fn reason(error: &reqwest::Error) -> DeliveryError {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<Forbidden>() {
            return DeliveryError::Forbidden;
        }
        source = cause.source();
    }
    if error.is_timeout() {
        DeliveryError::Timeout
    } else {
        DeliveryError::Connection
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::IpAddr;
    use std::sync::{Arc, Mutex};

    use futures::future::BoxFuture;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Gives one answer after the other, and the last one for ever.
    struct Script(Mutex<VecDeque<Vec<IpAddr>>>);

    impl Script {
        fn boxed(answers: &[&[&str]]) -> Box<dyn Lookup> {
            let parse = |answer: &&[&str]| answer.iter().map(|a| a.parse().unwrap()).collect();
            Box::new(Self(Mutex::new(answers.iter().map(parse).collect())))
        }
    }

    impl Lookup for Script {
        fn lookup(&self, _: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
            let mut answers = self.0.lock().unwrap();
            let answer = if answers.len() > 1 {
                answers.pop_front().unwrap()
            } else {
                answers[0].clone()
            };
            Box::pin(async move { Ok(answer) })
        }
    }

    /// Somebody on this machine who counts who comes, and sends them on to `location`.
    async fn trap(location: &str) -> (u16, Arc<Mutex<usize>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(0));
        let count = Arc::clone(&seen);
        let answer =
            format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                *count.lock().unwrap() += 1;
                let mut buffer = [0; 4096];
                if stream.read(&mut buffer).await.is_ok() {
                    drop(stream.write_all(answer.as_bytes()).await);
                }
            }
        });
        (port, seen)
    }

    async fn send(client: &Client, url: &str) -> Sent {
        let letter = Letter {
            url,
            id: "msg_1",
            secrets: &[],
            timestamp: 1,
            body: "{}",
        };
        client.send(&letter).await
    }

    fn client(allowed: &[&str], lookup: Box<dyn Lookup>) -> Client {
        let allowed: Vec<_> = allowed.iter().map(|range| range.parse().unwrap()).collect();
        let policy = Policy::new(&allowed, true);
        Client::with_lookup(policy, Duration::from_secs(5), lookup).unwrap()
    }

    /// Every spelling of an address that is not public, and hosts that have one.
    const HOSTS: &str = "\
        127.0.0.1 127.1 127.0.1 0x7f000001 0x7f.1 017700000001 2130706433 127.255.255.254 0177.0.0.1 \
        0x7F.0x0.0x0.0x1 127.0.0.1. １２７.０.０.１ 127。0。0。1 0 0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 012.0.0.1 \
        172.16.0.1 172.31.255.255 192.168.0.1 192.168.255.255 100.64.0.1 100.127.255.255 100.100.100.200 \
        169.254.0.1 169.254.169.254 0xa9fea9fe 2852039166 168.63.129.16 192.0.0.8 192.0.2.1 192.88.99.1 \
        198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 \
        255.255.255.255 [::] [::1] [0:0:0:0:0:0:0:1] [::127.0.0.1] [::ffff:127.0.0.1] [::ffff:7f00:1] \
        [::ffff:10.0.0.1] [::ffff:169.254.169.254] [::ffff:8.8.8.8] [::ffff:0:10.0.0.1] [64:ff9b::10.0.0.1] \
        [64:ff9b:1::1] [100::1] [2001::1] [2001:db8::1] [2002:7f00:1::] [2002:a00:1::1] [3fff::1] [fc00::1] \
        [fd00:ec2::254] [fe80::1] [fec0::1] [ff02::1] [5f00::1]";

    /// Every one of them ends at the trap on this machine, or nowhere, if it is let through.
    #[tokio::test]
    async fn nothing_connects_to_an_address_that_is_not_public() {
        let (port, seen) = trap("http://127.0.0.1/").await;
        let literal = client(&[], Script::boxed(&[&["127.0.0.1"]]));
        for host in HOSTS.split(' ') {
            let sent = send(&literal, &format!("http://{host}:{port}/")).await;
            assert_eq!(sent.error, Some(DeliveryError::Forbidden), "{host}");
            // The same when a name server says it.
            let url = reqwest::Url::parse(&format!("http://{host}/")).unwrap();
            let Ok(address) = url.host_str().unwrap().trim_matches(['[', ']']).parse() else {
                continue;
            };
            let address: IpAddr = address;
            let resolved = client(&[], Script::boxed(&[&[&address.to_string()]]));
            let sent = send(&resolved, &format!("http://name.example:{port}/")).await;
            assert_eq!(
                sent.error,
                Some(DeliveryError::Forbidden),
                "{host} resolved"
            );
        }
        for name in [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1.nip.example",
        ] {
            let sent = send(&literal, &format!("http://{name}:{port}/")).await;
            assert_eq!(sent.error, Some(DeliveryError::Forbidden), "{name}");
        }
        assert_eq!(*seen.lock().unwrap(), 0);
    }

    #[tokio::test]
    async fn a_host_that_changes_its_address_is_checked_each_time() {
        let (port, seen) = trap("http://127.0.0.1/").await;
        // 127.0.0.2 is as good as a public address here, 127.0.0.1 is the inside.
        let lookup = Script::boxed(&[&["127.0.0.2"], &["127.0.0.1"]]);
        let client = client(&["127.0.0.2/32"], lookup);
        let url = format!("http://rebind.example:{port}/");
        // Nobody listens there: what matters is where it went.
        assert_eq!(
            send(&client, &url).await.error,
            Some(DeliveryError::Connection)
        );
        for _ in 0..3 {
            assert_eq!(
                send(&client, &url).await.error,
                Some(DeliveryError::Forbidden)
            );
        }
        assert_eq!(*seen.lock().unwrap(), 0);
    }

    #[tokio::test]
    async fn of_several_addresses_only_the_allowed_ones_are_used() {
        let (port, seen) = trap("http://127.0.0.1/").await;
        let lookup = Script::boxed(&[&["10.0.0.1", "127.0.0.1", "::1"]]);
        let client = client(&["127.0.0.1/32"], lookup);
        let sent = send(&client, &format!("http://name.example:{port}/")).await;
        assert_eq!((sent.status, *seen.lock().unwrap()), (Some(302), 1));
    }

    #[tokio::test]
    async fn nobody_is_followed_elsewhere() {
        let (inside, seen_inside) = trap("http://127.0.0.1/").await;
        let (outside, seen_outside) = trap(&format!("http://localhost:{inside}/")).await;
        let client = client(&["127.0.0.0/8"], Script::boxed(&[&["127.0.0.1"]]));
        let sent = send(&client, &format!("http://name.example:{outside}/")).await;
        assert_eq!(
            (sent.status, sent.error),
            (Some(302), Some(DeliveryError::Redirect))
        );
        assert_eq!(*seen_outside.lock().unwrap(), 1);
        assert_eq!(*seen_inside.lock().unwrap(), 0);
    }
}
