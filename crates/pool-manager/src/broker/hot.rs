//! The calls that come with every job, on a way of their own: in front of the router, whose layers cost as much as what
//! is behind them. What they take and answer is the same.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, Request};
use axum::handler::Handler as _;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::Response;
use sandrun_serve::Answer;

use super::http::{COMPLETION, Face, SMALL, SUBMISSION, Shared};
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
    fn of(request: &Request, face: Face) -> Option<Self> {
        if request.method() != Method::POST {
            return None;
        }
        let has_nodes = face == Face::BROKER;
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

    async fn answer(self, mut request: Request, app: Shared) -> Response {
        let began = Instant::now();
        let (route, most) = self.bounds();
        DefaultBodyLimit::max(most).apply(&mut request);
        let state = Arc::clone(&app);
        let mut response = match self {
            Self::Claim => nodes::claim.call(request, state).await,
            Self::Complete => work::complete.call(request, state).await,
            Self::Heartbeat => nodes::heartbeat.call(request, state).await,
            Self::Submit => submit::submit.call(request, state).await,
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

/// What answers these calls, and lets all others go on.
pub(super) fn first(app: &Shared) -> impl Fn(Request) -> ControlFlow<Answer, Request> + Clone + Send + use<> {
    let app = Arc::clone(app);
    move |request| match Hot::of(&request, app.face) {
        Some(hot) => ControlFlow::Break(Box::pin(hot.answer(request, Arc::clone(&app)))),
        None => ControlFlow::Continue(request),
    }
}

/// What every answer says beside its own: that it is not to be kept, and is what it says it is.
pub(super) fn no_store(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
