//! What the chain says, told to the jobs' machines.

use rand::RngCore as _;
use sandrun_chain::{Head, Logged};
use sandrun_core::market::{MarketEvent, Round, SeatEnd};
use sandrun_core::seat::{ChainNews, EndedSeat, Event, Notice, Position, Record, Salt, Salts, Seat, Terms};
use sandrun_store::Note;
use sandrun_types::{Amount, B256, JobId, Order, Token};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::tracked::{Opening, Tracked, Trouble};
use super::{Agent, Seen, work};
use crate::config::Misbehaviour;
use crate::error::AgentError;

/// Blocks after a job's end for which a reorganisation may still bring it back.
const KEPT_BLOCKS: u64 = 64;

impl Agent {
    pub(super) fn applied(&mut self, logged: Logged) -> Result<(), AgentError> {
        let Some(job) = logged.event.job() else {
            return Ok(());
        };
        let at = position(&logged);
        if let MarketEvent::JobPosted { order, deadline, .. } = &logged.event {
            let opening = Opening {
                round: Round::First,
                at: at.time,
                deadline: *deadline,
            };
            self.track(job, order, opening, at.block)?;
        }
        if let MarketEvent::RoundOpened { deadline, .. } = &logged.event
            && let Some(tracked) = self.jobs.get_mut(&job)
        {
            tracked.openings.push(Opening {
                round: Round::Extra,
                at: at.time,
                deadline: *deadline,
            });
        }
        if let MarketEvent::SeatFinished {
            node,
            end,
            paid,
            slashed,
            ..
        } = &logged.event
            && *node == self.node.index
        {
            crate::crash::point("end-seen");
            self.span(job).in_scope(|| {
                info!(?end, paid = %paid.0, %slashed, "our seat is finished");
            });
            self.earnings_due = true;
            let in_coin = self
                .jobs
                .get(&job)
                .is_some_and(|it| it.order.token == Token::Native);
            let earned = if in_coin { *paid } else { Amount::ZERO };
            self.node.vitals.seat_ended(at.block, *end, earned, *slashed);
            self.seat_ended(job, *end, at)?;
        }
        self.feed(job, Event::Chain(ChainNews::Applied(logged.event, at)))
    }

    /// Tells the gate how a seat of ours has ended.
    fn seat_ended(&mut self, job: JobId, end: SeatEnd, at: Position) -> Result<(), AgentError> {
        let order = self.jobs.get(&job).map(|tracked| &tracked.order);
        let ended = EndedSeat {
            job,
            end,
            kind: order.and_then(|order| order.class.kind()),
            client: order.map(|order| order.client),
            block: at.block,
            time: at.time,
        };
        if self.node.config.misbehaviour == Some(Misbehaviour::Moody) {
            return Ok(());
        }
        let rule = self.node.config.strikes;
        match self.gate.seat_ended(&ended, rule) {
            Notice::Nothing => return Ok(()),
            Notice::Strike { count } => {
                let _span = self.span(job).entered();
                warn!(
                    count,
                    closes_at = rule.most,
                    within_s = rule.window,
                    "another answer won in a native job, which its client can bring about"
                );
            }
            Notice::Closed => self.say_fault(),
        }
        Ok(self.journal.set_note(Note::Gate, &self.gate)?)
    }

    pub(super) fn undone(&mut self, logged: Logged) -> Result<(), AgentError> {
        let Some(job) = logged.event.job() else {
            return Ok(());
        };
        let at = position(&logged);
        self.span(job)
            .in_scope(|| warn!(block = at.block, "the chain took something back"));
        if let Some(tracked) = self.jobs.get_mut(&job) {
            tracked.ticket = None;
            tracked.over_since = None;
            if matches!(logged.event, MarketEvent::RoundOpened { .. }) {
                tracked.openings.retain(|opening| opening.round == Round::First);
            }
        }
        self.feed(job, Event::Chain(ChainNews::Undone(logged.event, at)))
    }

    pub(super) fn new_head(&mut self, head: Head) -> Result<(), AgentError> {
        let (number, time) = (head.block.number, head.timestamp);
        self.seen = Some(Seen {
            head,
            at: Instant::now(),
        });
        // also to jobs that are over: their end becomes final with the blocks on top of it
        for job in self.jobs.keys().copied().collect::<Vec<_>>() {
            self.feed(job, Event::Chain(ChainNews::Head { number, time }))?;
        }
        self.drop_old_jobs(number);
        self.note_progress(number)?;
        self.start_survey();
        Ok(())
    }

    /// Forgets jobs that have been over for so long that nothing brings them back.
    fn drop_old_jobs(&mut self, head: u64) {
        for tracked in self.jobs.values_mut() {
            tracked.over_since = if tracked.is_over() {
                tracked.over_since.or(Some(head))
            } else {
                None
            };
        }
        let is_old = |_: &JobId, tracked: &mut Tracked| {
            tracked
                .over_since
                .is_some_and(|since| head >= since.saturating_add(KEPT_BLOCKS))
        };
        for (job, tracked) in self.jobs.extract_if(.., is_old) {
            // most have let go of it when they ended
            if tracked.bundle.is_some() {
                self.tasks
                    .spawn(work::clear(self.node.clone(), job, tracked.order.bundle));
            }
        }
    }

    /// Begins to follow a job that was posted.
    fn track(&mut self, job: JobId, order: &Order, opening: Opening, posted: u64) -> Result<(), AgentError> {
        if let Some(known) = self.jobs.get_mut(&job) {
            // posted again on another branch
            known.openings = vec![opening];
            known.posted = posted;
            known.ticket = None;
            known.over_since = None;
            return Ok(());
        }
        let node = &self.node;
        let terms = Terms::of(order, node.at, node.index, node.windows, node.confirmations);
        let records: Vec<Record> = self.journal.records(job)?;
        let seat = match Seat::resume(terms, fresh_salts(), &records) {
            Ok(seat) => seat,
            Err(error) => {
                error!(%job, %error, "nothing is sent for this job");
                if self.gate.journal_broken(job, posted) {
                    self.say_fault();
                    self.journal.set_note(Note::Gate, &self.gate)?;
                }
                return Ok(());
            }
        };
        if !records.is_empty() {
            info!(%job, records = records.len(), "going on with a job from the journal");
        }
        let tracked = Tracked {
            order: order.clone(),
            seat,
            posted,
            openings: vec![opening],
            bundle: None,
            fetching: false,
            fetch_failed: false,
            trouble: Trouble::default(),
            ticket: None,
            attempt: None,
            run: None,
            over_since: None,
        };
        self.jobs.insert(job, tracked);
        Ok(())
    }

    pub(super) fn say_fault(&self) {
        if let Some(fault) = self.gate.fault() {
            error!(%fault, "this node accepts no more jobs; start it with --resume-after-fault to go on");
        }
    }
}

fn position(logged: &Logged) -> Position {
    Position {
        block: logged.at.block.number,
        log: logged.at.log_index,
        time: logged.at.timestamp,
    }
}

/// Salts from the operating system's generator.
fn fresh_salts() -> Salts {
    let salt = || {
        let mut bytes = [0; 32];
        rand::rngs::OsRng.fill_bytes(&mut bytes);
        Salt(B256::from(bytes))
    };
    Salts {
        first: salt(),
        extra: salt(),
    }
}
