//! Measures every call.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
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
    let method = known(request.method());
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

/// A method's name; clients can make up any number of others.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"];
    KNOWN
        .into_iter()
        .find(|it| *it == method.as_str())
        .unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_methods_are_one() {
        assert_eq!(known(&Method::DELETE), "DELETE");
        let made_up = Method::from_bytes(b"FROBNICATE").unwrap();
        assert_eq!(known(&made_up), "other");
    }
}
