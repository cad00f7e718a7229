//! A node of the market: what outlives its process, and the process around the real machines of `core::seat`.

use std::collections::{BTreeMap, BTreeSet};

use sandrun_core::market::Round;
use sandrun_core::seat::{Event, Gate, Seat};
use sandrun_types::{JobId, NodeIndex, Order, UnixSeconds};

use crate::census::Census;
use crate::history::History;
use crate::rng::Rng;
use crate::violation::Violation;

use super::chain::Chain;
use super::conduct::{Conduct, Program};
use super::disk::Disk;
use super::health::Health;
use super::people;
use super::rpc::Rpc;
use super::sender::Sender;
use super::watch::Watch;

/// Seconds after which who came back has caught up.
pub(crate) const RECOVERY: u64 = 4;

/// Everything around a node.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) now: u64,
    pub(crate) chain: &'a mut Chain,
    pub(crate) programs: &'a BTreeMap<JobId, Program>,
    /// Whether the content store gives nothing.
    pub(crate) store_is_ill: bool,
    pub(crate) rng: &'a mut Rng,
    pub(crate) census: &'a mut Census,
    pub(crate) history: &'a mut History,
}

/// Why a process goes no further.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It was killed.
    Killed,
    /// It ended itself: its disk is full.
    Ended,
    /// A promise was broken.
    Broken(Violation),
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Broken(violation)
    }
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) index: NodeIndex,
    /// Whether it always does what it should.
    pub(crate) is_good: bool,
    pub(crate) confirmations: u64,
    /// How fast its clock runs, in hundredths.
    pub(crate) pace: u64,
    pub(crate) disk: Disk,
    pub(crate) rpc: Rpc,
    pub(crate) health: Health,
    pub(crate) process: Option<Process>,
    pub(crate) down_until: u64,
    /// Steps until it is killed.
    pub(crate) kill_in: Option<u32>,
    /// Until when its executor fails.
    pub(crate) executor_ill_until: u64,
    /// What it makes of each job, decided at the first sight.
    pub(crate) conducts: BTreeMap<JobId, Conduct>,
    /// Every commitment that ever left it.
    pub(crate) signed: BTreeMap<(JobId, Round), BTreeSet<[u8; 27]>>,
    /// Jobs for which it has revealed an answer.
    pub(crate) shown: BTreeSet<JobId>,
    pub(crate) steps: u64,
}

/// What is lost when a process ends.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) watch: Watch,
    /// The block up to which machines have been told everything.
    pub(crate) told: u64,
    pub(crate) sender: Sender,
    pub(crate) gate: Gate,
    pub(crate) jobs: BTreeMap<JobId, Tracked>,
    /// Time and second of the newest head.
    pub(crate) seen: Option<(UnixSeconds, u64)>,
    /// What surroundings will report.
    pub(crate) later: Vec<(u64, JobId, Event)>,
}

/// One job of a process.
#[derive(Debug)]
pub(crate) struct Tracked {
    pub(crate) order: Order,
    pub(crate) seat: Seat,
    pub(crate) posted: u64,
    /// Rounds whose seats were opened, and when.
    pub(crate) openings: Vec<(Round, UnixSeconds)>,
    pub(crate) over_since: Option<u64>,
    /// A reveal that is held back.
    pub(crate) held_back: Option<sandrun_core::market::escrow::Call>,
}

impl Node {
    pub(crate) fn new(index: u32, is_good: bool, confirmations: u64, pace: u64) -> Self {
        Self {
            index: NodeIndex(index),
            is_good,
            confirmations,
            pace,
            disk: Disk::default(),
            rpc: Rpc::default(),
            health: Health::default(),
            process: None,
            down_until: 0,
            kill_in: None,
            executor_ill_until: 0,
            conducts: BTreeMap::new(),
            signed: BTreeMap::new(),
            shown: BTreeSet::new(),
            steps: 0,
        }
    }

    pub(crate) fn conduct(&self, job: JobId) -> Conduct {
        self.conducts.get(&job).copied().unwrap_or(Conduct::Honest)
    }

