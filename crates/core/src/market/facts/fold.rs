//! The fold of a job's events. An event implies the phase that it can happen in, so that the fold does not rely on
//! every phase change having an event of its own.

use sandrun_types::{Answer, B256, JobId, NodeIndex, SeatIndex, UnixSeconds};

use super::{JobFacts, SeatFacts, SeatFinish};
use crate::market::rules::{
    Payment, Progress, Resolution, Stake, Standing, Verdict, Windows, final_verdict, next_step,
    winner_at_once,
};
use crate::market::{MarketEvent, Outcome, Phase, Round, SeatEnd};

/// Events that no chain can have emitted in this order: some are missing or belong elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactsError {
    /// The first event is not the posting.
    #[error("the events do not begin with the posting of a job")]
    NotPosted,
    /// The event is about another job, or about none.
    #[error("the event is not about job {job}")]
    OtherJob {
        /// The job whose facts these are.
        job: JobId,
    },
    /// A posted job was posted again.
    #[error("job {job} was posted twice")]
    PostedTwice {
        /// The job.
        job: JobId,
    },
    /// A seat that was never claimed, or a claim out of order.
    #[error("job {job} has no seat {seat} at this point: events are missing")]
    SeatMissing {
        /// The job.
        job: JobId,
        /// The seat.
        seat: SeatIndex,
    },
}

impl JobFacts {
    /// Facts of a job that was just posted.
    ///
    /// # Errors
    /// Any other event than a posting.
    pub fn posted(event: &MarketEvent, windows: Windows) -> Result<Self, FactsError> {
        let MarketEvent::JobPosted {
            job,
            order,
            deadline,
            units,
            ..
        } = event
        else {
            return Err(FactsError::NotPosted);
        };
        Ok(Self {
            job: *job,
            order: order.as_ref().clone(),
            windows,
            round: Round::First,
            phase: Phase::Seats,
            deadline: *deadline,
            units: *units,
            seats: Vec::new(),
            resolution: None,
            results: std::collections::BTreeMap::new(),
            refunded: None,
            burnt: Payment::ZERO,
        })
    }

