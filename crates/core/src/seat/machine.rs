//! The machine itself: takes in events, keeps what is known, and hands out what [`super::plan`] decides.

use sandrun_types::{Attempt, JobId, ResultParts, UnixSeconds};

use super::event::TransactionEnd;
use super::record::Memory;
use super::view::{ChainLog, JobView};
use super::{
    Action, ChainNews, Event, FetchFailure, Objection, Record, Refused, ResumeError, RunEnd, Salts,
    SealedAnswer, State, Terms, Transaction,
};
use crate::market::Round;

/// More than one event can bring about: each action puts something under way, so that the next one waits.
const MOST_ACTIONS: usize = 8;

/// A node's machine for one job. See the module's documentation for how it is driven.
#[derive(Debug, Clone)]
pub struct Seat {
    pub(super) terms: Terms,
    pub(super) salts: Salts,
    /// What is on disk.
    pub(super) memory: Memory,
    /// What the chain says.
    pub(super) chain: ChainLog,
    pub(super) view: JobView,
    /// What this run of the process knows besides: all of it can be lost.
    pub(super) verdict: Verdict,
    pub(super) bundle: Bundle,
    pub(super) run: Option<Attempt>,
    pub(super) fresh: Option<Fresh>,
    pub(super) ticket: Option<(Round, u32)>,
    pub(super) hand: Hand,
    /// A fetch or a run has failed: none is tried again before the next head.
    pub(super) work_rests: bool,
    /// Runs that have failed in a row, and until when none is tried again therefore.
    pub(super) failed_runs: u32,
    pub(super) runs_rest_until: UnixSeconds,
    /// A transaction has failed: none is tried again before the next head.
    pub(super) sender_rests: bool,
    pub(super) retired: bool,
    pub(super) state: State,
    /// Each step from state to state, for the test of the table.
    #[cfg(test)]
    pub(super) arrows: Vec<(super::StateName, super::StateName)>,
}

/// What the node thinks of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Unknown,
    Wanted,
    Unwanted(Vec<Objection>),
}

/// Where the bundle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bundle {
    Missing,
    Held,
    Broken,
}

/// What is known of the answer before it is fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fresh {
    Result(ResultParts),
    Limit,
    Unavailable,
}

/// The one thing under way, runs apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hand {
    Free,
    Journalling(Record),
    Fetching,
    Sending(Transaction),
    /// Mined in this block, whose logs have not all been told.
    Settling(Transaction, u64),
    /// This is on disk, and what it announces is next.
    Ready(Record),
}

impl Hand {
    pub(super) fn is_at(&self, wanted: Transaction) -> bool {
        match self {
            Self::Sending(transaction) | Self::Settling(transaction, _) => *transaction == wanted,
            Self::Free | Self::Journalling(_) | Self::Fetching | Self::Ready(_) => false,
        }
    }
}

impl Seat {
    /// The machine for a job that was just seen. `salts` are fresh random words.
    pub fn new(terms: Terms, salts: Salts) -> Self {
        Self {
            terms,
            salts,
            memory: Memory::default(),
            chain: ChainLog::default(),
            view: JobView::default(),
            verdict: Verdict::Unknown,
            bundle: Bundle::Missing,
            run: None,
            fresh: None,
            ticket: None,
            hand: Hand::Free,
            work_rests: false,
            failed_runs: 0,
            runs_rest_until: UnixSeconds::default(),
            sender_rests: false,
            retired: false,
            state: State::Seen,
            #[cfg(test)]
            arrows: Vec::new(),
        }
    }

