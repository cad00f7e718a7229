//! The decisions: which state follows from journal, chain and what is under way, and which action is next.
//! Both are pure functions of the machine.

use sandrun_types::{Answer, UnixSeconds, commitment};

use super::machine::{Bundle, Fresh, Hand, Seat, Verdict};
use super::view::SeatView;
use super::{Action, Held, Loss, Record, SealedAnswer, State, Terms, Transaction};
use crate::market::rules::Progress;
use crate::market::{Phase, Round};

impl Seat {
    /// Which state follows from what is known.
    pub(super) fn derive(&self, now: UnixSeconds) -> State {
        if self.chain.head.is_none() {
            return if self.memory == Default::default() {
                State::Seen
            } else {
                State::Recovering
            };
        }
        match self.view.seat_of(self.terms.node) {
            Some(mine) => self.derive_inside(&mine, now),
            None => self.derive_outside(now),
        }
    }

    fn derive_inside(&self, mine: &SeatView, now: UnixSeconds) -> State {
        let held = mine.held;
        if let (Some((end, at)), Some(known)) = (mine.finished, self.memory.ended)
            && end == known
            && self.is_deep(at.block)
        {
            return State::Finished { held, end };
        }
        if let Some(answer) = mine.revealed {
            return State::Revealed { held, answer };
        }
        let answer = self.memory.answer(held.round).map(|sealed| sealed.answer);
        match (mine.is_committed, answer) {
            _ if mine.finished.is_some() => State::Missed(held),
            (true, None) => State::Missed(held),
            (true, Some(answer)) if self.hand.is_at(Transaction::Reveal) => State::Revealing { held, answer },
            (true, Some(answer)) => State::Committed { held, answer },
            (false, Some(answer)) if self.hand.is_at(Transaction::Commit) => {
                State::Committing { held, answer }
            }
            (false, _) if !self.may_still_commit(held, now) => State::Missed(held),
            (false, Some(answer)) => State::Answered { held, answer },
            (false, None) => match self.run {
                Some(attempt) => State::Running { held, attempt },
                None => State::Seated(held),
            },
        }
    }

    fn derive_outside(&self, now: UnixSeconds) -> State {
        if let Some((round, unit)) = self.claim_under_way() {
            return State::Claiming { round, unit };
        }
        if !self.view.is_posted() {
            return State::Lost(Loss::Unposted);
        }
        if let Some((outcome, _)) = self.view.decided() {
            return State::Lost(Loss::Over(Some(outcome)));
        }
        if self.view.live_at(now).is_none() {
            return State::Lost(Loss::Over(None));
        }
        if self.open_seats(now).is_none() {
            return State::Lost(Loss::NoSeats);
        }
        match (&self.verdict, self.bundle) {
            (_, Bundle::Broken) => State::Lost(Loss::BadBundle),
            (Verdict::Unknown, Bundle::Held | Bundle::Missing) => State::Seen,
            (Verdict::Unwanted(objections), Bundle::Held | Bundle::Missing) => {
                State::Declined(objections.clone())
            }
            (Verdict::Wanted, Bundle::Held) => State::Accepted,
            (Verdict::Wanted, Bundle::Missing) => State::Fetching,
        }
    }

    fn claim_under_way(&self) -> Option<(Round, u32)> {
        match self.hand {
            Hand::Journalling(Record::Claiming { round, unit })
            | Hand::Ready(Record::Claiming { round, unit }) => Some((round, unit)),
            Hand::Sending(Transaction::Claim) | Hand::Settling(Transaction::Claim, _) => self.memory.claimed,
            Hand::Free
            | Hand::Fetching
            | Hand::Journalling(_)
            | Hand::Ready(_)
            | Hand::Sending(_)
            | Hand::Settling(..) => None,
        }
    }

    /// The job at `now`, if seats can be claimed in it.
    pub(super) fn open_seats(&self, now: UnixSeconds) -> Option<Progress> {
        self.view.at(now).filter(|job| job.phase == Phase::Seats)
    }

