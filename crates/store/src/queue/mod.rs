//! The queue of a broker or coordinator on disk: jobs, nodes, clients, answers, logs and files, in SQLite or PostgreSQL.
//!
//! Rows carry the machine's own snapshots as opaque bytes beside the few columns that are asked for without opening
//! them. One writer at a time: [`QueueStore::transact`] takes the database's lock, hands over what other replicas have
//! written since, and commits what the caller decides. Reads go past it ([`QueueReader`]).
//!
//! Never decides anything: which rows change, and to what, is the caller's.

mod rows;

pub use rows::{
    Answer, BlobHash, ClientRow, Foreign, JobFilter, JobRow, JobState, JobWord, LogPiece, LogStream, NewJob, NodeRow, OutputRef,
    StoredAnswer, Writes,
};

use sandrun_core::pool::JobNumber;

/// The writing side, used by one thread.
pub trait QueueStore: Send {
    /// Everything that is open, and the highest numbers given out. Called at the start and after a failed write.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    fn load(&mut self) -> Result<Foreign, QueueStoreError>;

    /// One transaction: lock, read what others wrote since the last call, let `work` decide, write, commit. `work` is
    /// called once; on an error nothing was written, and the caller loads anew.
    ///
    /// # Errors
    /// [`QueueStoreError`]; [`QueueStoreError::Full`] where the disk is full.
    fn transact(&mut self, work: &mut dyn FnMut(Foreign) -> Writes) -> Result<(), QueueStoreError>;

    /// A job by its number, ended or not (for an event about one that is not in memory).
    ///
    /// # Errors
    /// [`QueueStoreError`].
    fn job(&mut self, number: JobNumber) -> Result<Option<JobState>, QueueStoreError>;

    /// Requests of jobs, as they were submitted.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    fn requests(&mut self, numbers: &[JobNumber]) -> Result<Vec<(JobNumber, Vec<u8>)>, QueueStoreError>;

    /// The job that this client submitted under this key.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    fn by_idempotency(&mut self, client: &str, key: &str) -> Result<Option<JobNumber>, QueueStoreError>;
}
