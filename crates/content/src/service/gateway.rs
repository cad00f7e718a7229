//! The gateway: `GET /ipfs/CID[/path]`, read only. Owns content types and the listing of directories. All that it
//! serves is somebody else's content: it is sandboxed and never sniffed.

use std::fmt::Write;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use cid::Cid;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::App;
use super::read::content;
use super::reply::words;
use crate::error::ContentError;
use crate::node::Node;
use crate::tree::{self, EntryKind, FileReader, TreeEntry};

/// Content never changes under its name.
const IMMUTABLE: &str = "public, max-age=29030400, immutable";
/// No scripts, no forms, no access to anything of this origin.
const SANDBOX: &str = "sandbox; default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'";

/// How a directory is to be listed.
#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    format: Option<String>,
}

/// The root of a tree.
pub(super) async fn root(
    State(app): State<App>,
    Path(cid): Path<String>,
    Query(listing): Query<Listing>,
    headers: HeaderMap,
) -> Response {
    answer(&app, &cid, "", &listing, &headers).await
}

/// Something below the root.
pub(super) async fn path(
    State(app): State<App>,
    Path((cid, path)): Path<(String, String)>,
    Query(listing): Query<Listing>,
    headers: HeaderMap,
) -> Response {
    answer(&app, &cid, path.trim_end_matches('/'), &listing, &headers).await
}

async fn answer(app: &App, cid: &str, path: &str, listing: &Listing, headers: &HeaderMap) -> Response {
    let root = match cid.parse::<Cid>() {
        Ok(root) => root,
        Err(error) => {
            return plain(
                StatusCode::BAD_REQUEST,
                &format!("invalid path \"/ipfs/{cid}\": {error}\n"),
            );
        }
    };
    match found(app, &root, path, listing, headers).await {
        Ok(response) => response,
        Err(error) => {
            let status = status(&error);
            tracing::debug!(%root, path, %status, %error, "the gateway could not serve");
            plain(status, &format!("{}\n", words(&error)))
        }
    }
}

async fn found(
    app: &App,
    root: &Cid,
    path: &str,
    listing: &Listing,
    headers: &HeaderMap,
) -> Result<Response, ContentError> {
    let found = tree::resolve(&app.store, root, path, &app.limits).await?;
    let tag = format!("\"{}\"", found.cid);
    if headers
        .get(IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == tag.as_bytes())
    {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response());
    }
    let where_to = format!("/ipfs/{}", crate::name::join(&root.to_string(), path));
    let mut response = match found.node {
        Node::File(node) => {
            let (kind, size) = (content_type(path, &node.data), node.size);
            let reader = FileReader::new(node, path, app.limits.max_blocks());
            let body = Body::from_stream(content(app.store.clone(), reader));
            ([(CONTENT_TYPE, kind), (CONTENT_LENGTH, size.to_string())], body).into_response()
        }
        Node::Symlink(_) => {
            return Err(ContentError::Symlink {
                path: path.to_owned(),
            });
        }
        Node::Directory(_) | Node::Shard(_) => {
            let entries = tree::list(&app.store, &found.cid, "", &app.limits).await?;
            if wants_json(listing, headers) {
                json(&where_to, &entries)
            } else {
                html(&where_to, &entries)
            }
        }
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(IMMUTABLE));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    for (name, value) in [(ETAG, &tag), (HeaderName::from_static("x-ipfs-path"), &where_to)] {
        // a path with control characters is no header; it is served without
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

/// The status that says whose fault it is: 404 not there, 400 not such a thing, 500 the store's own.
const fn status(error: &ContentError) -> StatusCode {
    match error {
        ContentError::NotFound { .. } | ContentError::NoSuchPath { .. } => StatusCode::NOT_FOUND,
        ContentError::Malformed { .. }
        | ContentError::Limit { .. }
        | ContentError::Symlink { .. }
        | ContentError::NotADirectory { .. }
        | ContentError::NotAFile { .. } => StatusCode::BAD_REQUEST,
        ContentError::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        ContentError::Block(_)
        | ContentError::Occupied { .. }
        | ContentError::Pack(_)
        | ContentError::Io { .. }
        | ContentError::Full { .. }
        | ContentError::Locked { .. }
        | ContentError::Address { .. }
        | ContentError::Unreachable { .. }
        | ContentError::Stalled { .. }
        | ContentError::Refused { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn plain(status: StatusCode, text: &str) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, text.to_owned()).into_response()
}

/// By the name's ending; without one, text if what is at hand is text.
fn content_type(path: &str, head: &[u8]) -> String {
    let named = mime_guess::from_path(path).first_raw();
    match named {
        Some(kind) if kind.starts_with("text/") => format!("{kind}; charset=utf-8"),
        Some(kind) => kind.to_owned(),
        None if !head.is_empty() && std::str::from_utf8(head).is_ok() => {
            "text/plain; charset=utf-8".to_owned()
        }
        None => "application/octet-stream".to_owned(),
    }
}

fn wants_json(listing: &Listing, headers: &HeaderMap) -> bool {
    let accepts = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    listing.format.as_deref() == Some("json")
        || accepts.is_some_and(|accept| accept.contains("application/json"))
}

#[derive(Debug, Serialize)]
struct JsonEntry<'a> {
    name: &'a str,
    cid: String,
    kind: &'static str,
    size: u64,
}

#[derive(Debug, Serialize)]
struct JsonListing<'a> {
    path: &'a str,
    entries: Vec<JsonEntry<'a>>,
}

const fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File { executable: false } => "file",
        EntryKind::File { executable: true } => "executable",
        EntryKind::Directory => "directory",
        EntryKind::Symlink => "symlink",
    }
}

fn json(path: &str, entries: &[TreeEntry]) -> Response {
    let entry = |e: &TreeEntry| (e.cid.to_string(), kind_name(e.kind), e.size);
    let entries = entries.iter().map(|e| {
        let (cid, kind, size) = entry(e);
        JsonEntry {
            name: &e.name,
            cid,
            kind,
            size,
        }
    });
    axum::Json(JsonListing {
        path,
        entries: entries.collect(),
    })
    .into_response()
}

fn html(path: &str, entries: &[TreeEntry]) -> Response {
    let title = escaped(path);
    let mut page =
        format!("<!DOCTYPE html><meta charset=\"utf-8\"><title>{title}</title><h1>{title}</h1><ul>\n");
    for entry in entries {
        let slash = if entry.kind == EntryKind::Directory {
            "/"
        } else {
            ""
        };
        let target = utf8_percent_encode(&entry.name, NON_ALPHANUMERIC);
        let (name, base) = (escaped(&entry.name), escaped(path));
        // a String takes all that is written
        let _infallible = writeln!(
            page,
            "<li><a href=\"{base}/{target}{slash}\">{name}{slash}</a> {} bytes</li>",
            entry.size
        );
    }
    page.push_str("</ul>\n");
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_content() {
        assert_eq!(content_type("a/b.png", b"x"), "image/png");
        assert_eq!(content_type("a.txt", b""), "text/plain; charset=utf-8");
        assert_eq!(content_type("stdout", b"hello"), "text/plain; charset=utf-8");
        assert_eq!(content_type("stdout", b"\xff\xfe"), "application/octet-stream");
    }

    #[test]
    fn names_can_not_break_out_of_the_listing() {
        assert_eq!(
            escaped("<a href=\"x\">&'"),
            "&lt;a href=&quot;x&quot;&gt;&amp;&#39;"
        );
    }
}