    fn is_deep(&self, block: u64) -> bool {
        self.chain.is_deep(block, self.terms.confirmations)
    }

    /// Whether a commit of this seat can still be valid now or later.
    fn may_still_commit(&self, held: Held, now: UnixSeconds) -> bool {
        match self.view.live_at(now) {
            Some(job) => job.round == held.round && matches!(job.phase, Phase::Seats | Phase::Run),
            // it expires for want of seats: the bond comes back
            None => self.view.noticed() == Some((Phase::Seats, held.round)),
        }
    }

    /// What goes on disk and what is announced by it, once it is there.
    pub(super) fn follow_up(&mut self, now: UnixSeconds, record: Record) {
        let go_on = match record {
            Record::Claiming { round, .. } => {
                self.view.seat_of(self.terms.node).is_none()
                    && self.open_seats(now).is_some_and(|job| job.round == round)
            }
            Record::Running { .. } => self.run_until(now).is_some(),
            Record::Answered(_) | Record::Ended { .. } => false,
            Record::Reopened => {
                self.retired = false;
                false
            }
        };
        if go_on {
            self.hand = Hand::Ready(record);
        }
    }

    /// Until when a run for our seat is of use; `None` when none is.
    fn run_until(&self, now: UnixSeconds) -> Option<UnixSeconds> {
        let mine = self.view.seat_of(self.terms.node)?;
        let job = self.view.at(now)?;
        let wanted = mine.held.round == job.round && !mine.is_committed;
        let deadline = match job.phase {
            Phase::Run => job.deadline,
            // the run window starts at the seats' deadline at the latest
            Phase::Seats => job.deadline.plus(self.terms.run_window()),
            Phase::Reveal | Phase::Closed => return None,
        };
        let until = self.terms.fall_back_at(deadline);
        (wanted && now < until).then_some(until)
    }

    /// The next action, if there is one.
    pub(super) fn plan(&self, now: UnixSeconds) -> Option<Action> {
        self.chain.head?;
        if let Some(attempt) = self.run
            && self.run_is_useless(now)
        {
            return Some(Action::StopRun { attempt });
        }
        match self.hand {
            Hand::Free => self.book_keeping().or_else(|| self.plan_free(now)),
            Hand::Ready(Record::Claiming { round, unit }) => Some(Action::Claim { round, unit }),
            Hand::Ready(Record::Running { attempt }) => Some(Action::Run {
                attempt,
                until: self.run_until(now).unwrap_or(now),
            }),
            Hand::Ready(Record::Answered(_) | Record::Ended { .. } | Record::Reopened)
            | Hand::Journalling(_)
            | Hand::Fetching
            | Hand::Sending(_)
            | Hand::Settling(..) => None,
        }
    }

    fn run_is_useless(&self, now: UnixSeconds) -> bool {
        match &self.state {
            State::Running { .. } => self.run_until(now).is_none(),
            State::Declined(_) | State::Missed(_) | State::Finished { .. } => true,
            State::Revealed { .. } | State::Committed { .. } | State::Answered { .. } => true,
            State::Lost(loss) => match loss {
                Loss::Over(_) | Loss::BadBundle => true,
                // what a reorganisation took away may come back at once
                Loss::Unposted | Loss::NoSeats => false,
            },
            State::Recovering
            | State::Seen
            | State::Fetching
            | State::Accepted
            | State::Claiming { .. }
            | State::Seated(_)
            | State::Committing { .. }
            | State::Revealing { .. } => false,
        }
    }

    /// Journal entries about the end.
    fn book_keeping(&self) -> Option<Action> {
        let finished = self.view.seat_of(self.terms.node).and_then(|mine| mine.finished);
        match (finished, self.memory.ended) {
            (Some((end, at)), known) if self.is_deep(at.block) && known != Some(end) => {
                Some(Action::Journal(Record::Ended { end }))
            }
            (None, Some(_)) => Some(Action::Journal(Record::Reopened)),
            (Some(_), _) | (None, None) => None,
        }
    }

