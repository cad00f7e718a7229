//! The reading side, and bodies: everything that goes past the writer.

use std::future::pending;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use sandrun_core::pool::JobNumber;
use sandrun_types::OutputRoot;
use tokio::sync::watch;

use super::upload::{Cut, Cutter};
use super::{
    Answer, BLOB_TTL, BlobHash, CHUNK, JobFilter, JobRow, LogPiece, LogStream, NodeRow, QueueStoreError,
    UPLOAD_TTL, UnixMillis,
};

/// A body as it comes and goes: pieces of any size.
pub type BlobBody = BoxStream<'static, io::Result<Bytes>>;

/// Most bytes of a log that one call gives.
pub(super) const LOG_READ: usize = 1 << 20;
/// Jobs that one transaction of a sweep removes.
const SWEEP: u32 = 200;

/// A body that is stored: the row that its chunks belong to, and its size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredBlob {
    pub(super) id: i64,
    pub(super) size: u64,
}

/// What each database does for the reading side; each call is one transaction.
#[async_trait]
pub(super) trait ReadSide: std::fmt::Debug + Send + Sync {
    async fn job(&self, number: JobNumber) -> Result<Option<JobRow>, QueueStoreError>;
    async fn list(&self, filter: &JobFilter) -> Result<Vec<JobRow>, QueueStoreError>;
    async fn oldest_pending(&self) -> Result<Option<UnixMillis>, QueueStoreError>;
    async fn answers(&self, job: JobNumber) -> Result<Vec<Answer>, QueueStoreError>;
    /// A job and, where it has ended, its answers in the order of attempts.
    async fn job_with_answers(
        &self,
        number: JobNumber,
    ) -> Result<Option<(JobRow, Vec<Answer>)>, QueueStoreError> {
        let Some(row) = self.job(number).await? else {
            return Ok(None);
        };
        let answers = if row.state.open {
            Vec::new()
        } else {
            self.answers(number).await?
        };
        Ok(Some((row, answers)))
    }
    /// Requests of these jobs, which the tables have, in this order.
    async fn requests(&self, numbers: &[JobNumber]) -> Result<Vec<(JobNumber, Vec<u8>)>, QueueStoreError> {
        let mut found = Vec::with_capacity(numbers.len());
        for number in numbers {
            let row = self.job(*number).await?;
            found.extend(row.map(|row| (*number, row.new.request)));
        }
        Ok(found)
    }
    async fn nodes(&self) -> Result<Vec<NodeRow>, QueueStoreError>;
    async fn log(
        &self,
        job: JobNumber,
        stream: LogStream,
        from: u64,
        most: usize,
    ) -> Result<Option<LogPiece>, QueueStoreError>;

    async fn find_blob(&self, hash: BlobHash) -> Result<Option<StoredBlob>, QueueStoreError>;
    async fn chunk(&self, blob: i64, number: u32) -> Result<Option<Vec<u8>>, QueueStoreError>;
    /// A body that fits in one chunk; one that is there already is only touched.
    async fn put_whole(&self, hash: BlobHash, body: Bytes, now: UnixMillis) -> Result<(), QueueStoreError>;
    /// Most bytes of a body that may come with a batch.
    fn takes_with_batch(&self) -> usize {
        0
    }
    async fn begin_upload(&self, now: UnixMillis) -> Result<i64, QueueStoreError>;
    async fn put_chunk(&self, blob: i64, number: u32, data: Bytes) -> Result<(), QueueStoreError>;
    /// Names an upload; where a body of this name is there already, that one is touched and the upload given up.
    async fn end_upload(
        &self,
        blob: StoredBlob,
        hash: BlobHash,
        now: UnixMillis,
    ) -> Result<(), QueueStoreError>;

    async fn by_output_root(&self, root: OutputRoot) -> Result<Option<JobNumber>, QueueStoreError>;
    async fn sweep_clients(&self) -> Result<u64, QueueStoreError>;
    async fn sweep_nodes(&self, before: UnixMillis) -> Result<u64, QueueStoreError>;
    /// Removes up to `limit` jobs that ended before `before`; how many.
    async fn sweep_jobs(
        &self,
        before: UnixMillis,
        now: UnixMillis,
        limit: u32,
    ) -> Result<u64, QueueStoreError>;
    /// Takes the names off bodies that nobody refers to and nobody has put since `before`; how many.
    async fn disown_blobs(&self, before: UnixMillis) -> Result<u64, QueueStoreError>;
    /// Removes some chunks of bodies that have no name and were begun before `before`; whether there were any.
    async fn sweep_chunks(&self, before: UnixMillis) -> Result<bool, QueueStoreError>;

