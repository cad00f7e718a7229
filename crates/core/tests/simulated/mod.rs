//! A world in virtual time: a chain with reorganisations around the model, nodes around the seat machine.

#![allow(dead_code, reason = "each test uses its part")]

mod chain;
mod node;
mod rng;

use sandrun_core::market::escrow::{Call, Escrow, Parameters};
use sandrun_core::market::rules::{Payment, Stake};
use sandrun_core::market::{Due, JobFacts, MarketEvent, due};
use sandrun_types::{Amount, ClassKind, JobId, Order, Redundancy, UnixSeconds};

use super::market_support::{CLIENT, KEEPER, START, here, native_terms, order, register};
use chain::{Chain, Transaction};
pub(crate) use node::{Conduct, Node};
use rng::SplitMix64;

/// Blocks on top of a fact that make it final, and the deepest reorganisation.
pub(crate) const DEPTH: u64 = 2;
/// Longer than any job's life: two rounds of all windows.
const FAULTS_END: u64 = 500;
const HISTORY: u64 = 700;

/// One history.
#[derive(Debug)]
pub(crate) struct Simulation {
    rng: SplitMix64,
    chain: Chain,
    pub(crate) nodes: Vec<Node>,
    job: JobId,
    pub(crate) reorgs: usize,
    pub(crate) crashes: usize,
}

impl Simulation {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = SplitMix64::new(seed);
        let redundancy = *rng.pick(&Redundancy::ALL);
        let kind = *rng.pick(&[ClassKind::Native, ClassKind::Det]);
        let order: Order = order(kind, redundancy, 100_001, 1_000_000, seed);
        let mut escrow = Escrow::new(here(), Parameters::testnet(), [native_terms()]);
        let early = chain::moment(0, UnixSeconds(START - 10));
        let nodes = 1 + rng.below(7);
        for index in 1..=nodes {
            register(
                &mut escrow,
                early,
                u32::try_from(index).expect("few"),
                Stake::from_gwei(100_000_000),
            );
        }
        let sent = Payment(order.locked_sum().expect("small"));
        let post = Call::Post {
            order: Box::new(order.clone()),
            sent,
        };
        let mut chain = Chain::new(escrow);
        chain.send(Transaction::certain(CLIENT, post));
        let nodes =
            (1..=nodes).map(|index| Node::new(u32::try_from(index).expect("few"), &order, kind, &mut rng));
        let nodes = nodes.collect();
        Self {
            chain,
            nodes,
            job: order.job_id(here()),
            rng,
            reorgs: 0,
            crashes: 0,
        }
    }

    /// One second after the other, until nothing can be under way any more.
    pub(crate) fn run(&mut self) {
        for second in 0..HISTORY {
            let faults = second < FAULTS_END;
            let now = UnixSeconds(START + second);
            if faults && second > 2 && self.rng.chance(2) {
                let depth = 1 + self.rng.below(DEPTH);
                self.chain.reorganise(depth, &mut self.rng);
                self.reorgs += 1;
            }
            self.chain.mine(now, &mut self.rng);
            self.check_chain();
            for index in 0..self.nodes.len() {
                let crash = faults && self.nodes[index].crashes < 2 && self.rng.chance(1);
                if crash {
                    self.nodes[index].crash(&self.chain, &mut self.rng);
                    self.crashes += 1;
                }
                let late = faults && self.rng.chance(20);
                self.nodes[index].live(now, late, &mut self.chain, &mut self.rng);
            }
            if !faults || self.rng.chance(10) {
                self.keep(now);
            }
        }
    }

    /// A keeper that knows nothing but the facts.
    fn keep(&mut self, now: UnixSeconds) {
        let Some(facts) = self.facts() else { return };
        let call = match due(&facts, now) {
            Some(Due::Poke(_)) => Call::Poke { job: self.job },
            Some(Due::Refund) => Call::Refund { job: self.job },
            None => return,
        };
        self.chain.send(Transaction::certain(KEEPER, call));
    }

    /// The facts of the logs that are in the chain now: undone ones are simply not folded.
    pub(crate) fn facts(&self) -> Option<JobFacts> {
        let logs: Vec<&MarketEvent> = self.chain.logs_of(self.job).collect();
        let posted = !logs.is_empty();
        posted.then(|| JobFacts::fold(logs, Parameters::testnet().windows).expect("logs of a job fold"))
    }

    fn check_chain(&self) {
        let escrow = self.chain.escrow();
        escrow.sanity_check().expect("a sound state");
        match (self.facts(), escrow.job(self.job)) {
            (Some(facts), Some(record)) => {
                assert_eq!(facts.progress(), record.progress);
                assert_eq!(facts.remaining(), record.remaining);
            }
            (None, None) => {}
            (facts, record) => panic!("facts {facts:?} of a job that is {record:?}"),
        }
    }

    /// Everything that the final chain says.
    pub(crate) fn history(&self) -> Vec<MarketEvent> {
        self.chain.logs_of(self.job).cloned().collect()
    }
}

/// Wei of no base fee.
pub(crate) const NO_FEE: Amount = Amount::ZERO;