    /// The machine as its journal left it. `salts` are fresh random words; an answer that the journal holds keeps its
    /// own.
    ///
    /// # Errors
    /// [`ResumeError`] for a journal that contradicts itself: then nothing is safe to send for this job.
    pub fn resume<'a>(
        terms: Terms,
        salts: Salts,
        records: impl IntoIterator<Item = &'a Record>,
    ) -> Result<Self, ResumeError> {
        let mut it = Self::new(terms, salts);
        for record in records {
            if let Record::Answered(sealed) = record {
                check_digest(&it.terms, sealed)?;
            }
            it.memory.learn(record)?;
            it.state = State::Recovering;
        }
        Ok(it)
    }

    /// Where the machine stands.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The job.
    pub const fn job(&self) -> JobId {
        self.terms.job
    }

    /// What is fixed from the posting on.
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Takes in one event at chain time `now` (the head's timestamp plus the time since it was seen) and returns what
    /// is to be done, in order.
    ///
    /// # Errors
    /// [`Refused`]: the event has no place here, and nothing was changed.
    pub fn apply(&mut self, now: UnixSeconds, event: Event) -> Result<Vec<Action>, Refused> {
        let mut actions = Vec::new();
        self.take(now, event)?;
        self.settle(now);
        for _ in 0..MOST_ACTIONS {
            let Some(action) = self.plan(now) else { break };
            self.note(&action);
            actions.push(action);
            self.settle(now);
        }
        Ok(actions)
    }

    fn settle(&mut self, now: UnixSeconds) {
        let next = self.derive(now);
        #[cfg(test)]
        self.arrows.push((self.state.name(), next.name()));
        self.state = next;
    }

    fn take(&mut self, now: UnixSeconds, event: Event) -> Result<(), Refused> {
        let illegal = Refused::Illegal {
            state: self.state.name(),
            event: event.name(),
        };
        match event {
            Event::Chain(news) => self.take_news(news)?,
            Event::Judged(verdict) if self.may_judge() => {
                self.verdict = verdict.map_or_else(Verdict::Unwanted, |()| Verdict::Wanted);
            }
            Event::Journalled => match self.hand {
                Hand::Journalling(record) => {
                    self.hand = Hand::Free;
                    // the machine wrote it, so that it cannot contradict what is there
                    self.memory.learn(&record).map_err(|_| illegal)?;
                    self.follow_up(now, record);
                }
                Hand::Free | Hand::Fetching | Hand::Sending(_) | Hand::Settling(..) | Hand::Ready(_) => {
                    return Err(illegal);
                }
            },
            Event::Fetched(outcome) if self.hand == Hand::Fetching => {
                self.hand = Hand::Free;
                self.work_rests = outcome.is_err();
                self.bundle = match outcome {
                    Ok(()) => Bundle::Held,
                    Err(FetchFailure::NotFound) => Bundle::Missing,
                    Err(FetchFailure::Mismatch) => Bundle::Broken,
                };
            }
            Event::Ticket { round, unit } if self.state == State::Accepted && self.hand == Hand::Free => {
                let usable = !self.sender_rests && self.open_seats(now).is_some_and(|job| job.round == round);
                self.ticket = usable.then_some((round, unit));
            }
            Event::Ran { attempt, end } => self.take_run_end(now, attempt, end)?,
            Event::Sent { transaction, end } if self.hand == Hand::Sending(transaction) => {
                self.take_sent(transaction, end);
            }
            Event::Tick => {}
            Event::Judged(_) | Event::Fetched(_) | Event::Ticket { .. } | Event::Sent { .. } => {
                return Err(illegal);
            }
        }
        Ok(())
    }

    fn take_news(&mut self, news: ChainNews) -> Result<(), Refused> {
        match news {
            ChainNews::Applied(event, at) => {
                self.same_job(event.job())?;
                self.chain.apply(at, event);
                self.view = self.chain.fold(&self.terms);
            }
            ChainNews::Undone(event, at) => {
                self.same_job(event.job())?;
                if !self.chain.undo(at, &event) {
                    return Err(Refused::NeverApplied {
                        block: at.block,
                        log: at.log,
                    });
                }
                // what was told up to its block holds no more
                self.chain.head = self
                    .chain
                    .head
                    .map(|(number, time)| (number.min(at.block.saturating_sub(1)), time));
                self.view = self.chain.fold(&self.terms);
            }
            ChainNews::Head { number, time } => {
                self.chain.head = Some((number, time));
                self.work_rests = false;
                self.sender_rests = false;
                if let Hand::Settling(_, block) = self.hand
                    && number >= block
                {
                    self.hand = Hand::Free;
                }
            }
        }
        Ok(())
    }

    fn same_job(&self, job: Option<JobId>) -> Result<(), Refused> {
        match job {
            Some(other) if other != self.terms.job => Err(Refused::OtherJob(other)),
            Some(_) | None => Ok(()),
        }
    }

    fn may_judge(&self) -> bool {
        match self.state {
            State::Recovering
            | State::Seen
            | State::Declined(_)
            | State::Fetching
            | State::Accepted
            | State::Lost(_) => true,
            State::Claiming { .. }
            | State::Seated(_)
            | State::Running { .. }
            | State::Answered { .. }
            | State::Committing { .. }
            | State::Committed { .. }
            | State::Revealing { .. }
            | State::Revealed { .. }
            | State::Missed(_)
            | State::Finished { .. } => false,
        }
    }

    fn take_run_end(&mut self, now: UnixSeconds, attempt: Attempt, end: RunEnd) -> Result<(), Refused> {
        if self.run != Some(attempt) {
            return Err(Refused::StaleAttempt {
                told: attempt,
                current: self.run,
            });
        }
        self.run = None;
        match end {
            RunEnd::Result(parts) => self.fresh = Some(Fresh::Result(parts)),
            RunEnd::Limit => self.fresh = Some(Fresh::Limit),
            RunEnd::BundleLost => {
                // fetched again at once; but whatever took it may take it again
                self.bundle = Bundle::Missing;
                self.let_runs_rest(now);
            }
            RunEnd::ExecutorFailed => {
                self.work_rests = true;
                self.let_runs_rest(now);
            }
        }
        Ok(())
    }

    /// After one more run that came to nothing.
    fn let_runs_rest(&mut self, now: UnixSeconds) {
        self.runs_rest_until = now.plus(self.terms.pause_after(self.failed_runs));
        self.failed_runs = self.failed_runs.saturating_add(1);
    }

    fn take_sent(&mut self, transaction: Transaction, end: TransactionEnd) {
        match end {
            TransactionEnd::Mined { block } => {
                let told = self.chain.head.is_some_and(|(head, _)| head >= block);
                self.hand = if told {
                    Hand::Free
                } else {
                    Hand::Settling(transaction, block)
                };
            }
            TransactionEnd::Failed => {
                self.hand = Hand::Free;
                self.sender_rests = true;
            }
        }
    }

    /// Keeps track of what an action puts under way.
    fn note(&mut self, action: &Action) {
        match action {
            Action::Journal(record) => {
                self.hand = Hand::Journalling(*record);
                self.ticket = None;
            }
            Action::FetchBundle => self.hand = Hand::Fetching,
            Action::Claim { .. } => self.hand = Hand::Sending(Transaction::Claim),
            Action::Run { attempt, .. } => {
                self.run = Some(*attempt);
                self.hand = Hand::Free;
            }
            Action::StopRun { .. } => self.run = None,
            Action::Commit { .. } => self.hand = Hand::Sending(Transaction::Commit),
            Action::Reveal { .. } | Action::RevealResult { .. } => {
                self.hand = Hand::Sending(Transaction::Reveal)
            }
            Action::Poke => self.hand = Hand::Sending(Transaction::Poke),
            Action::Retire => {
                self.retired = true;
                self.bundle = Bundle::Missing;
            }
        }
    }
}

fn check_digest(terms: &Terms, sealed: &SealedAnswer) -> Result<(), ResumeError> {
    let fits = match &sealed.result {
        Some(parts) => terms.answer(parts) == sealed.answer,
        None => sealed.answer.is_soft(),
    };
    if fits {
        Ok(())
    } else {
        Err(ResumeError::WrongDigest(sealed.round))
    }
}
