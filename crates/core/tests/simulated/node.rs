//! A node: the real seat machine, a journal that outlives crashes, and a conduct.

use std::collections::{BTreeMap, BTreeSet};

use sandrun_core::market::escrow::{Call, Opening, Parameters};
use sandrun_core::market::rules::threshold;
use sandrun_core::market::{MarketEvent, Round};
use sandrun_core::seat::{
    Action, ChainNews, Event, Record, Refused, RunEnd, Salt, Salts, Seat, State, Terms, Transaction as Kind,
};
use sandrun_types::{
    Attempt, B256, ClassKind, EscrowRef, NodeIndex, Order, ResultParts, UnixSeconds, ticket,
};

use super::DEPTH;
use super::chain::{Chain, Sender, Transaction};
use super::rng::SplitMix64;
use crate::market_support::{here, parts, worker};

/// How a node behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Conduct {
    Honest,
    /// Says a digest of its own.
    Liar,
    /// Takes seats and commits to nothing.
    Absent,
    /// Commits and never reveals.
    Silent,
}

/// Something that a node's surroundings will tell it.
#[derive(Debug, Clone)]
struct Later {
    at: UnixSeconds,
    event: Event,
}

/// A node with one job.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) index: NodeIndex,
    pub(crate) conduct: Conduct,
    pub(crate) crashes: usize,
    /// Every commitment that ever left the node, by round: signing two answers is what a journal prevents.
    pub(crate) commitments: BTreeMap<Round, BTreeSet<[u8; 27]>>,
    terms: Terms,
    kind: ClassKind,
    result: ResultParts,
    machine: Seat,
    journal: Vec<Record>,
    later: Vec<Later>,
    process: u32,
    /// News that were read.
    cursor: usize,
}

impl Node {
    pub(crate) fn new(index: u32, order: &Order, kind: ClassKind, rng: &mut SplitMix64) -> Self {
        use Conduct::{Absent, Honest, Liar, Silent};
        let conduct = *rng.pick(&[Honest, Honest, Honest, Honest, Liar, Absent, Silent]);
        let told = match conduct {
            Honest | Absent | Silent => 0,
            // no two liars agree
            Liar => u8::try_from(index).expect("few"),
        };
        let terms = terms(order, index);
        let machine = Seat::new(terms, salts(rng));
        Self {
            index: NodeIndex(index),
            conduct,
            crashes: 0,
            commitments: BTreeMap::new(),
            terms,
            kind,
            result: parts(kind, told),
            machine,
            journal: Vec::new(),
            later: Vec::new(),
            process: 0,
            cursor: 0,
        }
    }

    /// kill -9: what was under way is lost, the journal stays; then the process starts again and reads the chain.
    pub(crate) fn crash(&mut self, chain: &Chain, rng: &mut SplitMix64) {
        self.crashes += 1;
        self.process += 1;
        self.later.clear();
        // the head comes with the next news: a half-read chain decides nothing
        self.cursor = chain.news.len();
        self.machine = Seat::resume(self.terms, salts(rng), &self.journal).expect("its own journal");
        for news in chain.replay() {
            if about(&news, self.terms.job) && head_time(&news).is_none() {
                self.machine
                    .apply(UnixSeconds(0), Event::Chain(news))
                    .expect("a log of the chain");
            }
        }
    }

    /// One second of a node's life.
    pub(crate) fn live(&mut self, now: UnixSeconds, late: bool, chain: &mut Chain, rng: &mut SplitMix64) {
        let ends = std::mem::take(&mut chain.ends);
        for (sender, end) in ends {
            if sender.node != self.index.0 {
                chain.ends.push((sender, end));
            } else if sender.process == self.process {
                self.tell(
                    now,
                    Event::Sent {
                        transaction: sender.kind,
                        end,
                    },
                    chain,
                    rng,
                );
            }
        }
        if !late {
            self.read(now, chain, rng);
        }
        let (due, later) = std::mem::take(&mut self.later)
            .into_iter()
            .partition(|it: &Later| it.at <= now);
        self.later = later;
        for Later { event, .. } in due {
            self.tell(now, event, chain, rng);
        }
        match self.machine.state() {
            State::Seen => self.tell(now, Event::Judged(Ok(())), chain, rng),
            State::Accepted => self.draw(now, chain, rng),
            State::Recovering
            | State::Declined(_)
            | State::Fetching
            | State::Claiming { .. }
            | State::Seated(_)
            | State::Running { .. }
            | State::Answered { .. }
            | State::Committing { .. }
            | State::Committed { .. }
            | State::Revealing { .. }
            | State::Revealed { .. }
            | State::Missed(_)
            | State::Finished { .. }
            | State::Lost(_) => {}
        }
        self.tell(now, Event::Tick, chain, rng);
    }

    /// Reads the news, some of it twice.
    fn read(&mut self, now: UnixSeconds, chain: &mut Chain, rng: &mut SplitMix64) {
        let job = self.terms.job;
        let news: Vec<ChainNews> = chain.news[self.cursor..]
            .iter()
            .filter(|it| about(it, job))
            .cloned()
            .collect();
        self.cursor = chain.news.len();
        for item in news {
            if matches!(item, ChainNews::Applied(..)) && rng.chance(10) {
                self.tell(now, Event::Chain(item.clone()), chain, rng);
            }
            self.tell(now, Event::Chain(item), chain, rng);
        }
    }