    fn plan_free(&self, now: UnixSeconds) -> Option<Action> {
        match &self.state {
            State::Recovering | State::Seen | State::Declined(_) | State::Claiming { .. } => None,
            State::Fetching => (!self.work_rests).then_some(Action::FetchBundle),
            State::Accepted => {
                let (round, unit) = self.ticket?;
                Some(Action::Journal(Record::Claiming { round, unit }))
            }
            State::Seated(held) => self.plan_seated(*held, now),
            State::Running { .. } | State::Committing { .. } | State::Revealing { .. } => None,
            State::Answered { held, answer } => self
                .plan_commit(*held, *answer, now)
                .or_else(|| self.plan_poke(*held, now)),
            State::Committed { held, answer } => self
                .plan_reveal(*held, *answer, now)
                .or_else(|| self.plan_poke(*held, now)),
            State::Revealed { held, .. } | State::Missed(held) => self.plan_poke(*held, now),
            State::Finished { .. } => (!self.retired).then_some(Action::Retire),
            State::Lost(Loss::Over(_)) => {
                (self.is_over_for_good() && !self.retired).then_some(Action::Retire)
            }
            State::Lost(Loss::Unposted | Loss::NoSeats | Loss::BadBundle) => None,
        }
    }

    /// Whether nothing that the chain may still say brings the job back. That its time is over by this clock is not enough:
    /// while the chain cannot be read a claim may have been mined.
    fn is_over_for_good(&self) -> bool {
        match self.view.decided() {
            Some((_, at)) => self.is_deep(at.block),
            None => self
                .chain
                .head
                .is_some_and(|(_, time)| self.view.live_at(time).is_none()),
        }
    }

    /// Seated without an answer and without a run: fix what is known, else find out.
    fn plan_seated(&self, held: Held, now: UnixSeconds) -> Option<Action> {
        if let Some(fresh) = self.fresh.or_else(|| self.answer_of_other_round(held.round)) {
            return Some(self.fix(held.round, fresh));
        }
        if let Some(soft) = self.fall_back(held, now) {
            return Some(self.fix(held.round, soft));
        }
        let runs_rest = self.bundle == Bundle::Held && now < self.runs_rest_until;
        if self.run_until(now).is_none() || self.work_rests || runs_rest {
            return self.plan_poke(held, now);
        }
        match self.bundle {
            Bundle::Missing => Some(Action::FetchBundle),
            Bundle::Held if self.will_run(held, now) => Some(Action::Journal(Record::Running {
                attempt: self.memory.next_attempt(),
            })),
            Bundle::Held | Bundle::Broken => None,
        }
    }

    /// Whether enough seats are taken for the round to be run for certain.
    fn will_run(&self, held: Held, now: UnixSeconds) -> bool {
        let quorum = usize::from(self.terms.redundancy.quorum());
        let job = self.view.at(now);
        held.round == Round::Extra || job.is_some_and(|job| job.taken(Round::First) >= quorum)
    }

    /// A result that was fixed for the other round is this round's answer too: a job has one result here.
    fn answer_of_other_round(&self, round: Round) -> Option<Fresh> {
        let other = match round {
            Round::First => Round::Extra,
            Round::Extra => Round::First,
        };
        self.memory.answer(other)?.result.map(Fresh::Result)
    }

    /// The soft answer that is better than none, once a real one cannot come in time.
    fn fall_back(&self, held: Held, now: UnixSeconds) -> Option<Fresh> {
        let job = self.view.at(now)?;
        if job.phase != Phase::Run || job.round != held.round {
            return None;
        }
        // however little time is left: most programs end long before their limit
        let is_late = now >= self.terms.fall_back_at(job.deadline);
        match self.bundle {
            Bundle::Broken => Some(Fresh::Unavailable),
            Bundle::Missing => is_late.then_some(Fresh::Unavailable),
            Bundle::Held => is_late.then_some(Fresh::Limit),
        }
    }

