//! Which exit code an error of a service has.

use client_sdk::pool::PoolClientError;

use crate::exit::{Failure, Status};

/// An error for the user.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn failed(error: PoolClientError) -> anyhow::Error {
    Failure::new(status(&error), error.to_string())
}

const fn status(error: &PoolClientError) -> Status {
    match error {
        PoolClientError::BadUrl { .. }
        | PoolClientError::BadHeader { .. }
        | PoolClientError::UnknownJob { .. }
        | PoolClientError::UnknownNode { .. }
        | PoolClientError::Unsupported { .. }
        | PoolClientError::Local { .. } => Status::BadInput,
        PoolClientError::Client(_) => Status::Failure,
        PoolClientError::Unreachable { .. }
        | PoolClientError::Failed { .. }
        | PoolClientError::Nonsense { .. } => Status::Unreachable,
        PoolClientError::Refused { .. } => Status::Refused,
        PoolClientError::BadReceipt { .. } | PoolClientError::Mismatch { .. } => Status::VerificationFailed,
    }
}
