//! Signatures of Standard Webhooks 1.0: HMAC-SHA-256 over `{id}.{timestamp}.{body}`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::domain::webhook::Secret;

const PREFIX: &str = "whsec_";

/// A key as its owner sees it.
pub(super) fn secret(key: &[u8]) -> Secret {
    Secret::new(format!("{PREFIX}{}", STANDARD.encode(key)))
}

/// The value of `webhook-signature`: one signature for each secret. One that is no secret signs nothing.
pub(super) fn sign(secrets: &[Secret], id: &str, timestamp: i64, body: &str) -> String {
    let signatures = secrets.iter().filter_map(|secret| {
        let key = secret.expose().strip_prefix(PREFIX)?;
        let key = STANDARD.decode(key).ok()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        Some(format!(
            "v1,{}",
            STANDARD.encode(mac.finalize().into_bytes())
        ))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn the_signature_is_that_of_the_specification() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let body = r#"{"test": 2432232314}"#;
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let one = sign(std::slice::from_ref(&secret), id, 1_614_265_330, body);
        assert_eq!(one, signature);
        let both = sign(&[super::secret(&[7; 32]), secret], id, 1_614_265_330, body);
        let (other, same) = both.split_once(' ').unwrap();
        assert_eq!(same, signature);
        assert!(other.starts_with("v1,") && other != signature, "{other}");
    }
}