    fn fix(&self, round: Round, fresh: Fresh) -> Action {
        let (answer, result) = match fresh {
            Fresh::Result(parts) => (self.terms.answer(&parts), Some(parts)),
            Fresh::Limit => (Answer::Limit, None),
            Fresh::Unavailable => (Answer::Unavailable, None),
        };
        Action::Journal(Record::Answered(SealedAnswer {
            round,
            answer,
            salt: self.salts.of(round),
            result,
        }))
    }

    fn plan_commit(&self, held: Held, answer: Answer, now: UnixSeconds) -> Option<Action> {
        let sealed = self.memory.answer(held.round)?;
        let job = self.view.at(now)?;
        let open = job.phase == Phase::Run && job.round == held.round;
        let late_enough = answer != Answer::Limit || now > self.terms.limit_after(job.deadline);
        if !open || !late_enough || self.sender_rests {
            return None;
        }
        let Terms { job: id, node, .. } = self.terms;
        let commitment = commitment(id, held.round.number(), node, answer.to_word(), sealed.salt.0);
        Some(Action::Commit {
            seat: held.seat,
            commitment,
        })
    }

    fn plan_reveal(&self, held: Held, answer: Answer, now: UnixSeconds) -> Option<Action> {
        let sealed = self.memory.answer(held.round)?;
        if self.sender_rests || !self.may_reveal(held, now) {
            return None;
        }
        let (seat, salt) = (held.seat, sealed.salt);
        Some(match (answer, sealed.result) {
            (Answer::Digest(digest), Some(result)) if !self.view.is_published(&digest) => {
                if !self.may_publish(held, now) {
                    return None;
                }
                Action::RevealResult { seat, result, salt }
            }
            (Answer::Digest(_) | Answer::Unavailable | Answer::Limit, _) => {
                Action::Reveal { seat, answer, salt }
            }
        })
    }

    /// Whether it is our turn to publish a result: the parts of a digest are paid for once, so each seat gives those
    /// before it, whose digest is probably the same, some time to do it.
    fn may_publish(&self, held: Held, now: UnixSeconds) -> bool {
        let Some(job) = self.view.at(now).filter(|job| job.phase == Phase::Reveal) else {
            return true;
        };
        let window = self.terms.windows.reveal;
        let began = job.deadline.0.saturating_sub(window);
        let ahead = u64::from(self.view.reveals_awaited_before(held));
        ahead == 0 || now.0 >= began.saturating_add(ahead * (window / 12).max(1))
    }

    /// A reveal is open and can't be copied any more: every commit that it answers is deep, or half of the window is
    /// over and our bond is more at risk than our answer. A late reveal still saves a part of the bond.
    fn may_reveal(&self, held: Held, now: UnixSeconds) -> bool {
        let Some(job) = self.view.at(now) else {
            return false;
        };
        let is_ours = job.reveals_in_this_round(held.round);
        match job.phase {
            // by the rules, but perhaps not yet by a transaction
            Phase::Closed => self
                .view
                .noticed()
                .is_some_and(|(phase, _)| phase != Phase::Closed),
            Phase::Reveal if is_ours => {
                let deep = self.view.last_commit().is_none_or(|at| self.is_deep(at.block));
                deep || now >= self.terms.reveal_anyway_at(job.deadline)
            }
            Phase::Seats | Phase::Run | Phase::Reveal => !is_ours,
        }
    }

    /// Does what anyone may do, when our bond waits for it: each seat gives those before it some time.
    fn plan_poke(&self, held: Held, now: UnixSeconds) -> Option<Action> {
        let since = self.view.overdue_since(now)?;
        let step = (self.terms.windows.reveal / 12).max(1);
        let patience = step * (1 + u64::from(held.seat.0));
        (!self.sender_rests && now > since.plus(patience)).then_some(Action::Poke)
    }
}
