//! The driver of a watch: catches up by ranges, follows by alloy's stream, goes back by its own history.

use std::collections::VecDeque;
use std::time::Duration;

use alloy::network::Ethereum;
use alloy::providers::{BlockLogs, CanonicalEvent, Provider};
use alloy::rpc::types::Filter;
use alloy::transports::http::reqwest;
use alloy::transports::{RpcError as AlloyError, TransportError, TransportErrorKind, TransportResult};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use tokio::time::{sleep, timeout};

use crate::connect::head_of;
use crate::event::decode_all;
use crate::position::{BlockRef, Logged};
use crate::reader::{MarketReader, Ranges};
use crate::rpc::RpcError;

use super::history::History;
use super::{ChainUpdate, Cursor, REORG_DEPTH, WatchError};

/// Longest pause after errors in a row: bonds hang on how soon it is noticed that an RPC answers again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

type Source = BoxStream<'static, TransportResult<CanonicalEvent<BlockLogs<Ethereum>>>>;

/// What the driver does next.
enum Mode {
    /// Finds the last remembered block that still stands, and undoes the rest.
    Reconcile,
    /// Reads what lies too deep to be reorganised, in ranges.
    CatchUp(Ranges),
    /// Follows block by block.
    Follow(Source),
    /// Has ended.
    Done,
}

struct Driver {
    reader: MarketReader,
    history: History,
    mode: Mode,
    ready: VecDeque<ChainUpdate>,
    failures: u32,
    /// Height of the last delivered block when the chain began to leave what was delivered.
    left_at: Option<u64>,
    /// Pause before the next attempt, after an error was delivered.
    pause: Option<Duration>,
}

/// The updates from `cursor` on.
pub(super) fn stream(
    reader: MarketReader,
    cursor: Cursor,
    known: impl IntoIterator<Item = Logged>,
) -> impl Stream<Item = Result<ChainUpdate, WatchError>> + Send + 'static {
    let history = History::restore(&cursor, known, REORG_DEPTH);
    let driver = Driver {
        reader,
        history,
        mode: Mode::Reconcile,
        ready: VecDeque::new(),
        failures: 0,
        left_at: None,
        pause: None,
    };
    futures::stream::unfold(driver, |mut driver| async move {
        let item = driver.next().await?;
        Some((item, driver))
    })
}

impl Driver {
    async fn next(&mut self) -> Option<Result<ChainUpdate, WatchError>> {
        loop {
            if let Some(update) = self.ready.pop_front() {
                if let ChainUpdate::Head(head) = &update {
                    self.reader.chain().meters().delivered(head);
                }
                return Some(Ok(update));
            }
            if let Some(pause) = self.pause.take() {
                sleep(pause).await;
            }
            let mode = std::mem::replace(&mut self.mode, Mode::Done);
            let step = match mode {
                Mode::Done => return None,
                Mode::Reconcile => self.reconcile().await,
                Mode::CatchUp(ranges) => self.catch_up(ranges).await,
                Mode::Follow(source) => self.follow(source).await,
            };
            match step {
                Ok(mode) => {
                    self.mode = mode;
                    if !self.ready.is_empty() {
                        self.failures = 0;
                    }
                }
                Err(Trouble::Final(error)) => return Some(Err(error)),
                Err(Trouble::Rpc(source)) => return Some(Err(self.interrupted(source))),
            }
        }
    }

