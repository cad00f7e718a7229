//! Managers and other keepers: they read the chain and do what `core` says is due. Nothing of theirs has to last.

use sandrun_core::market::escrow::Call;
use sandrun_core::market::{Due, due};
use sandrun_types::Address;

use crate::violation::Violation;

use super::follower::Follower;
use super::node::Surroundings;
use super::rpc::Rpc;
use super::sender::{Purpose, Sender};

/// A keeper.
#[derive(Debug)]
pub(crate) struct Keeper {
    account: Address,
    pub(crate) rpc: Rpc,
    pub(crate) down_until: u64,
    process: Option<(Follower, Sender)>,
    /// Of a hundred blocks, after how many it looks.
    diligence: u64,
}

impl Keeper {
    pub(crate) fn new(account: Address, diligence: u64) -> Self {
        Self {
            account,
            rpc: Rpc::default(),
            down_until: 0,
            process: None,
            diligence,
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
        if !follower.is_news(now) || !around.rng.chance(self.diligence) {
            return Ok(());
        }
        let time = follower.chain_time(now);
        let wanted = follower
            .open()
            .filter_map(|(job, facts)| due(facts, time).map(|it| (job, it)));
        let wanted: Vec<_> = wanted.collect();
        for (job, what) in wanted {
            let purpose = Purpose {
                job: Some(job),
                kind: None,
            };
            if sender.is_busy(purpose.job) {
                continue;
            }
            let call = match what {
                Due::Poke(_) => Call::Poke { job },
                Due::Refund => Call::Refund { job },
            };
            around.census.event("keeper acted");
            sender.send(purpose, call, Some(height), around.chain, around.rng);
        }
        Ok(())
    }
}
