//! The calls that come with every job, on a way of their own: in front of the router, whose layers cost as much as what
//! is behind them. What they take and answer is the same.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, Request, State};
use axum::handler::Handler as _;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use sandrun_serve::Answer;

use super::body::{JsonBody, read_object};
use super::error::ApiError;
use super::http::{COMPLETION, SMALL, SUBMISSION, Shared};
use super::metrics::note;
use super::{nodes, submit, work};

/// One of these calls.
#[derive(Debug, Clone, Copy)]
enum Hot {
    Claim,
    Complete,
    Heartbeat,
    Submit,
}

impl Hot {
    /// Which one a request is; a coordinator has no calls of nodes.
    fn of(request: &Request, has_nodes: bool) -> Option<Self> {
        if request.method() != Method::POST {
            return None;
        }
        match request.uri().path() {
            "/claim" if has_nodes => Some(Self::Claim),
            "/complete" if has_nodes => Some(Self::Complete),
            "/heartbeat" if has_nodes => Some(Self::Heartbeat),
            "/submit" => Some(Self::Submit),
            _ => None,
        }
    }

    /// Its route, and the most bytes that its body may have.
    const fn bounds(self) -> (&'static str, usize) {
        match self {
            Self::Claim => ("/claim", SMALL),
            Self::Complete => ("/complete", COMPLETION),
            Self::Heartbeat => ("/heartbeat", SMALL),
            Self::Submit => ("/submit", SUBMISSION),
        }
    }

    async fn answer(self, request: Request, peer: SocketAddr, app: Shared) -> Response {
        let began = Instant::now();
        let (route, most) = self.bounds();
        let state = State(Arc::clone(&app));
        let mut response = match self {
            Self::Claim => told(claim(request, most, state).await),
            Self::Complete => told(complete(request, most, state).await),
            Self::Heartbeat => told(heartbeat(request, most, state).await),
            Self::Submit => {
                let mut request = request;
                DefaultBodyLimit::max(most).apply(&mut request);
                request.extensions_mut().insert(ConnectInfo(peer));
                submit::submit.call(request, Arc::clone(&app)).await
            }
        };
        let headers = response.headers_mut();
        no_store(headers);
        for name in [ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_ALLOW_ORIGIN] {
            headers.insert(name, HeaderValue::from_static("*"));
        }
        note(&app.meters, ("POST", route), &response, began);
        response
    }
}

async fn claim(
    request: Request,
    most: usize,
    app: State<Shared>,
) -> Result<impl IntoResponse + use<>, ApiError> {
    let query = Query::try_from_uri(request.uri());
    let fields = read_object(request.into_body(), most).await?;
    nodes::claim(app, query, JsonBody(fields)).await
}

async fn complete(
    request: Request,
    most: usize,
    app: State<Shared>,
) -> Result<impl IntoResponse + use<>, ApiError> {
    let fields = read_object(request.into_body(), most).await?;
    work::complete(app, JsonBody(fields)).await
}

async fn heartbeat(
    request: Request,
    most: usize,
    app: State<Shared>,
) -> Result<impl IntoResponse + use<>, ApiError> {
    let fields = read_object(request.into_body(), most).await?;
    nodes::heartbeat(app, JsonBody(fields)).await
}

fn told(answer: Result<impl IntoResponse, ApiError>) -> Response {
    answer.into_response()
}

/// What answers these calls, and lets all others go on.
pub(super) fn first(
    app: &Shared,
) -> impl Fn(Request, SocketAddr) -> ControlFlow<Answer, Request> + Clone + Send + use<> {
    let app = Arc::clone(app);
    move |request, peer| match Hot::of(&request, app.face.has_nodes) {
        Some(hot) => ControlFlow::Break(Box::pin(hot.answer(request, peer, Arc::clone(&app)))),
        None => ControlFlow::Continue(request),
    }
}

/// What every answer says beside its own: that it is not to be kept, and is what it says it is.
pub(super) fn no_store(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
