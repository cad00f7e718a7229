//! The writing side in PostgreSQL: one connection, on a small runtime of its own.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::mpsc;
use std::time::Instant;

use futures::{join, try_join};
use sandrun_core::pool::{ClientNumber, JobNumber};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_postgres::Config;

use super::batch::{Place, Record};
use super::begin::{self, LOCK, Seen, begin};
use super::flush::{Fate, Flusher, connect, whose};
use super::load::load;
use super::merger::Merger;
use super::news::NEWS;
use super::rows::{get, job_state, state_columns};
use super::session::{ANSWER, LONG, RETURN, Role, Session, Value, limited};
use super::{WRITER_LOCK, sql, write};
use crate::queue::codec::{clean, narrow, signed, unsigned};
use crate::queue::error::DatabaseError;
use crate::queue::{Doing, Done, Foreign, JobState, QueueStore, QueueStoreError, Writes};

const LOAD: Doing = "load the queue";
const WRITE: Doing = "write a batch";

const CLIENT: &str = "SELECT number FROM queue_client WHERE name = $1";
const JOB: &str = concat!(
    "SELECT ",
    state_columns!(),
    " FROM queue_job j WHERE j.number = $1"
);
const BY_KEY: &str = "SELECT MIN(number) FROM queue_job
    WHERE client = (SELECT number FROM queue_client WHERE name = $1) AND key = $2";
const KEEP: &str = "INSERT INTO queue_kept (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING";
const KEPT: &str = "SELECT value FROM queue_kept WHERE name = $1";

const STATEMENTS: &[&str] = &[
    LOCK,
    begin::SWEPT,
    begin::STANDING,
    sql::SINCE,
    NEWS,
    sql::COUNTERS,
    sql::BATCH,
    sql::REQUESTS,
    sql::REQUESTS_OF,
    sql::WRITERS,
    sql::OLDEST,
    sql::FLUSH,
    JOB,
    BY_KEY,
    CLIENT,
    KEEP,
    KEPT,
];
/// A connection for loading: its statements read much, and are planned for it.
const LOADING: &[&str] = super::load::STATEMENTS;

/// One replica's writer.
#[derive(Debug)]
pub(super) struct PostgresStore {
    /// Only ever missing while it is dropped.
    runtime: Option<Runtime>,
    config: Config,
    /// Missing before the first load and after an error.
    session: Option<Session>,
    seen: Seen,
    /// Up to which batch the tables are known to hold all.
    settled: i64,
    /// Requests of the jobs that nodes got by the latest batch.
    leased: Vec<(JobNumber, Vec<u8>)>,
    /// Number of the latest batch of our own, for those who tell others of it.
    wrote: watch::Sender<i64>,
    flusher: Flusher,
    merger: Merger,
    /// What the next batch is marked with.
    mark: i64,
    /// When the latest batch was begun.
    begun: Instant,
}

