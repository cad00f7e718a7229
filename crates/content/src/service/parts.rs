//! The parts of a multipart body. Owns the reading of names as Kubo's clients write them, and the patience with a slow
//! sender.

use std::time::Duration;

use axum::extract::multipart::{Field, MultipartError};
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use percent_encoding::percent_decode_str;

use super::reply::RpcError;
use crate::name;

/// The longest time without a byte.
const STALL: Duration = Duration::from_secs(60);

/// What a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PartKind {
    File,
    Directory,
}

/// A part's kind; symlinks are refused.
pub(super) fn kind(field: &Field<'_>) -> Result<PartKind, RpcError> {
    let content_type = field
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/x-directory" | "multipart/form-data" => Ok(PartKind::Directory),
        "application/symlink" => Err(RpcError::Command("symlinks are not supported".into())),
        _ => Ok(PartKind::File),
    }
}

/// A part's path in the tree; empty where it was sent without a name.
pub(super) fn path(field: &Field<'_>) -> Result<String, RpcError> {
    clean_path(field.file_name().unwrap_or_default())
}

/// Decodes a file name (clients escape it as in a query) and checks each of its parts.
fn clean_path(file_name: &str) -> Result<String, RpcError> {
    let spaced = file_name.replace('+', " ");
    let decoded = match percent_decode_str(&spaced).decode_utf8() {
        Ok(decoded) => decoded.into_owned(),
        Err(_) => file_name.to_owned(),
    };
    let segments: Vec<&str> = decoded
        .split('/')
        .filter(|s| !s.is_empty() && *s != ".")
        .collect();
    for segment in &segments {
        name::check(segment)
            .map_err(|reason| RpcError::Command(format!("\"{decoded}\" can't be added: {reason}")))?;
    }
    Ok(segments.join("/"))
}

/// The next bytes of a part.
pub(super) async fn chunk(field: &mut Field<'_>) -> Result<Option<Bytes>, RpcError> {
    patient(field.chunk()).await
}

/// Waits for the sender, but not for ever.
pub(super) async fn patient<T>(next: impl Future<Output = Result<T, MultipartError>>) -> Result<T, RpcError> {
    match tokio::time::timeout(STALL, next).await {
        Ok(Ok(next)) => Ok(next),
        Ok(Err(error)) => Err(RpcError::Request(format!(
            "the multipart body is broken: {}",
            error.body_text()
        ))),
        Err(_) => Err(RpcError::Request(format!(
            "nothing was sent for {} s",
            STALL.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_and_checked() {
        assert_eq!(clean_path("d%2Fsub%2Fb.txt").unwrap(), "d/sub/b.txt");
        assert_eq!(clean_path("/d//a+b%2Bc").unwrap(), "d/a b+c");
        assert_eq!(clean_path("").unwrap(), "");
        assert!(clean_path("../a").is_err());
        assert!(clean_path("a%2F..%2F..%2Fb").is_err());
        assert!(clean_path("a%00b").is_err());
    }
}
