//! The market: a chain around the pure model of the contract, nodes around the real machines, clients and keepers.

mod agent;
mod block;
mod books;
mod chain;
mod client;
mod conduct;
mod consider;
mod disk;
mod faults;
mod follower;
mod health;
mod keeper;
mod node;
mod people;
mod promises;
mod rpc;
mod sender;
mod table;
mod watch;

use std::collections::BTreeMap;

use sandrun_core::market::escrow::{Call, JobRecord};
use sandrun_core::market::rules::Stake;
use sandrun_core::market::{MarketEvent, Phase};
use sandrun_types::{Address, JobId, UnixSeconds};

use crate::census::Census;
use crate::history::History;
use crate::rng::Rng;
use crate::script::{Script, ScriptBlock};
use crate::violation::{Violation, ensure};

use agent::short;
use block::{Block, Tx};
use chain::{BLOCK, Chain, DEEPEST};
use client::{Client, Wanted};
use conduct::Program;
use health::Health;
use keeper::Keeper;
use node::{Node, Surroundings};
use people::{HERE, START};

pub(crate) use people::terms as token_terms;
pub(crate) use table::expected_rows;

/// Jobs of a history.
const JOBS: u64 = 20;
/// Seconds within which they are posted.
const POSTING: u64 = 240;
/// Seconds that a job may take when nothing goes wrong: both rounds' windows at the largest wall limit, and what those
/// take who do what is due.
const LONGEST: u64 = 2 * (60 + 3 * 17 + 30 + 60) + 60;

/// A market.
#[derive(Debug)]
pub(crate) struct Market {
    chain: Chain,
    stakes: Vec<u64>,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    keepers: Vec<Keeper>,
    programs: BTreeMap<JobId, Program>,
    /// What hits everybody.
    weather: Health,
    store_ill_until: u64,
    dear_until: u64,
    /// The newest block that was looked at when nothing could take it back any more.
    settled: u64,
    /// Since when nothing goes wrong any more.
    fair_since: Option<u64>,
    jobs_done: bool,
}

impl Market {
    pub(crate) fn new(rng: &mut Rng) -> Result<Self, Violation> {
        let stakes: Vec<u64> = (0..5 + rng.below(3)).map(|_| 1 + rng.below(3)).collect();
        let chain = Chain::new(people::deployment(&stakes)?);
        let mut nodes = Vec::new();
        for number in 1..=rng_len(&stakes) {
            let confirmations = rng.pick(&[1, 1, 2, 6, 12], 1);
            nodes.push(Node::new(
                number,
                rng.chance(60),
                confirmations,
                97 + rng.below(7),
            ));
        }
        let mut market = Self {
            chain,
            stakes,
            nodes,
            clients: (1..=2)
                .map(|number| Client::new(people::client(number)))
                .collect(),
            keepers: [(1, 60), (2, 40), (3, 15)]
                .map(|(number, diligence)| Keeper::new(people::keeper(number), diligence))
                .into(),
            programs: BTreeMap::new(),
            weather: Health::default(),
            store_ill_until: 0,
            dear_until: 0,
            settled: 0,
            fair_since: None,
            jobs_done: false,
        };
        for nonce in 1..=JOBS {
            market.want(nonce, rng);
        }
        Ok(market)
    }

    fn want(&mut self, nonce: u64, rng: &mut Rng) {
        let index = rng.index(self.clients.len());
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        let at = rng.below(POSTING);
        let order = people::order(client.account, nonce, rng);
        let job = order.job_id(HERE);
        self.programs.insert(job, Program::draw(at, rng));
        let takes_back = rng.chance(6);
        client.wanted.push(Wanted {
            at,
            job,
            order,
            takes_back,
        });
    }

    /// One second. Faults are over once `fair` is said.
    pub(crate) fn second(
        &mut self,
        now: u64,
        fair: bool,
        rng: &mut Rng,
        census: &mut Census,
        history: &mut History,
    ) -> Result<(), Violation> {
        if fair && self.fair_since.is_none() {
            self.clear_up(now);
        }
        if now >= self.dear_until {
            self.chain.base_fee = 1;
        }
        if !fair {
            self.disturb(now, rng, census, history)?;
        }
        if now.is_multiple_of(BLOCK) {
            let block = self.chain.mine(UnixSeconds(START + now), rng)?;
            census.event("block");
            tell(&block, history);
            self.settle(census)?;
        }
        if rng.chance(2) {
            self.take_out(rng);
        }
        let mut around = Surroundings {
            now,
            chain: &mut self.chain,
            programs: &self.programs,
            store_is_ill: now < self.store_ill_until,
            rng,
            census,
            history,
        };
        for client in &mut self.clients {
            client.live(&mut around)?;
        }
        for keeper in &mut self.keepers {
            keeper.live(&mut around)?;
        }
        for node in &mut self.nodes {
            node.live(&mut around)?;
        }
        self.check_end(now, rng)
    }

