//! The queue of a broker or coordinator on disk: jobs, nodes, clients, answers, logs and files, in SQLite or PostgreSQL.
//!
//! Rows carry the machine's own snapshots as opaque bytes beside the few columns that are asked for without opening
//! them. One writer at a time: [`QueueStore::transact`] takes the database's lock, hands over what other replicas have
//! written since, and commits what the caller decides. Reads go past it ([`QueueReader`]).
//!
//! Text is kept as it is but for NUL, which PostgreSQL has no place for: it is written as U+FFFD.
//!
//! Never decides anything: which rows change, and to what, is the caller's.

mod address;
mod codec;
mod error;
mod postgres;
mod presence;
mod reader;
mod rows;
mod sqlite;
mod upload;

pub use address::{QueueAddress, open_queue};
pub use error::{DatabaseError, Doing, QueueStoreError};
pub use presence::{Living, Presence, ReplicaId, join_replicas};
pub use reader::{BlobBody, QueueChanges, QueueReader};
pub use rows::{
    Answer, BlobHash, Body, ClientRow, Foreign, JobFilter, JobRow, JobState, JobWord, KeyRow, LogPiece,
    LogStream, NewJob, NodeRow, NotABlobHash, OutputRef, StoredAnswer, UnixMillis, Writes,
};

use sandrun_core::pool::{ClientNumber, JobNumber};

/// Size of a row of a body, in bytes.
pub const CHUNK: usize = 1 << 20;
/// How long a body stays that nothing refers to.
pub const BLOB_TTL: UnixMillis = 60 * 60 * 1000;
/// How long a body may take to be written.
pub const UPLOAD_TTL: UnixMillis = 24 * 60 * 60 * 1000;

/// Hears how a batch ended.
pub type Done = Box<dyn FnOnce(Result<(), QueueStoreError>) + Send>;

/// Requests by job; `None` is for readers to read.
pub type AtHand = Vec<(JobNumber, Option<Vec<u8>>)>;

/// The writing side, used by one thread that is not one of an async runtime's: every call blocks.
pub trait QueueStore: Send {
    /// Everything that is open, and the highest numbers given out. Called at the start and after a failed write;
    /// connects again where the connection was lost.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    fn load(&mut self) -> Result<Foreign, QueueStoreError>;

    /// One transaction: lock, read what others wrote since the last call, let `work` decide, write, commit. `work` is
    /// called once, or not at all on an early error. Empty writes tell nobody anything. After an error the caller loads
    /// anew; then it sees whether the batch was written (only [`QueueStoreError::Lost`] leaves that open).
    ///
    /// # Errors
    /// [`QueueStoreError`]; [`QueueStoreError::Full`] where the disk is full.
    fn transact(&mut self, work: &mut dyn FnMut(Foreign) -> Writes) -> Result<(), QueueStoreError>;

    /// As [`Self::transact`], but what was decided may still be on its way to the disk: more can be decided meanwhile.
    /// [`Self::when_durable`] follows each call. Reads by this store see it already.
    ///
    /// # Errors
    /// As there.
    fn decide(&mut self, work: &mut dyn FnMut(Foreign) -> Writes) -> Result<(), QueueStoreError> {
        self.transact(work)
    }

    /// Tells `written` once the end of this process takes nothing away of what was decided last (that of a database's server
    /// may), and `durable` once all
    /// that was decided is on the disk, or that the last of it was refused. Perhaps on another thread, which they must not
    /// hold up. What was written may still be refused where the disk fails or the machine stops; after a refusal all later
    /// ones are refused as well, until [`Self::load`].
    fn when_durable(&mut self, written: Done, durable: Done) {
        written(Ok(()));
        durable(Ok(()));
    }

    /// As [`Self::when_durable`], where nobody waits for what was decided to be on the disk: it may go there with the next
    /// batch for which somebody does, within milliseconds.
    fn when_durable_at_leisure(&mut self, written: Done, durable: Done) {
        self.when_durable(written, durable);
    }

    /// Whether something that was decided has been refused since the last [`Self::load`], or the connection was lost: the
    /// next call has to be that.
    fn is_behind(&self) -> bool {
        false
    }

    /// Whether one of its own threads has ended before it: nothing can be relied on any more, and only a new start helps.
    fn is_lame(&self) -> bool {
        false
    }

    /// A job by its number, ended or not (for an event about one that is not in memory).
    ///
    /// # Errors
    /// [`QueueStoreError`].
    fn job(&mut self, number: JobNumber) -> Result<Option<JobState>, QueueStoreError>;

    /// Requests of jobs, as they were submitted, in the order of numbers; unknown ones are left out.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    fn requests(&mut self, numbers: &[JobNumber]) -> Result<Vec<(JobNumber, Vec<u8>)>, QueueStoreError>;

    /// As [`Self::requests`], for whoever can ask [`QueueReader::requests`] for what is `None` here: the one writer reads
    /// nothing that many readers can read beside it.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    fn requests_at_hand(&mut self, numbers: &[JobNumber]) -> Result<AtHand, QueueStoreError> {
        let all = self.requests(numbers)?.into_iter();
        Ok(all.map(|(number, request)| (number, Some(request))).collect())
    }

    /// The job that the client of this name submitted under this key; the first one, should there be several. Where
    /// there are replicas, look into [`Foreign::keys`] too.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    fn by_idempotency(&mut self, client: &str, key: &str) -> Result<Option<JobNumber>, QueueStoreError>;

    /// The number of the client with this name, where it has one: it need not be kept in memory.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    fn client(&mut self, name: &str) -> Result<Option<ClientNumber>, QueueStoreError>;

    /// A value that is made once and kept for as long as the queue: the one that is kept under `name`, else `fresh`,
    /// which is kept from now on (the key of job ids).
    ///
    /// # Errors
    /// [`QueueStoreError`].
    fn keep(&mut self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, QueueStoreError>;
}