    /// Whether its files are still there, where it lies in files of this machine.
    fn in_place(&self) -> Result<(), QueueStoreError> {
        Ok(())
    }

    /// Counts up with each commit of another replica; `None` where there are no replicas.
    fn commits(&self) -> Option<watch::Receiver<u64>>;
}

/// Reads of a queue, bodies, and sweeps; cheap to clone. Waits for no writer, and no writer waits for it.
#[derive(Debug, Clone)]
pub struct QueueReader(Arc<dyn ReadSide>);

impl QueueReader {
    pub(super) fn new(side: Arc<dyn ReadSide>) -> Self {
        Self(side)
    }

    /// A job, ended or not.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    pub async fn job(&self, number: JobNumber) -> Result<Option<JobRow>, QueueStoreError> {
        self.0.job(number).await
    }

    /// Requests that [`QueueStore::requests_at_hand`](super::QueueStore::requests_at_hand) has left out, in this order;
    /// those of jobs that are gone by now are left out here, too.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    pub async fn requests(
        &self,
        numbers: &[JobNumber],
    ) -> Result<Vec<(JobNumber, Vec<u8>)>, QueueStoreError> {
        self.0.requests(numbers).await
    }

    /// Jobs, newest first.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    pub async fn list(&self, filter: &JobFilter) -> Result<Vec<JobRow>, QueueStoreError> {
        self.0.list(filter).await
    }

    /// When the oldest job was submitted that nobody works on; `None` where there is none.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    pub async fn oldest_pending(&self) -> Result<Option<UnixMillis>, QueueStoreError> {
        self.0.oldest_pending().await
    }

    /// The answer under the job's highest attempt that has one.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    pub async fn answer(&self, job: JobNumber) -> Result<Option<Answer>, QueueStoreError> {
        Ok(self.0.answers(job).await?.pop())
    }

    /// All answers of a job, in the order of attempts.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    pub async fn answers(&self, job: JobNumber) -> Result<Vec<Answer>, QueueStoreError> {
        self.0.answers(job).await
    }

    /// A job and the answer that it ended with; none where it is open, or ended without one.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    pub async fn job_with_answer(
        &self,
        number: JobNumber,
    ) -> Result<Option<(JobRow, Option<Answer>)>, QueueStoreError> {
        let Some((row, answers)) = self.0.job_with_answers(number).await? else {
            return Ok(None);
        };
        let accepted = row.state.attempt.filter(|_| !row.state.open);
        let answer = answers.into_iter().find(|it| Some(it.attempt) == accepted);
        Ok(Some((row, answer)))
    }

    /// All nodes, in the order of numbers.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    pub async fn nodes(&self) -> Result<Vec<NodeRow>, QueueStoreError> {
        self.0.nodes().await
    }

    /// What the latest attempt that has printed on either stream has written to this one from offset `from` on, at most
    /// `most` bytes and 1 MiB; `None` where no attempt has printed. The piece's own `from` is higher where bytes are
    /// missing, its `attempt` another one when a new attempt began (read that one from 0 then), and its bytes empty where
    /// there is nothing new: read on at `from + bytes.len()`.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    pub async fn log(
        &self,
        job: JobNumber,
        stream: LogStream,
        from: u64,
        most: usize,
    ) -> Result<Option<LogPiece>, QueueStoreError> {
        self.0.log(job, stream, from, most).await
    }

    /// Most bytes of a body that may be handed to the writer with the job that refers to it ([`super::Writes::bodies`])
    /// rather than to [`Self::put_blob`]: one way to the disk for both. 0 where the store takes none.
    #[must_use]
    pub fn takes_with_batch(&self) -> usize {
        self.0.takes_with_batch()
    }

    /// Stores a body, in pieces of 1 MiB; its name and its size in bytes. It is on the disk when a batch that refers to it
    /// is, and swept when nothing refers to it for an hour.
    ///
    /// # Errors
    /// [`QueueStoreError::Body`] where `body` itself fails; what was written is swept later.
    pub async fn put_blob(
        &self,
        body: BlobBody,
        now: UnixMillis,
    ) -> Result<(BlobHash, u64), QueueStoreError> {
        let mut cutter = Cutter::new(body);
        let first = match cutter.next().await? {
            Cut::Last(chunk) => {
                let (hash, size) = cutter.end();
                self.0.put_whole(hash, chunk, now).await?;
                return Ok((hash, size));
            }
            Cut::Chunk(chunk) => chunk,
        };
        let id = self.0.begin_upload(now).await?;
        self.0.put_chunk(id, 0, first).await?;
        for number in 1.. {
            let (chunk, last) = match cutter.next().await? {
                Cut::Chunk(chunk) => (chunk, false),
                Cut::Last(chunk) => (chunk, true),
            };
            if !chunk.is_empty() {
                self.0.put_chunk(id, number, chunk).await?;
            }
            if last {
                break;
            }
        }
        let (hash, size) = cutter.end();
        self.0.end_upload(StoredBlob { id, size }, hash, now).await?;
        Ok((hash, size))
    }

    /// A body's size and the body; `None` where it is not stored. A body that is swept while it is read ends with an
    /// error, never early.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    pub async fn get_blob(&self, hash: BlobHash) -> Result<Option<(u64, BlobBody)>, QueueStoreError> {
        let Some(blob) = self.0.find_blob(hash).await? else {
            return Ok(None);
        };
        let side = Arc::clone(&self.0);
        let body = stream::try_unfold(0, move |number: u32| {
            let side = Arc::clone(&side);
            async move {
                if u64::from(number) * CHUNK as u64 >= blob.size {
                    return Ok(None);
                }
                match side.chunk(blob.id, number).await {
                    Ok(Some(chunk)) => Ok(Some((Bytes::from(chunk), number + 1))),
                    Ok(None) => Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the body was removed while it was read: nothing refers to it any more",
                    )),
                    Err(error) => Err(io::Error::other(error)),
                }
            }
        });
        Ok(Some((blob.size, Box::pin(body))))
    }

    /// The latest of the jobs that have ended well with this output root.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    pub async fn by_output_root(&self, root: OutputRoot) -> Result<Option<JobNumber>, QueueStoreError> {
        self.0.by_output_root(root).await
    }

    /// Removes the names of clients that have no job any more; how many.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    pub async fn sweep_clients(&self) -> Result<u64, QueueStoreError> {
        self.0.sweep_clients().await
    }

    /// Removes nodes that were heard of last more than `ttl` ago; how many. One that comes back while somebody still has
    /// it in memory is written again.
    ///
    /// # Errors
    /// [`QueueStoreError`].
    pub async fn sweep_nodes(&self, now: UnixMillis, ttl: UnixMillis) -> Result<u64, QueueStoreError> {
        self.0.sweep_nodes(now.saturating_sub(ttl)).await
    }

    /// Removes jobs that ended more than `ttl` ago with all that belongs to them, but for parents of open jobs; how many.
    /// In small transactions: writers get in between.
    ///
    /// # Errors
    /// [`QueueStoreError`]; what was removed before stays removed.
    pub async fn sweep_jobs(&self, now: UnixMillis, ttl: UnixMillis) -> Result<u64, QueueStoreError> {
        let before = now.saturating_sub(ttl);
        let mut total = 0;
        loop {
            let removed = self.0.sweep_jobs(before, now, SWEEP).await?;
            total += removed;
            if removed < u64::from(SWEEP) {
                return Ok(total);
            }
        }
    }

    /// Removes bodies that nothing has referred to for an hour, and what is left of uploads that were begun a day ago; how
    /// many bodies. In small transactions.
    ///
    /// # Errors
    /// [`QueueStoreError`]; what was removed before stays removed.
    pub async fn sweep_blobs(&self, now: UnixMillis) -> Result<u64, QueueStoreError> {
        let mut total = 0;
        loop {
            let removed = self.0.disown_blobs(now.saturating_sub(BLOB_TTL)).await?;
            total += removed;
            if removed == 0 {
                break;
            }
        }
        while self.0.sweep_chunks(now.saturating_sub(UPLOAD_TTL)).await? {}
        Ok(total)
    }

    /// Whether the queue's files are still where they were opened, where it lies in files of this machine: else nothing is
    /// written any more.
    ///
    /// # Errors
    /// [`QueueStoreError::Displaced`].
    pub fn in_place(&self) -> Result<(), QueueStoreError> {
        self.0.in_place()
    }

    /// News of other replicas' commits; never any where there are no replicas.
    pub fn changes(&self) -> QueueChanges {
        QueueChanges(self.0.commits())
    }
}

/// News of other replicas' commits, for whoever waits for a change. A [`super::QueueStore::transact`] takes them in.
#[derive(Debug)]
pub struct QueueChanges(Option<watch::Receiver<u64>>);

impl QueueChanges {
    /// Waits for a commit since the last call (since this value was made, at the first). Several count as one; now and
    /// then there is one that nobody made (after a lost connection).
    pub async fn next(&mut self) {
        if let Some(commits) = &mut self.0
            && commits.changed().await.is_ok()
        {
            return;
        }
        pending().await
    }
}
