//! `/trace/{id}`: the file with a run's trace, whole or one range of it, for as long as the job's outputs are there.

use std::io::{self, Seek as _, SeekFrom};
use std::ops::Range;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::outputs::{ended, open_regular};
use super::path::Path;
use super::status::find;
use super::submit::blocking;
use super::{ApiError, Shared};

/// What a request wants of a file (RFC 9110, section 14).
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// All of it: there is no range, or one of a form that need not be served.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that it does not have.
    Nothing,
}

impl Wanted {
    fn of(headers: &HeaderMap, length: u64) -> Self {
        let range = headers.get(RANGE).and_then(|value| value.to_str().ok());
        let parts = range.and_then(|text| text.strip_prefix("bytes=")?.split_once('-'));
        let Some((first, last)) = parts else {
            return Self::Whole;
        };
        let range = match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(length),
            (Ok(first), Err(_)) if last.is_empty() => first..length,
            (Err(_), Ok(count)) if first.is_empty() => length.saturating_sub(count)..length,
            _ => return Self::Whole,
        };
        if range.is_empty() {
            Self::Nothing
        } else {
            Self::Part(range)
        }
    }
}

pub(super) async fn trace(
    State(app): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let found = find(&app, &id).await?.data()?;
    if ended(&found)?.trace_bytes == 0 {
        return Err(ApiError::not_found(
            "the job has no trace here: it was not run, or its client asked to have it forgotten",
        ));
    }
    let at = found.job.folder.trace();
    let failed = |error: io::Error| ApiError::internal("a trace could not be read", &error);
    let mut file = blocking(move || open_regular(&at)).await?.map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let (status, range) = match Wanted::of(&headers, length) {
        Wanted::Whole => (StatusCode::OK, 0..length),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Nothing => {
            let of = format!("bytes */{length}");
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, [(CONTENT_RANGE, of)]).into_response());
        }
    };
    file.seek(SeekFrom::Start(range.start)).map_err(failed)?;
    let count = range.end - range.start;
    let pieces = ReaderStream::new(tokio::fs::File::from_std(file).take(count));
    let mut response = (status, Body::from_stream(pieces)).into_response();
    let answer = response.headers_mut();
    answer.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    answer.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer.insert(CONTENT_LENGTH, HeaderValue::from(count));
    let of = format!("bytes {}-{}/{length}", range.start, range.end - 1);
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(of) = HeaderValue::from_str(&of)
    {
        answer.insert(CONTENT_RANGE, of);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_http() {
        let of = |text: &'static str| {
            let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static(text))]);
            Wanted::of(&headers, 100)
        };
        assert_eq!(Wanted::of(&HeaderMap::new(), 100), Wanted::Whole);
        assert_eq!(of("bytes=0-0"), Wanted::Part(0..1));
        assert_eq!(of("bytes=10-19"), Wanted::Part(10..20));
        assert_eq!(of("bytes=90-"), Wanted::Part(90..100));
        assert_eq!(of("bytes=-64"), Wanted::Part(36..100));
        assert_eq!(of("bytes=-1000"), Wanted::Part(0..100));
        assert_eq!(of("bytes=50-18446744073709551615"), Wanted::Part(50..100));
        for nothing in ["bytes=100-", "bytes=100-200", "bytes=-0"] {
            assert_eq!(of(nothing), Wanted::Nothing, "{nothing}");
        }
        for whole in ["bytes=9-1", "bytes=a-b", "bytes=1-2,4-5", "lines=1-2", "bytes=-"] {
            assert_eq!(of(whole), Wanted::Whole, "{whole}");
        }
    }
}
