//! Bounds a request body in size and time, politely: a client that sends too much may go on for a while, so that it gets to read why it
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

/// How long any upload may take, and how much longer for each of its bytes: 16 KiB/s at least.
const TIME: Duration = Duration::from_secs(30);
const TIME_PER_BYTE: Duration = Duration::from_nanos(1_000_000_000 / (16 * 1024));

/// Whether a body had more bytes, or took longer, than allowed.
#[derive(Clone, Debug)]
pub(crate) struct Overflow {
    limit: u64,
    happened: Arc<AtomicBool>,
    slow: Arc<AtomicBool>,
}

impl Overflow {
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn happened(&self) -> bool {
        self.happened.load(Ordering::Relaxed)
    }

    /// Whether it came too slowly.
    pub(crate) fn was_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }
}

/// When a body of which `seen` bytes have come has to have gone on.
fn deadline(begun: Instant, time: Duration, seen: u64) -> Instant {
    let earned = TIME_PER_BYTE.saturating_mul(u32::try_from(seen).unwrap_or(u32::MAX));
    begun + time + earned
}

/// The body, which fails after `limit` bytes, but not before it has read and dropped a while of what comes then; and as
/// soon as it is slower than 16 KiB/s, half a minute aside: a few clients that send a byte now and then would keep all
/// others out.
///
/// `limit` is what a client is told; what is counted here is the whole form, which has [`FORM_BYTES`] more.
pub(crate) fn bounded(body: Body, limit: u64) -> (Body, Overflow) {
    paced(body, limit, TIME)
}

fn paced(body: Body, limit: u64, time: Duration) -> (Body, Overflow) {
    let overflow = Overflow {
        limit,
        happened: Arc::default(),
        slow: Arc::default(),
    };
    let begun = Instant::now();
    let state = (body.into_data_stream(), 0u64, overflow.clone());
    let pieces = stream::unfold(state, move |(mut body, mut seen, overflow)| async move {
        if overflow.happened() || overflow.was_slow() {
            return None;
        }
        let Ok(next) = tokio::time::timeout_at(deadline(begun, time, seen), body.next()).await else {
            overflow.slow.store(true, Ordering::Relaxed);
            let slow = Err(io::Error::from(io::ErrorKind::TimedOut).into());
            return Some((slow, (body, seen, overflow)));
        };
        let piece: Result<Bytes, axum::BoxError> = match next? {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_earns_its_time() {
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        let left = |seen| (deadline(begun, TIME, seen) - begun).as_secs();
        assert_eq!((left(0), left(100)), (30, 30));
        assert_eq!(left(16 * 1024 * 100), 129);
        assert!(deadline(begun, TIME, u64::MAX) > begun + second);
    }

    #[tokio::test]
    async fn a_body_that_trickles_ends_in_time() {
        let trickle = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, io::Error>(Bytes::from_static(b"x")), ()))
        });
        let (body, overflow) = paced(Body::from_stream(trickle), 100 << 20, Duration::from_millis(200));
        let last = body.into_data_stream().collect::<Vec<_>>().await.pop();
        assert!(last.is_some_and(|last| last.is_err()));
        assert!(overflow.was_slow() && !overflow.happened());
    }
}
