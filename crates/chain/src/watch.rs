//! Following the market's events, reorganisations included, on top of alloy's canonical log stream.
//!
//! Facts arrive as applied or undone, in the chain's order; after each block comes a [`Head`]: everything up to it has
//! been delivered. A consumer keeps the [`Cursor`] of the last head (and its events of those blocks) together with what
//! it made of them, and hands both back after a restart: what a reorganisation took away meanwhile is undone first.
//!
//! alloy's stream goes block by block and finds a reorganisation when the next block does not fit; it forgets its
//! history with every error, is silent about a branch that is not longer, and ends for good when its first block is
//! taken away. So this module keeps a history of its own, which survives errors and restarts, and looks at its tip when
//! the stream is silent. Never decides what an event means.

mod confirmed;
mod cursor;
mod follow;
mod history;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::position::{Head, Logged};
use crate::reader::MarketReader;
use crate::rpc::RpcError;

pub use confirmed::{Confirmations, Confirmed};
pub use cursor::Cursor;

/// Blocks that are kept for the case of a reorganisation, as alloy does by default.
pub const REORG_DEPTH: u64 = 64;

/// What the chain says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainUpdate {
    /// An event stands on the chain.
    Applied(Logged),
    /// An event that was applied stands there no more; the last one applied is undone first. A consumer that never
    /// kept the event passes over it.
    Undone(Logged),
    /// Everything up to this block has been delivered. It may be lower than the one before: then the blocks between
    /// are gone, and their events were undone.
    Head(Head),
}

/// Why there is nothing to deliver.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The RPC gave no usable answer; the watch goes on by itself after a pause.
    #[error("{source} (the watch goes on in {} s)", .retry_in.as_secs_f32())]
    Interrupted {
        /// What happened.
        source: RpcError,
        /// Pause.
        retry_in: Duration,
    },
    /// The chain left the branch before anything that we remember. The watch ends: what was built from its events
    /// has to be built anew.
    #[error(
        "the chain was reorganised below block {oldest}, the oldest that is remembered: rebuild the state from the \
         deployment's first block (on a test chain that was started anew: delete the state)"
    )]
    TooDeep {
        /// Oldest remembered block.
        oldest: u64,
    },
}

impl WatchError {
    /// Whether the watch has ended.
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Interrupted { .. } => false,
            Self::TooDeep { .. } => true,
        }
    }
}

/// A stream of [`ChainUpdate`]. Errors that are not final are followed by more updates. `next()` may be cancelled at
/// any time without a loss.
pub struct Watch(BoxStream<'static, Result<ChainUpdate, WatchError>>);

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl Stream for Watch {
    type Item = Result<ChainUpdate, WatchError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl MarketReader {
    /// Follows the market from `cursor`. `known` are the events that the consumer keeps of the cursor's blocks, so that
    /// they can be undone; those of other blocks are passed over.
    pub fn watch(&self, cursor: Cursor, known: impl IntoIterator<Item = Logged>) -> Watch {
        Watch(follow::stream(self.clone(), cursor, known).boxed())
    }

    /// A cursor at the deployment's first block: everything that ever happened.
    pub const fn from_start(&self) -> Cursor {
        Cursor::from_block(self.deployment().deployed_block)
    }
}
