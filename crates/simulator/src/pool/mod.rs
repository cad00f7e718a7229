//! The queue of broker and coordinator: replicas on the real `core::pool` around one store, nodes and clients around a
//! network that loses, delays and repeats messages, and crashes that lose whatever was not written.

mod call;
mod client;
mod ledger;
mod network;
mod node;
mod service;
mod store;
mod weather;

use sandrun_core::pool::{Assignment, NodeNumber, Policy, Settings};

use crate::census::Census;
use crate::history::History;
use crate::rng::Rng;
use crate::violation::{Known as _, Violation, promise};

use call::Call;
use client::Clients;
use ledger::Ledger;
use network::{Network, Packet, Weather};
use node::{Node, addressee};
use service::{Fate, Replica};
use store::Store;

/// When a history begins, by the services' clocks.
const START: u64 = 1_000;
/// How long there are faults.
const FAULTS: u64 = 150;
/// Within this the rest ends: a chain of jobs with all their retries.
const PATIENCE: u64 = 3_000;

/// A service with its nodes and clients.
#[derive(Debug)]
pub(crate) struct Queue {
    policy: Policy,
    store: Store,
    replicas: Vec<Replica>,
    nodes: Vec<Node>,
    clients: Clients,
    network: Network,
    ledger: Ledger,
    /// Of a thousand batches of each replica, how many go wrong.
    misfortune: u64,
    /// A replica that nothing reaches, and until when.
    cut_off: Option<(usize, u64)>,
    is_over: bool,
}

impl Queue {
    /// A service of this policy that gets `jobs` jobs.
    pub(crate) fn new(policy: Policy, jobs: u64, rng: &mut Rng) -> Self {
        let settings = Settings {
            policy,
            ageing_step: 10,
            node_timeout: Some(40),
            max_retries: 3,
        };
        let asks = policy.assignment == Assignment::Claimed;
        let replicas = rng.pick(&[1, 1, 3], 1);
        let nodes = 5 + rng.small(3);
        let nodes = (1..=nodes)
            .map(|number| Node::draw(NodeNumber(number), asks, rng))
            .collect();
        let weather = Weather {
            lost: rng.below(25),
            twice: rng.below(25),
            delay: rng.below(8),
        };
        Self {
            policy,
            store: Store::default(),
            replicas: (0..replicas)
                .map(|_| Replica::new(settings, rng.below(3)))
                .collect(),
            nodes,
            clients: Clients::new(jobs),
            network: Network::new(weather),
            ledger: Ledger::default(),
            misfortune: rng.below(60),
            cut_off: None,
            is_over: false,
        }
    }

