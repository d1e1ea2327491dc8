//! How people write sizes and addresses.

use std::net::{Ipv4Addr, SocketAddr};

/// A number of bytes, or of `K`, `M`, `G` or `T`, which are powers of 1024 as in container limits.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "expected bytes, such as 8589934592, 8G or 8GiB".to_owned();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[digits.len()..].trim_start();
    let power = match unit.trim_end_matches("iB").to_ascii_uppercase().as_str() {
        "" if unit.is_empty() => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let bytes = number.checked_mul(1 << (10 * power)).ok_or_else(wrong)?;
    if bytes == 0 { Err(wrong()) } else { Ok(bytes) }
}

/// `IP:PORT`; a port alone, or that of `localhost`, is one of this machine's.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("localhost:").unwrap_or(text);
    let local = port.parse().map(|port| (Ipv4Addr::LOCALHOST, port).into());
    local.or_else(|_| {
        let expected = "expected IP:PORT, localhost:PORT or PORT";
        text.parse().map_err(|_| expected.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_for_containers() {
        for (text, expected) in [
            ("8589934592", 8 << 30),
            ("8G", 8 << 30),
            ("8g", 8 << 30),
            ("8GiB", 8 << 30),
            ("512 MiB", 512 << 20),
            ("1T", 1 << 40),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for wrong in ["", "0", "G", "8GB", "-1", "1.5G", "8iB", "99999999T"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_without_an_ip_is_one_of_this_machine() {
        for text in ["8484", "localhost:8484", "127.0.0.1:8484"] {
            assert_eq!(address(text).unwrap().to_string(), "127.0.0.1:8484");
        }
        assert_eq!(address("[::]:80").unwrap().to_string(), "[::]:80");
        for wrong in ["", "localhost", "example.org:80", "80:80", "65536"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
