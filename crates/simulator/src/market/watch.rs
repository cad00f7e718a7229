//! Following the chain through an RPC as `sandrun-chain` does: facts arrive as applied or undone, a head after the logs
//! of its block, and a branch that is not there any more is undone newest first.

use std::rc::Rc;

use sandrun_core::market::{JobFacts, MarketEvent};
use sandrun_core::seat::{ChainNews, Position};

use sandrun_types::JobId;

use super::block::Block;
use super::chain::Chain;

/// What a process has been told, and what it is told next.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch {
    known: Vec<Rc<Block>>,
}

/// News of no job or of one.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// A log is in the chain, or no longer is.
    Log(ChainNews),
    /// Everything up to this block has been told.
    Head(ChainNews),
}

impl Watch {
    /// A height that was told.
    pub(crate) fn height(&self) -> u64 {
        self.known.last().map_or(0, |block| block.number)
    }

    /// The facts of a job after the last block that was told.
    pub(crate) fn facts(&self, job: JobId) -> Option<&JobFacts> {
        self.known.last()?.after.facts.get(&job)
    }

    /// The block of the last commit in a job, of those up to `height`.
    pub(crate) fn last_commit(&self, job: JobId, height: u64) -> Option<u64> {
        let commits =
            |event: &MarketEvent| matches!(event, MarketEvent::Committed { job: of, .. } if *of == job);
        let holds = |block: &&Rc<Block>| block.number <= height && block.logs.iter().any(commits);
        self.known.iter().rev().find(holds).map(|block| block.number)
    }

    /// What an endpoint that answers from `height` tells now.
    pub(crate) fn poll(&mut self, chain: &Chain, height: u64) -> Vec<News> {
        let mut news = Vec::new();
        let stands = |block: &Rc<Block>| {
            block.number <= height && chain.block(block.number).is_some_and(|it| Rc::ptr_eq(it, block))
        };
        let mut went_back = false;
        while let Some(block) = self.known.pop_if(|block| !stands(block)) {
            let undone = |(event, at): (&MarketEvent, Position)| ChainNews::Undone(event.clone(), at);
            news.extend(block.placed().rev().map(undone).map(News::Log));
            went_back = true;
        }
        if went_back {
            news.extend(self.known.last().map(|block| head(block)));
        }
        let catches_up = self.height() + 3 < height;
        for number in self.height() + 1..=height {
            let Some(block) = chain.block(number) else { break };
            let applied = |(event, at): (&MarketEvent, Position)| ChainNews::Applied(event.clone(), at);
            news.extend(block.placed().map(applied).map(News::Log));
            if !catches_up || number == height {
                news.push(head(block));
            }
            self.known.push(block.clone());
        }
        news
    }
}

const fn head(block: &Block) -> News {
    News::Head(ChainNews::Head {
        number: block.number,
        time: block.time,
    })
}
