//! A chain around the model of the contract: a pool of transactions with nonces and fees, blocks with the state after
//! them, and reorganisations. Every transaction is followed by the checks of money and facts.

use std::collections::BTreeMap;
use std::rc::Rc;

use sandrun_core::market::escrow::{Call, Escrow, Parameters};
use sandrun_core::market::rules::{Progress, Standing, seed_block};
use sandrun_core::market::{JobFacts, MarketEvent};
use sandrun_types::{Address, B256, JobId, UnixSeconds};

use crate::rng::Rng;
use crate::violation::{Violation, ensure};

use super::block::{After, Block, Tx, TxId, moment};
use super::books::Books;

/// Seconds between blocks.
pub(crate) const BLOCK: u64 = 2;
/// The deepest reorganisation, blocks.
pub(crate) const DEEPEST: u64 = 12;

/// What the pool says of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It waits to be mined.
    Waits,
    /// Another one has its nonce.
    NonceTaken,
}

/// The chain.
#[derive(Debug)]
pub(crate) struct Chain {
    genesis: After,
    blocks: Vec<Rc<Block>>,
    /// Transactions and the block number from which they are known to whoever mines.
    pool: Vec<(Tx, u64)>,
    /// Where transactions were mined, and whether they did not revert.
    mined: BTreeMap<TxId, (u64, bool)>,
    next_tx: u64,
    /// Gwei for each gas in the next block.
    pub(crate) base_fee: u64,
    /// Transactions of each block in the order in which they were made, for a replay elsewhere.
    pub(crate) steps: u64,
}

impl Chain {
    pub(crate) fn new(escrow: Escrow) -> Self {
        let after = After {
            books: Rc::new(Books::of(&escrow)),
            escrow: Rc::new(escrow),
            facts: Rc::default(),
            nonces: Rc::default(),
        };
        Self {
            genesis: after,
            blocks: Vec::new(),
            pool: Vec::new(),
            mined: BTreeMap::new(),
            next_tx: 0,
            base_fee: 1,
            steps: 0,
        }
    }

    /// What is known after block `number`; after all blocks if there are not so many.
    pub(crate) fn after(&self, number: u64) -> &After {
        self.block(number.min(self.height()))
            .map_or(&self.genesis, |block| &block.after)
    }

    pub(crate) fn tip(&self) -> &After {
        self.after(u64::MAX)
    }

    pub(crate) fn height(&self) -> u64 {
        u64::try_from(self.blocks.len()).unwrap_or(u64::MAX)
    }

