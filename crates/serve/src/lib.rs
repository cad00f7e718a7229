//! Serves a router over HTTP/1.1 so that nobody can hold connections without using them: how every HTTP service of this
//! product listens.
//!
//! Owns accepting, the number of open connections, the time that a request's header may take and that its body is waited
//! for, and the end of all connections. Never looks into a request; how long a body may be is for the handler that reads
//! it.

mod bounds;
mod counted;
mod patience;
mod places;
mod timed;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

pub use bounds::Bounds;

use counted::Counted;
use places::Places;
use timed::{GivenUp, Timed};

/// Bytes of a header, and about as many of an answer, that a connection keeps: a client that reads nothing holds no more.
const BUFFER: usize = 64 << 10;
/// Pause after an accept that failed for want of something: file descriptors, memory.
const WANT: Duration = Duration::from_secs(1);

/// An answer on its way.
pub type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Answers with `router` until `stop` is cancelled, then takes no more requests and returns when those under way have
/// their answers; how long that may take is for the caller to bound: dropped, it cuts all connections. Handlers find the peer as
/// [`ConnectInfo<SocketAddr>`].
///
/// A connection beyond [`Bounds::connections`] waits to be accepted; one beyond [`Bounds::per_address`] is closed.
pub async fn serve(listener: TcpListener, router: Router, bounds: Bounds, stop: CancellationToken) {
    let none = |request, _| ControlFlow::Continue(request);
    serve_behind(listener, none, router, bounds, stop).await;
}

/// As [`serve`], with `first` in front of the router: calls that are too frequent for a router's layers. It gets a
/// request and the peer's address, and answers itself, or lets the request go on.
pub async fn serve_behind<F>(
    listener: TcpListener,
    first: F,
    router: Router,
    bounds: Bounds,
    stop: CancellationToken,
) where
    F: Fn(Request<Body>, SocketAddr) -> ControlFlow<Answer, Request<Body>> + Clone + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(bounds.connections));
    let places = Places::new(bounds.per_address);
    let mut open = JoinSet::new();
    let next = async || {
        let slot = Arc::clone(&slots).acquire_owned().await;
        (listener.accept().await, slot)
    };
    loop {
        let (accepted, slot) = tokio::select! {
            () = stop.cancelled() => break,
            next = next() => next,
            Some(_) = open.join_next() => continue,
        };
        let (Ok((stream, peer)), Ok(slot)) = (accepted, slot) else {
            tracing::warn!("cannot accept a connection; is the limit of open files too low?");
            tokio::time::sleep(WANT).await;
            continue;
        };
        if let Some(place) = places.take(peer.ip()) {
            let stream = Counted::new(stream, slot, place);
            open.spawn(answer(
                stream,
                peer,
                (first.clone(), router.clone()),
                bounds,
                stop.clone(),
            ));
        } else {
            tracing::debug!(%peer, "closed a connection: its address has too many");
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// Serves one connection to its end.
async fn answer<F>(
    stream: Counted<TcpStream>,
    peer: SocketAddr,
    (first, router): (F, Router),
    bounds: Bounds,
    stop: CancellationToken,
) where
    F: Fn(Request<Body>, SocketAddr) -> ControlFlow<Answer, Request<Body>> + Send + 'static,
{
    if let Err(error) = stream.get_ref().set_nodelay(true) {
        tracing::debug!(%error, "cannot switch Nagle's algorithm off");
    }
    let ending = stop.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (request, given_up) = timed(request, bounds, &ending);
        let answered = match first(request, peer) {
            ControlFlow::Break(answer) => Ok(answer),
            ControlFlow::Continue(mut request) => {
                request.extensions_mut().insert(ConnectInfo(peer));
                Err(router.clone().call(request))
            }
        };
        async move {
            let response = match answered {
                Ok(answer) => answer.await,
                Err(routed) => routed.await?,
            };
            Ok::<_, Infallible>(match given_up {
                Some(given_up) => given_up.answer(response),
                None => response,
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header_time)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%peer, %error, "a connection ended");
    }
}

/// A request whose body, where it has one, is waited for only so long; and whether it was given up.
fn timed(
    request: Request<Incoming>,
    bounds: Bounds,
    ending: &CancellationToken,
) -> (Request<Body>, Option<GivenUp>) {
    if request.body().is_end_stream() {
        return (request.map(Body::new), None);
    }
    let given_up = GivenUp::default();
    let body = |body| Body::new(Timed::new(body, bounds, ending.clone(), given_up.clone()));
    (request.map(body), Some(given_up.clone()))
}

#[cfg(test)]
mod tests;
