//! The whole of it in virtual time: second by second, faults first, then fair weather until every job has ended.

use std::collections::BTreeMap;

use sandrun_core::pool::{Assignment, NodeNumber, Policy, Settings};

use super::call::Call;
use super::client::Clients;
use super::ledger::Ledger;
use super::network::{Network, Packet, Weather};
use super::node::{Conduct, Node, addressee};
use super::rng::SplitMix64;
use super::service::{Fate, Replica};
use super::store::Store;

const START: u64 = 1_000;
/// How long there are faults.
const FAULTS: u64 = 150;
/// Within this the rest ends: a chain of jobs with all their retries.
const PATIENCE: u64 = 3_000;

/// One history.
#[derive(Debug)]
pub(crate) struct World {
    policy: Policy,
    rng: SplitMix64,
    store: Store,
    replicas: Vec<Replica>,
    nodes: Vec<Node>,
    clients: Clients,
    network: Network,
    ledger: Ledger,
    /// Of a thousand batches of each replica, how many go wrong.
    misfortune: u64,
    faults: BTreeMap<&'static str, usize>,
}

impl World {
    pub(crate) fn new(policy: Policy, seed: u64) -> Self {
        let mut rng = SplitMix64::new(seed);
        let settings = Settings {
            policy,
            ageing_step: 10,
            node_timeout: Some(40),
            max_retries: 3,
        };
        let asks = policy.assignment == Assignment::Claimed;
        let replicas = *rng.pick(&[1, 1, 3]);
        let nodes = 2 + rng.below(5);
        let node = |number: u64| {
            use Conduct::{Forger, Honest, Liar, Sleepy};
            let conduct = *rng.pick(&[Honest, Honest, Honest, Liar, Liar, Forger, Sleepy]);
            let slots = u32::try_from(1 + rng.below(3)).unwrap();
            let number = NodeNumber(u32::try_from(number).unwrap());
            Node::new(number, conduct, slots, rng.chance(70), asks)
        };
        let nodes = (1..=nodes).map(node).collect();
        let weather = Weather {
            lost: rng.below(25),
            twice: rng.below(25),
            delay: rng.below(8),
        };
        Self {
            policy,
            store: Store::default(),
            replicas: (0..replicas).map(|_| Replica::new(settings)).collect(),
            nodes,
            clients: Clients::default(),
            network: Network::new(weather),
            ledger: Ledger::default(),
            misfortune: rng.below(60),
            faults: BTreeMap::new(),
            rng,
        }
    }

    pub(crate) fn run(&mut self) {
        for now in START..START + FAULTS {
            self.disturb(now);
            self.second(now, true);
        }
        self.clear_up();
        for now in START + FAULTS..START + FAULTS + PATIENCE {
            if self.clients.are_done() && self.store.open().next().is_none() {
                let lost = self
                    .clients
                    .jobs
                    .iter()
                    .find(|job| self.store.job(**job).is_none());
                assert_eq!(lost, None, "an acknowledged job is gone");
                return;
            }
            self.second(now, false);
        }
        let open: Vec<_> = self.store.open().map(|job| self.store.job(job)).collect();
        panic!("stuck: {open:#?}, {:#?}", self.clients);
    }

    fn second(&mut self, now: u64, faults: bool) {
        let rng = &mut self.rng;
        for call in self.clients.live(faults, rng) {
            self.network.send(now, Packet::Call(call), rng);
        }
        for node in &mut self.nodes {
            for call in node.live(now, faults, rng) {
                self.network.send(now, Packet::Call(call), rng);
            }
        }
        let mut calls: Vec<Vec<Call>> = vec![vec![]; self.replicas.len()];
        for packet in self.network.arrived(now, rng) {
            match packet {
                Packet::Call(call) => {
                    let to = rng.below(u64::try_from(calls.len()).unwrap());
                    calls[usize::try_from(to).unwrap()].push(call);
                }
                Packet::Answer(answer) => {
                    self.ledger.hear(answer, &self.store);
                    self.clients.hear(answer);
                    let node = addressee(&answer)
                        .and_then(|number| self.nodes.iter_mut().find(|it| it.number == number));
                    let said = node.and_then(|node| node.hear(now, answer, &self.ledger, rng));
                    if let Some(call) = said {
                        self.network.send(now, Packet::Call(call), rng);
                    }
                }
            }
        }
        for (at, calls) in calls.into_iter().enumerate() {
            let has_work = !calls.is_empty() || self.replicas[at].is_due(now);
            if self.replicas[at].is_up(now) && has_work {
                self.serve(now, at, &calls, faults);
            }
        }
    }

