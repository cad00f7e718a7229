//! The queue: places that wait for nodes, by needs, then by priority, then by whose turn it is.
//!
//! Within a priority clients take turns, however long the jobs of each have waited. Between priorities the job decides
//! whose turn it is in each: the one with the lowest level, which is the time of its submission in steps of ageing less
//! its priority. So a job of a lower priority comes before those that are submitted that many steps later. Taking the
//! next job is O(sets × priorities × log jobs).
//!
//! A job in which some nodes have a part already, and that waits for another, stands in a group of its own within its
//! set, so that those nodes look at none of them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use sandrun_types::UnixSeconds;
use serde::{Deserialize, Serialize};

use super::turns::{Share, Turn, Turns};
use super::{ClientNumber, JobNumber, Needs, NodeNumber, Priority};

/// A set of equal needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NeedsId(u32);

/// How soon a job's turn comes before jobs of other priorities: less is sooner. The time of its submission in steps of
/// ageing, less its priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Level(pub(super) i64);

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

/// Nodes that have a part in a job, in their order.
pub(super) type Involved = Vec<NodeNumber>;

#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    sets: BTreeMap<NeedsId, Set>,
    names: BTreeMap<Needs, NeedsId>,
    next_set: u32,
    /// Waiting jobs that some nodes have a part in.
    parted: BTreeMap<JobNumber, Involved>,
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
    groups: BTreeMap<Involved, BTreeMap<Priority, Turns>>,
}

/// A job as the queue knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) set: NeedsId,
    pub(super) priority: Priority,
    pub(super) level: Level,
    pub(super) client: ClientNumber,
    pub(super) job: JobNumber,
}

/// Waiting jobs among which turns alone decide.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) set: NeedsId,
    involved: Involved,
    priority: Priority,
}

/// The head of each priority so far.
#[derive(Debug)]
struct Winners(Vec<(Priority, Turn)>);

impl Winners {
    fn new() -> Self {
        // as many as services know
        Self(Vec::with_capacity(10))
    }

    fn take_in(&mut self, priority: Priority, turn: Turn) {
        match self.0.iter_mut().find(|(of, _)| *of == priority) {
            Some((_, best)) if (turn.share, turn.job) < (best.share, best.job) => *best = turn,
            Some(_) => {}
            None => self.0.push((priority, turn)),
        }
    }

    fn rank_of(&self, priority: Priority) -> Option<Rank> {
        let found = self.0.iter().find(|(of, _)| *of == priority);
        found.map(|(priority, turn)| rank(*priority, *turn))
    }
}

/// When a priority's turn comes.
type Rank = (Level, Share, Reverse<Priority>);

