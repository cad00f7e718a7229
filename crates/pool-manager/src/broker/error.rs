//! The one error type of all calls: a status and one sentence. What went wrong inside goes to the log.

use axum::Json;
use axum::extract::multipart::MultipartError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sandrun_core::pool::Illegal;
use sandrun_store::queue::QueueStoreError;
use serde_json::json;

use super::metrics::DatabaseFailed;
use crate::queue::QueueError;

/// A refused or failed request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(super) status: StatusCode,
    pub(crate) message: String,
    is_database: bool,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            status,
            message,
            is_database: false,
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(super) fn too_large(most: u64) -> Self {
        let text = format!("the body has more than {most} bytes; send less");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    pub(super) fn unknown_job() -> Self {
        Self::not_found("there is no such job here; ended ones are kept for a limited time")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let retry = self.status == StatusCode::SERVICE_UNAVAILABLE;
        let mut response = (self.status, Json(json!({"error": self.message}))).into_response();
        if self.is_database {
            response.extensions_mut().insert(DatabaseFailed);
        }
        if retry {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<QueueError> for ApiError {
    fn from(error: QueueError) -> Self {
        let status = match &error {
            QueueError::Illegal(illegal) => return Self::from(*illegal),
            QueueError::UnknownNode(_) => StatusCode::NOT_FOUND,
            QueueError::HoldsNone => StatusCode::CONFLICT,
            QueueError::BadSignature => StatusCode::BAD_REQUEST,
            QueueError::Full => StatusCode::INSUFFICIENT_STORAGE,
            // what the store says concerns the operator: the engine has logged it
            QueueError::Store(_) => {
                let text = "the service can't write its queue at the moment; nothing was changed, try again";
                return Self::new(StatusCode::SERVICE_UNAVAILABLE, text);
            }
            QueueError::Damaged(_) => {
                let text = "the service's queue is damaged: whoever runs it finds the reason in its log; nothing was changed";
                return Self::new(StatusCode::SERVICE_UNAVAILABLE, text);
            }
            QueueError::Unknown(_) => {
                let text = "the service's database does not answer at the moment; whether anything was changed is not \
                            known: look, or try again (a submission under the same Idempotency-Key)";
                return Self::new(StatusCode::SERVICE_UNAVAILABLE, text);
            }
            QueueError::Displaced | QueueError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

/// The machine's words name jobs and nodes by its own numbers: clients get other words.
impl From<Illegal> for ApiError {
    fn from(illegal: Illegal) -> Self {
        match illegal {
            Illegal::UnknownJob(_) => Self::unknown_job(),
            Illegal::UnknownNode(_) => Self::not_found("there is no such node here; register it first"),
            Illegal::UnknownParent { .. } => Self::bad_request(
                "a job in `after` is not known here; ended ones are kept for a limited time",
            ),
            Illegal::BadQuorum { replicas, quorum, .. } => Self::bad_request(format!(
                "`quorum` {quorum} of `replicas` {replicas}: choose at most all and more than half"
            )),
            Illegal::Ended(_) => Self::conflict("the job has ended"),
            Illegal::StillOpen(_) => Self::conflict("the job has not ended"),
            Illegal::StaleAttempt { attempt, .. } => Self::conflict(format!(
                "this node does not hold attempt {attempt} at the job (any more)"
            )),
            Illegal::JobExists(_)
            | Illegal::NotAdmitted(_)
            | Illegal::WrongAssignment(_)
            | Illegal::NoPlace { .. }
            | Illegal::OutOfTurn { .. } => Self::conflict(illegal.to_string()),
        }
    }
}

impl From<QueueStoreError> for ApiError {
    fn from(error: QueueStoreError) -> Self {
        if error.is_full() {
            return Self {
                is_database: true,
                ..Self::from(QueueError::Full)
            };
        }
        if error.is_displaced() {
            return Self {
                is_database: true,
                ..Self::from(QueueError::Displaced)
            };
        }
        if matches!(error, QueueStoreError::Body(_)) {
            return Self::bad_request("the body broke off; send it again");
        }
        tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
        let text = "the service can't reach its store at the moment; try again";
        Self {
            is_database: true,
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

impl From<MultipartError> for ApiError {
    fn from(error: MultipartError) -> Self {
        Self::new(
            error.status(),
            format!("the multipart body is broken: {}", error.body_text()),
        )
    }
}
