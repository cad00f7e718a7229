//! Measures every call.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::meters::{During, Meters};
use crate::broker::http::Shared;

/// The route of calls that there are none of.
const NO_ROUTE: &str = "none";

/// Marks an answer that says that the database did not.
#[derive(Debug, Clone, Copy)]
pub(in crate::broker) struct DatabaseFailed;

/// The layer around all routes.
pub(in crate::broker) async fn measure(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = sandrun_metrics::method_name(request.method().as_str());
    let response = next.run(request).await;
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    note(&app.meters, (method, route), &response, began);
    response
}

/// Counts an answer to a method and route.
pub(in crate::broker) fn note(
    meters: &Meters,
    (method, route): (&'static str, &str),
    response: &Response,
    began: Instant,
) {
    meters.called(route, (method, response.status().as_u16()), began.elapsed());
    if response.extensions().get::<DatabaseFailed>().is_some() {
        meters.database_failed(During::Request);
    }
}
