//! The one error type of all calls: a status code and one sentence for the client. What went wrong inside goes to the
//! log, with a number that the client gets to see.

use std::error::Error;
use std::io;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rand::Rng as _;

use sandrun_environment::{CacheError, ObtainError};

use crate::admit::Refusal;
use crate::id::RunIdError;
use crate::jobs::RegistryError;
use crate::service::Stopped;
use crate::upload::{AssembleError, ReceiveError};
use crate::wire::ErrorBody;

/// Seconds after which a full disk may have room again.
const FULL_DISK_WAIT: u64 = 60;

/// A refused or failed request.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    retry_after: Option<u64>,
}

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            retry_after: None,
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this call takes another method")
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }

    pub(crate) fn unknown_job() -> Self {
        Self::not_found("there is no such job here; its data may have been deleted")
    }

    /// A fault of the service's own: `what` and the error go to the log, a reference number to the client. A full disk
    /// is said to be one: nobody has to look into a log to know that waiting helps.
    pub(crate) fn internal(what: &str, error: &(dyn Error + 'static)) -> Self {
        let reference: u32 = rand::thread_rng().r#gen();
        tracing::error!(reference = format!("{reference:08x}"), error, "{what}");
        if is_full_disk(error) {
            return Self {
                retry_after: Some(FULL_DISK_WAIT),
                ..Self::new(
                    StatusCode::INSUFFICIENT_STORAGE,
                    "the service's disk is full; try again later, or free some of it",
                )
            };
        }
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the service failed; its log says why under {reference:08x}"),
        )
    }
}

/// Whether an error, or what it came from, is that no byte fits on the disk any more.
fn is_full_disk(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source()).any(|error| {
        error.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        })
    })
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.message })).into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Stopped> for ApiError {
    fn from(stopped: Stopped) -> Self {
        Self::unavailable(stopped.to_string())
    }
}

impl From<RunIdError> for ApiError {
    fn from(_: RunIdError) -> Self {
        Self::unknown_job()
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl ApiError {
    /// An environment that a request asks for and that cannot be had: `missing` is the status where asking again does
    /// not help, `what` stands before the sentence.
    pub(crate) fn environment(what: &str, error: &ObtainError, missing: StatusCode) -> Self {
        if let ObtainError::Cache(disk @ CacheError::Disk { .. }) = error {
            return Self::internal("an environment could not be kept", disk);
        }
        let cause = error
            .source()
            .map(|source| format!(": {source}"))
            .unwrap_or_default();
        let message = format!("{what}{error}{cause}");
        if let ObtainError::Cache(CacheError::TooLarge { .. }) = error {
            return Self::new(StatusCode::PAYLOAD_TOO_LARGE, message);
        }
        if error.is_transient() {
            Self {
                retry_after: Some(FULL_DISK_WAIT),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
            }
        } else {
            Self::new(missing, message)
        }
    }
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::OverQuota(refusal) => Self {
                retry_after: Some(refusal.retry_after_seconds()),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, refusal.to_string())
            },
            RegistryError::QueueFull(_) => Self::unavailable(error.to_string()),
            RegistryError::Unknown(_) | RegistryError::Known(_) | RegistryError::Illegal(_) => {
                Self::internal("a job could not be queued", &error)
            }
        }
    }
}

impl From<ReceiveError> for ApiError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::TooLarge(_) => Self::too_large(error.to_string()),
            ReceiveError::Stalled | ReceiveError::Slow => {
                Self::new(StatusCode::REQUEST_TIMEOUT, error.to_string())
            }
            ReceiveError::Spool(_) => Self::internal("an upload could not be stored", &error),
            ReceiveError::Broken(_)
            | ReceiveError::Nameless
            | ReceiveError::UnknownField(_)
            | ReceiveError::ManifestTwice
            | ReceiveError::ManifestTooLong
            | ReceiveError::TooManyParts => Self::bad_request(error.to_string()),
        }
    }
}

impl From<AssembleError> for ApiError {
    fn from(error: AssembleError) -> Self {
        if error.is_too_large() {
            Self::too_large(error.to_string())
        } else if error.is_internal() {
            Self::internal("an upload could not be unpacked", &error)
        } else {
            Self::bad_request(error.to_string())
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Read(..) => Self::internal("a bundle could not be read", &refusal),
            Refusal::Class { .. }
            | Refusal::Gpu
            | Refusal::Memory { .. }
            | Refusal::Interpreter(_)
            | Refusal::Requirements { .. } => Self::bad_request(refusal.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_said_to_be_one_and_names_no_folder() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let other = || io::Error::from(io::ErrorKind::PermissionDenied);
        for (error, expected) in [
            (ApiError::internal("x", &full()), 507),
            (ApiError::from(ReceiveError::Spool(full())), 507),
            (ApiError::from(AssembleError::Spool(full())), 507),
            (ApiError::from(ReceiveError::Spool(other())), 500),
        ] {
            let response = error.into_response();
            assert_eq!(response.status(), expected);
            assert_eq!(
                response.headers().contains_key(header::RETRY_AFTER),
                expected == 507
            );
        }
    }
}
