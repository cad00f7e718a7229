//! A request's body whose sender is waited for only so long, and not at all for long once the service ends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use axum::http::{HeaderValue, StatusCode};
use hyper::Response;
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::bounds::Bounds;
use crate::patience::Patience;

/// How long the rest of a body is waited for after the service was told to end.
const AT_THE_END: Duration = Duration::from_secs(2);

/// Why a body was given up, where it was.
#[derive(Clone, Debug, Default)]
pub(crate) struct GivenUp(Arc<AtomicU8>);

const SLOW: u8 = 1;
const ENDING: u8 = 2;

impl GivenUp {
    /// The answer to a request whose body was given up: whatever its handler made of that, the client reads why.
    pub(crate) fn answer(&self, mut response: Response<Body>) -> Response<Body> {
        let (status, text) = match self.0.load(Ordering::Acquire) {
            SLOW => (
                StatusCode::REQUEST_TIMEOUT,
                r#"{"error":"the request's body came too slowly; send it again"}"#,
            ),
            ENDING => (
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"error":"the service ends, and the request's body had not come whole; send it again"}"#,
            ),
            _ => return response,
        };
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRANSFER_ENCODING);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        *response.body_mut() = Body::from(text);
        response
    }
}

/// Waiting for a piece.
#[derive(Debug)]
struct Wait {
    since: Instant,
    over: Pin<Box<Sleep>>,
    ending: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

/// The body. Time counts while the handler wants more and there is none: a service that is slow itself, as with a
/// busy disk, costs its clients nothing.
#[derive(Debug)]
pub(crate) struct Timed {
    inner: Incoming,
    patience: Patience,
    wait: Option<Wait>,
    stop: CancellationToken,
    given_up: GivenUp,
}

impl Timed {
    pub(crate) fn new(inner: Incoming, bounds: Bounds, stop: CancellationToken, given_up: GivenUp) -> Self {
        Self {
            inner,
            patience: Patience::new(bounds.body_idle, bounds.body_rate),
            wait: None,
            stop,
            given_up,
        }
    }

    /// Ready once nothing is waited for any more.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<u8> {
        let left = self.patience.left();
        let wait = self.wait.get_or_insert_with(|| Wait {
            since: Instant::now(),
            over: Box::pin(sleep(left)),
            ending: Some(Box::pin(self.stop.clone().cancelled_owned())),
        });
        if let Some(ending) = &mut wait.ending
            && ending.as_mut().poll(cx).is_ready()
        {
            wait.ending = None;
            let end = Instant::now() + AT_THE_END;
            if end < wait.over.deadline() {
                wait.over.as_mut().reset(end);
            }
        }
        ready!(wait.over.as_mut().poll(cx));
        Poll::Ready(if wait.ending.is_none() { ENDING } else { SLOW })
    }
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            let waited = this
                .wait
                .take()
                .map_or(Duration::ZERO, |wait| wait.since.elapsed());
            let bytes = match &frame {
                Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) | None => 0,
            };
            this.patience.received(waited, bytes);
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        let why = ready!(this.poll_wait(cx));
        this.given_up.0.store(why, Ordering::Release);
        let error = io::Error::new(io::ErrorKind::TimedOut, "the body came too slowly");
        Poll::Ready(Some(Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
