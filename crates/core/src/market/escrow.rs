//! A pure model of the escrow and the registry as it needs it: the contract's behaviour without a chain.
//!
//! Owns orders, seats, stakes, locks and balances of one deployment; driven by [`Escrow::apply`], whose effects are the
//! contract's events one to one. A refused call leaves nothing behind. Never reads a clock or draws a number: time,
//! block and seed are arguments. [`Escrow::sanity_check`] says whether the whole state is sound.

mod call;
mod ledger;
mod node;
mod order;
mod refusal;
mod reveal;
mod sanity;
mod seats;
mod settle;

use std::collections::{BTreeMap, BTreeSet};

use sandrun_types::{
    Address, B256, Commitment, EscrowRef, JobId, NodeIndex, Order, ResultDigest, Token, UnixSeconds,
};

use super::rules::{Payment, Progress, Terms};
use super::{MarketEvent, SeatEnd};

pub use call::{Call, Moment, Opening, Parameters, TokenTerms};
pub use ledger::Ledger;
pub use node::NodeRecord;
pub use refusal::Refusal;
pub use sanity::Unsound;

/// A deployment with all its jobs, nodes and money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escrow {
    here: EscrowRef,
    parameters: Parameters,
    tokens: BTreeMap<Token, TokenTerms>,
    nodes: BTreeMap<NodeIndex, NodeRecord>,
    jobs: BTreeMap<JobId, JobRecord>,
    ledger: Ledger,
}

/// One job's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    /// What was posted.
    pub order: Order,
    /// Its money terms.
    pub terms: Terms,
    /// Phase, round, deadline, what every seat has done.
    pub progress: Progress,
    /// Who holds the seats; as long as `progress.seats`.
    pub holders: Vec<SeatHolder>,
    /// When it was posted; units have to be older, in both rounds: a payer that is a node is kept out by that.
    pub posted_at: UnixSeconds,
    /// Block whose transaction opened the present round.
    pub opened_block: u64,
    /// U of the present round.
    pub units: u32,
    /// The present round's seed, once somebody recorded it.
    pub seed: Option<B256>,
    /// When the present run window began.
    pub run_start: UnixSeconds,
    /// Digests whose parts are published.
    pub published: BTreeSet<ResultDigest>,
    /// Locked money not yet paid.
    pub remaining: Payment,
}

/// Who holds a seat, and what only the contract has to know about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeatHolder {
    /// The node.
    pub node: NodeIndex,
    /// What it is bound to.
    pub commitment: Option<Commitment>,
    /// Whether the commit was late enough for `limit`.
    pub limit_allowed: bool,
    /// Whether the seat can count for reputation.
    pub counts: bool,
    /// What became of it; its bond is locked until then.
    pub end: Option<SeatEnd>,
}

impl Escrow {
    /// A fresh deployment at `here` that takes `tokens`.
    pub fn new(
        here: EscrowRef,
        parameters: Parameters,
        tokens: impl IntoIterator<Item = TokenTerms>,
    ) -> Self {
        Self {
            here,
            parameters,
            tokens: tokens.into_iter().map(|terms| (terms.token, terms)).collect(),
            nodes: BTreeMap::new(),
            jobs: BTreeMap::new(),
            ledger: Ledger::default(),
        }
    }

    /// Makes one call as `caller`: all of it or nothing.
    ///
    /// # Errors
    /// Whatever the contract would revert with; the state is as before.
    pub fn apply(&mut self, at: Moment, caller: Address, call: Call) -> Result<Vec<MarketEvent>, Refusal> {
        let mut next = self.clone();
        let mut effects = Vec::new();
        next.perform(at, caller, call, &mut effects)?;
        *self = next;
        Ok(effects)
    }

    fn perform(
        &mut self,
        at: Moment,
        caller: Address,
        call: Call,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        match call {
            Call::Register {
                worker,
                payout,
                stake,
            } => self.register(caller, worker, payout, stake, effects),
            Call::AddStake { node, stake } => self.add_stake(node, stake, effects),
            Call::OptIn { node, cap, classes } => self.opt_in(at, caller, node, cap, classes, effects),
            Call::Leave { node, stake } => self.leave(at, caller, node, stake, effects),
            Call::Release { node } => self.release(at, node, effects),
            Call::WithdrawStake { node, stake, to } => self.withdraw_stake(caller, node, stake, to, effects),
            Call::Post { order, sent } => self.post(at, caller, &order, sent, effects),
            Call::Cancel { job } => self.cancel(at, caller, job, effects),
            Call::Claim {
                job,
                node,
                unit,
                seed,
            } => self.claim(at, caller, job, node, unit, seed, effects),
            Call::Commit {
                job,
                seat,
                commitment,
            } => self.commit(at, caller, job, seat, commitment, effects),
            Call::Reveal { job, openings } => self.reveal(at, job, &openings, effects),
            Call::RevealResult {
                job,
                seat,
                result,
                salt,
            } => self.reveal_result(at, job, seat, result, salt, effects),
            Call::Poke { job } => self.poke(at, caller, job, effects),
            Call::Refund { job } => self.refund(at, job, effects),
            Call::Withdraw { token, to } => self.withdraw(caller, token, to, effects),
            Call::WithdrawNode { node, token } => self.withdraw_node(caller, node, token, effects),
        }
    }

    /// Where this deployment is.
    pub const fn here(&self) -> EscrowRef {
        self.here
    }

    /// Its parameters.
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// A job, if it was posted.
    pub fn job(&self, job: JobId) -> Option<&JobRecord> {
        self.jobs.get(&job)
    }

    /// All jobs.
    pub fn jobs(&self) -> impl Iterator<Item = (JobId, &JobRecord)> {
        self.jobs.iter().map(|(id, job)| (*id, job))
    }

    /// A node, if it is registered.
    pub fn node(&self, node: NodeIndex) -> Option<&NodeRecord> {
        self.nodes.get(&node)
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeIndex, &NodeRecord)> {
        self.nodes.iter().map(|(index, node)| (*index, node))
    }

    /// What came in, what is owed, what was burnt.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn job_mut(&mut self, job: JobId) -> Result<&mut JobRecord, Refusal> {
        self.jobs.get_mut(&job).ok_or(Refusal::UnknownJob { job })
    }

    fn node_mut(&mut self, node: NodeIndex) -> Result<&mut NodeRecord, Refusal> {
        self.nodes.get_mut(&node).ok_or(Refusal::UnknownNode { node })
    }
}
