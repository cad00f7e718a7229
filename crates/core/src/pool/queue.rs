//! The queue: places that wait for nodes, by needs, then by urgency, then by whose turn it is.
//!
//! Urgency is a level that is fixed at submission: the time in steps less the priority. So a job ages by itself: one
//! of a lower priority comes before those that are submitted that many steps later. Within a level clients take turns
//! by what they were given so far. Taking the next job is O(sets × log jobs).

use std::collections::{BTreeMap, BTreeSet};

use sandrun_types::UnixSeconds;
use serde::{Deserialize, Serialize};

use super::{ClientNumber, JobNumber, Needs, Priority};

/// A set of equal needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NeedsId(u32);

/// How soon a job's turn comes: less is sooner. The time of its submission in steps of ageing, less its priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Level(i64);

impl Level {
    pub(super) fn of(submitted: UnixSeconds, priority: Priority, ageing_step: u32) -> Self {
        let steps = submitted.0 / u64::from(ageing_step.max(1));
        Self(
            i64::try_from(steps)
                .unwrap_or(i64::MAX)
                .saturating_sub(i64::from(priority.0)),
        )
    }
}

/// How much a client was given so far: less is sooner.
type Share = u64;

#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    sets: BTreeMap<NeedsId, Set>,
    names: BTreeMap<Needs, NeedsId>,
    next_set: u32,
    shares: BTreeMap<ClientNumber, Share>,
    /// The share of whoever was served last: newcomers start there, so that nobody saves up turns.
    now_serving: Share,
    prune_above: usize,
    pub(super) len: usize,
}

#[derive(Debug, Clone)]
struct Set {
    needs: Needs,
    /// Open jobs with these needs, waiting or not.
    jobs: usize,
    levels: BTreeMap<Level, Turns>,
}

/// One level's jobs by client, and whose turn it is. A share in `order` may lag behind the client's own: it is brought
/// up to date when its turn comes. Flat sets, so that a client with one job costs little more than the job.
#[derive(Debug, Clone, Default)]
struct Turns {
    /// With each client's first job: to find it among all of them for every set and claim would cost more than the rest.
    order: BTreeMap<(Share, ClientNumber), JobNumber>,
    /// The same, the other way round.
    shares: BTreeMap<ClientNumber, Share>,
    jobs: BTreeSet<(ClientNumber, JobNumber)>,
}

/// A waiting job and when its turn comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    pub(super) level: Level,
    pub(super) share: Share,
    pub(super) job: JobNumber,
}

impl Queue {
    /// The set of these needs, for one more job.
    pub(super) fn join_set(&mut self, needs: Needs) -> NeedsId {
        let id = match self.names.get(&needs) {
            Some(id) => *id,
            None => {
                let id = NeedsId(self.next_set);
                self.next_set = self.next_set.wrapping_add(1);
                self.names.insert(needs.clone(), id);
                self.sets.insert(
                    id,
                    Set {
                        needs,
                        jobs: 0,
                        levels: BTreeMap::new(),
                    },
                );
                id
            }
        };
        if let Some(set) = self.sets.get_mut(&id) {
            set.jobs += 1;
        }
        id
    }

    /// A job with these needs has ended; the last one takes the set with it.
    pub(super) fn leave_set(&mut self, id: NeedsId) {
        let Some(set) = self.sets.get_mut(&id) else { return };
        set.jobs = set.jobs.saturating_sub(1);
        if set.jobs == 0
            && let Some(set) = self.sets.remove(&id)
        {
            self.names.remove(&set.needs);
        }
    }

    /// Puts a job in; one that is there stays once.
    pub(super) fn insert(&mut self, id: NeedsId, level: Level, client: ClientNumber, job: JobNumber) {
        let share = self.share(client);
        let Some(set) = self.sets.get_mut(&id) else { return };
        let turns = set.levels.entry(level).or_default();
        if turns.insert(client, share, job) {
            self.len += 1;
        }
    }

    /// Takes a job out, if it is there.
    pub(super) fn remove(&mut self, id: NeedsId, level: Level, client: ClientNumber, job: JobNumber) {
        let Some(set) = self.sets.get_mut(&id) else { return };
        let Some(turns) = set.levels.get_mut(&level) else {
            return;
        };
        if turns.remove(client, job) {
            self.len -= 1;
        }
        if turns.jobs.is_empty() {
            set.levels.remove(&level);
        }
    }

    /// Counts one place that was given to a client's job.
    pub(super) fn charge(&mut self, client: ClientNumber) {
        let share = self.share(client);
        self.now_serving = self.now_serving.max(share);
        self.shares.insert(client, share.saturating_add(1));
        // who is behind has the share of a newcomer: it need not be remembered
        if self.shares.len() > self.prune_above.max(1_024) {
            let now_serving = self.now_serving;
            self.shares.retain(|_, share| *share > now_serving);
            self.prune_above = 2 * self.shares.len();
        }
    }

    fn share(&self, client: ClientNumber) -> Share {
        self.shares
            .get(&client)
            .copied()
            .unwrap_or(0)
            .max(self.now_serving)
    }

