//! The manager's loop: block by block from the chain into the index, then what is due. Owns the index's writer and the
//! open jobs in memory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client_sdk::{JobEntry, windows};
use futures::StreamExt as _;
use sandrun_chain::{ChainUpdate, Cursor, Head, Key, Logged, MarketReader, Sender, SenderConfig};
use sandrun_core::market::rules::Windows;
use sandrun_store::Index;
use sandrun_types::{JobId, NodeIndex};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::block::{Held, changes};
use crate::error::ManagerError;
use crate::http;
use crate::keeper::Keeper;
use crate::nodes::{self, NodeEntry};

/// Everything that a manager needs to know.
#[derive(Debug)]
pub struct ManagerConfig {
    /// The market.
    pub reader: MarketReader,
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Directory of the index.
    pub data_dir: PathBuf,
    /// Key that pays for what is due; without one nothing is done.
    pub keeper: Option<Key>,
    /// Whether the rest of closed jobs is credited to their payers, which tips nobody.
    pub refunds: bool,
}

/// The index, shared by the loop and the queries; every access is short.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Mutex<Index>>);

impl Shared {
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads JSON that the index holds.
pub(crate) fn parse<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, ManagerError> {
    serde_json::from_str(text).map_err(|source| ManagerError::Format { what, source })
}

fn parse_all<T: DeserializeOwned>(what: &'static str, texts: &[String]) -> Result<Vec<T>, ManagerError> {
    texts.iter().map(|text| parse(what, text)).collect()
}

impl Held for Index {
    fn job(&self, job: JobId) -> Result<Option<JobEntry>, ManagerError> {
        self.job(job)?.map(|text| parse("a job", &text)).transpose()
    }

    fn events_of(&self, job: JobId) -> Result<Vec<Logged>, ManagerError> {
        parse_all("events", &self.events_of(job)?)
    }

    fn events_of_no_job(&self) -> Result<Vec<Logged>, ManagerError> {
        parse_all("events", &self.events_of_no_job()?)
    }
}

/// A manager that is ready to run.
#[derive(Debug)]
pub struct Manager {
    reader: MarketReader,
    listener: TcpListener,
    address: SocketAddr,
    index: Shared,
    keeper: Option<Keeper>,
    windows: Windows,
    cursor: Cursor,
    nodes: BTreeMap<NodeIndex, NodeEntry>,
    open: BTreeMap<JobId, JobEntry>,
    head: watch::Sender<Option<Head>>,
}

impl Manager {
    /// Opens the index, reads the market's parameters and listens.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn start(config: ManagerConfig) -> Result<Self, ManagerError> {
        let directory = |source| ManagerError::Directory {
            path: config.data_dir.clone(),
            source,
        };
        std::fs::create_dir_all(&config.data_dir).map_err(directory)?;
        let deployment = config.reader.deployment().clone();
        let market = format!("{}/{}", deployment.chain, deployment.escrow);
        let index = Index::open(&config.data_dir.join("index.db"), &market)?;
        let cursor = index.cursor()?.map(|text| parse("a cursor", &text)).transpose()?;
        let open: Vec<JobEntry> = parse_all("jobs", &index.jobs(true, u32::MAX)?)?;
        let nodes = nodes::fold(&Held::events_of_no_job(&index)?, deployment.escrow);
        let listen = |source| ManagerError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let windows = windows(&config.reader.parameters().await?);
        let sender = |key| {
            let chain = config.reader.chain().clone();
            Sender::new(chain, key, Some(deployment.clone()), SenderConfig::default())
        };
        Ok(Self {
            keeper: config
                .keeper
                .map(|key| Keeper::start(sender(key), deployment.clone(), config.refunds)),
            cursor: cursor.unwrap_or_else(|| config.reader.from_start()),
            open: open.into_iter().map(|entry| (entry.facts.job, entry)).collect(),
            index: Shared(Arc::new(Mutex::new(index))),
            head: watch::Sender::new(None),
            reader: config.reader,
            listener,
            address,
            windows,
            nodes,
        })
    }

    /// Where it listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Watches, indexes, does what is due and answers queries until `shutdown` resolves.
    ///
    /// # Errors
    /// An index that can't be written any more, or a chain that left its branch too deep.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ManagerError> {
        let Self {
            reader,
            listener,
            address,
            index,
            keeper,
            windows,
            mut cursor,
            mut nodes,
            mut open,
            head,
        } = self;
        let escrow = reader.deployment().escrow;
        let router = http::router(index.clone(), head.subscribe(), reader.deployment().clone());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = axum::serve(listener, router).with_graceful_shutdown(async move {
            let _ = stopped.await;
        });
        let mut server = tokio::spawn(server.into_future());
        let known: Vec<Logged> = parse_all("events", &index.index().events_from(cursor.oldest())?)?;
        let mut updates = reader.watch(cursor.clone(), known);
        let mut pending: Vec<ChainUpdate> = Vec::new();
        tokio::pin!(shutdown);
        let ended = loop {
            let update = tokio::select! {
                update = updates.next() => update,
                () = &mut shutdown => break Ok(()),
                served = &mut server => {
                    let failed = |source| ManagerError::Listen { address, source };
                    break served.map_err(ManagerError::Task).and_then(|it| it.map_err(failed));
                }
            };
            match update {
                Some(Ok(ChainUpdate::Head(new))) => {
                    let block = std::mem::take(&mut pending);
                    cursor.advance(&new);
                    let state = (&mut nodes, &mut open);
                    if let Err(error) = take_in(&index, &block, &cursor, state, escrow, windows) {
                        break Err(error);
                    }
                    head.send_replace(Some(new));
                    if let Some(keeper) = &keeper {
                        keeper.look(&open, new.timestamp);
                    }
                }
                Some(Ok(update @ (ChainUpdate::Applied(_) | ChainUpdate::Undone(_)))) => pending.push(update),
                Some(Err(error)) if error.is_final() => break Err(ManagerError::Watch(error)),
                Some(Err(error)) => tracing::warn!(%error, "the chain does not answer"),
                None => break Ok(()),
            }
        };
        let _ = stop.send(());
        if tokio::time::timeout(std::time::Duration::from_secs(3), &mut server)
            .await
            .is_err()
        {
            server.abort();
        }
        ended
    }
}

/// Writes one block to the index and brings the memory up to date.
fn take_in(
    index: &Shared,
    block: &[ChainUpdate],
    cursor: &Cursor,
    (nodes, open): (
        &mut BTreeMap<NodeIndex, NodeEntry>,
        &mut BTreeMap<JobId, JobEntry>,
    ),
    escrow: sandrun_types::Address,
    windows: Windows,
) -> Result<(), ManagerError> {
    let mut index = index.index();
    let mut changes = changes(block, &*index, nodes, escrow, windows)?;
    changes.batch.cursor = serde_json::to_string(cursor).map_err(|source| ManagerError::Format {
        what: "a cursor",
        source,
    })?;
    index.commit(&changes.batch)?;
    drop(index);
    if changes.undone > 0 {
        tracing::warn!(
            events = changes.undone,
            "the chain was reorganised; what followed from them was undone"
        );
    }
    for (job, entry) in changes.jobs {
        match entry {
            Some(entry) if is_open(&entry) => {
                open.insert(job, entry);
            }
            Some(_) | None => {
                open.remove(&job);
            }
        }
    }
    Ok(())
}

/// Whether anything can still happen to a job.
pub(crate) fn is_open(entry: &JobEntry) -> bool {
    entry.facts.phase != sandrun_core::market::Phase::Closed || !entry.facts.remaining().is_zero()
}
