//! JSON bodies: read whole, bounded, whatever content type they claim; everything but the expected object is 400.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use futures::StreamExt as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ApiError;

/// A JSON object as `T`. How long it may be is the route's `DefaultBodyLimit`.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state).await.map_err(unread)?;
        object(&bytes).map(Self)
    }
}

/// What stands in the path, as `T`; what does not fit is 400 like every bad input.
#[derive(Debug)]
pub(crate) struct At<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for At<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::from_request_parts(parts, state).await;
        let Path(path) = path.map_err(|error: PathRejection| ApiError::bad_request(error.body_text()))?;
        Ok(Self(path))
    }
}

/// How many times the limit a client may send before it is cut off: one that is still sending reads no answer.
const PATIENCE: usize = 4;
/// How long what is too much is read and dropped.
const PATIENCE_TIME: Duration = Duration::from_secs(15);

async fn drain(mut pieces: BodyDataStream, most: usize) {
    let rest = async {
        let mut seen = 0_usize;
        while let Some(Ok(piece)) = pieces.next().await {
            seen = seen.saturating_add(piece.len());
            if seen > most {
                return;
            }
        }
    };
    // whoever is slower finds the connection closed
    let _ = tokio::time::timeout(PATIENCE_TIME, rest).await;
}

/// Reads a body of at most `most` bytes.
pub(super) async fn read(body: Body, most: usize) -> Result<Vec<u8>, ApiError> {
    let mut pieces = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| ApiError::bad_request("the body broke off; send it again"))?;
        if bytes.len() + piece.len() > most {
            drain(pieces, most.saturating_mul(PATIENCE)).await;
            return Err(ApiError::too_large(most as u64));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Reads a JSON object of at most `most` bytes, which mostly come in one piece.
pub(super) async fn read_object<T: DeserializeOwned>(body: Body, most: usize) -> Result<T, ApiError> {
    let mut pieces = body.into_data_stream();
    let mut first = Bytes::new();
    let mut whole = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| ApiError::bad_request("the body broke off; send it again"))?;
        if first.len().max(whole.len()) + piece.len() > most {
            return Err(too_long());
        }
        if first.is_empty() {
            first = piece;
            continue;
        }
        if whole.is_empty() {
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&piece);
    }
    object(if whole.is_empty() { &first } else { &whole })
}

fn too_long() -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "the body is too long for this call",
    )
}

/// An answer's body in JSON, of about `size` bytes.
pub(super) fn answer(value: &impl Serialize, size: usize) -> Result<Response, ApiError> {
    let mut bytes = Vec::with_capacity(size);
    serde_json::to_writer(&mut bytes, value)
        .map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let mut response = Response::new(Body::from(bytes));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

/// Why a body could not be read.
pub(super) fn unread(rejection: BytesRejection) -> ApiError {
    let status = rejection.status();
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return too_long();
    }
    ApiError::new(status, rejection.body_text())
}

/// Largest whole number that every JSON library reads as itself (RFC 8259, section 6).
const MAX_WHOLE: f64 = 9_007_199_254_740_991.0;

/// Writes whole numbers as such wherever they stand: to JSON `348.0` is the same number as `348`, and some clients send
/// it so.
pub(super) fn make_whole(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let float = number.as_f64().filter(|_| number.is_f64());
            if let Some(whole) = float.and_then(whole) {
                *number = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(make_whole),
        Value::Object(fields) => fields.values_mut().for_each(make_whole),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// A number without a fraction, as such.
#[expect(
    clippy::cast_possible_truncation,
    reason = "bounded on both sides just before"
)]
pub(super) fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() <= MAX_WHOLE).then_some(number as i64)
}

/// Reads a JSON object.
pub(super) fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // a list would fill a struct's fields in their order
    if bytes.iter().find(|it| !it.is_ascii_whitespace()) != Some(&b'{') {
        return Err(ApiError::bad_request("the body is no JSON object; send one"));
    }
    serde_json::from_slice(bytes).or_else(|error| {
        // seldom: only what does not fit as it is
        let mut value: Value = serde_json::from_slice(bytes).map_err(|error| refused(&error))?;
        make_whole(&mut value);
        serde_json::from_value(value).map_err(|_| refused(&error))
    })
}

fn refused(error: &serde_json::Error) -> ApiError {
    ApiError::bad_request(format!("the body: {error}"))
}

/// As [`object`], from a value.
pub(super) fn object_of<T: DeserializeOwned>(mut value: Value) -> Result<T, ApiError> {
    make_whole(&mut value);
    if !value.is_object() {
        return Err(ApiError::bad_request("this is no JSON object; send one"));
    }
    serde_json::from_value(value).map_err(|error| ApiError::bad_request(error.to_string()))
}

/// A field that is left out or has a value: `null` is none.
pub(super) fn given<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// An object with the fields of `T`: by itself serde would take a list, too, and fill the fields in their order.
#[derive(Debug, Default)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = serde_json::Map::deserialize(deserializer)?;
        let fields = serde_json::from_value(Value::Object(fields));
        fields.map(Self).map_err(serde::de::Error::custom)
    }
}

/// A field that existing clients may send as `null`: the default then.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Fields {
        count: u8,
        seconds: Option<f64>,
    }

    #[test]
    fn a_whole_number_is_one_however_it_is_written() {
        for (text, count) in [
            (r#"{"count": 3}"#, 3),
            (r#"{"count": 3.0}"#, 3),
            (r#"{"count": 30e-1, "seconds": 2}"#, 3),
            (r#"{"count": -0.0}"#, 0),
        ] {
            let fields: Fields = object(text.as_bytes()).unwrap();
            assert_eq!(fields.count, count, "{text}");
        }
        for bad in [
            r#"{"count": 3.5}"#,
            r#"{"count": -3.0}"#,
            r#"{"count": -3}"#,
            r#"{"count": 256.0}"#,
            r#"{"count": 1e300}"#,
            r#"{"count": 1e999}"#,
            r#"{"count": "3"}"#,
            "{",
            "[3]",
        ] {
            assert!(object::<Fields>(bad.as_bytes()).is_err(), "{bad}");
        }
        let mut nested = json!({"a": [1.0, 1.5, {"b": -2.0}], "c": "1.0", "d": 1e17});
        make_whole(&mut nested);
        assert_eq!(nested, json!({"a": [1, 1.5, {"b": -2}], "c": "1.0", "d": 1e17}));
    }
}
