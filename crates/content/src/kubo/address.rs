//! Reads the address of a Kubo RPC. Owns the forms that users type, and the clear word for those that can't work.

use ipfs_api_backend_hyper::{IpfsClient, TryFromUri};

use crate::error::ContentError;

/// A client of the service at `text`, and the address as it is shown.
pub(super) fn client(text: &str) -> Result<(IpfsClient, String), ContentError> {
    let wrong = |reason: &str| ContentError::Address {
        url: redacted(text),
        reason: reason.to_owned(),
    };
    let trimmed = text.trim();
    if trimmed.starts_with('/') {
        let client = IpfsClient::from_multiaddr_str(trimmed).map_err(|e| wrong(&e.to_string()))?;
        return Ok((client, trimmed.to_owned()));
    }
    if trimmed.starts_with("https://") {
        return Err(wrong(
            "only http is spoken; put a local proxy or a tunnel in front of a remote service",
        ));
    }
    let authority = trimmed.strip_prefix("http://").unwrap_or(trimmed);
    let authority = authority.trim_end_matches('/').trim_end_matches("/api/v0");
    if authority.contains('@') {
        return Err(wrong("user names and passwords in the address are not supported"));
    }
    if authority.is_empty() || authority.contains(['/', '?', '#', ' ']) || authority.contains("://") {
        return Err(wrong("it is not of the form http://host:port"));
    }
    if let Some((_, port)) = authority
        .rsplit_once(':')
        .filter(|(_, port)| !port.ends_with(']'))
        && port.parse::<u16>().is_err()
    {
        return Err(wrong("its port is no number up to 65535"));
    }
    let url = format!("http://{authority}");
    let client = IpfsClient::from_str(&url).map_err(|e| wrong(&e.to_string()))?;
    Ok((client, url))
}

/// The address without what might be a password.
fn redacted(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_forms_are_one_address() {
        for text in [
            "http://127.0.0.1:5001",
            "127.0.0.1:5001",
            "http://127.0.0.1:5001/",
            "http://127.0.0.1:5001/api/v0",
        ] {
            assert_eq!(client(text).unwrap().1, "http://127.0.0.1:5001", "{text}");
        }
        assert!(client("/ip4/127.0.0.1/tcp/5001").is_ok());
        assert!(client("http://[::1]:5001").is_ok());
        assert!(client("localhost:5001").is_ok());
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for text in [
            "",
            "http://",
            "https://ipfs.io",
            "ftp://x",
            "http://a b",
            "http://h:99999999",
            "/ip4/x",
            "/ip4/1.2.3.4",
        ] {
            assert!(
                matches!(client(text), Err(ContentError::Address { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn a_password_is_not_echoed() {
        let error = client("http://me:secret@host:5001").err().unwrap().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
