//! Files of a submission on their way: short ones come with their job, in one record; longer ones are stored before it.

use axum::extract::multipart::Field;
use bytes::{Bytes, BytesMut};
use futures::stream;
use sandrun_store::queue::{BlobHash, Body};
use sandrun_types::Sha256Hex;

use super::error::ApiError;
use super::http::{App, Shared};
use super::recent::Copy;

/// Bytes of files that come with one job; what is more is stored before it.
const WITH_JOB: usize = 256 << 10;
/// Bytes of files that come with the jobs of one call, which are written together.
pub(super) const WITH_CALL: usize = 4 << 20;

/// Files that come with a job.
pub(super) struct Brought<'a> {
    app: &'a App,
    bodies: Vec<Body>,
    left: usize,
}

impl<'a> Brought<'a> {
    /// None yet, of which the call may bring so many bytes.
    pub(super) fn of(app: &'a App, left_of_call: usize) -> Self {
        Self {
            app,
            bodies: Vec::new(),
            left: left_of_call.min(WITH_JOB),
        }
    }

    /// Those of a job that is partly read, and more.
    pub(super) fn beside(app: &'a App, bodies: Vec<Body>, left_of_call: usize) -> Self {
        let mut brought = Self::of(app, left_of_call);
        brought.left = brought.left.saturating_sub(bytes(&bodies));
        Self { bodies, ..brought }
    }

    /// Most bytes that the next one may have.
    fn room(&self) -> usize {
        self.left.min(self.app.reader.takes_with_batch())
    }

    /// Takes a file, or gives it back where it has to be stored before its job.
    pub(super) fn take(&mut self, blob: BlobHash, body: Bytes) -> Option<Bytes> {
        if body.len() > self.room() || self.room() == 0 {
            return Some(body);
        }
        self.put(blob, body);
        None
    }

    fn put(&mut self, blob: BlobHash, data: Bytes) {
        self.left = self.left.saturating_sub(data.len());
        self.app.recent.keep(blob, data.clone());
        let put = self.app.queue.clock().now();
        self.bodies.push(Body { blob, put, data });
    }

    /// All of them.
    pub(super) fn into_bodies(self) -> Vec<Body> {
        self.bodies
    }
}

/// Their bytes.
pub(super) fn bytes(bodies: &[Body]) -> usize {
    bodies.iter().map(|body| body.data.len()).sum()
}

/// Takes one part in: a short one comes with its job, a longer one is stored as it comes in.
pub(super) async fn store_field(
    app: &Shared,
    mut field: Field<'_>,
    brought: &mut Brought<'_>,
) -> Result<(BlobHash, u64), ApiError> {
    if brought.room() == 0 {
        return stream_field(app, Bytes::new(), field).await;
    }
    let mut head = BytesMut::new();
    while head.len() <= brought.room() {
        let Some(piece) = field.chunk().await? else {
            let body = head.freeze();
            let (blob, size) = (BlobHash(Sha256Hex::of(&body).0), body.len() as u64);
            brought.put(blob, body);
            return Ok((blob, size));
        };
        head.extend_from_slice(&piece);
    }
    stream_field(app, head.freeze(), field).await
}

/// Stores one part as it comes in, behind its beginning. The store wants a stream of its own, which a part is not: it gets
/// the pieces one by one.
async fn stream_field(app: &Shared, head: Bytes, mut field: Field<'_>) -> Result<(BlobHash, u64), ApiError> {
    let (pieces, received) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(4);
    let body = stream::unfold(received, |mut received| async move {
        received.recv().await.map(|piece| (piece, received))
    });
    let put = app.reader.put_blob(Box::pin(body), app.queue.clock().now());
    let mut copy = Copy::new();
    let feed = async {
        let pieces = pieces;
        let mut piece = head;
        loop {
            copy.add(&piece);
            if pieces.send(Ok(piece)).await.is_err() {
                // the store has given up, and says why
                return Ok(());
            }
            piece = match field.chunk().await {
                Ok(Some(piece)) => piece,
                Ok(None) => return Ok(()),
                Err(error) => {
                    drop(pieces.send(Err(std::io::ErrorKind::UnexpectedEof.into())).await);
                    return Err(ApiError::from(error));
                }
            };
        }
    };
    let (fed, stored) = tokio::join!(feed, put);
    fed?;
    let (hash, size) = stored?;
    copy.keep(hash, &app.recent);
    Ok((hash, size))
}
