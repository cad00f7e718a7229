//! Spools a multipart upload to disk, piece by piece, never whole in memory.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::extract::Multipart;
use axum::extract::multipart::{Field, MultipartError};
use sandrun_types::Manifest;
use thiserror::Error;
use tokio::io::AsyncWriteExt as _;

use super::overflow::Overflow;

/// Most parts of one upload.
const MAX_PARTS: usize = 10_000;
/// Longest pause between two pieces of an upload.
const IDLE: Duration = Duration::from_secs(30);

/// One spooled file.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The name that the client gave it; not checked yet.
    pub(crate) name: String,
    /// Where it lies.
    pub(crate) spool: PathBuf,
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

/// Receives a whole upload into the existing folder `spool`. After an error the rest of the body is read and dropped
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
    let mut left = overflow.limit();
    while let Some(mut field) = in_time(body.next_field(), overflow).await? {
        match field.name() {
            Some("files") => {
                // A part without a file name that holds nothing is what some clients send for "no file".
                let name = field.file_name().unwrap_or_default().to_owned();
                if received.parts.len() >= MAX_PARTS {
                    return Err(ReceiveError::TooManyParts);
                }
                let path = spool.join(received.parts.len().to_string());
                let size = spool_field(&mut field, &path, overflow, &mut left).await?;
                match (name.is_empty(), size) {
                    (true, 0) => tokio::fs::remove_file(&path).await.map_err(ReceiveError::Spool)?,
                    (true, _) => return Err(ReceiveError::Nameless),
                    (false, _) => received.parts.push(Part { name, spool: path }),
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

async fn spool_field(
    field: &mut Field<'_>,
    path: &Path,
    overflow: &Overflow,
    left: &mut u64,
) -> Result<u64, ReceiveError> {
    let mut file = tokio::fs::File::create_new(path)
        .await
        .map_err(ReceiveError::Spool)?;
    let mut size = 0;
    while let Some(piece) = in_time(field.chunk(), overflow).await? {
        *left = left
            .checked_sub(piece.len() as u64)
            .ok_or(ReceiveError::TooLarge(overflow.limit()))?;
        size += piece.len() as u64;
        file.write_all(&piece).await.map_err(ReceiveError::Spool)?;
    }
    file.flush().await.map_err(ReceiveError::Spool)?;
    Ok(size)
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