    fn interrupted(&mut self, source: RpcError) -> WatchError {
        let poll = self.reader.chain().poll_interval();
        let retry_in = poll.saturating_mul(1 << self.failures.min(7)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.pause = Some(retry_in);
        self.mode = Mode::Reconcile;
        WatchError::Interrupted { source, retry_in }
    }

    /// Undoes what stands no more.
    async fn reconcile(&mut self) -> Result<Mode, Trouble> {
        let oldest = self.history.oldest();
        let mut went_back = false;
        while let Some(tip) = self.history.tip() {
            let there = self.reader.chain().block_at(tip.number).await?;
            match there {
                Some(head) if head.block == tip => {
                    self.settled();
                    if went_back {
                        self.ready.push_back(ChainUpdate::Head(head));
                    }
                    return Ok(Mode::CatchUp(Ranges::new(self.history.next_block())));
                }
                Some(_) | None => {
                    tracing::info!(block = %tip, "left the chain");
                    went_back = true;
                    self.leave(tip);
                }
            }
        }
        self.settled();
        match oldest {
            Some(oldest) => Err(Trouble::Final(WatchError::TooDeep { oldest })),
            None => Ok(Mode::CatchUp(Ranges::new(self.history.next_block()))),
        }
    }

    /// Undoes the last delivered block.
    fn leave(&mut self, tip: BlockRef) {
        self.left_at.get_or_insert(tip.number);
        let undone = self.history.pop();
        self.ready.extend(undone);
    }

    /// What is delivered stands on the chain again: counts the reorganisation that is over, if there was one.
    fn settled(&mut self) {
        if let Some(from) = self.left_at.take() {
            let stands = self.history.next_block();
            let depth = from.saturating_add(1).saturating_sub(stands);
            self.reader.chain().meters().reorganised(depth);
        }
    }

    /// Reads in ranges while the head is far.
    async fn catch_up(&mut self, mut ranges: Ranges) -> Result<Mode, Trouble> {
        let chain = self.reader.chain().clone();
        let head = chain.head().await?;
        let safe = head.block.number.saturating_sub(REORG_DEPTH);
        let events = ranges
            .next(&chain, self.reader.deployment(), &Filter::new(), safe)
            .await?;
        let Some(events) = events else {
            return Ok(Mode::Follow(self.source()));
        };
        let end = ranges.next_block() - 1;
        let end = chain
            .block_at(end)
            .await?
            .ok_or_else(|| chain.missing(&format!("block {end}")))?;
        let updates = self.history.push(end, events);
        self.ready.extend(updates);
        Ok(Mode::CatchUp(ranges))
    }

    fn source(&self) -> Source {
        let (chain, deployment) = (self.reader.chain(), self.reader.deployment());
        let filter = Filter::new().address(vec![deployment.registry, deployment.escrow]);
        chain
            .provider()
            .watch_canonical_logs_from(self.history.next_block(), &filter)
            .poll_interval(chain.poll_interval())
            .max_reorg_depth(usize::try_from(REORG_DEPTH).unwrap_or(64))
            .into_stream()
            .boxed()
    }

    /// One step of alloy's stream, or a look at our own tip when it is silent.
    async fn follow(&mut self, mut source: Source) -> Result<Mode, Trouble> {
        let patience = self.reader.chain().poll_interval().saturating_mul(2);
        let Ok(step) = timeout(patience, source.next()).await else {
            return self.look(source).await;
        };
        match step {
            Some(Ok(CanonicalEvent::Added(block))) => {
                let head = head_of(&block.block);
                let fits = self
                    .history
                    .tip()
                    .is_none_or(|tip| tip.hash.0 == block.block.header.inner.parent_hash);
                if !fits {
                    // the chain has left our tip between two streams
                    return Ok(Mode::Reconcile);
                }
                self.settled();
                let events = decode_all(self.reader.deployment(), &block.logs, head.timestamp)
                    .map_err(|error| self.reader.chain().nonsense(&error))?;
                let updates = self.history.push(head, events);
                self.ready.extend(updates);
                Ok(Mode::Follow(source))
            }
            Some(Ok(CanonicalEvent::Removed(block))) => {
                let gone = head_of(&block.block).block;
                if self.history.tip() != Some(gone) {
                    return Ok(Mode::Reconcile);
                }
                tracing::info!(block = %gone, "left the chain");
                self.leave(gone);
                Ok(Mode::Follow(source))
            }
            // its own history is shorter than ours
            Some(Err(error)) if is_streams_own(&error) => Ok(Mode::Reconcile),
            Some(Err(error)) => Err(self.reader.chain().rpc_error("eth_getLogs", error).into()),
            None => Ok(Mode::Reconcile),
        }
    }

    /// Looks whether our tip still stands: a branch that is not longer brings no next block.
    async fn look(&mut self, source: Source) -> Result<Mode, Trouble> {
        let Some(tip) = self.history.tip() else {
            return Ok(Mode::Follow(source));
        };
        let there = self.reader.chain().block_at(tip.number).await?;
        let stands = there.is_some_and(|head| head.block == tip);
        Ok(if stands {
            Mode::Follow(source)
        } else {
            Mode::Reconcile
        })
    }
}

/// Whether alloy's stream itself gave up, not the network.
fn is_streams_own(error: &TransportError) -> bool {
    matches!(error, AlloyError::Transport(TransportErrorKind::Custom(source)) if !source.is::<reqwest::Error>())
}

/// Why a step failed.
enum Trouble {
    Rpc(RpcError),
    Final(WatchError),
}

impl From<RpcError> for Trouble {
    fn from(error: RpcError) -> Self {
        Self::Rpc(error)
    }
}
