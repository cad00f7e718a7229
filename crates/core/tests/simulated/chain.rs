//! A chain of one-second blocks around the model: a pool of transactions, blocks with the state after them, and
//! reorganisations that put some of the dropped transactions back.

use sandrun_core::market::MarketEvent;
use sandrun_core::market::escrow::{Call, Escrow, Moment};
use sandrun_core::market::rules::seed_block;
use sandrun_core::seat::{self, ChainNews, Position};
use sandrun_types::{Address, B256, JobId, UnixSeconds};

use super::NO_FEE;
use super::rng::SplitMix64;

pub(crate) fn moment(block: u64, now: UnixSeconds) -> Moment {
    Moment {
        now,
        block,
        base_fee: NO_FEE,
    }
}

/// A node's process that waits for a transaction's end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) node: u32,
    pub(crate) process: u32,
    pub(crate) kind: seat::Transaction,
}

/// A transaction on its way.
#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    caller: Address,
    call: Call,
    /// Blocks that pass before it is mined.
    delay: u64,
    /// A reorganisation never loses it.
    certain: bool,
    sender: Option<Sender>,
}

impl Transaction {
    pub(crate) const fn certain(caller: Address, call: Call) -> Self {
        Self {
            caller,
            call,
            delay: 0,
            certain: true,
            sender: None,
        }
    }

    pub(crate) const fn of(sender: Sender, caller: Address, call: Call, delay: u64) -> Self {
        Self {
            caller,
            call,
            delay,
            certain: false,
            sender: Some(sender),
        }
    }

    /// The same again, later: nobody waits for it.
    pub(crate) fn repeated(&self) -> Self {
        Self {
            delay: self.delay + 3,
            sender: None,
            ..self.clone()
        }
    }
}

#[derive(Debug)]
struct Block {
    number: u64,
    time: UnixSeconds,
    hash: B256,
    after: Escrow,
    mined: Vec<Transaction>,
    logs: Vec<MarketEvent>,
}

/// The chain, and what it has told so far.
#[derive(Debug)]
pub(crate) struct Chain {
    genesis: Escrow,
    blocks: Vec<Block>,
    pool: Vec<Transaction>,
    /// Everything that was ever told, in order.
    pub(crate) news: Vec<ChainNews>,
    /// Ends of transactions.
    pub(crate) ends: Vec<(Sender, seat::TransactionEnd)>,
}

impl Chain {
    pub(crate) const fn new(genesis: Escrow) -> Self {
        Self {
            genesis,
            blocks: Vec::new(),
            pool: Vec::new(),
            news: Vec::new(),
            ends: Vec::new(),
        }
    }

    pub(crate) fn escrow(&self) -> &Escrow {
        self.blocks.last().map_or(&self.genesis, |block| &block.after)
    }

    pub(crate) fn height(&self) -> u64 {
        u64::try_from(self.blocks.len()).expect("short")
    }

    pub(crate) fn logs_of(&self, job: JobId) -> impl Iterator<Item = &MarketEvent> {
        self.blocks
            .iter()
            .flat_map(|block| &block.logs)
            .filter(move |event| event.job() == Some(job))
    }

    pub(crate) fn send(&mut self, transaction: Transaction) {
        self.pool.push(transaction);
    }

    /// Hash of the seed block of a job's present round as a claim in block `number` would see it.
    pub(crate) fn seed(&self, job: JobId, number: u64) -> B256 {
        let opened = self.escrow().job(job).map_or(0, |record| record.opened_block);
        let wanted = seed_block(opened, number);
        self.blocks
            .iter()
            .find(|block| block.number == wanted)
            .map_or(B256::ZERO, |block| block.hash)
    }

    pub(crate) fn mine(&mut self, time: UnixSeconds, rng: &mut SplitMix64) {
        let number = self.height() + 1;
        let hash = B256::from(rng.word());
        let mut after = self.escrow().clone();
        let (mut mined, mut logs, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        for mut transaction in std::mem::take(&mut self.pool) {
            if transaction.delay > 0 {
                transaction.delay -= 1;
                waiting.push(transaction);
                continue;
            }
            if let Call::Claim { job, seed, .. } = &mut transaction.call {
                *seed = self.seed(*job, number);
            }
            let result = after.apply(moment(number, time), transaction.caller, transaction.call.clone());
            after
                .sanity_check()
                .unwrap_or_else(|error| panic!("after {transaction:?}: {error}"));
            let end = match result {
                Ok(events) => {
                    logs.extend(events);
                    mined.push(transaction.clone());
                    seat::TransactionEnd::Mined { block: number }
                }
                Err(_) => seat::TransactionEnd::Failed,
            };
            if let Some(sender) = transaction.sender {
                self.ends.push((sender, end));
            }
        }
        self.pool = waiting;
        for (index, event) in logs.iter().enumerate() {
            let at = position(number, index, time);
            self.news.push(ChainNews::Applied(event.clone(), at));
        }
        self.news.push(ChainNews::Head { number, time });
        self.blocks.push(Block {
            number,
            time,
            hash,
            after,
            mined,
            logs,
        });
    }

    /// Drops the newest blocks. What was in them is mostly mined again, a little later.
    pub(crate) fn reorganise(&mut self, depth: u64, rng: &mut SplitMix64) {
        for _ in 0..depth {
            let Some(block) = self.blocks.pop() else { return };
            for (index, event) in block.logs.iter().enumerate().rev() {
                self.news.push(ChainNews::Undone(
                    event.clone(),
                    position(block.number, index, block.time),
                ));
            }
            for mut transaction in block.mined {
                transaction.sender = None;
                transaction.delay = rng.below(3);
                if transaction.certain || rng.chance(80) {
                    self.pool.push(transaction);
                }
            }
        }
    }

    /// The news that a process that starts now is told: the chain as it is.
    pub(crate) fn replay(&self) -> Vec<ChainNews> {
        let mut news = Vec::new();
        for block in &self.blocks {
            for (index, event) in block.logs.iter().enumerate() {
                news.push(ChainNews::Applied(
                    event.clone(),
                    position(block.number, index, block.time),
                ));
            }
        }
        if let Some(block) = self.blocks.last() {
            news.push(ChainNews::Head {
                number: block.number,
                time: block.time,
            });
        }
        news
    }
}

fn position(block: u64, index: usize, time: UnixSeconds) -> Position {
    Position {
        block,
        log: u64::try_from(index).expect("few"),
        time,
    }
}
