//! Whose turn it is among waiting jobs of one priority that the same nodes can have.

use std::cmp::Ordering;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::queue::Level;
use super::{ClientNumber, JobNumber};

/// How much a client was given so far: less is sooner.
pub(super) type Share = u64;

/// Jobs by client, and whose turn it is. A share in `order` may lag behind the client's own: it is brought up to date
/// when its turn comes. Flat sets, so that a client with one job costs little more than the job.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns {
    /// With each client's first job: to find it among all of them for every claim would cost more than the rest.
    order: BTreeMap<(Share, ClientNumber), Waiting>,
    /// The same, the other way round.
    shares: BTreeMap<ClientNumber, Share>,
    jobs: BTreeSet<Waiting>,
    /// How many jobs have each level.
    levels: BTreeMap<i32, usize>,
}

/// A job that waits; the same as another with its client and number.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    client: ClientNumber,
    /// A [`Level`] in four bytes, for which there is room.
    level: i32,
    job: JobNumber,
}

impl Waiting {
    fn new(client: ClientNumber, job: JobNumber, level: Level) -> Self {
        let level = level.0.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
        Self {
            client,
            level: i32::try_from(level).unwrap_or(i32::MAX),
            job,
        }
    }

    /// By its name alone, to look it up.
    const fn named(client: ClientNumber, job: JobNumber) -> Self {
        Self {
            client,
            level: 0,
            job,
        }
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.client, self.job).cmp(&(other.client, other.job))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiting {}

/// The job whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) level: Level,
    pub(super) share: Share,
    pub(super) job: JobNumber,
}

impl Turns {
    /// Puts a client's job in; whether it was not there.
    pub(super) fn insert(
        &mut self,
        client: ClientNumber,
        share: Share,
        job: JobNumber,
        level: Level,
    ) -> bool {
        let waiting = Waiting::new(client, job, level);
        let share = *self.shares.entry(client).or_insert(share);
        let first = self.order.entry((share, client)).or_insert(waiting);
        *first = waiting.min(*first);
        let is_new = self.jobs.insert(waiting);
        if is_new {
            *self.levels.entry(waiting.level).or_default() += 1;
        }
        is_new
    }

    /// Takes a client's job out; whether it was there.
    pub(super) fn remove(&mut self, client: ClientNumber, job: JobNumber) -> bool {
        let named = Waiting::named(client, job);
        let taken = self.jobs.take(&named);
        let was_there = taken.is_some();
        if let Some(taken) = taken {
            self.uncount(taken.level);
        }
        let Some(share) = self.shares.get(&client).copied() else {
            return was_there;
        };
        if self.order.get(&(share, client)) == Some(&named) {
            match self.first_of(client) {
                Some(next) => {
                    self.order.insert((share, client), next);
                }
                None => {
                    self.order.remove(&(share, client));
                    self.shares.remove(&client);
                }
            }
        }
        was_there
    }

    fn uncount(&mut self, level: i32) {
        if let Entry::Occupied(mut count) = self.levels.entry(level) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// The lowest level of a job here; whoever's turn it is has no lower one.
    pub(super) fn least_level(&self) -> Option<Level> {
        let least = self.levels.first_key_value();
        least.map(|(level, _)| Level(i64::from(*level)))
    }

    pub(super) fn contains(&self, client: ClientNumber, job: JobNumber) -> bool {
        self.jobs.contains(&Waiting::named(client, job))
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Brings the first turns up to date until the first one is: the clients' own shares are these.
    pub(super) fn freshen(&mut self, shares: &BTreeMap<ClientNumber, Share>) -> Option<Turn> {
        loop {
            let first = self.order.first_entry()?;
            let (share, client) = *first.key();
            let current = shares.get(&client).copied().unwrap_or(0);
            if current <= share {
                let Waiting { level, job, .. } = *first.get();
                let level = Level(i64::from(level));
                return Some(Turn { level, share, job });
            }
            let job = first.remove();
            self.order.insert((current, client), job);
            self.shares.insert(client, current);
        }
    }

    /// All jobs in the order of their clients' turns, from the first on; what the shares do not say any more is taken as
    /// it stands.
    pub(super) fn in_order(&self) -> impl Iterator<Item = JobNumber> + '_ {
        self.order.keys().flat_map(|(_, client)| self.of(*client))
    }

    /// A client's jobs.
    fn of(&self, client: ClientNumber) -> impl Iterator<Item = JobNumber> + '_ {
        let (first, last) = (JobNumber(0), JobNumber(u64::MAX));
        let all = Waiting::named(client, first)..=Waiting::named(client, last);
        self.jobs.range(all).map(|it| it.job)
    }

    fn first_of(&self, client: ClientNumber) -> Option<Waiting> {
        let mut from = self.jobs.range(Waiting::named(client, JobNumber(0))..);
        from.next().filter(|it| it.client == client).copied()
    }

    fn counts_levels(&self) -> bool {
        let mut levels: BTreeMap<i32, usize> = BTreeMap::new();
        for job in &self.jobs {
            *levels.entry(job.level).or_default() += 1;
        }
        levels == self.levels
    }

    /// Whether the indexes agree with each other.
    pub(super) fn is_consistent(&self) -> bool {
        let mut shares = self.shares.iter();
        self.order.len() == self.shares.len()
            && shares.all(|(client, share)| {
                let first = self.order.get(&(*share, *client)).copied();
                first.is_some() && first == self.first_of(*client)
            })
            && self.jobs.iter().all(|it| self.shares.contains_key(&it.client))
            && self.counts_levels()
    }
}
