//! Answers and errors in Kubo's shape. Owns the mapping of our errors: 400 and plain text where the request itself is
//! wrong, 500 and `{"Message","Code","Type"}` where a command failed, as Kubo's clients expect.

use std::error::Error;
use std::fmt::Write;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::error::ContentError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RpcError {
    /// The request is wrong whatever is in the store.
    #[error("{0}")]
    Request(String),
    /// The command failed, in words that Kubo's clients know.
    #[error("{0}")]
    Command(String),
    /// The store failed.
    #[error(transparent)]
    Content(#[from] ContentError),
}

impl From<crate::pack::PackError> for RpcError {
    fn from(error: crate::pack::PackError) -> Self {
        Self::Content(error.into())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CommandFailed<'a> {
    message: &'a str,
    code: u8,
    r#type: &'static str,
}

impl IntoResponse for RpcError {
    fn into_response(self) -> Response {
        let message = match &self {
            Self::Content(error) => words(error),
            Self::Request(text) | Self::Command(text) => text.clone(),
        };
        match self {
            Self::Request(_) => (
                StatusCode::BAD_REQUEST,
                [(CONTENT_TYPE, "text/plain; charset=utf-8")],
                message,
            )
                .into_response(),
            Self::Command(_) | Self::Content(_) => {
                tracing::debug!(message, "an RPC command failed");
                let body = axum::Json(CommandFailed {
                    message: &message,
                    code: 0,
                    r#type: "error",
                });
                (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
            }
        }
    }
}

/// What a client is told: an error and what caused it, in one line, but not where on this machine the store lies.
pub(super) fn words(error: &ContentError) -> String {
    if let ContentError::Io { action, source, .. } = error {
        tracing::error!(error = with_sources(error), "the store failed");
        return format!("the store could not {action} a file of its own: {source}");
    }
    with_sources(error)
}

/// An error and what caused it, in one line.
fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // a String takes all that is written
        let _infallible = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

/// One JSON object and a newline.
pub(super) fn one<T: Serialize>(answer: &T) -> Response {
    lines(std::slice::from_ref(answer))
}

/// JSON objects, one a line.
pub(super) fn lines<T: Serialize>(answers: &[T]) -> Response {
    let mut body = Vec::new();
    for answer in answers {
        if let Err(error) = serde_json::to_writer(&mut body, answer) {
            return RpcError::Command(error.to_string()).into_response();
        }
        body.push(b'\n');
    }
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// A stream of bytes whose length is known though it is sent in chunks; an error in the midst cuts the connection, so
/// that nobody takes a part for the whole.
pub(super) fn stream(body: Body, length: Option<u64>) -> Response {
    let mut response = ([(CONTENT_TYPE, "text/plain")], body).into_response();
    let headers = response.headers_mut();
    headers.insert(
        HeaderName::from_static("x-stream-output"),
        HeaderValue::from_static("1"),
    );
    if let Some(length) = length {
        headers.insert(
            HeaderName::from_static("x-content-length"),
            HeaderValue::from(length),
        );
    }
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// A command that this store does not have.
pub(super) async fn unknown_command() -> Response {
    let text = "404 page not found: the embedded content store has add, cat, get, ls, block, pin, version, id and repo\n";
    (
        StatusCode::NOT_FOUND,
        [(CONTENT_TYPE, "text/plain; charset=utf-8")],
        text,
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_is_told_names_no_file_of_the_store() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let told = words(&ContentError::io("write", "/var/lib/store/blocks/x")(full));
        assert!(
            told.contains("could not write") && !told.contains("/var"),
            "{told}"
        );
    }
}
