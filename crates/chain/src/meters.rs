//! What a connection counts by itself: how its calls failed, what became of transactions, how far the watch has come.
//! Owns counters alone; never asks the chain.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sandrun_metrics::{Check, Coins, Exposition, Tally};
use sandrun_types::{Amount, ChainId, UnixSeconds};

use crate::position::Head;
use crate::rpc::RpcError;
use crate::send::SendError;

/// How long the RPC may be silent before a service counts as cut off.
const PATIENCE: Duration = Duration::from_secs(30);
/// How old the newest block may be before the RPC counts as fallen behind. Local test chains make blocks on demand.
const OLDEST_HEAD: u64 = 120;

/// Where the watch stands.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The last block that was delivered whole.
    delivered: Option<Head>,
    /// The highest block that the RPC has spoken of.
    newest: u64,
    /// When it answered last.
    answered: Option<Instant>,
}

/// The counters of one connection; see [`crate::Chain::meters`].
#[derive(Debug)]
pub struct ChainMeters {
    errors: Tally<7>,
    sent: AtomicU64,
    bumped: AtomicU64,
    ended: Tally<6>,
    gas: AtomicU64,
    fees: Coins,
    reorgs: AtomicU64,
    blocks_undone: AtomicU64,
    deepest: AtomicU64,
    place: Mutex<Place>,
}

impl Default for ChainMeters {
    fn default() -> Self {
        Self {
            errors: Tally::new(
                "kind",
                [
                    "unreachable",
                    "timeout",
                    "rate_limited",
                    "status",
                    "nonsense",
                    "refused",
                    "missing",
                ],
            ),
            sent: AtomicU64::new(0),
            bumped: AtomicU64::new(0),
            ended: Tally::new(
                "outcome",
                ["mined", "reverted", "replaced", "lost", "refused", "failed"],
            ),
            gas: AtomicU64::new(0),
            fees: Coins::default(),
            reorgs: AtomicU64::new(0),
            blocks_undone: AtomicU64::new(0),
            deepest: AtomicU64::new(0),
            place: Mutex::default(),
        }
    }
}

/// An amount of the base coin as a number of whole ones, as near as a double comes.
#[must_use]
pub fn coins(amount: Amount) -> f64 {
    f64::from(amount.0) / 1e18
}

impl ChainMeters {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call got no usable answer.
    pub(crate) fn failed(&self, error: &RpcError) {
        self.errors.count(match error {
            RpcError::Unreachable { .. } => "unreachable",
            RpcError::Timeout { .. } => "timeout",
            RpcError::RateLimited { .. } => "rate_limited",
            RpcError::Status { .. } => "status",
            RpcError::Nonsense { .. } | RpcError::TooLarge { .. } => "nonsense",
            RpcError::Refused { .. } => "refused",
            RpcError::Missing { .. } => "missing",
        });
    }

    /// The RPC has spoken of a block.
    pub(crate) fn saw(&self, head: &Head) {
        let mut place = self.place();
        place.newest = place.newest.max(head.block.number);
        place.answered = Some(Instant::now());
    }

    /// Everything up to this block was delivered.
    pub(crate) fn delivered(&self, head: &Head) {
        self.saw(head);
        let mut place = self.place();
        // after a reorganisation the chain may be shorter
        if place
            .delivered
            .is_some_and(|before| head.block.number < before.block.number)
        {
            place.newest = head.block.number;
        }
        place.delivered = Some(*head);
    }

    /// The chain left `blocks` blocks that had been delivered, for others.
    pub(crate) fn reorganised(&self, blocks: u64) {
        self.reorgs.fetch_add(1, Ordering::Relaxed);
        self.blocks_undone.fetch_add(blocks, Ordering::Relaxed);
        self.deepest.fetch_max(blocks, Ordering::Relaxed);
    }

    /// The first version of a transaction is on its way.
    pub(crate) fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// A transaction was sent again with higher fees.
    pub(crate) fn bumped(&self) {
        self.bumped.fetch_add(1, Ordering::Relaxed);
    }

    /// A transaction was mined, whether it did what it should or not.
    pub(crate) fn paid(&self, gas: u64, fee: Amount) {
        self.gas.fetch_add(gas, Ordering::Relaxed);
        self.fees.add(coins(fee));
    }

    /// What became of a call that was to be sent.
    pub(crate) fn ended<T>(&self, end: &Result<T, SendError>) {
        self.ended.count(match end {
            Ok(_) => "mined",
            Err(SendError::Reverted { .. }) => "reverted",
            Err(SendError::Replaced { .. }) => "replaced",
            Err(SendError::Dropped { .. }) => "lost",
            Err(SendError::Refused { .. }) => "refused",
            Err(
                SendError::GasAboveCap { .. }
                | SendError::FeeAboveCap { .. }
                | SendError::NotEnoughCoin { .. }
                | SendError::Record { .. }
                | SendError::OtherKey { .. }
                | SendError::Key(_)
                | SendError::Unsure { .. }
                | SendError::Rpc { .. },
            ) => "failed",
        });
    }