    /// One second of a replica: its calls in one batch or several.
    fn serve(&mut self, now: u64, at: usize, calls: &[Call], faults: bool) {
        let size = 1 + self.rng.below(6);
        let empty = [vec![]];
        let batches: Vec<&[Call]> = if calls.is_empty() {
            empty.iter().map(Vec::as_slice).collect()
        } else {
            calls.chunks(usize::try_from(size).unwrap()).collect()
        };
        for batch in batches {
            let is_ill = faults && self.rng.below(1_000) < self.misfortune;
            let fate = if is_ill {
                *self
                    .rng
                    .pick(&[Fate::Unwritten, Fate::KilledBefore, Fate::KilledAfter])
            } else {
                Fate::Well
            };
            let replica = &mut self.replicas[at];
            let answers = replica.serve(now, batch, fate, &mut self.store, &mut self.ledger);
            for lease in std::mem::take(&mut self.ledger.not_held) {
                let node = self.nodes.iter().find(|it| it.number == lease.node).unwrap();
                assert!(
                    !node.has(lease),
                    "{lease:?} was taken from a node that works on it"
                );
                *self.faults.entry("lease not held").or_default() += 1;
            }
            for answer in answers {
                self.network.send(now, Packet::Answer(answer), &mut self.rng);
            }
            let name = match fate {
                Fate::Well => continue,
                Fate::Unwritten => "batch not written",
                Fate::KilledBefore => "killed before the commit",
                Fate::KilledAfter => "killed after the commit",
            };
            *self.faults.entry(name).or_default() += 1;
            if fate != Fate::Unwritten {
                self.replicas[at].kill(now + 1 + self.rng.below(20));
                return;
            }
        }
    }

    /// What befalls nodes and replicas between batches.
    fn disturb(&mut self, now: u64) {
        let rng = &mut self.rng;
        let count = u64::try_from(self.nodes.len()).unwrap();
        let at = usize::try_from(rng.below(count)).unwrap();
        let node = self.nodes[at].number;
        let mut fault = |name: &'static str| *self.faults.entry(name).or_default() += 1;
        if rng.chance(3) {
            self.nodes[at].kill(now + 1 + rng.below(70));
            fault("node killed");
        }
        if rng.chance(2) {
            self.network.send(now, Packet::Call(Call::Drain { node }), rng);
            fault("node drained");
        }
        if rng.chance(4) {
            self.network.send(now, Packet::Call(Call::Resume { node }), rng);
        }
        if rng.chance(1) {
            self.network.send(now, Packet::Call(Call::Lost { node }), rng);
            fault("node given up");
        }
        if rng.chance(2) {
            // it comes back as a smaller or a larger machine
            self.nodes[at].spec.slots = u32::try_from(1 + rng.below(3)).unwrap();
            self.nodes[at].kill(now + 1);
            fault("node changed");
        }
    }

    /// The end of all faults: fair weather, everybody is there, and there are enough good nodes for anything.
    fn clear_up(&mut self) {
        self.network.weather = Weather::FAIR;
        let now = START + FAULTS;
        let asks = self.policy.assignment == Assignment::Claimed;
        for number in 100..108 {
            let node = Node::new(NodeNumber(number), Conduct::Honest, 4, true, asks);
            self.nodes.push(node);
        }
        for node in self.nodes.iter().map(|it| it.number) {
            let resume = Packet::Call(Call::Resume { node });
            self.network.send(now + 5, resume, &mut self.rng);
        }
        self.nodes
            .iter_mut()
            .for_each(|it| it.down_until = it.down_until.min(now));
        self.replicas
            .iter_mut()
            .for_each(|it| it.down_until = it.down_until.min(now));
    }

    pub(crate) fn history(&self) -> &[String] {
        &self.ledger.history
    }

    pub(crate) fn census(&self) -> Census {
        let mut counts = self.faults.clone();
        counts.extend([
            ("message lost", self.network.lost),
            ("message repeated", self.network.repeated),
            ("answer too late", self.nodes.iter().map(|it| it.stale).sum()),
            ("job", self.store.jobs.len()),
            ("commit", usize::try_from(self.store.commits).unwrap()),
        ]);
        Census {
            counts,
            ends: self.ledger.ends.clone(),
            actions: self.ledger.actions.clone(),
        }
    }
}

/// How often what happened in a set of histories.
#[derive(Debug, Default)]
pub(crate) struct Census {
    counts: BTreeMap<&'static str, usize>,
    ends: BTreeMap<&'static str, usize>,
    actions: BTreeMap<&'static str, usize>,
}

impl Census {
    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, its) in [
            (&mut self.counts, &other.counts),
            (&mut self.ends, &other.ends),
            (&mut self.actions, &other.actions),
        ] {
            for (name, count) in its {
                *mine.entry(name).or_default() += count;
            }
        }
    }

    /// That everything was there that the histories are for.
    pub(crate) fn assert_rich(&self, policy: Policy) {
        let rich = |map: &BTreeMap<&'static str, usize>, names: &[&'static str]| {
            for name in names {
                assert!(
                    map.get(name).is_some_and(|it| *it > 10),
                    "too few `{name}`: {map:?}"
                );
            }
        };
        rich(
            &self.counts,
            &[
                "message lost",
                "message repeated",
                "answer too late",
                "batch not written",
                "killed before the commit",
                "killed after the commit",
                "node killed",
                "node drained",
                "node given up",
                "node changed",
            ],
        );
        rich(
            &self.ends,
            &["agreed", "cancelled", "parent", "refused", "no agreement"],
        );
        rich(&self.actions, &["lease", "retry", "stop", "node lost"]);
        if policy.assignment == Assignment::Claimed {
            rich(&self.actions, &["extra places"]);
            rich(&self.counts, &["lease not held"]);
        }
    }
}