    /// Sets with waiting jobs whose needs `fits` accepts, the one whose turn it is first.
    pub(super) fn heads(&mut self, fits: impl Fn(&Needs) -> bool) -> Vec<(Turn, NeedsId)> {
        let ids: Vec<NeedsId> = self
            .sets
            .iter()
            .filter(|(_, set)| fits(&set.needs))
            .map(|(id, _)| *id)
            .collect();
        let mut heads: Vec<(Turn, NeedsId)> = ids
            .into_iter()
            .filter_map(|id| self.head(id).map(|turn| (turn, id)))
            .collect();
        heads.sort_unstable();
        heads
    }

    fn head(&mut self, id: NeedsId) -> Option<Turn> {
        let Self { sets, shares, .. } = self;
        let (level, turns) = sets.get_mut(&id)?.levels.iter_mut().next()?;
        let (share, job) = turns.freshen(shares)?;
        Some(Turn {
            level: *level,
            share,
            job,
        })
    }

    /// Waiting jobs of a set in the order of their turns, from the first on; what the shares do not say any more is
    /// taken as it stands. For nodes that are already involved in the first ones.
    pub(super) fn in_order(&self, id: NeedsId) -> impl Iterator<Item = JobNumber> + '_ {
        self.sets
            .get(&id)
            .into_iter()
            .flat_map(|set| set.levels.values())
            .flat_map(|turns| turns.order.keys().flat_map(|(_, client)| turns.of(*client)))
    }

    /// Sets with waiting jobs whose needs `fits` accepts.
    pub(super) fn waiting_sets(&self, fits: impl Fn(&Needs) -> bool) -> impl Iterator<Item = NeedsId> {
        let waiting = self.sets.iter().filter(|(_, set)| !set.levels.is_empty());
        waiting
            .filter(move |(_, set)| fits(&set.needs))
            .map(|(id, _)| *id)
    }

    /// The needs of a set.
    pub(super) fn needs(&self, id: NeedsId) -> Option<&Needs> {
        self.sets.get(&id).map(|set| &set.needs)
    }

    pub(super) fn contains(&self, id: NeedsId, level: Level, client: ClientNumber, job: JobNumber) -> bool {
        let turns = self.sets.get(&id).and_then(|set| set.levels.get(&level));
        turns.is_some_and(|turns| turns.jobs.contains(&(client, job)))
    }

    /// Whether indexes and counts agree with each other.
    pub(super) fn is_consistent(&self) -> bool {
        let mut len = 0;
        let sets = self.sets.values().all(|set| {
            set.jobs > 0
                && set.levels.values().all(|turns| {
                    len += turns.jobs.len();
                    !turns.jobs.is_empty() && turns.is_consistent()
                })
        });
        let names = self.names.len() == self.sets.len();
        sets && names
            && len == self.len
            && self
                .names
                .iter()
                .all(|(needs, id)| self.needs(*id) == Some(needs))
    }
}

impl Turns {
    /// Puts a client's job in; whether it was not there.
    fn insert(&mut self, client: ClientNumber, share: Share, job: JobNumber) -> bool {
        let share = *self.shares.entry(client).or_insert(share);
        let first = self.order.entry((share, client)).or_insert(job);
        *first = job.min(*first);
        self.jobs.insert((client, job))
    }

    /// Takes a client's job out; whether it was there.
    fn remove(&mut self, client: ClientNumber, job: JobNumber) -> bool {
        let was_there = self.jobs.remove(&(client, job));
        let Some(share) = self.shares.get(&client).copied() else {
            return was_there;
        };
        if self.order.get(&(share, client)) == Some(&job) {
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

    /// A client's jobs.
    fn of(&self, client: ClientNumber) -> impl Iterator<Item = JobNumber> {
        let all = (client, JobNumber(0))..=(client, JobNumber(u64::MAX));
        self.jobs.range(all).map(|(_, job)| *job)
    }

    fn first_of(&self, client: ClientNumber) -> Option<JobNumber> {
        let mut from = self.jobs.range((client, JobNumber(0))..);
        from.next().filter(|(of, _)| *of == client).map(|(_, job)| *job)
    }

    fn is_consistent(&self) -> bool {
        let mut shares = self.shares.iter();
        self.order.len() == self.shares.len()
            && shares.all(|(client, share)| {
                let first = self.order.get(&(*share, *client)).copied();
                first.is_some() && first == self.first_of(*client)
            })
            && self
                .jobs
                .iter()
                .all(|(client, _)| self.shares.contains_key(client))
    }

    /// Brings the first turns up to date until the first one is; its share and job.
    fn freshen(&mut self, shares: &BTreeMap<ClientNumber, Share>) -> Option<(Share, JobNumber)> {
        loop {
            let first = self.order.first_entry()?;
            let (share, client) = *first.key();
            let current = shares.get(&client).copied().unwrap_or(0);
            if current <= share {
                return Some((share, *first.get()));
            }
            let job = first.remove();
            self.order.insert((current, client), job);
            self.shares.insert(client, current);
        }
    }
}
