//! What the machines ask for, performed.

use std::collections::VecDeque;
use std::time::Duration;

use sandrun_chain::{Call, Opening};
use sandrun_core::seat::{Action, Event, FetchFailure, Record, Refused, Transaction};
use sandrun_types::{Attempt, JobId, UnixSeconds};
use tracing::{Instrument as _, debug, info, warn};

use super::consider::worth_per_gas;
use super::{Agent, work};
use crate::crash;
use crate::error::AgentError;
use crate::execute::{RunBounds, RunName};

impl Agent {
    /// Tells a job's machine something and performs what it asks for.
    pub(super) fn feed(&mut self, job: JobId, event: Event) -> Result<(), AgentError> {
        let now = self.now();
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let Some(tracked) = self.jobs.get_mut(&job) else {
                return Ok(());
            };
            let before = tracked.seat.state().name();
            let actions = match tracked.seat.apply(now, event) {
                Ok(actions) => actions,
                Err(refused @ Refused::StaleAttempt { .. }) => {
                    tracked
                        .span(job, self.node.index)
                        .in_scope(|| debug!(%refused, "a late report"));
                    continue;
                }
                Err(refused) => {
                    tracked
                        .span(job, self.node.index)
                        .in_scope(|| warn!(%refused, "the seat's machine refused an event"));
                    continue;
                }
            };
            let after = tracked.seat.state().name();
            let _span = tracked.span(job, self.node.index).entered();
            if after != before {
                info!(from = %before, to = %after, "seat");
            }
            for action in actions {
                events.extend(self.perform(job, action)?);
            }
        }
        Ok(())
    }

    /// Performs one action; returns what is to be reported at once.
    fn perform(&mut self, job: JobId, action: Action) -> Result<Option<Event>, AgentError> {
        match action {
            Action::Journal(record) => return self.write(job, &record).map(|()| Some(Event::Journalled)),
            Action::Retire => self.retire(job)?,
            Action::StopRun { attempt } => {
                let run = self.jobs.get_mut(&job).and_then(|tracked| tracked.run.take());
                if let Some((_, handle)) = run.filter(|(number, _)| *number == attempt) {
                    handle.abort();
                }
            }
            Action::FetchBundle => return Ok(self.start_fetch(job)),
            Action::Claim { unit, .. } => {
                let call = self.node.deployment().claim(job, self.node.index, unit);
                self.send(job, Transaction::Claim, call);
            }
            Action::Run { .. }
            | Action::Commit { .. }
            | Action::Reveal { .. }
            | Action::RevealResult { .. }
            | Action::Poke
                if self.node.config.misbehaviour.is_some_and(|it| it.is_silent(job)) =>
            {
                info!("a silent node does nothing");
            }
            Action::Run { attempt, until } => self.start_run(job, attempt, until),
            Action::Commit { seat, commitment } => {
                let call = self.node.deployment().commit(job, seat, commitment);
                self.send(job, Transaction::Commit, call);
            }
            Action::Reveal { seat, answer, salt } => {
                crash::point("before-reveal");
                let opening = Opening {
                    seat,
                    answer: answer.to_word(),
                    salt: salt.0,
                };
                let call = self.node.deployment().reveal(job, &[opening]);
                self.send(job, Transaction::Reveal, call);
            }
            Action::RevealResult { seat, result, salt } => {
                crash::point("before-reveal");
                let call = self.node.deployment().reveal_result(job, seat, &result, salt.0);
                self.send(job, Transaction::Reveal, call);
            }
            Action::Poke => {
                let call = self.node.deployment().poke(job);
                self.send(job, Transaction::Poke, call);
            }
        }
        Ok(None)
    }

    /// On the disk when this returns.
    fn write(&mut self, job: JobId, record: &Record) -> Result<(), AgentError> {
        self.journal.append(job, self.now(), record)?;
        match record {
            Record::Claiming { .. } => crash::point("claim-journalled"),
            Record::Running { .. } => crash::point("run-journalled"),
            Record::Answered(_) => crash::point("answer-journalled"),
            Record::Ended { .. } => {
                crash::point("end-journalled");
                self.journal.end(job, self.now())?;
            }
            Record::Reopened => self.journal.reopen(job)?,
        }
        Ok(())
    }

    fn retire(&mut self, job: JobId) -> Result<(), AgentError> {
        let Some(tracked) = self.jobs.get_mut(&job) else {
            return Ok(());
        };
        tracked.bundle = None;
        if let Some((_, handle)) = tracked.run.take() {
            handle.abort();
        }
        debug!("nothing is left to do");
        let clear = work::clear(self.node.clone(), job, tracked.order.bundle);
        self.tasks.spawn(clear.in_current_span());
        Ok(())
    }

    /// Begins to fetch, or says at once that there is no room: then it is tried again with the next block.
    fn start_fetch(&mut self, job: JobId) -> Option<Event> {
        let seated = self.jobs.get(&job)?.seat.state().has_bond();
        if !seated && let Some(why) = self.make_room(job) {
            self.complain(job, &why.to_string(), "the bundle waits");
            return Some(Event::Fetched(Err(FetchFailure::NotFound)));
        }
        let tracked = self.jobs.get_mut(&job)?;
        tracked.fetching = true;
        let fetch = work::fetch(self.node.clone(), job, tracked.order.clone(), seated);
        self.tasks.spawn(fetch.in_current_span());
        None
    }

    fn start_run(&mut self, job: JobId, attempt: Attempt, until: UnixSeconds) {
        let patience = Duration::from_secs(self.now().until(until));
        let Some(tracked) = self.jobs.get_mut(&job) else {
            return;
        };
        let bundle = tracked.bundle.clone();
        let class = tracked.order.class;
        let wall_limit = Duration::from_secs(tracked.order.wall_limit.into());
        let bounds = RunBounds {
            class,
            wall_limit,
            patience,
        };
        tracked.attempt = Some(attempt);
        let span = tracked.span(job, self.node.index);
        let name = RunName {
            job,
            attempt,
            seat: tracked.seat_name(self.node.index),
        };
        let run = work::run(self.node.clone(), name, bundle, bounds);
        let handle = self.tasks.spawn(run.instrument(span));
        tracked.run = Some((attempt, handle));
    }

    fn send(&mut self, job: JobId, transaction: Transaction, call: Call) {
        let bond = self.jobs.get(&job).map(|tracked| tracked.order.bond);
        let worth = match (transaction, bond) {
            // whatever gas costs: it is less than what silence does
            (Transaction::Commit | Transaction::Reveal, Some(bond)) => worth_per_gas(bond),
            (Transaction::Commit | Transaction::Reveal | Transaction::Claim | Transaction::Poke, _) => 0,
        };
        let send = work::send(self.node.clone(), job, transaction, call, worth);
        self.tasks.spawn(send.in_current_span());
    }
}
