//! Bounds a request body, politely: a client that sends too much may go on for a while, so that it gets to read why it
//! is refused instead of finding its connection reset.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use tokio::time::Instant;

/// Room for the multipart form itself, beside the files.
const FORM_BYTES: u64 = 1024 * 1024;
/// How many times the limit a client may send before it is cut off.
const PATIENCE: u64 = 4;
/// How long what is too much is read and dropped.
const PATIENCE_TIME: Duration = Duration::from_secs(15);

/// Whether a body had more bytes than allowed.
#[derive(Clone, Debug)]
pub(crate) struct Overflow {
    limit: u64,
    happened: Arc<AtomicBool>,
}

impl Overflow {
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn happened(&self) -> bool {
        self.happened.load(Ordering::Relaxed)
    }
}

/// The body, which fails after `limit` bytes, but not before it has read and dropped a while of what comes then.
///
/// `limit` is what a client is told; what is counted here is the whole form, which has [`FORM_BYTES`] more.
pub(crate) fn bounded(body: Body, limit: u64) -> (Body, Overflow) {
    let overflow = Overflow {
        limit,
        happened: Arc::new(AtomicBool::new(false)),
    };
    let state = (body.into_data_stream(), 0u64, overflow.clone());
    let pieces = stream::unfold(state, |(mut body, mut seen, overflow)| async move {
        if overflow.happened() {
            return None;
        }
        let piece: Result<Bytes, axum::BoxError> = match body.next().await? {
            Ok(piece) => {
                seen = seen.saturating_add(piece.len() as u64);
                if seen > overflow.limit.saturating_add(FORM_BYTES) {
                    overflow.happened.store(true, Ordering::Relaxed);
                    drain(&mut body, seen, overflow.limit.saturating_mul(PATIENCE)).await;
                    Err(io::Error::from(io::ErrorKind::FileTooLarge).into())
                } else {
                    Ok(piece)
                }
            }
            Err(error) => Err(error.into()),
        };
        Some((piece, (body, seen, overflow)))
    });
    (Body::from_stream(pieces), overflow)
}

/// Reads and drops a body whose request is refused without it, up to what would have been allowed.
pub(crate) async fn discard(body: Body, limit: u64) {
    drain(&mut body.into_data_stream(), 0, limit).await;
}

async fn drain(body: &mut BodyDataStream, mut seen: u64, most: u64) {
    let until = Instant::now() + PATIENCE_TIME;
    while seen < most {
        match tokio::time::timeout_at(until, body.next()).await {
            Ok(Some(Ok(piece))) => seen = seen.saturating_add(piece.len() as u64),
            Ok(Some(Err(_)) | None) | Err(_) => return,
        }
    }
}
