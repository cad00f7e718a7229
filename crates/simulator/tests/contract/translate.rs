//! From the simulator's deployment to a real one: other job ids, other worker keys, other seeds, and so at times other
//! winners of a seat. What is said stays the same.

use std::collections::BTreeMap;

use sandrun_core::market::escrow::{Call, Escrow, Opening};
use sandrun_simulator::Script;
use sandrun_types::{
    Address, Answer, B256, Commitment, EscrowRef, JobId, NodeIndex, Order, ResultDigest, ResultParts,
    SeatIndex, Token, commitment,
};

/// The translation of one script.
#[derive(Debug)]
pub(crate) struct Translation {
    here: EscrowRef,
    workers: BTreeMap<Address, Address>,
    /// Orders as they are posted here, by their old job id.
    pub(crate) orders: BTreeMap<JobId, Order>,
    holders: BTreeMap<JobId, Vec<NodeIndex>>,
    /// What each commit hides, where it was ever opened.
    openings: BTreeMap<(JobId, SeatIndex), (Answer, B256)>,
    results: BTreeMap<ResultDigest, ResultParts>,
}

impl Translation {
    pub(crate) fn new(script: &Script, here: EscrowRef, workers: BTreeMap<Address, Address>) -> Self {
        let mut it = Self {
            here,
            workers,
            orders: BTreeMap::new(),
            holders: script.holders.clone(),
            openings: BTreeMap::new(),
            results: BTreeMap::new(),
        };
        // the simulator's own escrow
        let there = EscrowRef {
            escrow: Address::repeat_byte(0xe5),
            ..here
        };
        for (_, call) in script.blocks.iter().flat_map(|block| &block.calls) {
            if let Call::Post { order, .. } = call {
                let mut mine = order.as_ref().clone();
                mine.token = Token::Native;
                it.orders.insert(order.job_id(there), mine);
            } else if let Call::Reveal { job, openings } = call {
                let known = openings
                    .iter()
                    .map(|one| ((*job, one.seat), (one.answer, one.salt)));
                it.openings.extend(known);
            } else if let Call::RevealResult {
                job,
                seat,
                result,
                salt,
            } = call
            {
                let digest = result.digest(there, *job);
                it.results.insert(digest, *result);
                it.openings.insert((*job, *seat), (Answer::Digest(digest), *salt));
            }
        }
        it
    }

    pub(crate) fn caller(&self, old: Address) -> Address {
        self.workers.get(&old).copied().unwrap_or(old)
    }

    fn job(&self, old: JobId) -> JobId {
        self.orders.get(&old).map_or(old, |order| order.job_id(self.here))
    }

    fn answer(&self, old: JobId, answer: Answer) -> Answer {
        match answer {
            Answer::Digest(digest) => {
                let parts = self.results.get(&digest);
                Answer::Digest(parts.map_or(digest, |parts| parts.digest(self.here, self.job(old))))
            }
            Answer::Unavailable | Answer::Limit => answer,
        }
    }

    /// The seat that the same node has here.
    fn seat(&self, old: JobId, seat: SeatIndex, model: &Escrow) -> SeatIndex {
        let node = self.holders.get(&old).and_then(|it| it.get(usize::from(seat.0)));
        let here = model.job(self.job(old)).and_then(|record| {
            let index = record.holders.iter().position(|it| Some(&it.node) == node)?;
            u8::try_from(index).ok().map(SeatIndex)
        });
        here.unwrap_or(seat)
    }

    /// A commit to the same answer, where it is known; else to whatever it was.
    fn commit(&self, old: JobId, seat: SeatIndex, given: Commitment, model: &Escrow) -> Call {
        let (job, here) = (self.job(old), self.seat(old, seat, model));
        let record = model.job(job);
        let round = record.and_then(|it| it.progress.seats.get(usize::from(here.0)));
        let node = self.holders.get(&old).and_then(|it| it.get(usize::from(seat.0)));
        let commitment = match (self.openings.get(&(old, seat)), round, node) {
            (Some((answer, salt)), Some(state), Some(node)) => {
                let word = self.answer(old, *answer).to_word();
                commitment(job, state.round.number(), *node, word, *salt)
            }
            _ => given,
        };
        Call::Commit {
            job,
            seat: here,
            commitment,
        }
    }

    /// A call as it is made here.
    pub(crate) fn call(&self, old: &Call, model: &Escrow, seed: impl Fn(JobId) -> B256) -> Call {
        match old.clone() {
            Call::Post { order, sent } => {
                let mut order = order;
                order.token = Token::Native;
                Call::Post { order, sent }
            }
            Call::Cancel { job } => Call::Cancel { job: self.job(job) },
            Call::Claim { job, node, unit, .. } => {
                let job = self.job(job);
                let seed = seed(job);
                Call::Claim {
                    job,
                    node,
                    unit,
                    seed,
                }
            }
            Call::Commit {
                job,
                seat,
                commitment,
            } => self.commit(job, seat, commitment, model),
            Call::Reveal { job: old, openings } => Call::Reveal {
                job: self.job(old),
                openings: openings
                    .into_iter()
                    .map(|one| Opening {
                        seat: self.seat(old, one.seat, model),
                        answer: self.answer(old, one.answer),
                        salt: one.salt,
                    })
                    .collect(),
            },
            Call::RevealResult {
                job: old,
                seat,
                result,
                salt,
            } => Call::RevealResult {
                job: self.job(old),
                seat: self.seat(old, seat, model),
                result,
                salt,
            },
            Call::Poke { job } => Call::Poke { job: self.job(job) },
            Call::Refund { job } => Call::Refund { job: self.job(job) },
            Call::Withdraw { to, .. } => Call::Withdraw {
                token: Token::Native,
                to,
            },
            Call::WithdrawNode { node, .. } => Call::WithdrawNode {
                node,
                token: Token::Native,
            },
            call @ (Call::Register { .. }
            | Call::AddStake { .. }
            | Call::OptIn { .. }
            | Call::Leave { .. }
            | Call::Release { .. }
            | Call::WithdrawStake { .. }) => call,
        }
    }
}
