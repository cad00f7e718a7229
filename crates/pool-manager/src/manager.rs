//! The manager's loop: block by block from the chain into the index, then what is due. Owns start and end of the
//! service.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use sandrun_chain::{ChainUpdate, Cursor, Head, Key, MarketReader, Sender, SenderConfig};
use sandrun_core::market::rules::Windows;
use sandrun_serve::Bounds;
use sandrun_types::EscrowRef;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::book::{Book, Shared};
use crate::error::ManagerError;
use crate::http;
use crate::keeper::Keeper;
use crate::meters::Meters;

/// How long answers under way may take to end after the shutdown began.
const DRAIN: Duration = Duration::from_secs(3);

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

/// A manager that is ready to run.
#[derive(Debug)]
pub struct Manager {
    reader: MarketReader,
    listener: TcpListener,
    address: SocketAddr,
    book: Shared,
    keeper: Option<Keeper>,
    cursor: Cursor,
    head: watch::Sender<Option<Head>>,
    meters: Arc<Meters>,
}

impl Manager {
    /// Opens the index, reads the market's parameters and listens.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn start(config: ManagerConfig) -> Result<Self, ManagerError> {
        let deployment = config.reader.deployment().clone();
        let windows = config.reader.parameters().await?.windows();
        let (folder, at) = (config.data_dir.clone(), deployment.escrow_ref());
        let (book, cursor) = tokio::task::spawn_blocking(move || open(&folder, at, windows)).await??;
        let listen = |source| ManagerError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let meters = Meters::new(
            config.reader.chain().clone(),
            config.keeper.as_ref().map(Key::address),
            config.data_dir,
        );
        let sender = |key| {
            let chain = config.reader.chain().clone();
            Sender::new(chain, key, Some(deployment.clone()), SenderConfig::default())
        };
        Ok(Self {
            keeper: config
                .keeper
                .map(|key| Keeper::start(sender(key), deployment.clone(), config.refunds)),
            cursor: cursor.unwrap_or_else(|| config.reader.from_start()),
            book: Shared::new(book),
            head: watch::Sender::new(None),
            meters: Arc::new(meters),
            reader: config.reader,
            listener,
            address,
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
            address: _,
            book,
            keeper,
            cursor,
            head,
            meters,
        } = self;
        let router = http::router(
            book.clone(),
            head.subscribe(),
            reader.deployment().clone(),
            Arc::clone(&meters),
        );
        let stop = CancellationToken::new();
        let server = sandrun_serve::serve(listener, router, Bounds::default(), stop.clone());
        let mut server = tokio::spawn(server);
        let ended = tokio::select! {
            ended = follow(&reader, (&book, &meters), keeper.as_ref(), cursor, &head) => ended,
            () = shutdown => Ok(()),
            served = &mut server => served.map_err(ManagerError::Task),
        };
        stop.cancel();
        if tokio::time::timeout(DRAIN, &mut server).await.is_err() {
            server.abort();
        }
        ended
    }
}

/// Opens the index in its folder.
fn open(folder: &Path, at: EscrowRef, windows: Windows) -> Result<(Book, Option<Cursor>), ManagerError> {
    std::fs::create_dir_all(folder).map_err(|source| ManagerError::Directory {
        path: folder.to_owned(),
        source,
    })?;
    let market = format!("{}/{}", at.chain, at.escrow);
    Book::open(&folder.join("index.db"), &market, at.escrow, windows)
}

/// Takes in block after block; ends with what can't be helped. May be dropped at any time: a block that is being
/// written is written whole, and read again after a restart if it was not.
async fn follow(
    reader: &MarketReader,
    (book, meters): (&Shared, &Meters),
    keeper: Option<&Keeper>,
    mut cursor: Cursor,
    head: &watch::Sender<Option<Head>>,
) -> Result<(), ManagerError> {
    let oldest = cursor.oldest();
    let known = book.with(move |book| book.events_from(oldest)).await?;
    let mut updates = reader.watch(cursor.clone(), known);
    let mut pending: Vec<ChainUpdate> = Vec::new();
    while let Some(update) = updates.next().await {
        match update {
            Ok(ChainUpdate::Head(new)) => {
                cursor.advance(&new);
                let (block, upto) = (std::mem::take(&mut pending), cursor.clone());
                let take_in = move |book: &mut Book| {
                    book.take_in(&block, &upto)?;
                    Ok((book.finished(&block)?, book.due(new.timestamp)))
                };
                let (finished, due) = book.with(take_in).await?;
                meters.took_in(&finished);
                meters.is_due(&due);
                head.send_replace(Some(new));
                if let Some(keeper) = keeper {
                    keeper.look(due);
                }
            }
            Ok(update @ (ChainUpdate::Applied(_) | ChainUpdate::Undone(_))) => pending.push(update),
            Err(error) if error.is_final() => return Err(ManagerError::Watch(error)),
            Err(error) => tracing::warn!(%error, "the chain does not answer"),
        }
    }
    Ok(())
}
