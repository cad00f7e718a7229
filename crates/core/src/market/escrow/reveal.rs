//! Opening commits. docs/protocol.md, "Reveal".

use sandrun_types::{Answer, B256, JobId, ResultParts, SeatIndex, commitment};

use super::{Escrow, Moment, Opening, Refusal};
use crate::market::rules::Standing;
use crate::market::{MarketEvent, Phase, Round};

impl Escrow {
    pub(super) fn reveal(
        &mut self,
        at: Moment,
        job: JobId,
        openings: &[Opening],
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        self.begin_reveal(at, job, effects)?;
        for opening in openings {
            self.open(at, job, *opening, None, effects)?;
        }
        Ok(())
    }

    pub(super) fn reveal_result(
        &mut self,
        at: Moment,
        job: JobId,
        seat: SeatIndex,
        result: ResultParts,
        salt: B256,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        self.begin_reveal(at, job, effects)?;
        let answer = Answer::Digest(result.digest(self.here, job));
        self.open(at, job, Opening { seat, answer, salt }, Some(result), effects)
    }

    /// Brings a job up to date in which something may be revealed now: in a Reveal, and late by seats of round 0 after it.
    fn begin_reveal(
        &mut self,
        at: Moment,
        job: JobId,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        self.advance(at, None, job, effects)?;
        let progress = &self.job_mut(job)?.progress;
        let phase = progress.phase;
        let is_late = progress.round == Round::Extra && !progress.reveals_together();
        match phase {
            Phase::Reveal => Ok(()),
            Phase::Seats | Phase::Run if is_late => Ok(()),
            Phase::Seats | Phase::Run | Phase::Closed => Err(Refusal::WrongPhase { job, phase }),
        }
    }

    /// Opens one commit, and publishes the result that comes with it; skips what is open already.
    fn open(
        &mut self,
        at: Moment,
        job: JobId,
        opening: Opening,
        result: Option<ResultParts>,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        let Opening { seat, answer, salt } = opening;
        let record = self.job_mut(job)?;
        let index = usize::from(seat.0);
        let (Some(holder), Some(state)) = (record.holders.get(index), record.progress.seats.get(index))
        else {
            return Err(Refusal::NoSuchSeat { job, seat });
        };
        let (node, round) = (holder.node, state.round);
        match state.standing {
            Standing::Uncommitted => return Err(Refusal::NotCommitted { job, seat }),
            Standing::Revealed(_) | Standing::Late(_) => return Ok(()),
            Standing::Committed => {}
        }
        let timely = record.progress.is_timely(round, at.now);
        let still_to_come =
            record.progress.phase != Phase::Reveal && record.progress.reveals_in_this_round(round);
        if record.progress.phase == Phase::Closed || still_to_come {
            return Err(Refusal::WrongPhase {
                job,
                phase: record.progress.phase,
            });
        }
        if holder.commitment != Some(commitment(job, round.number(), node, answer.to_word(), salt)) {
            return Err(Refusal::CommitMismatch { job, seat });
        }
        if answer == Answer::Limit && !holder.limit_allowed {
            return Err(Refusal::LimitTooEarly { job, seat });
        }
        // digests with one tag are one answer
        let counted = match answer {
            Answer::Digest(digest) => {
                let published = record.published.iter().find(|known| known.tag() == digest.tag());
                match (published, result) {
                    (Some(published), _) => Answer::Digest(*published),
                    (None, Some(result)) => {
                        record.published.insert(digest);
                        effects.push(MarketEvent::ResultPublished {
                            job,
                            digest,
                            result: result.into(),
                        });
                        answer
                    }
                    (None, None) => return Err(Refusal::ResultUnpublished { job, digest }),
                }
            }
            Answer::Unavailable | Answer::Limit => answer,
        };
        let standing = if timely {
            Standing::Revealed(counted)
        } else {
            Standing::Late(counted)
        };
        if let Some(state) = record.progress.seats.get_mut(index) {
            state.standing = standing;
        }
        effects.push(MarketEvent::Revealed {
            job,
            node,
            seat,
            answer,
        });
        self.settle_seat(job, index, None, effects)?;
        self.advance(at, None, job, effects)
    }
}
