//! Whether the whole state is sound: conservation, bonds, seats, settlement. Read after every step in tests.

use sandrun_types::{Amount, JobId, NodeIndex, Token};

use super::{Escrow, JobRecord};
use crate::market::rules::{Payment, Resolution, Stake, Standing};
use crate::market::{Phase, Round, SeatEnd};

/// A sentence of the invariants that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// Money in is not money owed, paid and burnt.
    #[error("{token}: {} came in, {} is accounted for", came.0, accounted.0)]
    Money {
        /// The token.
        token: Token,
        /// Deposits and tips.
        came: Payment,
        /// Remaining, owed, withdrawn, burnt.
        accounted: Payment,
    },
    /// Stake in is not stake held, withdrawn, burnt and tipped.
    #[error("stake: {} came in, {} is accounted for", came.0, accounted.0)]
    Stake {
        /// Deposits.
        came: Stake,
        /// Held, withdrawn, burnt, tipped.
        accounted: Stake,
    },
    /// A node's bonds are not the bonds of its unfinished seats.
    #[error("node {node}: {} is locked, its seats have {} in bonds", locked.0, bonds.0)]
    Bonds {
        /// The node.
        node: NodeIndex,
        /// What it has locked.
        locked: Stake,
        /// What its seats say.
        bonds: Stake,
    },
    /// A node's stake does not cover what is reserved or locked.
    #[error("node {node}: its stake does not cover its reserve or its bonds")]
    Uncovered {
        /// The node.
        node: NodeIndex,
    },
    /// A job contradicts itself.
    #[error("job {job}: {what}")]
    Job {
        /// The job.
        job: JobId,
        /// How.
        what: &'static str,
    },
}

impl Escrow {
    /// Checks every invariant of the state.
    ///
    /// # Errors
    /// The first sentence that does not hold.
    pub fn sanity_check(&self) -> Result<(), Unsound> {
        for token in self.tokens.keys() {
            self.check_money(*token)?;
        }
        self.check_stake()?;
        for (node, record) in &self.nodes {
            let bonds = self.bonds_of(*node);
            if bonds != record.locked {
                return Err(Unsound::Bonds {
                    node: *node,
                    locked: record.locked,
                    bonds,
                });
            }
            let reserve = record.cap.saturating_add(record.leaving);
            if record.locked > reserve || reserve > record.stake {
                return Err(Unsound::Uncovered { node: *node });
            }
        }
        for (job, record) in &self.jobs {
            check_job(record).map_err(|what| Unsound::Job { job: *job, what })?;
        }
        Ok(())
    }

    fn check_money(&self, token: Token) -> Result<(), Unsound> {
        let ledger = &self.ledger;
        let total = |amount: Option<&Payment>| amount.copied().unwrap_or_default();
        let tips = if token == Token::Native {
            Payment(ledger.tips.0)
        } else {
            Payment::ZERO
        };
        let came = total(ledger.deposited.get(&token)).saturating_add(tips);
        let jobs = self
            .jobs
            .values()
            .filter(|job| job.order.token == token)
            .map(|job| job.remaining);
        let balances = ledger
            .balances
            .iter()
            .filter(|((of, _), _)| *of == token)
            .map(|(_, owed)| *owed);
        let earnings = ledger
            .earnings
            .iter()
            .filter(|((of, _), _)| *of == token)
            .map(|(_, owed)| *owed);
        let gone = [
            total(ledger.withdrawn.get(&token)),
            total(ledger.burnt.get(&token)),
        ];
        let accounted = jobs
            .chain(balances)
            .chain(earnings)
            .chain(gone)
            .fold(Payment::ZERO, Payment::saturating_add);
        if came == accounted {
            Ok(())
        } else {
            Err(Unsound::Money {
                token,
                came,
                accounted,
            })
        }
    }

