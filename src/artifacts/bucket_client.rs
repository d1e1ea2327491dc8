//! The client of a bucket: how it is reached, and how patient it is.

use std::fmt;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// Timeout of an answer, and of a pause within it.
///
/// A request includes its body of one part. There is no limit on the whole: a file may have gigabytes.
const IDLE: Duration = Duration::from_mins(1);

/// A failed request is repeated for some seconds, up to half a minute. A caller that can wait longer does so itself.
const RETRIES: usize = 8;
const RETRY_FOR: Duration = Duration::from_mins(2);

/// How a bucket is reached.
#[derive(Debug, Clone, Default)]
pub struct BucketSettings {
    /// The server's URL; `None` = Amazon's of the region. Only with `http://` here the connection is not encrypted.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// Whether the bucket is named in the path instead of the host name.
    pub path_style: bool,
    /// What requests are signed with; `None` = what the machine is given by its cloud.
    pub credentials: Option<Credentials>,
    /// Whether downloads are sent to the bucket.
    pub redirect: bool,
}

/// A pair of keys, never printed.
#[derive(Clone)]
pub struct Credentials {
    /// Names the key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: String,
    /// What temporary keys come with.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// A client of the bucket `name`.
pub(super) fn client(
    name: &str,
    settings: &BucketSettings,
) -> Result<AmazonS3, object_store::Error> {
    let is_plain = |endpoint: &String| endpoint.starts_with("http://");
    let options = ClientOptions::new()
        .with_allow_http(settings.endpoint.as_ref().is_some_and(is_plain))
        .with_connect_timeout(CONNECT)
        .with_timeout_disabled()
        .with_read_timeout(IDLE);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(name)
        .with_region(&settings.region)
        .with_virtual_hosted_style_request(!settings.path_style)
        .with_client_options(options)
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(10),
                base: 2.0,
            },
            max_retries: RETRIES,
            retry_timeout: RETRY_FOR,
        });
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint_of(endpoint, name, settings.path_style));
    }
    if let Some(credentials) = &settings.credentials {
        builder = builder
            .with_access_key_id(&credentials.access_key_id)
            .with_secret_access_key(&credentials.secret_access_key);
        if let Some(token) = &credentials.session_token {
            builder = builder.with_token(token);
        }
    }
    builder.build()
}

/// Puts the bucket into the host name, as the client expects in that style.
fn endpoint_of(endpoint: &str, bucket: &str, path_style: bool) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    match endpoint.split_once("://") {
        Some((scheme, host)) if !path_style => format!("{scheme}://{bucket}.{host}"),
        _ => endpoint.to_owned(),
    }
}
