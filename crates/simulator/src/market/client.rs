//! A client of the market: posts its orders until the chain has them, takes some back, and follows them by their events.

use sandrun_core::market::escrow::Call;
use sandrun_core::market::rules::Payment;
use sandrun_types::{Address, JobId, Order};

use crate::violation::Violation;

use super::chain::DEEPEST;
use super::follower::Follower;
use super::node::Surroundings;
use super::rpc::Rpc;
use super::sender::{Purpose, Sender};

/// An order that a client wants to have posted.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// From which second on.
    pub(crate) at: u64,
    pub(crate) job: JobId,
    pub(crate) order: Order,
    /// Whether it is taken back.
    pub(crate) takes_back: bool,
}

/// A client. What it wants to have posted outlives its process.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) account: Address,
    pub(crate) rpc: Rpc,
    pub(crate) down_until: u64,
    pub(crate) wanted: Vec<Wanted>,
    process: Option<(Follower, Sender)>,
    height: u64,
}

impl Client {
    pub(crate) fn new(account: Address) -> Self {
        Self {
            account,
            rpc: Rpc::default(),
            down_until: 0,
            wanted: Vec::new(),
            process: None,
            height: 0,
        }
    }

    /// kill -9, and a start later.
    pub(crate) fn kill(&mut self, until: u64) {
        self.process = None;
        self.down_until = until;
    }

    /// One second.
    pub(crate) fn live(&mut self, around: &mut Surroundings<'_>) -> Result<(), Violation> {
        let now = around.now;
        if now < self.down_until {
            return Ok(());
        }
        let account = self.account;
        let (follower, sender) = self
            .process
            .get_or_insert_with(|| (Follower::default(), Sender::new(account)));
        let height = self.rpc.height(now, around.chain, around.rng);
        let _ended = sender.look(height, around.chain, around.rng);
        let Some(height) = height else { return Ok(()) };
        follower.read(now, around.chain, height)?;
        self.height = height;
        for Wanted {
            at,
            job,
            order,
            takes_back,
        } in &self.wanted
        {
            let job = *job;
            let purpose = Purpose {
                job: Some(job),
                kind: None,
            };
            if *at > now || sender.is_busy(purpose.job) {
                continue;
            }
            let call = match follower.facts.get(&job) {
                None => Call::Post {
                    order: Box::new(order.clone()),
                    sent: Payment(order.locked_sum().unwrap_or_default()),
                },
                Some(facts) if *takes_back && facts.seats.is_empty() && facts.resolution.is_none() => {
                    // some at once, some when the lottery has begun
                    if around.rng.chance(60) {
                        continue;
                    }
                    Call::Cancel { job }
                }
                Some(_) => continue,
            };
            sender.send(purpose, call, Some(height), around.chain, around.rng);
        }
        Ok(())
    }

    /// The jobs that are due at second `now`.
    pub(crate) fn due(&self, now: u64) -> impl Iterator<Item = JobId> {
        let due = self.wanted.iter().filter(move |it| it.at <= now);
        due.map(|it| it.job)
    }

    /// Whether every order of before `now` is posted, deep enough for the deepest reorganisation.
    pub(crate) fn is_settled(&self, now: u64, chain: &super::chain::Chain) -> bool {
        let deep = chain.height().saturating_sub(DEEPEST);
        self.due(now)
            .all(|job| chain.after(deep).facts.contains_key(&job))
    }
}
