//! The one place where a request becomes a caller: by the header `X-Client`, else by the peer's address. Whoever adds
//! authentication adds it here.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;

use super::error::ApiError;

/// The header that names a client.
const HEADER: &str = "x-client";
/// Longest name.
const MAX_NAME: usize = 100;

/// Whoever asks: fair share is between callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller(pub(super) String);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        if let Some(name) = parts.headers.get(HEADER) {
            let name = name.to_str().ok().map(str::trim);
            let is_fine = |it: &&str| (1..=MAX_NAME).contains(&it.len()) && !it.contains('\t');
            let name = name.filter(is_fine);
            let text = "`X-Client` has to be 1 to 100 printable ASCII characters";
            return name
                .map(|it| Self(it.to_owned()))
                .ok_or_else(|| ApiError::bad_request(text));
        }
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let address = peer.map(|ConnectInfo(address)| address.ip().to_canonical().to_string());
        Ok(Self(address.unwrap_or_default()))
    }
}