    /// The service's name in the tables.
    const fn name(&self) -> &'static str {
        match self.policy.assignment {
            Assignment::Claimed => "broker",
            Assignment::Pushed(_) | Assignment::Tickets => "coordinator",
        }
    }

    /// Whether every job has ended.
    pub(crate) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Steps so far.
    pub(crate) const fn steps(&self) -> u64 {
        self.ledger.steps
    }

    /// One second of the history, counted from 0.
    pub(crate) fn second(
        &mut self,
        second: u64,
        rng: &mut Rng,
        census: &mut Census,
        history: &mut History,
    ) -> Result<(), Violation> {
        let (now, faults) = (START + second, second < FAULTS);
        if faults {
            self.disturb(now, rng, census);
        } else if second == FAULTS {
            self.clear_up(now, rng);
        }
        self.exchange(now, faults, rng, census)?;
        let name = self.name();
        for line in self.ledger.lines.drain(..) {
            history.say(|| format!("{name}: {line}"));
        }
        if !faults && self.clients.are_done() && self.store.open().next().is_none() {
            let lost = self
                .clients
                .jobs
                .iter()
                .find(|job| self.store.job(**job).is_none());
            promise!(lost.is_none(), "acknowledged job {lost:?} is gone");
            self.is_over = true;
        }
        let open: Vec<_> = self.store.open().collect();
        promise!(
            second < FAULTS + PATIENCE,
            "{name}: jobs {open:?} have not ended {PATIENCE} s after the last fault"
        );
        Ok(())
    }

    /// Everybody speaks, messages arrive, replicas serve.
    fn exchange(
        &mut self,
        now: u64,
        faults: bool,
        rng: &mut Rng,
        census: &mut Census,
    ) -> Result<(), Violation> {
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
                    let to = rng.index(calls.len());
                    let is_cut_off = self.cut_off.is_some_and(|(at, until)| at == to && now < until);
                    match calls.get_mut(to) {
                        Some(waiting) if !is_cut_off => waiting.push(call),
                        Some(_) | None => {}
                    }
                }
                Packet::Answer(answer) => {
                    self.ledger.hear(answer, &self.store)?;
                    self.clients.hear(answer);
                    let node = addressee(&answer)
                        .and_then(|number| self.nodes.iter_mut().find(|it| it.number == number));
                    let said = match node {
                        Some(node) => node.hear(now, answer, &self.ledger, rng)?,
                        None => None,
                    };
                    if let Some(call) = said {
                        self.network.send(now, Packet::Call(call), rng);
                    }
                }
            }
        }
        for (at, calls) in calls.into_iter().enumerate() {
            let replica = self.replicas.get(at).known()?;
            let has_work = !calls.is_empty() || replica.is_due(now);
            if replica.is_up(now) && has_work {
                self.serve(now, at, &calls, faults, rng, census)?;
            }
        }
        Ok(())
    }

    /// One second of a replica: its calls in one batch or several.
    fn serve(
        &mut self,
        now: u64,
        at: usize,
        calls: &[Call],
        faults: bool,
        rng: &mut Rng,
        census: &mut Census,
    ) -> Result<(), Violation> {
        let size = 1 + rng.index(6);
        let empty = [vec![]];
        let batches: Vec<&[Call]> = if calls.is_empty() {
            empty.iter().map(Vec::as_slice).collect()
        } else {
            calls.chunks(size).collect()
        };
        for batch in batches {
            let is_ill = faults && rng.below(1_000) < self.misfortune;
            let fates = [Fate::Unwritten, Fate::KilledBefore, Fate::KilledAfter];
            let fate = if is_ill {
                rng.pick(&fates, Fate::Unwritten)
            } else {
                Fate::Well
            };
            let replica = self.replicas.get_mut(at).known()?;
            let answers = replica.serve(now, batch, fate, &mut self.store, &mut self.ledger)?;
            for lease in std::mem::take(&mut self.ledger.not_held) {
                let node = self.nodes.iter().find(|it| it.number == lease.node).known()?;
                promise!(
                    !node.has(lease),
                    "{lease:?} was taken from a node that works on it"
                );
            }
            for answer in answers {
                self.network.send(now, Packet::Answer(answer), rng);
            }
            let name = match fate {
                Fate::Well => continue,
                Fate::Unwritten => "queue's disk full",
                Fate::KilledBefore => "service killed before its commit",
                Fate::KilledAfter => "service killed after its commit",
            };
            census.fault(name);
            if fate != Fate::Unwritten {
                let until = now + 1 + rng.below(20);
                self.replicas.get_mut(at).known()?.kill(until);
                return Ok(());
            }
        }
        Ok(())
    }

    /// What is counted once at the end.
    pub(crate) fn count(&self, census: &mut Census) {
        self.ledger.count(self.name(), census);
        census.jobs += self.clients.submitted();
        census.nodes += u64::try_from(self.nodes.len()).unwrap_or(0);
        census.steps += self.ledger.steps;
        for (name, count) in [
            ("message lost", self.network.lost),
            ("message repeated", self.network.repeated),
        ] {
            if count > 0 {
                *census.faults.entry(name).or_default() += count;
            }
        }
        for (name, count) in [
            (
                "answer of an earlier attempt refused",
                self.nodes.iter().map(|it| it.stale).sum(),
            ),
            ("queue commit", self.store.commits),
        ] {
            *census.events.entry(name).or_default() += count;
        }
    }
}

/// Every row that a history can reach.
pub(crate) fn expected_rows() -> Vec<String> {
    let both = [
        "lease",
        "stop",
        "retry",
        "end",
        "node lost",
        "end: agreed",
        "end: cancelled",
        "end: parent",
        "end: refused",
        "end: attempt",
        "end: no agreement",
        "retry: attempt",
        "retry: lease over",
        "retry: node lost",
        "retry: bad signature",
    ];
    let asked = ["no work", "extra places", "retry: not held"];
    let broker = both.iter().chain(&asked).map(|row| format!("broker: {row}"));
    let coordinator = both.iter().map(|row| format!("coordinator: {row}"));
    broker.chain(coordinator).collect()
}
