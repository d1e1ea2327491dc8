//! How a bucket for the artifacts is reached.

use std::fmt;
use std::str::FromStr;

use clap::{ArgAction, Args};

use crate::artifacts::{BucketSettings, Credentials};

/// How the bucket of the artifacts is reached.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Bucket")]
pub struct BucketArgs {
    /// URL of the S3 server; Amazon's of the region unless given. Connections are not encrypted if it begins with `http://`
    #[arg(long = "s3-endpoint", value_name = "URL", env = "SECATEUR_S3_ENDPOINT", value_parser = endpoint)]
    pub endpoint: Option<String>,

    /// Region of the bucket
    #[arg(
        long = "s3-region",
        value_name = "REGION",
        env = "SECATEUR_S3_REGION",
        default_value = "us-east-1"
    )]
    pub region: String,

    /// Whether URLs name the bucket in the path instead of the host name; true with an endpoint unless given
    #[arg(
        long = "s3-path-style",
        value_name = "BOOL",
        env = "SECATEUR_S3_PATH_STYLE"
    )]
    pub path_style: Option<bool>,

    /// Whether downloads are redirected to the bucket, with a URL that is valid for five minutes, or pass through this server
    #[arg(
        long = "s3-redirect",
        value_name = "BOOL",
        env = "SECATEUR_S3_REDIRECT",
        default_value_t = true,
        action = ArgAction::Set
    )]
    pub redirect: bool,

    /// What requests are signed with
    #[command(flatten)]
    pub keys: KeyArgs,
}

/// Keys, from variables: everybody on the machine sees flags.
#[derive(Debug, Clone, Default, Args)]
pub struct KeyArgs {
    /// Names the key
    #[arg(long = "s3-access-key-id", env = "AWS_ACCESS_KEY_ID", hide = true)]
    pub access_key_id: Option<HiddenText>,

    /// The key
    #[arg(
        long = "s3-secret-access-key",
        env = "AWS_SECRET_ACCESS_KEY",
        hide = true
    )]
    pub secret_access_key: Option<HiddenText>,

    /// What temporary keys come with
    #[arg(long = "s3-session-token", env = "AWS_SESSION_TOKEN", hide = true)]
    pub session_token: Option<HiddenText>,
}

/// A text that is not printed.
#[derive(Clone)]
pub struct HiddenText(String);

impl FromStr for HiddenText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for HiddenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HiddenText")
    }
}

impl BucketArgs {
    /// The settings of the store. Half a pair of keys counts as none: then the machine's own keys are used.
    pub fn settings(&self) -> BucketSettings {
        let keys = &self.keys;
        let pair = keys
            .access_key_id
            .as_ref()
            .zip(keys.secret_access_key.as_ref());
        BucketSettings {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            path_style: self.path_style.unwrap_or(self.endpoint.is_some()),
            credentials: pair.map(|(id, key)| Credentials {
                access_key_id: id.0.clone(),
                secret_access_key: key.0.clone(),
                session_token: keys.session_token.as_ref().map(|token| token.0.clone()),
            }),
            redirect: self.redirect,
        }
    }
}

/// Without a name and password in it, which would be printed with every error.
fn endpoint(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(host) if !host.is_empty() && !host.contains(['@', '?', '#']) => Ok(text.to_owned()),
        _ => Err("expected http://HOST:PORT or https://HOST:PORT".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        bucket: BucketArgs,
    }

    fn parse(flags: &[&str]) -> Result<BucketArgs, clap::Error> {
        Cli::try_parse_from(std::iter::once(&"secateur").chain(flags)).map(|cli| cli.bucket)
    }

    #[test]
    fn the_path_names_the_bucket_where_there_is_an_endpoint() {
        let own = ["--s3-endpoint", "http://localhost:9000"];
        assert!(!parse(&[]).unwrap().settings().path_style);
        assert!(parse(&own).unwrap().settings().path_style);
        let other = [&own[..], &["--s3-path-style", "false"]].concat();
        assert!(!parse(&other).unwrap().settings().path_style);
        for wrong in ["localhost:9000", "https://", "https://id:key@host"] {
            assert!(parse(&["--s3-endpoint", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_are_never_printed() {
        let flags = [
            "--s3-access-key-id",
            "AKIA",
            "--s3-secret-access-key",
            "hush",
        ];
        let args = parse(&flags).unwrap();
        let settings = args.settings();
        assert_eq!(
            settings.credentials.as_ref().unwrap().secret_access_key,
            "hush"
        );
        let printed = format!("{args:?} {settings:?}");
        assert!(
            !printed.contains("hush") && !printed.contains("AKIA"),
            "{printed}"
        );
    }
}