    fn check_stake(&self) -> Result<(), Unsound> {
        let ledger = &self.ledger;
        let gone = [ledger.stake_withdrawn, ledger.stake_burnt, ledger.tips];
        let accounted = self
            .nodes
            .values()
            .map(|node| node.stake)
            .chain(gone)
            .fold(Stake::ZERO, Stake::saturating_add);
        let came = ledger.stake_deposited;
        if came == accounted {
            Ok(())
        } else {
            Err(Unsound::Stake { came, accounted })
        }
    }

    fn bonds_of(&self, node: NodeIndex) -> Stake {
        let open = |job: &JobRecord| {
            job.holders
                .iter()
                .filter(|it| it.node == node && it.end.is_none())
                .count()
        };
        let bonds = self
            .jobs
            .values()
            .map(|job| job.terms.bond.saturating_mul(open(job)));
        bonds.fold(Stake::ZERO, Stake::saturating_add)
    }
}

fn check_job(job: &JobRecord) -> Result<(), &'static str> {
    let progress = &job.progress;
    let seats = &progress.seats;
    let closed = progress.phase == Phase::Closed;
    let holders = || job.holders.iter().enumerate();
    let twice = holders().any(|(index, it)| {
        job.holders
            .iter()
            .skip(index + 1)
            .any(|other| other.node == it.node)
    });
    let in_order = seats.windows(2).all(|pair| pair[0].round <= pair[1].round);
    let bound = job
        .holders
        .iter()
        .zip(seats)
        .all(|(holder, seat)| holder.commitment.is_some() == (seat.standing != Standing::Uncommitted));
    let too_many = progress.taken(Round::First) > usize::from(progress.redundancy.replicas())
        || progress.taken(Round::Extra) > 2;
    let checks = [
        (
            job.holders.len() == seats.len(),
            "seats and holders differ in number",
        ),
        (!twice, "a node holds two seats"),
        (!too_many, "more seats than there are"),
        (
            in_order,
            "a seat of the first round comes after one of the extra round",
        ),
        (bound, "a seat's commit is not where its standing says"),
        (
            job.remaining <= job.terms.locked_sum(),
            "more is left than was locked",
        ),
        (
            !closed || progress.resolution.is_some(),
            "closed without an outcome",
        ),
        (
            !closed || job.holders.iter().all(|it| it.end.is_some()),
            "closed with an unfinished seat",
        ),
        (
            progress.resolution.is_some() || job.holders.iter().all(|it| it.end.is_none()),
            "finished before decided",
        ),
        (
            progress.round == Round::First || progress.redundancy.has_extra_round(),
            "an extra round for n = 1",
        ),
    ];
    if let Some((_, what)) = checks.iter().find(|(holds, _)| !holds) {
        return Err(what);
    }
    if closed { check_settlement(job) } else { Ok(()) }
}

/// A closed job's seats ended as the table says, and what is left is what the rules leave, or was refunded.
fn check_settlement(job: &JobRecord) -> Result<(), &'static str> {
    let ends: Vec<Option<SeatEnd>> = job.holders.iter().map(|it| it.end).collect();
    let left_or_refunded = |rest: Payment| job.remaining == rest || job.remaining == Payment(Amount::ZERO);
    match job.progress.resolution {
        Some(Resolution::Decided(verdict)) => {
            let settlement = job.terms.settle(verdict, &job.progress.seats);
            let same = settlement.seats.iter().map(|it| Some(it.end)).eq(ends);
            if !same {
                return Err("a seat did not end as the table says");
            }
            if left_or_refunded(settlement.rest) {
                Ok(())
            } else {
                Err("the rest is not what the rules leave")
            }
        }
        Some(Resolution::Expired) => {
            let released = ends.iter().all(|end| *end == Some(SeatEnd::Released));
            if released {
                Ok(())
            } else {
                Err("a seat of an expired job was not released")
            }
        }
        Some(Resolution::Cancelled) => {
            let nothing = ends.is_empty() && job.remaining.is_zero();
            if nothing {
                Ok(())
            } else {
                Err("a cancelled job has seats or money")
            }
        }
        None => Err("closed without an outcome"),
    }
}