    /// Blocks have numbers from 1 on.
    pub(crate) fn block(&self, number: u64) -> Option<&Rc<Block>> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.blocks.get(index)
    }

    /// A number for a transaction that is about to be signed.
    pub(crate) const fn sign(&mut self) -> TxId {
        self.next_tx += 1;
        TxId(self.next_tx)
    }

    /// Takes a transaction into the pool; it may get lost on its way to those who mine.
    pub(crate) fn offer(&mut self, tx: Tx, rng: &mut Rng) -> Offered {
        if tx.nonce < self.nonce(tx.from, self.height()) {
            return Offered::NonceTaken;
        }
        let same = |other: &&mut (Tx, u64)| other.0.from == tx.from && other.0.nonce == tx.nonce;
        if let Some((other, _)) = self.pool.iter_mut().find(same) {
            if other.id == tx.id {
                return Offered::Waits;
            }
            // a replacement pays a tenth more
            if tx.max_fee * 10 < other.max_fee * 11 {
                return Offered::NonceTaken;
            }
            *other = tx;
            return Offered::Waits;
        }
        let from = self.height() + 1 + rng.below(2);
        if !rng.chance(3) {
            self.pool.push((tx, from));
        }
        Offered::Waits
    }

    /// Whether the pool or a block up to `height` has a transaction.
    pub(crate) fn knows(&self, tx: TxId, height: u64) -> bool {
        self.pool.iter().any(|(it, _)| it.id == tx) || self.found(tx, height).is_some()
    }

    /// Where a transaction was mined, up to block `height`.
    pub(crate) fn found(&self, tx: TxId, height: u64) -> Option<(u64, bool)> {
        self.mined
            .get(&tx)
            .copied()
            .filter(|(number, _)| *number <= height)
    }

    /// An account's transactions in blocks up to `height`.
    pub(crate) fn nonce(&self, of: Address, height: u64) -> u64 {
        self.after(height).nonces.get(&of).copied().unwrap_or(0)
    }

    /// The same with those in the pool.
    pub(crate) fn pending_nonce(&self, of: Address, height: u64) -> u64 {
        let mut nonce = self.nonce(of, height);
        while self.pool.iter().any(|(tx, _)| tx.from == of && tx.nonce == nonce) {
            nonce += 1;
        }
        nonce
    }

    /// Hash of the seed block of a job's present round, as a claim in block `number` would see it.
    pub(crate) fn seed(&self, escrow: &Escrow, job: JobId, number: u64) -> B256 {
        let opened = escrow.job(job).map_or(0, |record| record.opened_block);
        let wanted = seed_block(opened, number);
        self.block(wanted).map_or(B256::ZERO, |block| block.hash)
    }

    /// Mines one block at `time`.
    pub(crate) fn mine(&mut self, time: UnixSeconds, rng: &mut Rng) -> Result<Rc<Block>, Violation> {
        let number = self.height() + 1;
        let mut after = self.tip().clone();
        let (mut mined, mut logs) = (Vec::new(), Vec::new());
        let chosen = self.choose(number, rng);
        if !chosen.is_empty() {
            let (mut escrow, mut books) = ((*after.escrow).clone(), (*after.books).clone());
            let mut nonces = (*after.nonces).clone();
            for tx in chosen {
                self.steps += 1;
                let call = self.with_seed(&escrow, &tx.call, number);
                let at = moment(number, time, self.base_fee);
                let events = escrow.apply(at, tx.from, call);
                for event in events.iter().flatten() {
                    books.take(event)?;
                }
                books.compare(&escrow)?;
                nonces.insert(tx.from, tx.nonce + 1);
                self.mined.insert(tx.id, (number, events.is_ok()));
                mined.push((tx, events.is_ok()));
                logs.extend(events.unwrap_or_default());
            }
            after.nonces = Rc::new(nonces);
            if !logs.is_empty() {
                after.facts = Rc::new(fold(&after.facts, &logs, &escrow)?);
                after.books = Rc::new(books);
                after.escrow = Rc::new(escrow);
            }
        }
        let block = Rc::new(Block {
            number,
            time,
            hash: B256::from(rng.word()),
            base_fee: self.base_fee,
            after,
            mined,
            logs,
        });
        self.blocks.push(block.clone());
        Ok(block)
    }

    /// A call as block `number` executes it.
    pub(crate) fn with_seed(&self, escrow: &Escrow, call: &Call, number: u64) -> Call {
        let mut call = call.clone();
        if let Call::Claim { job, seed, .. } = &mut call {
            *seed = self.seed(escrow, *job, number);
        }
        call
    }

    /// Takes what the next block holds out of the pool: in the order of nonces, what pays enough, mostly.
    fn choose(&mut self, number: u64, rng: &mut Rng) -> Vec<Tx> {
        let mut nonces: BTreeMap<Address, u64> = BTreeMap::new();
        let mut chosen = Vec::new();
        self.pool.sort_by_key(|(tx, _)| (tx.nonce, tx.id));
        for (tx, from) in std::mem::take(&mut self.pool) {
            let known = self.nonce(tx.from, u64::MAX);
            let next = *nonces.entry(tx.from).or_insert(known);
            if tx.nonce < next {
                continue;
            }
            let fits = tx.nonce == next && from <= number && tx.max_fee >= self.base_fee;
            if fits && !rng.chance(10) {
                nonces.insert(tx.from, next + 1);
                chosen.push(tx);
            } else {
                self.pool.push((tx, from));
            }
        }
        // whoever mines orders as it likes, but for the nonces of one account
        for at in (1..chosen.len()).rev() {
            let other = rng.index(at + 1);
            if other != at
                && chosen[other..=at]
                    .iter()
                    .all(|it| it.from != chosen[at].from || it.id == chosen[at].id)
                && chosen[other..=at]
                    .iter()
                    .all(|it| it.from != chosen[other].from || it.id == chosen[other].id)
            {
                chosen.swap(at, other);
            }
        }
        chosen
    }

    /// Forgets a waiting transaction.
    pub(crate) fn forget_one(&mut self, rng: &mut Rng) {
        if !self.pool.is_empty() {
            let index = rng.index(self.pool.len());
            self.pool.swap_remove(index);
        }
    }

    /// Replaces the newest blocks by others: of as many, or of fewer for a while. What was mined there is mostly mined
    /// again. Returns the new blocks.
    pub(crate) fn reorganise(&mut self, depth: u64, rng: &mut Rng) -> Result<Vec<Rc<Block>>, Violation> {
        let mut times = Vec::new();
        for _ in 0..depth {
            let Some(block) = self.blocks.pop() else { break };
            times.push(block.time);
            for (tx, _) in &block.mined {
                self.mined.remove(&tx.id);
                if !rng.chance(12) {
                    let from = block.number + rng.below(3);
                    self.pool.push((tx.clone(), from));
                }
            }
        }
        times.reverse();
        let mined_again = if rng.chance(60) {
            times.len()
        } else {
            rng.index(times.len() + 1)
        };
        let mut blocks = Vec::new();
        for time in times.into_iter().take(mined_again) {
            blocks.push(self.mine(time, rng)?);
        }
        Ok(blocks)
    }
}

/// The facts with what these logs say; they have to agree with the contract's own state.
fn fold(
    before: &BTreeMap<JobId, JobFacts>,
    logs: &[MarketEvent],
    escrow: &Escrow,
) -> Result<BTreeMap<JobId, JobFacts>, Violation> {
    let mut all = before.clone();
    let windows = Parameters::testnet().windows;
    for event in logs {
        let Some(job) = event.job() else { continue };
        match all.get_mut(&job) {
            Some(facts) => facts.apply(event).map_err(Violation::new)?,
            None => {
                all.insert(job, JobFacts::posted(event, windows).map_err(Violation::new)?);
            }
        }
    }
    for job in logs.iter().filter_map(MarketEvent::job) {
        let (Some(facts), Some(record)) = (all.get(&job), escrow.job(job)) else {
            return Err(Violation::new(format!("job {job} has logs and is not there")));
        };
        let said = as_events_tell(&facts.progress(), facts);
        let is = as_events_tell(&record.progress, facts);
        ensure(said == is, || {
            format!("the events of job {job} say {said:?}, the contract says {is:?}")
        })?;
        ensure(facts.remaining() == record.remaining, || {
            format!("the events of job {job} leave {:?}", facts.remaining())
        })?;
    }
    Ok(all)
}

/// Events have no time: whether a reveal after the decision was late shows in how its seat ends, and not before.
fn as_events_tell(progress: &Progress, facts: &JobFacts) -> Progress {
    let mut told = progress.clone();
    for (seat, known) in told.seats.iter_mut().zip(&facts.seats) {
        if let (Standing::Late(answer), true, None) = (seat.standing, facts.resolution.is_some(), known.end) {
            seat.standing = Standing::Revealed(answer);
        }
    }
    told
}