    /// Whether the chain can be worked with at `now`: the RPC answers, and its head is fresh.
    #[must_use]
    pub fn check(&self, chain: ChainId, now: UnixSeconds) -> Check {
        let name = "chain";
        let place = *self.place();
        let Some(head) = place.delivered else {
            return Check::bad(
                name,
                "no block was read yet",
                "wait; if it stays so, look at --blockchain-rpc and at this service's log",
            );
        };
        let silent = place.answered.map_or(PATIENCE, |at| at.elapsed());
        if silent >= PATIENCE {
            let seen = format!("the RPC has not answered for {} s", silent.as_secs());
            return Check::bad(name, seen, "look at the node behind --blockchain-rpc");
        }
        let (age, number) = (head.timestamp.until(now), head.block.number);
        if age > OLDEST_HEAD && chain != ChainId::LOCAL {
            let behind = place.newest.saturating_sub(number);
            if behind > 0 {
                let seen = format!("block {number} is {age} s old, and {behind} more are known");
                return Check::bad(name, seen, "wait: it reads what it has missed");
            }
            let seen = format!("block {number} is {age} s old");
            let todo = "the RPC has fallen behind, or this machine's clock is ahead: compare both with another source";
            return Check::bad(name, seen, todo);
        }
        Check::good(name, format!("block {number}, {age} s old"))
    }

    /// Writes all of it; `now` is this machine's time.
    pub fn expose(&self, out: &mut Exposition, now: UnixSeconds) {
        let place = *self.place();
        if let Some(head) = place.delivered {
            let number = head.block.number;
            out.gauge(
                "sandrun_chain_head_block",
                "The last block that was taken in.",
                number,
            );
            let help = "Seconds since the timestamp of the last block that was taken in.";
            out.gauge("sandrun_chain_head_age_seconds", help, head.timestamp.until(now));
            let help = "Blocks that the RPC has spoken of and that were not taken in yet.";
            out.gauge(
                "sandrun_chain_behind_blocks",
                help,
                place.newest.saturating_sub(number),
            );
        }
        if let Some(at) = place.answered {
            let help = "Seconds since the RPC last answered with a block.";
            out.gauge("sandrun_chain_silence_seconds", help, at.elapsed().as_secs_f64());
        }
        let load = |it: &AtomicU64| it.load(Ordering::Relaxed);
        let help = "Times that the chain left blocks which had been taken in.";
        out.counter("sandrun_chain_reorgs_total", help, load(&self.reorgs));
        let help = "Blocks that were taken in and left the chain.";
        out.counter(
            "sandrun_chain_undone_blocks_total",
            help,
            load(&self.blocks_undone),
        );
        let help = "Blocks undone by the deepest reorganisation since the start.";
        out.gauge("sandrun_chain_deepest_reorg_blocks", help, load(&self.deepest));
        let help = "Calls to the RPC that got no usable answer.";
        self.errors.expose(out, "sandrun_chain_rpc_errors_total", help);
        self.expose_transactions(out);
    }

    fn expose_transactions(&self, out: &mut Exposition) {
        let load = |it: &AtomicU64| it.load(Ordering::Relaxed);
        let help = "Transactions that were sent; versions with higher fees are not counted again.";
        out.counter("sandrun_transactions_sent_total", help, load(&self.sent));
        let help = "Times that a transaction which waited was sent again with higher fees.";
        out.counter("sandrun_transactions_bumped_total", help, load(&self.bumped));
        let help = "What became of calls that were to be sent: mined; reverted (the gas is gone); replaced by another \
                    transaction of the account; lost (not mined in all the time that is waited); refused by a dry run and \
                    failed, for which nothing was sent or nobody knows.";
        self.ended.expose(out, "sandrun_transactions_ended_total", help);
        let help = "Gas that mined transactions took, in units.";
        out.counter("sandrun_gas_used_total", help, load(&self.gas));
        let help = "What that gas cost, in whole coins.";
        out.counter("sandrun_gas_fees_coins_total", help, self.fees.sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{BlockHash, BlockRef};
    use sandrun_types::B256;

    fn head(number: u64) -> Head {
        Head {
            block: BlockRef {
                number,
                hash: BlockHash(B256::ZERO),
            },
            timestamp: UnixSeconds(1_000 + number),
            base_fee: None,
        }
    }

    #[test]
    fn a_chain_is_good_when_it_answers_and_is_fresh() {
        let (meters, public) = (ChainMeters::default(), ChainId(1));
        assert!(!meters.check(public, UnixSeconds(1_010)).ok);
        meters.delivered(&head(10));
        assert!(meters.check(public, UnixSeconds(1_011)).ok);
        let late = meters.check(public, UnixSeconds(1_011 + OLDEST_HEAD));
        assert!(!late.ok && late.seen.contains("121 s old"), "{late:?}");
        assert!(late.todo.contains("clock"), "{late:?}");
        meters.saw(&head(12));
        let reading = meters.check(public, UnixSeconds(1_011 + OLDEST_HEAD));
        assert!(!reading.ok && reading.todo.contains("wait"), "{reading:?}");
        assert!(meters.check(ChainId::LOCAL, UnixSeconds(9_000)).ok);
    }

    #[test]
    fn the_numbers_are_those_of_what_happened() {
        let meters = ChainMeters::default();
        meters.delivered(&head(10));
        meters.saw(&head(13));
        meters.reorganised(2);
        meters.reorganised(1);
        meters.paid(21_000, Amount::from_gwei(1_500_000_000));
        let mut out = Exposition::default();
        meters.expose(&mut out, UnixSeconds(1_013));
        let text = out.finish();
        for line in [
            "sandrun_chain_head_block 10",
            "sandrun_chain_head_age_seconds 3",
            "sandrun_chain_behind_blocks 3",
            "sandrun_chain_reorgs_total 2",
            "sandrun_chain_undone_blocks_total 3",
            "sandrun_chain_deepest_reorg_blocks 2",
            "sandrun_gas_used_total 21000",
            "sandrun_gas_fees_coins_total 1.5",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        // a shorter branch is nothing that is missing
        meters.delivered(&head(9));
        let mut out = Exposition::default();
        meters.expose(&mut out, UnixSeconds(1_013));
        assert!(out.finish().contains("sandrun_chain_behind_blocks 0\n"));
    }
}