    /// Looks for a winning ticket.
    fn draw(&mut self, now: UnixSeconds, chain: &mut Chain, rng: &mut SplitMix64) {
        let Some(record) = chain.escrow().job(self.terms.job) else {
            return;
        };
        let (round, next) = (record.progress.round, chain.height() + 1);
        if next < record.opened_block + 2 {
            return;
        }
        let limit = threshold(
            record.progress.redundancy,
            round,
            record.units,
            record.opened_block,
            next,
        );
        let seed = record.seed.unwrap_or_else(|| chain.seed(self.terms.job, next));
        if ticket(seed, self.terms.job, round.number(), self.index, 0) < limit {
            self.tell(now, Event::Ticket { round, unit: 0 }, chain, rng);
        }
    }

    fn tell(&mut self, now: UnixSeconds, event: Event, chain: &mut Chain, rng: &mut SplitMix64) {
        match self.machine.apply(now, event) {
            Ok(actions) => {
                for action in actions {
                    self.act(now, action, chain, rng);
                }
            }
            // a late or repeated report has no place: that is what the refusal is for
            Err(Refused::StaleAttempt { .. } | Refused::Illegal { .. }) => {}
            Err(error @ (Refused::OtherJob(_) | Refused::NeverApplied { .. })) => panic!("{error}"),
        }
    }

    fn act(&mut self, now: UnixSeconds, action: Action, chain: &mut Chain, rng: &mut SplitMix64) {
        let job = self.terms.job;
        match action {
            Action::Journal(record) => {
                self.journal.push(record);
                // a crash may come between the disk and the report
                self.after(now, rng.below(2), Event::Journalled);
            }
            Action::FetchBundle => self.after(now, 1 + rng.below(4), Event::Fetched(Ok(()))),
            Action::Run { attempt, .. } => self.run(now, attempt, rng),
            Action::StopRun { .. } | Action::Retire => {}
            Action::Claim { unit, .. } => {
                let call = Call::Claim {
                    job,
                    node: self.index,
                    unit,
                    seed: B256::ZERO,
                };
                self.send(Kind::Claim, call, chain, rng);
            }
            Action::Commit { seat, commitment } => {
                let (State::Answered { held, .. } | State::Committing { held, .. }) = self.machine.state()
                else {
                    panic!("a commit from {:?}", self.machine.state());
                };
                let round = held.round;
                if self.conduct != Conduct::Absent {
                    self.commitments.entry(round).or_default().insert(commitment.0);
                    self.send(
                        Kind::Commit,
                        Call::Commit {
                            job,
                            seat,
                            commitment,
                        },
                        chain,
                        rng,
                    );
                }
            }
            Action::Reveal { seat, answer, salt } => {
                let openings = vec![Opening {
                    seat,
                    answer,
                    salt: salt.0,
                }];
                self.reveal(Call::Reveal { job, openings }, chain, rng);
            }
            Action::RevealResult { seat, result, salt } => {
                self.reveal(
                    Call::RevealResult {
                        job,
                        seat,
                        result,
                        salt: salt.0,
                    },
                    chain,
                    rng,
                );
            }
            Action::Poke => self.send(Kind::Poke, Call::Poke { job }, chain, rng),
        }
    }

    fn reveal(&mut self, call: Call, chain: &mut Chain, rng: &mut SplitMix64) {
        if self.conduct != Conduct::Silent {
            self.send(Kind::Reveal, call, chain, rng);
        }
    }

    /// Runs take a few seconds; the executor reports some ends twice.
    fn run(&mut self, now: UnixSeconds, attempt: Attempt, rng: &mut SplitMix64) {
        let end = if rng.chance(5) {
            RunEnd::ExecutorFailed
        } else {
            RunEnd::Result(self.result)
        };
        let seconds = 1 + rng.below(10);
        self.after(now, seconds, Event::Ran { attempt, end });
        if rng.chance(20) {
            self.after(now, seconds + rng.below(5), Event::Ran { attempt, end });
        }
    }

    fn after(&mut self, now: UnixSeconds, seconds: u64, event: Event) {
        self.later.push(Later {
            at: now.plus(seconds),
            event,
        });
    }

    fn send(&self, kind: Kind, call: Call, chain: &mut Chain, rng: &mut SplitMix64) {
        let sender = Sender {
            node: self.index.0,
            process: self.process,
            kind,
        };
        let transaction = Transaction::of(sender, worker(self.index.0), call, rng.below(3));
        if rng.chance(20) {
            chain.send(transaction.repeated());
        }
        chain.send(transaction);
    }
}

fn salts(rng: &mut SplitMix64) -> Salts {
    let [first, extra] = [rng.word(), rng.word()].map(|word| Salt(B256::from(word)));
    Salts { first, extra }
}

fn terms(order: &Order, index: u32) -> Terms {
    let windows = Parameters::testnet().windows;
    let escrow: EscrowRef = here();
    Terms::of(order, escrow, NodeIndex(index), windows, DEPTH)
}

/// Whether news are for the machine of this job: logs of the job, and heads.
fn about(news: &ChainNews, job: sandrun_types::JobId) -> bool {
    let log = |event: &MarketEvent| event.job() == Some(job);
    match news {
        ChainNews::Applied(event, _) | ChainNews::Undone(event, _) => log(event),
        ChainNews::Head { .. } => true,
    }
}

const fn head_time(news: &ChainNews) -> Option<UnixSeconds> {
    match news {
        ChainNews::Head { time, .. } => Some(*time),
        ChainNews::Applied(..) | ChainNews::Undone(..) => None,
    }
}