    /// kill -9 at its `steps`th step from now; it is started again some seconds later.
    pub(crate) const fn kill_soon(&mut self, steps: u32, down_until: u64) {
        self.kill_in = Some(steps);
        self.down_until = down_until;
    }

    /// One second of its life.
    pub(crate) fn live(&mut self, around: &mut Surroundings<'_>) -> Result<(), Violation> {
        let now = around.now;
        if self.process.is_none() {
            if now < self.down_until {
                return Ok(());
            }
            self.start(around);
        }
        match self.second(around) {
            Ok(()) => Ok(()),
            Err(Stop::Broken(violation)) => Err(violation),
            Err(stop @ (Stop::Killed | Stop::Ended)) => {
                around.census.event("node process ended");
                around.history.say(|| format!("node {}: {stop:?}", self.index));
                self.process = None;
                self.kill_in = None;
                self.down_until = self.down_until.max(now + 1);
                self.health.ill(now, self.down_until + RECOVERY);
                Ok(())
            }
        }
    }

    fn start(&mut self, around: &mut Surroundings<'_>) {
        around.history.say(|| format!("node {}: starts", self.index));
        self.process = Some(Process {
            watch: Watch::default(),
            told: 0,
            sender: Sender::new(people::worker(self.index)),
            gate: self.disk.gate(),
            jobs: BTreeMap::new(),
            seen: None,
            later: Vec::new(),
        });
    }

    /// Something is about to happen: the moment to be killed, if it has come.
    pub(crate) const fn step(&mut self) -> Result<(), Stop> {
        self.steps += 1;
        match self.kill_in {
            Some(0) => Err(Stop::Killed),
            Some(steps) => {
                self.kill_in = Some(steps - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn second(&mut self, around: &mut Surroundings<'_>) -> Result<(), Stop> {
        let now = around.now;
        let height = self.rpc.height(now, around.chain, around.rng);
        if let Some(height) = height {
            self.read(height, around)?;
        }
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let ended = process.sender.look(height, around.chain, around.rng);
        let (due, later) = std::mem::take(&mut process.later)
            .into_iter()
            .partition(|(at, ..): &(u64, JobId, Event)| *at <= now);
        process.later = later;
        for (purpose, end) in ended {
            if let (Some(job), Some(transaction)) = (purpose.job, purpose.kind) {
                self.feed(job, Event::Sent { transaction, end }, around)?;
            }
        }
        let due: Vec<(u64, JobId, Event)> = due;
        for (_, job, event) in due {
            self.feed(job, event, around)?;
        }
        let seen = self.process.as_ref().and_then(|process| process.seen);
        let is_new = seen.is_some_and(|(_, at)| at == now);
        match height {
            // a new head has told the machines the time, too
            Some(height) if is_new => {
                self.consider(height, around)?;
                self.reveal_late(around);
                Ok(())
            }
            Some(_) | None => self.tick(around),
        }
    }

    /// Tells the machines that may have something to do that time has passed.
    fn tick(&mut self, around: &mut Surroundings<'_>) -> Result<(), Stop> {
        let Some(process) = &self.process else {
            return Ok(());
        };
        let live = process.jobs.iter().filter(|(_, it)| it.over_since.is_none());
        let live: Vec<JobId> = live.map(|(job, _)| *job).collect();
        for job in live {
            self.feed(job, Event::Tick, around)?;
        }
        Ok(())
    }

    /// Reveals what was held back until its window was over.
    fn reveal_late(&mut self, around: &mut Surroundings<'_>) {
        let Some(process) = &self.process else { return };
        let held_back = process.jobs.iter().filter(|(_, it)| it.held_back.is_some());
        let held_back: Vec<JobId> = held_back.map(|(job, _)| *job).collect();
        for job in held_back {
            if let Some(call) = self.late_reveal(job, around) {
                self.send(job, sandrun_core::seat::Transaction::Reveal, call, around);
            }
        }
    }

    /// The chain's time, as this process knows it.
    pub(crate) fn chain_time(&self, now: u64) -> UnixSeconds {
        let seen = self.process.as_ref().and_then(|process| process.seen);
        seen.map_or_else(UnixSeconds::default, |(time, at)| {
            time.plus(now.saturating_sub(at) * self.pace / 100)
        })
    }
}
