//! Why the queue refuses.

use sandrun_core::pool::Illegal;
use sandrun_store::queue::QueueStoreError;

/// The queue did not do what it was asked. Nothing was changed, but where [`QueueError::Unknown`] leaves that open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// It has no place where the machine stands.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// No node has this id.
    #[error("there is no node `{0}` here; register it first")]
    UnknownNode(String),
    /// The node holds no attempt at the job.
    #[error("this node holds no attempt at the job (any more)")]
    HoldsNone,
    /// The answer's signature is not its worker's.
    #[error("the receipt is not signed by the worker that it names; the attempt counts as failed")]
    BadSignature,
    /// The disk is full.
    #[error("the service's disk is full; nothing was changed, try again later")]
    Full,
    /// Its files were removed or moved.
    #[error(
        "the files of the service's queue were removed or moved while it ran: it takes nothing until whoever runs it has \
         put them back, or started it again with a backup; nothing was changed"
    )]
    Displaced,
    /// The store failed.
    #[error("the service can't write its queue at the moment ({0}); nothing was changed, try again")]
    Store(String),
    /// Its database is damaged.
    #[error(
        "the service's queue is damaged ({0}): whoever runs it has to start it with a backup, or with another --db; nothing \
         was changed"
    )]
    Damaged(String),
    /// The connection to the database broke on the way; what was to be written may be there.
    #[error(
        "the service's database does not answer ({0}); whether anything was changed is not known: look, or try again"
    )]
    Unknown(String),
    /// The service ends.
    #[error("the service is shutting down")]
    Stopped,
}

impl From<&QueueStoreError> for QueueError {
    fn from(error: &QueueStoreError) -> Self {
        if error.is_full() {
            Self::Full
        } else if error.is_displaced() {
            Self::Displaced
        } else if error.is_unknown() {
            Self::Unknown(error.to_string())
        } else if error.is_damaged() {
            Self::Damaged(whole(error))
        } else {
            Self::Store(whole(error))
        }
    }
}

/// The error with what the database says.
fn whole(error: &QueueStoreError) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}