    /// Whoever is down comes back, and nothing breaks any more.
    fn clear_up(&mut self, now: u64) {
        self.fair_since = Some(now);
        self.store_ill_until = self.store_ill_until.min(now);
        for node in &mut self.nodes {
            node.kill_in = None;
            node.down_until = node.down_until.min(now);
            node.executor_ill_until = node.executor_ill_until.min(now);
            node.disk.fill(now);
            node.rpc = Default::default();
        }
        for keeper in &mut self.keepers {
            keeper.down_until = keeper.down_until.min(now);
            keeper.rpc = Default::default();
        }
        for client in &mut self.clients {
            client.down_until = client.down_until.min(now);
            client.rpc = Default::default();
        }
    }

    /// Looks at the blocks that nothing takes back any more.
    fn settle(&mut self, census: &mut Census) -> Result<(), Violation> {
        while self.settled + DEEPEST < self.chain.height() {
            self.settled += 1;
            let Some(block) = self.chain.block(self.settled) else {
                return Ok(());
            };
            let excused =
                promises::check_ends(block, &self.chain, &self.nodes, &self.weather, &self.programs)?;
            promises::check_reveals(block, &self.chain)?;
            for _ in 0..excused {
                census.event("honest seat lost while its node was away");
            }
            for event in &block.logs {
                census.event(name(event));
                if let MarketEvent::PhaseChanged {
                    job,
                    phase: Phase::Closed,
                    ..
                } = event
                {
                    let after = &block.after;
                    if let (Some(facts), Some(record)) = (after.facts.get(job), after.escrow.job(*job)) {
                        table::check_closed(*job, facts, record, census)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// After the faults every job ends within its windows, and what is left goes to whom it belongs.
    fn check_end(&mut self, now: u64, rng: &mut Rng) -> Result<(), Violation> {
        let Some(since) = self.fair_since else {
            return Ok(());
        };
        if !self.jobs_done && !now.is_multiple_of(4) {
            return Ok(());
        }
        if !self.jobs_done {
            let deep = self.chain.height().saturating_sub(DEEPEST);
            let after = self.chain.after(deep);
            let is_done = |facts: &sandrun_core::market::JobFacts| {
                facts.phase == Phase::Closed && facts.remaining().is_zero()
            };
            let settled = self.clients.iter().all(|it| it.is_settled(now, &self.chain));
            self.jobs_done = settled && after.facts.values().all(is_done);
            let waiting = after.facts.iter().filter(|(_, facts)| !is_done(facts));
            let waiting: Vec<JobId> = waiting.map(|(job, _)| *job).collect();
            return ensure(now < since.max(POSTING) + LONGEST, || {
                format!(
                    "jobs {waiting:?} have not ended {} s after the last fault",
                    now - since
                )
            });
        }
        self.take_out_all(rng);
        ensure(now < since.max(POSTING) + LONGEST + 120, || {
            "what nodes, payers and keepers have coming cannot be taken out".to_owned()
        })
    }

    /// Whether all has ended and all money is out.
    pub(crate) fn is_over(&self) -> bool {
        self.jobs_done
            && self.settled + DEEPEST >= self.chain.height()
            && self.chain.tip().books.inside().is_zero()
    }

    /// Some node's owner takes out what it earned, or begins to leave.
    fn take_out(&mut self, rng: &mut Rng) {
        let count = self.nodes.len();
        let Some(node) = self.nodes.get(rng.index(count)).map(|it| it.index) else {
            return;
        };
        let token = rng.pick(&[sandrun_types::Token::Native, people::COIN], people::COIN);
        let call = if rng.chance(12) {
            Call::Leave {
                node,
                stake: Stake::from_gwei(rng.below(60_000_000)),
            }
        } else {
            Call::WithdrawNode { node, token }
        };
        self.call(people::account(node), call, rng);
    }

    fn take_out_all(&mut self, rng: &mut Rng) {
        let tip = self.chain.tip().clone();
        for (token, node) in tip.books.earned() {
            self.call(people::account(node), Call::WithdrawNode { node, token }, rng);
        }
        for (token, owner) in books::owners(&tip.escrow) {
            self.call(owner, Call::Withdraw { token, to: owner }, rng);
        }
    }

    /// A call that somebody makes by hand.
    fn call(&mut self, from: Address, call: Call, rng: &mut Rng) {
        let nonce = self.chain.nonce(from, u64::MAX);
        let id = self.chain.sign();
        let max_fee = 20;
        let tx = Tx {
            id,
            from,
            nonce,
            max_fee,
            call,
        };
        let _ = self.chain.offer(tx, rng);
    }

    /// What the chain executed in the end, for another chain.
    pub(crate) fn script(&self) -> Script {
        let blocks = (1..=self.chain.height()).filter_map(|number| self.chain.block(number));
        let blocks = blocks.map(|block| ScriptBlock {
            time: block.time,
            base_fee: block.base_fee,
            calls: block
                .mined
                .iter()
                .map(|(tx, _)| (tx.from, tx.call.clone()))
                .collect(),
        });
        let holders = |record: &JobRecord| record.holders.iter().map(|it| it.node).collect();
        let escrow = &self.chain.tip().escrow;
        Script {
            nodes: escrow
                .nodes()
                .map(|(node, _)| (node, people::account(node), people::worker(node)))
                .collect(),
            stakes: self.stakes.clone(),
            blocks: blocks.collect(),
            holders: escrow
                .jobs()
                .map(|(job, record)| (job, holders(record)))
                .collect(),
        }
    }

    /// What is counted once at the end.
    pub(crate) fn count(&self, census: &mut Census) {
        table::count_phases(&self.chain, census);
        census.jobs += self.programs.len() as u64;
        census.nodes += self.nodes.len() as u64;
        census.steps += self.chain.steps + self.nodes.iter().map(|it| it.steps).sum::<u64>();
    }

    /// Steps so far.
    pub(crate) fn steps(&self) -> u64 {
        self.chain.steps + self.nodes.iter().map(|it| it.steps).sum::<u64>()
    }
}

fn rng_len(stakes: &[u64]) -> u32 {
    u32::try_from(stakes.len()).unwrap_or(0)
}

/// What a block holds, in words.
fn tell(block: &Block, history: &mut History) {
    for (tx, worked) in &block.mined {
        let outcome = if *worked { "mined" } else { "reverted" };
        history.say(|| format!("block {}: {outcome}: {}", block.number, describe(tx)));
    }
    for event in &block.logs {
        history.say(|| format!("block {}: {}", block.number, words(event)));
    }
}

fn describe(tx: &Tx) -> String {
    let text = format!("{:?}", tx.call);
    let call = text.split([' ', '{']).next().unwrap_or_default();
    format!("{call} of {}, nonce {}", tx.from, tx.nonce)
}

fn words(event: &MarketEvent) -> String {
    let job = event.job().map(short).unwrap_or_default();
    if let MarketEvent::SeatClaimed { node, seat, .. } = event {
        format!("job {job}: seat {seat} to node {node}")
    } else if let MarketEvent::Committed { node, seat, .. } = event {
        format!("job {job}: seat {seat} of node {node} commits")
    } else if let MarketEvent::Revealed { node, answer, .. } = event {
        format!("job {job}: node {node} reveals {answer:?}")
    } else if let MarketEvent::SeatFinished { node, end, .. } = event {
        format!("job {job}: seat of node {node} ends {end:?}")
    } else {
        format!("job {job}: {}", name(event))
    }
}

const fn name(event: &MarketEvent) -> &'static str {
    match event {
        MarketEvent::JobPosted { .. } => "posted",
        MarketEvent::SeatClaimed { .. } => "seat claimed",
        MarketEvent::Committed { .. } => "committed",
        MarketEvent::Revealed { .. } => "revealed",
        MarketEvent::ResultPublished { .. } => "result published",
        MarketEvent::RoundOpened { .. } => "extra round opened",
        MarketEvent::PhaseChanged { .. } => "phase changed",
        MarketEvent::JobDecided { .. } => "decided",
        MarketEvent::SeatFinished { .. } => "seat finished",
        MarketEvent::Refunded { .. } => "refunded",
        MarketEvent::Burnt { .. } => "burnt",
        MarketEvent::Withdrawn { .. } => "withdrawn",
        MarketEvent::NodeWithdrawn { .. } => "earnings withdrawn",
        MarketEvent::NodeRegistered { .. } => "node registered",
        MarketEvent::ProfileChanged { .. } => "profile changed",
        MarketEvent::PayoutChanged { .. } => "payout changed",
        MarketEvent::StakeAdded { .. } => "stake added",
        MarketEvent::OptedIn { .. } => "opted in",
        MarketEvent::Leaving { .. } => "leaving",
        MarketEvent::Released { .. } => "released",
        MarketEvent::StakeWithdrawn { .. } => "stake withdrawn",
        MarketEvent::Seized { .. } => "seized",
    }
}