    /// Folds a job's events, the posting first. To undo an event, fold the others.
    ///
    /// # Errors
    /// Events that do not begin with a posting, or that contradict each other.
    pub fn fold<'a>(
        events: impl IntoIterator<Item = &'a MarketEvent>,
        windows: Windows,
    ) -> Result<Self, FactsError> {
        let mut events = events.into_iter();
        let mut facts = Self::posted(events.next().ok_or(FactsError::NotPosted)?, windows)?;
        for event in events {
            facts.apply(event)?;
        }
        Ok(facts)
    }

    /// Takes in the next event of this job.
    ///
    /// # Errors
    /// An event of another job, a second posting, or one about a seat that is not there; the facts are unchanged.
    pub fn apply(&mut self, event: &MarketEvent) -> Result<(), FactsError> {
        let job = self.job;
        if event.job() != Some(job) {
            return Err(FactsError::OtherJob { job });
        }
        match event {
            MarketEvent::JobPosted { .. } => return Err(FactsError::PostedTwice { job }),
            MarketEvent::SeatClaimed {
                node, seat, deadline, ..
            } => self.claimed(*node, *seat, *deadline)?,
            MarketEvent::Committed { seat, deadline, .. } => self.committed(*seat, *deadline)?,
            MarketEvent::Revealed { seat, answer, .. } => self.revealed(*seat, *answer)?,
            MarketEvent::ResultPublished { digest, result, .. } => {
                self.results.insert(*digest, *result);
            }
            MarketEvent::RoundOpened { deadline, units, .. } => {
                self.round = Round::Extra;
                self.units = *units;
                self.enter(Phase::Seats, *deadline);
            }
            MarketEvent::PhaseChanged { phase, deadline, .. } => self.enter(*phase, *deadline),
            MarketEvent::JobDecided { outcome, answer, .. } => self.decided(*outcome, *answer),
            MarketEvent::SeatFinished {
                seat,
                end,
                paid,
                slashed,
                ..
            } => {
                self.finished(*seat, *end, Payment(*paid), Stake(*slashed))?;
            }
            MarketEvent::Refunded { amount, .. } => {
                self.refunded = Some(self.refunded.unwrap_or_default().saturating_add(Payment(*amount)));
            }
            MarketEvent::Burnt { amount, .. } => self.burnt = self.burnt.saturating_add(Payment(*amount)),
            MarketEvent::Withdrawn { .. }
            | MarketEvent::NodeWithdrawn { .. }
            | MarketEvent::NodeRegistered { .. }
            | MarketEvent::ProfileChanged { .. }
            | MarketEvent::PayoutChanged { .. }
            | MarketEvent::StakeAdded { .. }
            | MarketEvent::OptedIn { .. }
            | MarketEvent::Leaving { .. }
            | MarketEvent::Released { .. }
            | MarketEvent::StakeWithdrawn { .. }
            | MarketEvent::Seized { .. } => return Err(FactsError::OtherJob { job }),
        }
        Ok(())
    }

    const fn enter(&mut self, phase: Phase, deadline: UnixSeconds) {
        self.phase = phase;
        self.deadline = deadline;
    }

    fn seat(&mut self, seat: SeatIndex) -> Result<&mut SeatFacts, FactsError> {
        let missing = FactsError::SeatMissing { job: self.job, seat };
        self.seats.get_mut(usize::from(seat.0)).ok_or(missing)
    }

    fn claimed(&mut self, node: NodeIndex, seat: SeatIndex, deadline: UnixSeconds) -> Result<(), FactsError> {
        if self.seats.len() != usize::from(seat.0) {
            return Err(FactsError::SeatMissing { job: self.job, seat });
        }
        self.seats.push(SeatFacts {
            node,
            round: self.round,
            standing: Standing::Uncommitted,
            end: None,
        });
        let progress: Progress = self.progress();
        let full = progress.taken(self.round) >= progress.wanted();
        self.enter(if full { Phase::Run } else { Phase::Seats }, deadline);
        Ok(())
    }

    fn committed(&mut self, seat: SeatIndex, deadline: UnixSeconds) -> Result<(), FactsError> {
        self.seat(seat)?.standing = Standing::Committed;
        let all = self.progress().owing_commit().is_empty();
        self.enter(if all { Phase::Reveal } else { Phase::Run }, deadline);
        Ok(())
    }

    /// The answer that the contract takes `answer` for: digests with one tag are one answer, the one that was published.
    fn as_counted(&self, answer: Answer) -> Answer {
        match answer {
            Answer::Digest(digest) => {
                let published = self.results.keys().find(|known| known.tag() == digest.tag());
                Answer::Digest(*published.unwrap_or(&digest))
            }
            Answer::Unavailable | Answer::Limit => answer,
        }
    }

    fn revealed(&mut self, seat: SeatIndex, answer: Answer) -> Result<(), FactsError> {
        let answer = self.as_counted(answer);
        let round = self.seat(seat)?.round;
        let timely = self.progress().reveals_in_this_round(round);
        if timely && matches!(self.phase, Phase::Seats | Phase::Run) {
            self.windows_were_over();
        }
        self.seat(seat)?.standing = if timely {
            Standing::Revealed(answer)
        } else {
            Standing::Late(answer)
        };
        Ok(())
    }

    /// A timely reveal: the windows before it were over, even if no event said so.
    fn windows_were_over(&mut self) {
        let mut progress = self.progress();
        while progress.phase != Phase::Reveal
            && let Some(step) = next_step(&progress, progress.deadline.plus(1))
        {
            progress.make(step, &self.windows);
        }
        self.enter(progress.phase, progress.deadline);
    }

    fn decided(&mut self, outcome: Outcome, answer: B256) {
        let seats = self.progress().seats;
        let redundancy = self.order.redundancy;
        let resolution = match outcome {
            Outcome::Digest => {
                // the event carries the winner's tag; the reveals and the published results carry all
                let counted = winner_at_once(redundancy, &seats).map(Verdict::Won);
                match counted.unwrap_or_else(|| final_verdict(redundancy, &seats)) {
                    verdict @ Verdict::Won(Answer::Digest(_)) => Resolution::Decided(verdict),
                    Verdict::Won(Answer::Unavailable | Answer::Limit) | Verdict::NoneWins => {
                        Resolution::Decided(Verdict::Won(self.as_counted(Answer::from_word(answer))))
                    }
                }
            }
            Outcome::Limit => Resolution::Decided(Verdict::Won(Answer::Limit)),
            Outcome::Unavailable => Resolution::Decided(Verdict::Won(Answer::Unavailable)),
            Outcome::NoneWins => Resolution::Decided(Verdict::NoneWins),
            Outcome::Expired => Resolution::Expired,
            Outcome::Cancelled => Resolution::Cancelled,
        };
        self.resolution = Some(resolution);
        match resolution {
            Resolution::Decided(_) => {}
            Resolution::Expired | Resolution::Cancelled => self.enter(Phase::Closed, UnixSeconds(0)),
        }
    }

    fn finished(
        &mut self,
        seat: SeatIndex,
        end: SeatEnd,
        paid: Payment,
        slashed: Stake,
    ) -> Result<(), FactsError> {
        let state = self.seat(seat)?;
        state.end = Some(SeatFinish { end, paid, slashed });
        // events have no time: that a reveal came after its window shows in how the seat ends
        if let (Standing::Revealed(answer), SeatEnd::SlashedLate | SeatEnd::SlashedUnrevealed) =
            (state.standing, end)
        {
            state.standing = Standing::Late(answer);
        }
        if self.resolution.is_some() && self.seats.iter().all(|it| it.end.is_some()) {
            self.enter(Phase::Closed, UnixSeconds(0));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::PublishedResult;
    use sandrun_types::{
        Address, Amount, ClassId, ContentDigest, ManifestDigest, NodeIndex, Order, OutputRoot, Redundancy,
        ResultDigest, Token, TraceRoot, U256,
    };

    const JOB: JobId = JobId([1; 32]);

    fn posted() -> MarketEvent {
        let client = Address::repeat_byte(1);
        let order = Order {
            client,
            payer: client,
            nonce: U256::ZERO,
            bundle: ContentDigest([2; 32]),
            manifest: ManifestDigest([3; 32]),
            class: ClassId([0; 32]),
            requirements: U256::ZERO,
            token: Token::Native,
            price: Amount::from_gwei(1),
            redundancy: Redundancy::Two,
            bond: Amount::from_gwei(5),
            wall_limit: 5,
            min_reputation: 0,
            client_key: B256::ZERO,
        };
        MarketEvent::JobPosted {
            job: JOB,
            client,
            order: Box::new(order),
            deadline: UnixSeconds(60),
            units: 9,
        }
    }

    #[test]
    fn a_variant_with_the_same_tag_is_the_published_answer() {
        let digest = ResultDigest([7; 32]);
        let mut variant = digest;
        variant.0[31] = 9;
        let mut decided = digest;
        decided.0[27..].fill(0);
        let result = PublishedResult {
            class: ClassId([0; 32]),
            exit_status: 0,
            output_root: OutputRoot([1; 32]),
            trace_root: TraceRoot([2; 32]),
            content: ContentDigest([3; 32]),
        };
        let (deadline, seats) = (
            UnixSeconds(99),
            [(NodeIndex(1), SeatIndex(0)), (NodeIndex(2), SeatIndex(1))],
        );
        let mut events = vec![posted()];
        events.extend(seats.map(|(node, seat)| MarketEvent::SeatClaimed {
            job: JOB,
            node,
            seat,
            deadline,
        }));
        events.extend(seats.map(|(node, seat)| MarketEvent::Committed {
            job: JOB,
            node,
            seat,
            deadline,
        }));
        events.push(MarketEvent::ResultPublished {
            job: JOB,
            digest,
            result,
        });
        for ((node, seat), said) in seats.into_iter().zip([digest, variant]) {
            events.push(MarketEvent::Revealed {
                job: JOB,
                node,
                seat,
                answer: Answer::Digest(said),
            });
        }
        events.push(MarketEvent::JobDecided {
            job: JOB,
            outcome: Outcome::Digest,
            answer: decided.into(),
        });
        let windows = Windows {
            seat: 60,
            run_multiple: 3,
            run_slack: 30,
            reveal: 60,
        };
        let facts = JobFacts::fold(&events, windows).unwrap();
        assert_eq!(facts.winner(), Some((digest, Some(&result))));
    }
}
