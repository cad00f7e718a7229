//! Requests and the meaning of each refusal. Owns limits in time and size.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use super::PoolClientError;

/// Longest wait for an answer that no file is in.
pub(super) const ANSWER: Duration = Duration::from_secs(30);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for an upload to be sent, checked and queued.
pub(super) const UPLOAD: Duration = Duration::from_secs(900);
/// Longest silence within a file or a stream.
pub(super) const SILENCE: Duration = Duration::from_secs(60);
/// Longest answer that is read whole, bytes: two outputs of 10 MiB, which JSON may write six times as long.
const MAX_ANSWER: usize = 160 << 20;
/// Longest refusal that is repeated, characters.
const MAX_WORDS: usize = 2_000;
/// The header that names a client.
const CLIENT: HeaderName = HeaderName::from_static("x-client");
/// Longest name of a client, as services take it.
const MAX_CLIENT: usize = 100;
/// Longest idempotency key.
pub(super) const MAX_KEY: usize = 200;

/// One service's address.
#[derive(Debug, Clone)]
pub(super) struct Http {
    http: reqwest::Client,
    base: Url,
    /// As it is shown, without anything secret.
    url: String,
    client: Option<HeaderValue>,
}

/// An address as it may be shown: without a user's name, a password or a query.
fn without_secrets(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    match url.rsplit_once('@') {
        Some((_, place)) => format!("…@{place}"),
        None => url.to_owned(),
    }
}

/// A header's value.
pub(super) fn header(what: &'static str, text: &str, most: usize) -> Result<HeaderValue, PoolClientError> {
    let is_fine = (1..=most).contains(&text.len()) && text.bytes().all(|it| (0x20..0x7f).contains(&it));
    HeaderValue::from_str(text)
        .ok()
        .filter(|_| is_fine && text.trim() == text)
        .ok_or(PoolClientError::BadHeader { what, most })
}

