//! Takes in a multipart upload, piece by piece: small files in memory, what is large or packed on disk.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Multipart;
use axum::extract::multipart::{Field, MultipartError};
use sandrun_types::Manifest;
use thiserror::Error;
use tokio::io::AsyncWriteExt as _;

use super::overflow::Overflow;

/// Most parts of one upload.
const MAX_PARTS: usize = 10_000;
/// Largest file that is kept in memory, bytes.
const SMALL: usize = 64 * 1024;
/// Bytes of files that are kept in memory of one upload.
const IN_MEMORY: usize = 256 * 1024;
/// Longest pause between two pieces of an upload.
const IDLE: Duration = Duration::from_secs(30);

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The name that the client gave it; not checked yet.
    pub(crate) name: String,
    pub(crate) content: Content,
}

/// Where a file is until the bundle is made.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// In memory; no archive.
    Memory(Vec<u8>),
    /// On disk; it is removed.
    Spooled(PathBuf),
}

/// Whether a file of this name is unpacked when it is uploaded.
#[must_use]
pub fn is_archive(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".tar.gz", ".tgz", ".zip"].iter().any(|end| name.ends_with(end))
}

/// An upload as it came in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    pub(crate) parts: Vec<Part>,
    /// The text of the `manifest` field, if it was sent.
    pub(crate) manifest: Option<Vec<u8>>,
}

/// An upload that was not received.
#[derive(Debug, Error)]
pub(crate) enum ReceiveError {
    #[error("the upload has more than {0} bytes; send less")]
    TooLarge(u64),
    #[error("the multipart body is broken ({0}); send it again")]
    Broken(String),
    #[error("nothing came for {} s; send the upload again", IDLE.as_secs())]
    Stalled,
    #[error("the upload comes too slowly; send it again over a faster connection")]
    Slow,
    #[error("a part named `files` has no file name; give each file its name")]
    Nameless,
    #[error("there is no field {0:?}; send `files` and `manifest`")]
    UnknownField(String),
    #[error("`manifest` was sent twice; send it once")]
    ManifestTwice,
    #[error("the manifest has more than {max} bytes", max = Manifest::MAX_BYTES)]
    ManifestTooLong,
    #[error("there are more than {MAX_PARTS} parts; pack the files into a .tar.gz")]
    TooManyParts,
    #[error("cannot spool the upload")]
    Spool(#[source] io::Error),
}

/// Receives a whole upload; `spool` is a folder for what does not stay in memory, made where there is such. After an error the rest of the body is read and dropped
/// (the body itself is bounded), so that the client gets to read the answer instead of a broken connection.
pub(crate) async fn receive(
    mut body: Multipart,
    spool: &Path,
    overflow: &Overflow,
) -> Result<Received, ReceiveError> {
    let received = receive_parts(&mut body, spool, overflow).await;
    if received.is_err() {
        drain(&mut body).await;
    }
    received
}

async fn drain(body: &mut Multipart) {
    while let Ok(Ok(Some(mut field))) = tokio::time::timeout(IDLE, body.next_field()).await {
        while let Ok(Ok(Some(_))) = tokio::time::timeout(IDLE, field.chunk()).await {}
    }
}

async fn receive_parts(
    body: &mut Multipart,
    spool: &Path,
    overflow: &Overflow,
) -> Result<Received, ReceiveError> {
    let mut received = Received::default();
    let (mut left, mut room) = (overflow.limit(), IN_MEMORY);
    while let Some(mut field) = in_time(body.next_field(), overflow).await? {
        match field.name() {
            Some("files") => {
                // A part without a file name that holds nothing is what some clients send for "no file".
                let name = field.file_name().unwrap_or_default().to_owned();
                if received.parts.len() >= MAX_PARTS {
                    return Err(ReceiveError::TooManyParts);
                }
                let is_packed = is_archive(&name);
                let small = if is_packed { 0 } else { SMALL.min(room) };
                let head = read_head(&mut field, small, overflow, &mut left).await?;
                let content = if head.is_whole && !is_packed {
                    room -= head.bytes.len();
                    Content::Memory(head.bytes)
                } else {
                    let path = spool.join(received.parts.len().to_string());
                    spool_field(head.bytes, &mut field, &path, overflow, &mut left).await?;
                    Content::Spooled(path)
                };
                match (name.is_empty(), &content) {
                    (true, Content::Memory(bytes)) if bytes.is_empty() => {}
                    (true, _) => return Err(ReceiveError::Nameless),
                    (false, _) => received.parts.push(Part { name, content }),
                }
            }
            Some("manifest") => {
                if received.manifest.is_some() {
                    return Err(ReceiveError::ManifestTwice);
                }
                let mut text = Vec::new();
                while let Some(piece) = in_time(field.chunk(), overflow).await? {
                    if text.len() + piece.len() > Manifest::MAX_BYTES {
                        return Err(ReceiveError::ManifestTooLong);
                    }
                    text.extend_from_slice(&piece);
                }
                received.manifest = Some(text).filter(|text| !text.is_empty());
            }
            other => {
                return Err(ReceiveError::UnknownField(
                    other.unwrap_or_default().chars().take(80).collect(),
                ));
            }
        }
    }
    Ok(received)
}

/// The beginning of a file.
struct Head {
    bytes: Vec<u8>,
    /// Whether it is the whole file.
    is_whole: bool,
}

/// Reads until there are more than `most` bytes, or no more.
async fn read_head(
    field: &mut Field<'_>,
    most: usize,
    overflow: &Overflow,
    left: &mut u64,
) -> Result<Head, ReceiveError> {
    let mut bytes = Vec::new();
    while let Some(piece) = next_piece(field, overflow, left).await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > most {
            let is_whole = false;
            return Ok(Head { bytes, is_whole });
        }
    }
    Ok(Head {
        bytes,
        is_whole: true,
    })
}

async fn next_piece(
    field: &mut Field<'_>,
    overflow: &Overflow,
    left: &mut u64,
) -> Result<Option<Bytes>, ReceiveError> {
    let Some(piece) = in_time(field.chunk(), overflow).await? else {
        return Ok(None);
    };
    *left = left
        .checked_sub(piece.len() as u64)
        .ok_or(ReceiveError::TooLarge(overflow.limit()))?;
    Ok(Some(piece))
}

async fn spool_field(
    head: Vec<u8>,
    field: &mut Field<'_>,
    path: &Path,
    overflow: &Overflow,
    left: &mut u64,
) -> Result<(), ReceiveError> {
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder)
            .await
            .map_err(ReceiveError::Spool)?;
    }
    let mut file = tokio::fs::File::create_new(path)
        .await
        .map_err(ReceiveError::Spool)?;
    file.write_all(&head).await.map_err(ReceiveError::Spool)?;
    while let Some(piece) = next_piece(field, overflow, left).await? {
        file.write_all(&piece).await.map_err(ReceiveError::Spool)?;
    }
    file.flush().await.map_err(ReceiveError::Spool)
}

async fn in_time<T>(
    next: impl Future<Output = Result<T, MultipartError>>,
    overflow: &Overflow,
) -> Result<T, ReceiveError> {
    match tokio::time::timeout(IDLE, next).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) if overflow.was_slow() => Err(ReceiveError::Slow),
        Ok(Err(_)) if overflow.happened() => Err(ReceiveError::TooLarge(overflow.limit())),
        Ok(Err(error)) => Err(ReceiveError::Broken(error.body_text())),
        Err(_) => Err(ReceiveError::Stalled),
    }
}
