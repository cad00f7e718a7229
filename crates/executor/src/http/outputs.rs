//! What a job wrote: `/outputs` and `/download`.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::Stream;
use sandrun_types::{BundlePath, BundlePathError};
use tokio_util::io::ReaderStream;

use super::path::Path;
use super::status::find;
use super::submit::blocking;
use super::{ApiError, Shared};
use crate::files;
use crate::id::RunId;
use crate::job::{Ended, JobFolder};
use crate::jobs::Phase;
use crate::service::{Service, Snapshot};
use crate::wire::{OutputEntry, Outputs};

/// Characters of a name that may stand in a URL's path as they are (RFC 3986, unreserved and `/`).
fn escape(path: &str) -> String {
    let mut escaped = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

pub(super) async fn list(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<Outputs>, ApiError> {
    let found = find(&app, &id).await?.data()?;
    let entry = |(path, file): (&BundlePath, &sandrun_types::OutputFile)| OutputEntry {
        name: path.clone(),
        size: file.size_bytes,
        size_formatted: files::format_size(file.size_bytes),
        kind: file.kind.clone(),
        mime_type: files::mime_type(path),
        download_url: format!("/download/{}/{}", found.job.id, escape(path.as_str())),
    };
    let files: Vec<OutputEntry> = found
        .phase
        .report()
        .map(|ended| ended.receipt.output_files.iter().map(entry).collect())
        .unwrap_or_default();
    Ok(Json(Outputs {
        job_id: found.job.id.to_string(),
        status: found.state(),
        total_files: files.len(),
        files,
    }))
}

/// The run's end, or 409 while there is none.
pub(super) fn ended(found: &Snapshot) -> Result<Arc<Ended>, ApiError> {
    match &found.phase {
        Phase::Ended { report, .. } | Phase::Delivered { report, .. } => Ok(Arc::clone(report)),
        Phase::Queued | Phase::Running => Err(ApiError::conflict(format!(
            "the job is still {}; its outputs are there once it has ended",
            found.state().name()
        ))),
    }
}

pub(super) async fn file(
    State(app): State<Shared>,
    Path((id, path)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let found = find(&app, &id).await?.data()?;
    let no_file = || ApiError::not_found("there is no such output file");
    let path = BundlePath::parse(&path).map_err(|error| match error {
        BundlePathError::Absolute(_) | BundlePathError::Escapes(_) => {
            ApiError::forbidden("that path leaves the job's folder")
        }
        BundlePathError::Empty | BundlePathError::Unprintable(_) | BundlePathError::TooLong(_) => no_file(),
    })?;
    if !ended(&found)?.receipt.output_files.contains_key(&path) {
        return Err(no_file());
    }
    let at = found.job.folder.outputs().join(path.as_str());
    let failed = |error: io::Error| ApiError::internal("an output file could not be read", &error);
    let file = blocking(move || open_regular(&at)).await?.map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let body = Body::from_stream(ReaderStream::new(tokio::fs::File::from_std(file)));
    respond(body, &files::mime_type(&path), path.file_name(), length)
}

/// Opens a collected file; never through a symbolic link, though the collector leaves none.
pub(super) fn open_regular(path: &std::path::Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nofollow)
        .open(path)
}

fn respond(body: Body, mime: &str, name: &str, length: u64) -> Result<Response, ApiError> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let fallback = HeaderValue::from_static("application/octet-stream");
    headers.insert(CONTENT_TYPE, HeaderValue::from_str(mime).unwrap_or(fallback));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-._".contains(c) {
            c
        } else {
            '_'
        }
    };
    let ascii: String = name.chars().map(plain).collect();
    let disposition = format!(
        "attachment; filename=\"{ascii}\"; filename*=UTF-8''{}",
        escape(name)
    );
    if let Ok(disposition) = HeaderValue::from_str(&disposition) {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

pub(super) async fn download(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let found = find(&app, &id).await?.data()?;
    let ended = ended(&found)?;
    let folder = Arc::clone(&found.job.folder);
    let failed = |error: io::Error| ApiError::internal("outputs could not be packed", &error);
    let package = blocking(move || pack(&ended, &folder)).await?.map_err(failed)?;
    let length = package.metadata().map_err(failed)?.len();
    let id = found.job.id;
    let pieces = Whole {
        inner: ReaderStream::new(tokio::fs::File::from_std(package)),
        left: length,
        then: Some((app.service.clone(), id)),
    };
    respond(
        Body::from_stream(pieces),
        "application/gzip",
        &format!("{id}.tar.gz"),
        length,
    )
}

/// Packs all outputs into a gzipped tar archive, the same way each time: sorted names, no times, no owners. The file
/// has no name any more when this returns, so nothing is left of it when it is closed.
fn pack(ended: &Ended, folder: &JobFolder) -> io::Result<File> {
    let path = folder.package(RunId::random());
    let package = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    let mut archive = tar::Builder::new(GzEncoder::new(package, Compression::default()));
    for (name, output) in &ended.receipt.output_files {
        let mut header = tar::Header::new_gnu();
        header.set_size(output.size_bytes);
        header.set_mode(0o644);
        header.set_mtime(0);
        archive.append_data(
            &mut header,
            name.as_str(),
            open_regular(&folder.outputs().join(name.as_str()))?,
        )?;
    }
    let mut package = archive.into_inner()?.finish()?;
    io::Seek::rewind(&mut package)?;
    Ok(package)
}

/// A body that tells the service once it was sent to its last byte, and not if the client went away before.
struct Whole {
    inner: ReaderStream<tokio::fs::File>,
    left: u64,
    then: Option<(Service, RunId)>,
}

impl Stream for Whole {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let poll = Pin::new(&mut self.inner).poll_next(context);
        if let Poll::Ready(Some(Ok(piece))) = &poll {
            self.left = self.left.saturating_sub(piece.len() as u64);
            // With a known length the server may stop polling after the last byte.
            if self.left == 0
                && let Some((service, id)) = self.then.take()
            {
                service.delivered(id);
            }
        }
        poll
    }
}