const fn rank(priority: Priority, head: Turn) -> Rank {
    (head.level, head.share, Reverse(priority))
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
                let groups = BTreeMap::new();
                let set = Set {
                    needs,
                    jobs: 0,
                    groups,
                };
                self.sets.insert(id, set);
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

    /// Puts a job in that these nodes have a part in; one that is there stays once, and goes to where it belongs now.
    pub(super) fn insert(&mut self, entry: Entry, involved: Involved) {
        if self.parted.get(&entry.job).map_or(&[][..], Vec::as_slice) != involved {
            self.remove(entry);
        }
        let share = self.share(entry.client);
        let Some(set) = self.sets.get_mut(&entry.set) else {
            return;
        };
        if !involved.is_empty() {
            self.parted.insert(entry.job, involved.clone());
        }
        let priorities = set.groups.entry(involved).or_default();
        let turns = priorities.entry(entry.priority).or_default();
        if turns.insert(entry.client, share, entry.job, entry.level) {
            self.len += 1;
        }
    }

    /// Takes a job out, if it is there.
    pub(super) fn remove(&mut self, entry: Entry) {
        let involved = self.parted.remove(&entry.job).unwrap_or_default();
        let Some(set) = self.sets.get_mut(&entry.set) else {
            return;
        };
        let Some(priorities) = set.groups.get_mut(&involved) else {
            return;
        };
        let Some(turns) = priorities.get_mut(&entry.priority) else {
            return;
        };
        if turns.remove(entry.client, entry.job) {
            self.len -= 1;
        }
        if turns.is_empty() {
            priorities.remove(&entry.priority);
        }
        if priorities.is_empty() {
            set.groups.remove(&involved);
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

    /// Brings the turns up to date where `fits` accepts needs and the nodes that have a part already; the first job of
    /// each such place goes to `take`.
    fn each_head(
        &mut self,
        fits: impl Fn(&Needs, &[NodeNumber]) -> bool,
        mut take: impl FnMut(NeedsId, &Involved, Priority, Turn),
    ) {
        let Self { sets, shares, .. } = self;
        for (id, Set { needs, groups, .. }) in sets {
            for (involved, priorities) in groups {
                if !fits(needs, involved) {
                    continue;
                }
                for (priority, turns) in priorities {
                    if let Some(turn) = turns.freshen(shares) {
                        take(*id, involved, *priority, turn);
                    }
                }
            }
        }
    }

    /// The job whose turn it is where `fits` accepts. A priority whose jobs all come later than one that was found is not
    /// looked at: to find out whose turn it is in each costs more than the rest.
    pub(super) fn first(&mut self, fits: impl Fn(&Needs, &[NodeNumber]) -> bool) -> Option<JobNumber> {
        let Self { sets, shares, .. } = self;
        let mut all: Vec<(Priority, &mut Turns)> = Vec::with_capacity(64);
        let mut soonest: Vec<(Level, Priority)> = Vec::with_capacity(10);
        for Set { needs, groups, .. } in sets.values_mut() {
            for (involved, priorities) in groups {
                if !fits(needs, involved) {
                    continue;
                }
                for (priority, turns) in priorities {
                    let Some(level) = turns.least_level() else {
                        continue;
                    };
                    match soonest.iter_mut().find(|(_, of)| of == priority) {
                        Some((least, _)) => *least = level.min(*least),
                        None => soonest.push((level, *priority)),
                    }
                    all.push((*priority, turns));
                }
            }
        }
        soonest.sort_unstable();
        let mut best: Option<(Rank, JobNumber)> = None;
        for (level, priority) in soonest {
            if best.is_some_and(|((found, ..), _)| found < level) {
                break;
            }
            let places = all.iter_mut().filter(|(of, _)| *of == priority);
            let turns = places.filter_map(|(_, turns)| turns.freshen(shares));
            if let Some(turn) = turns.min_by_key(|turn| (turn.share, turn.job)) {
                let found = (rank(priority, turn), turn.job);
                best = Some(best.map_or(found, |best| best.min(found)));
            }
        }
        best.map(|(_, job)| job)
    }

    /// Places with waiting jobs where `fits` accepts, the one whose turn it is first.
    pub(super) fn places(&mut self, fits: impl Fn(&Needs, &[NodeNumber]) -> bool) -> Vec<Place> {
        let (mut winners, mut heads) = (Winners::new(), Vec::new());
        self.each_head(fits, |set, involved, priority, turn| {
            winners.take_in(priority, turn);
            let involved = involved.clone();
            let place = Place {
                set,
                involved,
                priority,
            };
            heads.push((place, turn));
        });
        heads.sort_by_key(|(place, turn)| (winners.rank_of(place.priority), turn.share, turn.job));
        heads.into_iter().map(|(place, _)| place).collect()
    }

    /// Waiting jobs of a place in the order of their turns. For nodes that can't have the first ones.
    pub(super) fn in_order(&self, place: &Place) -> impl Iterator<Item = JobNumber> + '_ {
        let priorities = self
            .sets
            .get(&place.set)
            .and_then(|set| set.groups.get(&place.involved));
        let turns = priorities.and_then(|priorities| priorities.get(&place.priority));
        turns.into_iter().flat_map(Turns::in_order)
    }

    /// Waiting jobs where `fits` accepts, in no order that means something.
    pub(super) fn waiting(
        &self,
        fits: impl Fn(&Needs, &[NodeNumber]) -> bool,
    ) -> impl Iterator<Item = JobNumber> {
        let groups = self.sets.values().flat_map(|set| {
            set.groups
                .iter()
                .map(|(involved, turns)| (&set.needs, involved, turns))
        });
        groups
            .filter(move |(needs, involved, _)| fits(needs, involved))
            .flat_map(|(_, _, priorities)| priorities.values().flat_map(Turns::in_order))
    }

    /// The needs of a set.
    pub(super) fn needs(&self, id: NeedsId) -> Option<&Needs> {
        self.sets.get(&id).map(|set| &set.needs)
    }

    /// Whether a job waits, where it belongs.
    pub(super) fn contains(&self, entry: Entry, involved: &Involved) -> bool {
        let group = self.sets.get(&entry.set).and_then(|set| set.groups.get(involved));
        let turns = group.and_then(|priorities| priorities.get(&entry.priority));
        turns.is_some_and(|turns| turns.contains(entry.client, entry.job))
    }

    /// Whether indexes and counts agree with each other.
    pub(super) fn is_consistent(&self) -> bool {
        let (mut len, mut parted) = (0, 0);
        let sets = self.sets.values().all(|set| {
            set.jobs > 0
                && set.groups.iter().all(|(involved, priorities)| {
                    !priorities.is_empty()
                        && priorities.values().all(|turns| {
                            len += turns.len();
                            parted += if involved.is_empty() { 0 } else { turns.len() };
                            let mut jobs = turns.in_order();
                            !turns.is_empty()
                                && turns.is_consistent()
                                && jobs.all(|job| {
                                    self.parted.get(&job).map_or(&[][..], Vec::as_slice)
                                        == involved.as_slice()
                                })
                        })
                })
        });
        let names = self.names.len() == self.sets.len();
        sets && names
            && (len, parted) == (self.len, self.parted.len())
            && self
                .names
                .iter()
                .all(|(needs, id)| self.needs(*id) == Some(needs))
    }
}
