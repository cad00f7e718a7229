//! Who may call the RPC. Owns the refusal of requests that a browser makes on behalf of some page: such a page can
//! reach loopback, and its simple POST needs nobody's leave.
//!
//! As Kubo does: POST alone, no foreign Origin or Referer, no browser without an Origin. Beyond Kubo: while only
//! loopback is listened on, the Host must be an address or `localhost`, so that a name that was rebound to 127.0.0.1
//! leads nowhere. No page is trusted for having come from this port, since the gateway serves strangers' content here.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE, HOST, ORIGIN, REFERER, USER_AGENT};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;

/// Lets a request through or refuses it.
pub(super) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return (
            StatusCode::METHOD_NOT_ALLOWED,
            [(ALLOW, "POST")],
            "405 - Method Not Allowed\n",
        )
            .into_response();
    }
    match refuse(&app, request.headers()) {
        Some(reason) => {
            tracing::warn!(reason, "refused an RPC request");
            let text = format!("403 - Forbidden: {reason}\n");
            (
                StatusCode::FORBIDDEN,
                [(CONTENT_TYPE, "text/plain; charset=utf-8")],
                text,
            )
                .into_response()
        }
        None => next.run(request).await,
    }
}

/// Why a request is refused, if it is.
fn refuse(app: &App, headers: &HeaderMap) -> Option<&'static str> {
    let allowed = |origin: &str| app.allowed_origins.iter().any(|a| a == origin);
    if let Some(origin) = headers.get(ORIGIN) {
        return match origin.to_str() {
            Ok(origin) if allowed(origin) => None,
            Ok(_) | Err(_) => Some("the Origin is not allowed"),
        };
    }
    if let Some(referer) = headers.get(REFERER) {
        return match referer.to_str().ok().and_then(origin_of) {
            Some(origin) if allowed(origin) => None,
            Some(_) | None => Some("the Referer is not allowed"),
        };
    }
    if text(headers, USER_AGENT).is_some_and(|agent| agent.starts_with("Mozilla")) {
        return Some("browsers must send an Origin");
    }
    if app.loopback && !text(headers, HOST).is_some_and(is_local_host) {
        return Some("the Host is no address of this machine");
    }
    None
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// `http://host:port` of a URL.
fn origin_of(url: &str) -> Option<&str> {
    let start = url.find("://")? + 3;
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    Some(&url[..end])
}

/// Whether a Host header names this machine as seen from itself.
fn is_local_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        Some(_) | None => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_this_machine() {
        for host in [
            "127.0.0.1:5001",
            "localhost",
            "LOCALHOST:80",
            "[::1]:5001",
            "[::1]",
            "10.0.0.1",
        ] {
            assert!(is_local_host(host), "{host}");
        }
        for host in ["evil.example", "evil.example:5001", "localhost.evil.example", ""] {
            assert!(!is_local_host(host), "{host}");
        }
    }

    #[test]
    fn origins_of_urls() {
        assert_eq!(origin_of("http://a:1/b/c"), Some("http://a:1"));
        assert_eq!(origin_of("https://a"), Some("https://a"));
        assert_eq!(origin_of("nonsense"), None);
    }
}