impl Http {
    pub(super) fn new(url: &str, client: Option<&str>) -> Result<Self, PoolClientError> {
        let bad = |detail: String| PoolClientError::BadUrl {
            url: without_secrets(url),
            detail,
        };
        let mut base: Url = url.trim().parse().map_err(|error| bad(format!("{error}")))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(bad("it does not begin with http:// or https://".to_owned()));
        }
        base.set_query(None);
        base.set_fragment(None);
        // a provider that the process has chosen before stays
        let _ = rustls::crypto::ring::default_provider().install_default();
        let host = base.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let is_loopback =
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback());
        let builder = reqwest::Client::builder().connect_timeout(CONNECT);
        // a proxy for the outside world does not lead to our own machine
        let builder = if is_loopback { builder.no_proxy() } else { builder };
        Ok(Self {
            http: builder.build().map_err(PoolClientError::Client)?,
            url: base.origin().ascii_serialization(),
            base,
            client: client
                .map(|it| header("a client's name", it, MAX_CLIENT))
                .transpose()?,
        })
    }

    /// The service, as it is shown.
    pub(super) fn shown(&self) -> &str {
        &self.url
    }

    pub(super) fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        let request = self.http.request(method, url);
        match &self.client {
            Some(client) => request.header(CLIENT, client),
            None => request,
        }
    }

    pub(super) fn get(&self, segments: &[&str]) -> RequestBuilder {
        self.request(Method::GET, segments)
    }

    /// Sends; every status that is no success is an error.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, PoolClientError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = self.read(response).await.unwrap_or_default();
        let detail = words(&bytes, status);
        let status_code = status.as_u16();
        let is_later = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        Err(if is_later {
            PoolClientError::Failed {
                url: self.url.clone(),
                status: status_code,
                detail,
            }
        } else {
            PoolClientError::Refused {
                status: status_code,
                detail,
            }
        })
    }

    /// Sends, and reads a JSON answer.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, PoolClientError> {
        let response = self.send(request).await?;
        let bytes = self.read(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.nonsense(&error.to_string()))
    }

    /// A whole body.
    pub(super) async fn read(&self, mut response: Response) -> Result<Vec<u8>, PoolClientError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece(&mut response).await? {
            if bytes.len() + piece.len() > MAX_ANSWER {
                return Err(self.nonsense("its answer does not end"));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// The next piece of a body; `None` at its end.
    pub(super) async fn piece(
        &self,
        response: &mut Response,
    ) -> Result<Option<impl AsRef<[u8]> + std::ops::Deref<Target = [u8]> + use<>>, PoolClientError> {
        match tokio::time::timeout(SILENCE, response.chunk()).await {
            Ok(piece) => piece.map_err(|error| self.unreachable(&error)),
            Err(_) => Err(PoolClientError::Unreachable {
                url: self.url.clone(),
                detail: format!("it sent nothing for {} s", SILENCE.as_secs()),
            }),
        }
    }

    pub(super) fn nonsense(&self, detail: &str) -> PoolClientError {
        PoolClientError::Nonsense {
            url: self.url.clone(),
            detail: detail.to_owned(),
        }
    }

    /// The innermost words: reqwest's outer ones repeat the address, which may hold a password.
    fn unreachable(&self, error: &reqwest::Error) -> PoolClientError {
        let detail = if error.is_timeout() {
            "it did not answer in time".to_owned()
        } else {
            let mut innermost: &dyn std::error::Error = error;
            while let Some(source) = innermost.source() {
                innermost = source;
            }
            // an error without a cause is reqwest's own words
            match error.source() {
                Some(_) => innermost.to_string(),
                None => "the connection broke".to_owned(),
            }
        };
        PoolClientError::Unreachable {
            url: self.url.clone(),
            detail,
        }
    }
}

/// The sentence in an error's body; its text as it is where that is no JSON; else the status alone.
fn words(body: &[u8], status: StatusCode) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let said = value.as_ref().and_then(|it| {
        ["error", "detail", "message"]
            .iter()
            .find_map(|name| it.get(name)?.as_str())
    });
    let text = match said {
        Some(said) => said.to_owned(),
        None => String::from_utf8_lossy(body).trim().to_owned(),
    };
    // a page is no sentence
    let text = if text.is_empty() || text.starts_with('<') {
        status.to_string()
    } else {
        text
    };
    text.chars().take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_repeated_in_the_services_words() {
        let say = |body: &str| words(body.as_bytes(), StatusCode::BAD_REQUEST);
        assert_eq!(say(r#"{"error": "no code"}"#), "no code");
        assert_eq!(say(r#"{"detail": "no code"}"#), "no code");
        assert_eq!(say("plain\n"), "plain");
        assert_eq!(say("<!doctype html>"), "400 Bad Request");
        assert_eq!(say(""), "400 Bad Request");
    }

    #[test]
    fn addresses_and_names_are_checked_and_secrets_are_not_shown() {
        assert!(matches!(
            Http::new("nowhere", None),
            Err(PoolClientError::BadUrl { .. })
        ));
        assert!(matches!(
            Http::new("ws://x", None),
            Err(PoolClientError::BadUrl { .. })
        ));
        let bad = Http::new("ftp://user:secret@host?key=secret", None)
            .unwrap_err()
            .to_string();
        assert!(bad.contains("`…@host`") && !bad.contains("secret"), "{bad}");
        let http = Http::new("http://user:secret@127.0.0.1:8000/below?x=1", None).unwrap();
        assert_eq!(http.shown(), "http://127.0.0.1:8000");
        let url = http.get(&["v1", "jobs", "a b"]).build().unwrap();
        assert!(
            url.url().path().ends_with("/below/v1/jobs/a%20b"),
            "{}",
            url.url()
        );
        assert!(url.url().query().is_none());
        assert!(matches!(
            Http::new("http://x", Some("a\nb")),
            Err(PoolClientError::BadHeader { .. })
        ));
        assert!(Http::new("http://x", Some(&"n".repeat(100))).is_ok());
        assert!(matches!(
            Http::new("http://x", Some(&"n".repeat(101))),
            Err(PoolClientError::BadHeader { most: 100, .. })
        ));
    }
}
