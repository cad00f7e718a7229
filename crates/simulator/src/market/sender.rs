//! Sending transactions of one key as `sandrun-chain` does: a dry run first, nonces in use by this process, higher fees
//! after some blocks, another look when the pool has forgotten it. All of it is lost with the process.

use std::collections::BTreeSet;

use sandrun_core::market::escrow::Call;
use sandrun_core::seat::{Transaction, TransactionEnd};
use sandrun_types::{Address, JobId};

use crate::rng::Rng;

use super::block::{Tx, TxId, moment};
use super::chain::{BLOCK, Chain, Offered};

/// Blocks after which fees are raised.
const BUMP_AFTER: u64 = 3;
/// Blocks after which a transaction is given up.
const GIVE_UP_AFTER: u64 = 60;
/// Looks that must agree before a nonce counts as used by another transaction.
const OVERTAKEN_LOOKS: u32 = 3;
/// Failed looks in a row after which waiting ends.
const PATIENCE: u32 = 20;

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Purpose {
    pub(crate) job: Option<JobId>,
    pub(crate) kind: Option<Transaction>,
}

#[derive(Debug)]
struct Flight {
    purpose: Purpose,
    call: Call,
    nonce: u64,
    max_fee: u64,
    versions: Vec<TxId>,
    began: u64,
    sent: u64,
    overtaken: u32,
    errors: u32,
}

/// The transactions of one key that are under way.
#[derive(Debug)]
pub(crate) struct Sender {
    from: Address,
    flights: Vec<Flight>,
    /// Ends that are known at once.
    ended: Vec<(Purpose, TransactionEnd)>,
}

impl Sender {
    pub(crate) const fn new(from: Address) -> Self {
        Self {
            from,
            flights: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// Whether something is under way for this job.
    pub(crate) fn is_busy(&self, job: Option<JobId>) -> bool {
        self.flights.iter().any(|it| it.purpose.job == job)
    }

    /// Carries out a call through an endpoint that answers from `height`.
    pub(crate) fn send(
        &mut self,
        purpose: Purpose,
        call: Call,
        height: Option<u64>,
        chain: &mut Chain,
        rng: &mut Rng,
    ) {
        let launched = height.and_then(|height| self.launch(purpose, &call, height, chain, rng));
        match launched {
            Some(flight) => self.flights.push(flight),
            None => self.ended.push((purpose, TransactionEnd::Failed)),
        }
    }

    fn launch(
        &self,
        purpose: Purpose,
        call: &Call,
        height: u64,
        chain: &mut Chain,
        rng: &mut Rng,
    ) -> Option<Flight> {
        self.dry_run(call, height, chain)?;
        let max_fee = 2 * chain.base_fee + 1;
        let mut floor = 0;
        for _ in 0..5 {
            let used: BTreeSet<u64> = self.flights.iter().map(|it| it.nonce).collect();
            let mut nonce = chain.pending_nonce(self.from, height).max(floor);
            while used.contains(&nonce) {
                nonce += 1;
            }
            let id = chain.sign();
            let tx = Tx {
                id,
                from: self.from,
                nonce,
                max_fee,
                call: call.clone(),
            };
            match chain.offer(tx, rng) {
                Offered::NonceTaken => floor = nonce + 1,
                Offered::Waits => {
                    return Some(Flight {
                        purpose,
                        call: call.clone(),
                        nonce,
                        max_fee,
                        versions: vec![id],
                        began: height,
                        sent: height,
                        overtaken: 0,
                        errors: 0,
                    });
                }
            }
        }
        None
    }

    /// What the contract would refuse is not sent.
    fn dry_run(&self, call: &Call, height: u64, chain: &Chain) -> Option<()> {
        let mut escrow = (*chain.after(height).escrow).clone();
        let call = chain.with_seed(&escrow, call, height + 1);
        let time = chain.block(height)?.time.plus(BLOCK);
        let at = moment(height + 1, time, chain.base_fee);
        escrow.apply(at, self.from, call).ok().map(|_| ())
    }

    /// Looks at all that is under way; returns what has ended.
    pub(crate) fn look(
        &mut self,
        height: Option<u64>,
        chain: &mut Chain,
        rng: &mut Rng,
    ) -> Vec<(Purpose, TransactionEnd)> {
        let mut ended = std::mem::take(&mut self.ended);
        let from = self.from;
        let used: BTreeSet<u64> = self.flights.iter().map(|it| it.nonce).collect();
        self.flights.retain_mut(|flight| {
            let end = match height {
                Some(height) => flight.step(from, height, &used, chain, rng),
                None => flight.unanswered(),
            };
            ended.extend(end.map(|end| (flight.purpose, end)));
            end.is_none()
        });
        ended
    }
}

impl Flight {
    const fn unanswered(&mut self) -> Option<TransactionEnd> {
        self.errors += 1;
        if self.errors > PATIENCE {
            Some(TransactionEnd::Failed)
        } else {
            None
        }
    }

    fn step(
        &mut self,
        from: Address,
        height: u64,
        used: &BTreeSet<u64>,
        chain: &mut Chain,
        rng: &mut Rng,
    ) -> Option<TransactionEnd> {
        self.errors = 0;
        let found = self.versions.iter().rev().find_map(|id| chain.found(*id, height));
        if let Some((block, worked)) = found {
            return Some(if worked {
                TransactionEnd::Mined { block }
            } else {
                TransactionEnd::Failed
            });
        }
        let count = chain.nonce(from, height);
        if count > self.nonce {
            self.overtaken += 1;
            return (self.overtaken >= OVERTAKEN_LOOKS).then_some(TransactionEnd::Failed);
        }
        self.overtaken = 0;
        if height.saturating_sub(self.began) >= GIVE_UP_AFTER {
            return Some(TransactionEnd::Failed);
        }
        if height.saturating_sub(self.sent) >= BUMP_AFTER {
            self.sent = height;
            if count < self.nonce && !used.contains(&count) && chain.pending_nonce(from, height) == count {
                // its nonce's turn never comes otherwise: a call of nothing fills the gap
                self.offer(
                    from,
                    count,
                    Call::Poke {
                        job: JobId::default(),
                    },
                    chain,
                    rng,
                );
                return None;
            }
            self.max_fee = (2 * chain.base_fee + 1).max(self.max_fee + self.max_fee / 4 + 1);
            let id = self.offer(from, self.nonce, self.call.clone(), chain, rng);
            self.versions.push(id);
            return None;
        }
        let last = self.versions.last().copied()?;
        if !chain.knows(last, height) {
            let id = self.offer(from, self.nonce, self.call.clone(), chain, rng);
            self.versions.push(id);
        }
        None
    }

    fn offer(&self, from: Address, nonce: u64, call: Call, chain: &mut Chain, rng: &mut Rng) -> TxId {
        let id = chain.sign();
        let tx = Tx {
            id,
            from,
            nonce,
            max_fee: self.max_fee,
            call,
        };
        // whether it is taken shows at the next look
        let _ = chain.offer(tx, rng);
        id
    }
}
