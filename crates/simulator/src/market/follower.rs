//! Who only reads: the facts of all jobs from a watch of its own, as managers and clients keep them. Undoing is folding
//! again.

use std::collections::{BTreeMap, BTreeSet};

use sandrun_core::market::escrow::Parameters;
use sandrun_core::market::{JobFacts, MarketEvent, Phase};
use sandrun_core::seat::{ChainNews, Position};
use sandrun_types::{JobId, UnixSeconds};

use crate::violation::Violation;

use super::chain::Chain;
use super::watch::{News, Watch};

/// What a reader has made of the chain; lost with its process.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    watch: Watch,
    logs: BTreeMap<JobId, Vec<(Position, MarketEvent)>>,
    pub(crate) facts: BTreeMap<JobId, JobFacts>,
    /// Jobs with which something may still have to be done.
    open: BTreeSet<JobId>,
    seen: Option<(UnixSeconds, u64)>,
}

impl Follower {
    /// Reads on through an endpoint that answers from `height`.
    pub(crate) fn read(&mut self, now: u64, chain: &Chain, height: u64) -> Result<(), Violation> {
        for item in self.watch.poll(chain, height) {
            match item {
                News::Head(ChainNews::Head { time, .. }) => self.seen = Some((time, now)),
                News::Log(ChainNews::Applied(event, at)) => {
                    let Some(job) = event.job() else { continue };
                    self.logs.entry(job).or_default().push((at, event.clone()));
                    match self.facts.get_mut(&job) {
                        Some(facts) => facts.apply(&event).map_err(Violation::new)?,
                        None => self.fold(job)?,
                    }
                    self.note(job);
                }
                News::Log(ChainNews::Undone(event, at)) => {
                    let Some(job) = event.job() else { continue };
                    let known = self.logs.entry(job).or_default();
                    if known.pop() != Some((at, event)) {
                        return Err(Violation::new(format!(
                            "a log of job {job} was undone out of order"
                        )));
                    }
                    self.fold(job)?;
                    self.note(job);
                }
                News::Head(_) | News::Log(ChainNews::Head { .. }) => {}
            }
        }
        Ok(())
    }

    /// Keeps track of whether a job is over.
    fn note(&mut self, job: JobId) {
        let is_over = |facts: &JobFacts| facts.phase == Phase::Closed && facts.remaining().is_zero();
        if self.facts.get(&job).is_none_or(is_over) {
            self.open.remove(&job);
        } else {
            self.open.insert(job);
        }
    }

    /// The jobs with which something may still have to be done.
    pub(crate) fn open(&self) -> impl Iterator<Item = (JobId, &JobFacts)> {
        self.open
            .iter()
            .filter_map(|job| self.facts.get(job).map(|facts| (*job, facts)))
    }

    /// Whether a head came in this second.
    pub(crate) fn is_news(&self, now: u64) -> bool {
        self.seen.is_some_and(|(_, at)| at == now)
    }

    fn fold(&mut self, job: JobId) -> Result<(), Violation> {
        let logs = self.logs.get(&job).map_or(&[][..], Vec::as_slice);
        if logs.is_empty() {
            self.facts.remove(&job);
            return Ok(());
        }
        let windows = Parameters::testnet().windows;
        let facts = JobFacts::fold(logs.iter().map(|(_, event)| event), windows).map_err(Violation::new)?;
        self.facts.insert(job, facts);
        Ok(())
    }

    /// The chain's time as it knows it.
    pub(crate) fn chain_time(&self, now: u64) -> UnixSeconds {
        self.seen.map_or_else(UnixSeconds::default, |(time, at)| {
            time.plus(now.saturating_sub(at))
        })
    }
}