impl PostgresStore {
    pub(super) fn new(
        config: Config,
        wrote: watch::Sender<i64>,
        merger: Merger,
    ) -> Result<Self, QueueStoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        // drawn anew in each process
        let drawn = RandomState::new().build_hasher().finish();
        Ok(Self {
            runtime: Some(runtime.map_err(|_| QueueStoreError::Ending(super::OPEN))?),
            flusher: Flusher::start(config.clone())?,
            config,
            session: None,
            seen: Seen::default(),
            settled: -1,
            leased: Vec::new(),
            wrote,
            merger,
            mark: signed(drawn >> 1),
            begun: Instant::now(),
        })
    }

    /// Does something with the connection; where that fails, the connection and what it had begun are ended.
    fn with<T>(
        &mut self,
        doing: Doing,
        work: impl AsyncFnOnce(&Session, &mut Seen) -> Result<T, QueueStoreError>,
    ) -> Result<T, QueueStoreError> {
        let (Some(session), Some(runtime)) = (self.session.take(), &self.runtime) else {
            return Err(QueueStoreError::Lost {
                doing,
                source: DatabaseError::Closed,
            });
        };
        let seen = &mut self.seen;
        let done = runtime.block_on(async {
            match limited(ANSWER, doing, work(&session, seen)).await {
                Ok(value) => Ok((session, value)),
                Err(error) => {
                    session.close().await;
                    Err(error)
                }
            }
        });
        let (session, value) = done?;
        self.session = Some(session);
        Ok(value)
    }

    /// As [`Self::with`], for what changes nothing: over a new connection where the former one broke, most likely while
    /// nobody used it.
    fn ask<T>(
        &mut self,
        doing: Doing,
        work: impl AsyncFn(&Session, &mut Seen) -> Result<T, QueueStoreError>,
    ) -> Result<T, QueueStoreError> {
        match self.with(doing, &work) {
            Err(error) if error.has_broken() => {
                self.connect_anew(doing)?;
                self.with(doing, work)
            }
            done => done,
        }
    }

    /// Connects in place of a connection that broke before anything was sent over it.
    fn connect_anew(&mut self, doing: Doing) -> Result<(), QueueStoreError> {
        let Some(runtime) = &self.runtime else {
            return Err(QueueStoreError::Ending(doing));
        };
        let connecting = connect(&self.config, Role::Writer(STATEMENTS), doing);
        let session = runtime.block_on(limited(RETURN, doing, connecting));
        // there is nothing of which it is not known whether it was written
        self.session = Some(session.map_err(|_| QueueStoreError::Gone(doing))?);
        Ok(())
    }

    /// As [`Self::ask`], with tables that hold all batches that are seen.
    fn with_tables<T>(
        &mut self,
        doing: Doing,
        work: impl AsyncFn(&Session) -> Result<T, QueueStoreError>,
    ) -> Result<T, QueueStoreError> {
        if self.settled < self.seen.place.seq
            && let Some(runtime) = &self.runtime
        {
            runtime.block_on(limited(ANSWER, doing, self.merger.settle()))?;
            self.settled = self.seen.place.seq;
        }
        self.ask(doing, async |session, _| work(session).await)
    }

    /// Begins a batch and lets it be decided, which is noted: before that nothing is sent that changes anything.
    fn begin_batch(
        &mut self,
        work: &mut dyn FnMut(Foreign) -> Writes,
        is_asked: &mut bool,
    ) -> Result<Option<Decided>, QueueStoreError> {
        let mark = self.mark;
        self.with(WRITE, async |session, seen| {
            let foreign = begin(session, seen).await?;
            *is_asked = true;
            let writes = work(foreign);
            if writes.is_empty() {
                session.simple("COMMIT", WRITE).await?;
                return Ok(None);
            }
            Ok(Some(Decided {
                record: Record::of(&writes, seen.last, WRITE)?,
                seen: Seen {
                    place: Place {
                        seq: seen.place.seq + 1,
                        writer: mark,
                    },
                    last: seen.last.and(&writes),
                },
                leased: write::leased(&writes),
                writes,
            }))
        })
    }

    /// Writes what was decided: the row, and the end of its transaction. Whatever befalls the connection on the way, what
    /// became of the batch is found out where that is possible.
    fn write(&mut self, batch: Decided) -> Result<(), QueueStoreError> {
        let Decided {
            writes,
            record,
            seen,
            leased,
        } = batch;
        let (place, last) = (seen.place, seen.last);
        let written = self.with(WRITE, async |session, _| {
            let values: [Value<'_>; 7] = [
                &place.seq,
                &place.writer,
                &last.job,
                &last.node,
                &last.client,
                &record.news,
                &record.rest,
            ];
            let (row, requests, end, found) = join!(
                session.execute(sql::BATCH, &values, WRITE),
                write::new_requests(session, &writes, WRITE),
                session.simple("COMMIT", WRITE),
                // behind the commit: nobody waits for it at the lock
                write::requests(session, &leased, WRITE),
            );
            row?;
            requests?;
            end?;
            // what is not found now is asked for again
            Ok(found.unwrap_or_default())
        });
        self.leased = match written {
            Ok(leased) => leased,
            Err(QueueStoreError::Lost { doing, source }) => {
                self.find_out(place, QueueStoreError::Lost { doing, source })?;
                Vec::new()
            }
            Err(refused) => return Err(refused),
        };
        self.seen = seen;
        self.wrote.send_replace(place.seq);
        self.merger.note();
        Ok(())
    }

    /// Connects again and looks whether the batch is there; behind the lock, as its transaction may not have ended yet.
    fn find_out(&mut self, place: Place, error: QueueStoreError) -> Result<(), QueueStoreError> {
        let Some(runtime) = &self.runtime else {
            return Err(error);
        };
        let found = runtime.block_on(limited(RETURN, WRITE, async {
            let session = connect(&self.config, Role::Writer(STATEMENTS), WRITE).await?;
            let batch = [place.seq];
            let (.., found, ()) = try_join!(
                session.simple("BEGIN", WRITE),
                session.query(LOCK, &[&WRITER_LOCK], WRITE),
                whose(&session, &batch, WRITE),
                session.simple("COMMIT", WRITE),
            )?;
            Ok((session, found.fate(place)))
        }));
        match found {
            Ok((session, Fate::Written)) => {
                self.session = Some(session);
                Ok(())
            }
            Ok((_, Fate::Gone)) => Err(QueueStoreError::Gone(WRITE)),
            Ok((_, Fate::Unknown)) | Err(_) => Err(error),
        }
    }

    /// Connects; what an earlier connection had begun has come to its end then.
    fn connect(&mut self) -> Result<(), QueueStoreError> {
        let Some(runtime) = &self.runtime else {
            return Err(QueueStoreError::Ending(LOAD));
        };
        let former = self.session.take().filter(|session| !session.is_closed());
        self.session = Some(runtime.block_on(limited(RETURN, LOAD, async {
            let session = match former {
                Some(session) => session,
                None => Session::connect(&self.config, Role::Writer(STATEMENTS), LOAD).await?,
            };
            try_join!(
                session.simple("BEGIN", LOAD),
                session.query(LOCK, &[&WRITER_LOCK], LOAD),
                session.simple("COMMIT", LOAD),
            )?;
            Ok(session)
        }))?);
        Ok(())
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.session = None;
        // also in an async context, where a runtime may not wait for its end
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A batch that is to be written.
struct Decided {
    writes: Writes,
    record: Record,
    /// What is seen after it.
    seen: Seen,
    /// Jobs whose requests are asked for next.
    leased: Vec<i64>,
}

impl QueueStore for PostgresStore {
    fn load(&mut self) -> Result<Foreign, QueueStoreError> {
        self.flusher.begin_anew();
        self.settled = -1;
        self.leased = Vec::new();
        self.connect()?;
        let Some(runtime) = &self.runtime else {
            return Err(QueueStoreError::Ending(LOAD));
        };
        // a state of a job that is not there counts for nothing, which only the tables know; what they do not get now is
        // read from the batches
        let settled = runtime.block_on(limited(RETURN, LOAD, self.merger.settle()));
        if let Err(error) = settled {
            tracing::warn!(%error, "batches wait to be brought to the tables");
        }
        let (all, place, last) = runtime.block_on(limited(LONG, LOAD, async {
            let session = Session::connect(&self.config, Role::Reader(LOADING), LOAD).await?;
            let loaded = load(&session).await;
            session.close().await;
            loaded
        }))?;
        self.seen = Seen { place, last };
        // a crash of the server may have taken numbers back; there is nothing to tell
        self.wrote.send_if_modified(|latest| {
            *latest = (*latest).min(place.seq);
            false
        });
        Ok(all)
    }

    fn transact(&mut self, work: &mut dyn FnMut(Foreign) -> Writes) -> Result<(), QueueStoreError> {
        self.decide(work)?;
        let (sender, ended) = mpsc::sync_channel(1);
        self.when_durable(
            Box::new(|_| {}),
            Box::new(move |written| drop(sender.send(written))),
        );
        let ended = ended.recv();
        ended.unwrap_or(Err(QueueStoreError::Ending(WRITE)))
    }

    fn decide(&mut self, work: &mut dyn FnMut(Foreign) -> Writes) -> Result<(), QueueStoreError> {
        self.leased = Vec::new();
        self.begun = Instant::now();
        // never 0, which is what was there before there were batches
        self.mark = self.mark.checked_add(1).unwrap_or(1);
        let mut is_asked = false;
        let mut decided = self.begin_batch(work, &mut is_asked);
        if !is_asked && decided.as_ref().is_err_and(QueueStoreError::has_broken) {
            self.connect_anew(WRITE)?;
            decided = self.begin_batch(work, &mut is_asked);
            if !is_asked && decided.as_ref().is_err_and(QueueStoreError::has_broken) {
                return Err(QueueStoreError::Gone(WRITE));
            }
        }
        let decided = decided?;
        match decided {
            Some(batch) => self.write(batch),
            None => Ok(()),
        }
    }

    fn when_durable(&mut self, written: Done, durable: Done) {
        // it is the server's: this process may end
        written(Ok(()));
        self.flusher.flush(self.seen.place, self.begun, durable);
    }

    fn is_behind(&self) -> bool {
        self.session.is_none() || self.flusher.is_behind()
    }

    fn is_lame(&self) -> bool {
        self.flusher.has_ended() || self.merger.has_ended()
    }

    fn job(&mut self, number: JobNumber) -> Result<Option<JobState>, QueueStoreError> {
        const DOING: Doing = "read a job";
        self.with_tables(DOING, async |session| {
            let rows = session.query(JOB, &[&signed(number.0)], DOING).await?;
            rows.first().map(|row| job_state(row, DOING)).transpose()
        })
    }

    fn requests(&mut self, numbers: &[JobNumber]) -> Result<Vec<(JobNumber, Vec<u8>)>, QueueStoreError> {
        const DOING: Doing = "read requests";
        let mut found = std::mem::take(&mut self.leased);
        found.retain(|(job, _)| numbers.contains(job));
        let is_found = |number: &JobNumber| found.binary_search_by_key(number, |(job, _)| *job).is_ok();
        let missing = numbers.iter().filter(|number| !is_found(number));
        let missing: Vec<i64> = missing.map(|number| signed(number.0)).collect();
        if !missing.is_empty() {
            found.extend(self.ask(DOING, async |session, _| {
                write::requests(session, &missing, DOING).await
            })?);
            found.sort_unstable_by_key(|(job, _)| *job);
        }
        Ok(found)
    }

    fn by_idempotency(&mut self, client: &str, key: &str) -> Result<Option<JobNumber>, QueueStoreError> {
        const DOING: Doing = "look an idempotency key up";
        self.with_tables(DOING, async |session| {
            let rows = session
                .query(BY_KEY, &[&clean(client), &clean(key)], DOING)
                .await?;
            let found: Option<i64> = rows.first().map(|row| get(row, 0, DOING)).transpose()?.flatten();
            Ok(found.map(|number| JobNumber(unsigned(number))))
        })
    }

    fn client(&mut self, name: &str) -> Result<Option<ClientNumber>, QueueStoreError> {
        const DOING: Doing = "look a client up";
        self.with_tables(DOING, async |session| {
            let rows = session.query(CLIENT, &[&clean(name)], DOING).await?;
            let found: Option<i64> = rows.first().map(|row| get(row, 0, DOING)).transpose()?;
            Ok(found.map(|number| ClientNumber(narrow(number))))
        })
    }

    fn keep(&mut self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, QueueStoreError> {
        const DOING: Doing = "keep a value";
        self.with(DOING, async |session, _| {
            session.execute(KEEP, &[&clean(name), &fresh], DOING).await?;
            session.execute(sql::FLUSH, &[], DOING).await?;
            let rows = session.query(KEPT, &[&clean(name)], DOING).await?;
            let missing = QueueStoreError::Unreadable {
                doing: DOING,
                what: "what was just kept",
            };
            get(rows.first().ok_or(missing)?, 0, DOING)
        })
    }
}
