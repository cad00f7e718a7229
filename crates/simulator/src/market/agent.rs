//! What a node's process does with news, reports and the actions of its machines. As in `node-agent`: a record is on
//! disk before the machine hears so, and nothing that follows from it leaves the process before.

use std::collections::VecDeque;

use sandrun_core::market::escrow::{Call, Opening, Parameters};
use sandrun_core::market::{MarketEvent, Phase, Round};
use sandrun_core::seat::{
    Action, ChainNews, EndedSeat, Event, FetchFailure, Loss, Position, Refused, RunEnd, Salt, Salts, Seat,
    State, StrikeRule, Terms, Transaction,
};
use sandrun_types::{Attempt, B256, JobId, Order};

use crate::rng::Rng;
use crate::violation::{Violation, ensure};

use super::conduct::{Conduct, Program};
use super::node::{Node, Stop, Surroundings, Tracked};
use super::people::HERE;
use super::sender::Purpose;
use super::watch::News;

/// Blocks after a job's end for which a reorganisation may still bring it back.
const KEPT_BLOCKS: u64 = 30;

impl Node {
    /// Reads what an endpoint that answers from `height` says.
    pub(crate) fn read(&mut self, height: u64, around: &mut Surroundings<'_>) -> Result<(), Stop> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        for item in process.watch.poll(around.chain, height) {
            match item {
                News::Log(news) => self.hear_log(news, around)?,
                News::Head(news) => self.hear_head(&news, around)?,
            }
        }
        Ok(())
    }

    fn hear_log(&mut self, news: ChainNews, around: &mut Surroundings<'_>) -> Result<(), Stop> {
        let (event, at, is_new) = match &news {
            ChainNews::Applied(event, at) => (event, *at, true),
            ChainNews::Undone(event, at) => (event, *at, false),
            ChainNews::Head { .. } => return Ok(()),
        };
        let Some(job) = event.job() else { return Ok(()) };
        if is_new && let MarketEvent::JobPosted { order, .. } = event {
            self.track(job, order, at, around);
        }
        if !is_new && let Some(process) = &mut self.process {
            process.told = process.told.min(at.block.saturating_sub(1));
        }
        if let Some(tracked) = self.process.as_mut().and_then(|it| it.jobs.get_mut(&job)) {
            if !is_new {
                tracked.over_since = None;
                around.census.event("log undone");
            }
            if matches!(event, MarketEvent::RoundOpened { .. }) {
                tracked.openings.truncate(1);
                tracked.openings.extend(is_new.then_some((Round::Extra, at.time)));
            }
        }
        if is_new
            && let MarketEvent::SeatFinished { node, end, .. } = event
            && *node == self.index
        {
            self.seat_ended(job, *end, at, around)?;
        }
        self.feed(job, Event::Chain(news), around)
    }

    /// Tells the gate how a seat has ended; it is on disk before anything else happens.
    fn seat_ended(
        &mut self,
        job: JobId,
        end: sandrun_core::market::SeatEnd,
        at: Position,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Stop> {
        self.step()?;
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let order = process.jobs.get(&job).map(|tracked| &tracked.order);
        let ended = EndedSeat {
            job,
            end,
            kind: order.and_then(|order| order.class.kind()),
            client: order.map(|order| order.client),
            block: at.block,
            time: at.time,
        };
        process.gate.seat_ended(&ended, StrikeRule::default());
        self.disk.write_gate(around.now, &process.gate).ok_or(Stop::Ended)
    }

    fn hear_head(&mut self, news: &ChainNews, around: &mut Surroundings<'_>) -> Result<(), Stop> {
        let ChainNews::Head { number, time } = news else {
            return Ok(());
        };
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        process.seen = Some((*time, around.now));
        process.told = *number;
        let jobs: Vec<JobId> = process.jobs.keys().copied().collect();
        for job in jobs {
            self.feed(job, Event::Chain(news.clone()), around)?;
        }
        if let Some(process) = &mut self.process {
            for tracked in process.jobs.values_mut() {
                let is_over = tracked.is_over();
                tracked.over_since = is_over.then(|| tracked.over_since.unwrap_or(*number));
            }
            process
                .jobs
                .retain(|_, it| it.over_since.is_none_or(|since| *number < since + KEPT_BLOCKS));
        }
        Ok(())
    }

    /// Begins to follow a job that was posted.
    fn track(&mut self, job: JobId, order: &Order, at: Position, around: &mut Surroundings<'_>) {
        if !self.is_good {
            let drawn = Conduct::draw(around.rng);
            self.conducts.entry(job).or_insert(drawn);
        }
        let Some(process) = &mut self.process else { return };
        if let Some(known) = process.jobs.get_mut(&job) {
            // posted again on another branch
            known.openings = vec![(Round::First, at.time)];
            known.posted = at.block;
            known.over_since = None;
            return;
        }
        let windows = Parameters::testnet().windows;
        let terms = Terms::of(order, HERE, self.index, windows, self.confirmations);
        let Ok(seat) = Seat::resume(terms, salts(around.rng), self.disk.records(job)) else {
            around.census.event("journal refused");
            process.gate.journal_broken(job, at.block);
            return;
        };
        around.census.row(format!("seat: {}", seat.state().name()));
        process.jobs.insert(
            job,
            Tracked {
                order: order.clone(),
                seat,
                posted: at.block,
                openings: vec![(Round::First, at.time)],
                over_since: None,
                held_back: None,
            },
        );
    }

    /// Tells a job's machine something and performs what it asks for.
    pub(crate) fn feed(
        &mut self,
        job: JobId,
        event: Event,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Stop> {
        let time = self.chain_time(around.now);
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            self.step()?;
            let Some(tracked) = self.process.as_mut().and_then(|it| it.jobs.get_mut(&job)) else {
                return Ok(());
            };
            let before = tracked.seat.state().name();
            let actions = match tracked.seat.apply(time, event) {
                Ok(actions) => actions,
                // a late or repeated report has no place: that is what the refusal is for
                Err(Refused::StaleAttempt { .. } | Refused::Illegal { .. }) => continue,
                Err(error @ (Refused::OtherJob(_) | Refused::NeverApplied { .. })) => {
                    return Err(Violation::new(format!("node {}: {error}", self.index)).into());
                }
            };
            let after = tracked.seat.state().name();
            if after != before {
                around.census.row(format!("seat: {after}"));
                let index = self.index;
                around
                    .history
                    .say(|| format!("node {index}: job {}: {before} → {after}", short(job)));
            }
            for action in actions {
                self.step()?;
                events.extend(self.perform(job, action, around)?);
            }
        }
        Ok(())
    }

    /// Performs one action; returns what is to be reported at once.
    fn perform(
        &mut self,
        job: JobId,
        action: Action,
        around: &mut Surroundings<'_>,
    ) -> Result<Option<Event>, Stop> {
        let conduct = self.conduct(job);
        match action {
            Action::Journal(record) => {
                self.disk.append(around.now, job, record).ok_or(Stop::Ended)?;
                return Ok(Some(Event::Journalled));
            }
            Action::FetchBundle => self.fetch(job, around),
            Action::Run { attempt, .. } => self.run(job, attempt, around),
            Action::StopRun { .. } | Action::Retire => {}
            Action::Claim { unit, .. } => {
                let call = Call::Claim {
                    job,
                    node: self.index,
                    unit,
                    seed: B256::ZERO,
                };
                self.send(job, Transaction::Claim, call, around);
            }
            Action::Commit { .. } if conduct == Conduct::Absent => {}
            Action::Commit { seat, commitment } => {
                self.check_commit(job, commitment)?;
                let call = Call::Commit {
                    job,
                    seat,
                    commitment,
                };
                self.send(job, Transaction::Commit, call, around);
            }
            Action::Reveal { seat, answer, salt } => {
                let salt = salt.0;
                let openings = vec![Opening { seat, answer, salt }];
                self.reveal(job, Call::Reveal { job, openings }, around)?;
            }
            Action::RevealResult { seat, result, salt } => {
                let salt = salt.0;
                let call = Call::RevealResult {
                    job,
                    seat,
                    result,
                    salt,
                };
                self.reveal(job, call, around)?;
            }
            Action::Poke => self.send(job, Transaction::Poke, Call::Poke { job }, around),
        }
        Ok(None)
    }

    /// No node ever signs two answers for one round of a job.
    fn check_commit(&mut self, job: JobId, commitment: sandrun_types::Commitment) -> Result<(), Violation> {
        let tracked = self.process.as_ref().and_then(|it| it.jobs.get(&job));
        let round = match tracked.map(|it| it.seat.state()) {
            Some(State::Answered { held, .. } | State::Committing { held, .. }) => held.round,
            other => return Err(Violation::new(format!("a commit from {other:?}"))),
        };
        let index = self.index;
        let signed = self.signed.entry((job, round)).or_default();
        signed.insert(commitment.0);
        ensure(signed.len() == 1, || {
            format!(
                "node {index} signed two answers for round {} of job {job}",
                round.number()
            )
        })
    }

    fn reveal(&mut self, job: JobId, call: Call, around: &mut Surroundings<'_>) -> Result<(), Stop> {
        match self.conduct(job) {
            Conduct::Silent => {}
            Conduct::Late | Conduct::LateLiar => {
                if let Some(tracked) = self.process.as_mut().and_then(|it| it.jobs.get_mut(&job)) {
                    tracked.held_back = Some(call);
                }
            }
            Conduct::Honest | Conduct::Liar | Conduct::Lazy | Conduct::Absent => {
                self.check_reveal(job, around)?;
                self.send(job, Transaction::Reveal, call, around);
            }
        }
        Ok(())
    }

    /// A reveal shows an answer to everybody: nobody must still be able to commit to it. What was shown before is no
    /// secret any more.
    fn check_reveal(&mut self, job: JobId, around: &Surroundings<'_>) -> Result<(), Violation> {
        let time = self.chain_time(around.now);
        let (Some(process), true) = (&self.process, self.shown.insert(job)) else {
            return Ok(());
        };
        let height = process.told;
        if height != process.watch.height() {
            // it has read more than its machines have been told: what they know is no block's state
            return Ok(());
        }
        let facts = process.watch.facts(job);
        let Some((progress, _)) = facts.map(|facts| facts.at(time)) else {
            return Ok(());
        };
        let half = Parameters::testnet().windows.reveal / 2;
        let mine = facts
            .and_then(|facts| facts.seat_of(self.index))
            .map(|(_, it)| it.round);
        // a late reveal counts for nothing
        let counts = mine.is_some_and(|round| progress.is_timely(round, time));
        if !counts || time.plus(half) >= progress.deadline {
            return Ok(());
        }
        let last = process.watch.last_commit(job, height);
        ensure(
            last.is_none_or(|block| block + self.confirmations <= height),
            || {
                format!(
                    "node {} reveals its answer for job {job} at block {height}, and block {last:?} holds a commit",
                    self.index
                )
            },
        )
    }

    /// A reveal that was held back until its window was over.
    pub(crate) fn late_reveal(&mut self, job: JobId, around: &Surroundings<'_>) -> Option<Call> {
        let time = self.chain_time(around.now);
        let process = self.process.as_mut()?;
        let tracked = process.jobs.get_mut(&job)?;
        tracked.held_back.as_ref()?;
        let (progress, _) = process.watch.facts(job)?.at(time);
        let is_open = progress.phase == Phase::Reveal && time <= progress.deadline;
        if is_open { None } else { tracked.held_back.take() }
    }

    pub(crate) fn send(&mut self, job: JobId, kind: Transaction, call: Call, around: &mut Surroundings<'_>) {
        let height = self.rpc.height(around.now, around.chain, around.rng);
        let index = self.index;
        around
            .history
            .say(|| format!("node {index}: job {}: sends {kind}", short(job)));
        if let Some(process) = &mut self.process {
            let purpose = Purpose {
                job: Some(job),
                kind: Some(kind),
            };
            process
                .sender
                .send(purpose, call, height, around.chain, around.rng);
        }
    }

    fn later(&mut self, at: u64, job: JobId, event: Event) {
        if let Some(process) = &mut self.process {
            process.later.push((at, job, event));
        }
    }

    fn fetch(&mut self, job: JobId, around: &mut Surroundings<'_>) {
        let now = around.now;
        let outcome = match around.programs.get(&job) {
            _ if around.store_is_ill => Err(FetchFailure::NotFound),
            Some(Program::Vanishes(from)) if *from <= now => Err(FetchFailure::NotFound),
            Some(Program::Broken) => Err(FetchFailure::Mismatch),
            Some(Program::Fine | Program::TooLong | Program::Differs | Program::Vanishes(_)) | None => Ok(()),
        };
        self.later(now + 1 + around.rng.below(3), job, Event::Fetched(outcome));
    }

    /// Runs take some seconds. Some reports come again, and the second may say something else: only the first counts.
    fn run(&mut self, job: JobId, attempt: Attempt, around: &mut Surroundings<'_>) {
        let (now, conduct) = (around.now, self.conduct(job));
        let Some(tracked) = self.process.as_ref().and_then(|it| it.jobs.get(&job)) else {
            return;
        };
        let program = around.programs.get(&job).copied().unwrap_or(Program::Fine);
        let wall = u64::from(tracked.order.wall_limit);
        let result = RunEnd::Result(conduct.result(program, tracked.order.class, self.index.0));
        let takes = 1 + around.rng.below(wall.min(6));
        let is_gone = matches!(program, Program::Vanishes(from) if from <= now + takes);
        let (end, takes) = if now < self.executor_ill_until || around.rng.chance(4) {
            (RunEnd::ExecutorFailed, 1)
        } else if conduct == Conduct::Lazy {
            (RunEnd::Limit, 1)
        } else if is_gone {
            (RunEnd::BundleLost, takes)
        } else if program == Program::TooLong && !matches!(conduct, Conduct::Liar | Conduct::LateLiar) {
            (RunEnd::Limit, wall)
        } else {
            (result, takes)
        };
        self.later(now + takes, job, Event::Ran { attempt, end });
        if end == RunEnd::ExecutorFailed && around.rng.chance(30) {
            around.census.fault("run reported twice");
            let again = now + takes + 1 + around.rng.below(4);
            let end = RunEnd::Limit;
            self.later(again, job, Event::Ran { attempt, end });
        }
    }
}

impl Tracked {
    /// Whether the machine has nothing left to do unless the chain takes something back.
    fn is_over(&self) -> bool {
        match self.seat.state() {
            State::Finished { .. } | State::Lost(Loss::Over(_) | Loss::Unposted) => true,
            State::Lost(Loss::NoSeats | Loss::BadBundle)
            | State::Recovering
            | State::Seen
            | State::Declined(_)
            | State::Fetching
            | State::Accepted
            | State::Claiming { .. }
            | State::Seated(_)
            | State::Running { .. }
            | State::Answered { .. }
            | State::Committing { .. }
            | State::Committed { .. }
            | State::Revealing { .. }
            | State::Revealed { .. }
            | State::Missed(_) => false,
        }
    }
}

/// A job's first digits.
pub(crate) fn short(job: JobId) -> String {
    job.to_string().chars().take(8).collect()
}

fn salts(rng: &mut Rng) -> Salts {
    let [first, extra] = [rng.word(), rng.word()].map(|word| Salt(B256::from(word)));
    Salts { first, extra }
}
