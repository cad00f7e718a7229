//! Random histories over the model: several jobs and nodes, any call at any time, late and twice. Whatever happens,
//! money and stake are conserved, nobody is paid twice, and every job reaches its end once its windows have passed.

mod market_support;

use std::collections::{BTreeMap, BTreeSet};

use market_support::{
    CLIENT, Code, HONEST, KEEPER, LIE_A, LIMIT, START, UNAVAILABLE, account, class, here, native_terms,
    order, parts, register, worker,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use sandrun_core::market::escrow::{Call, Escrow, Moment, Opening, Parameters, TokenTerms};
use sandrun_core::market::rules::{Payment, Resolution, Stake};
use sandrun_core::market::{MarketEvent, Phase, SeatEnd};
use sandrun_types::{
    Address, Amount, Answer, B256, ClassKind, JobId, NodeIndex, Order, Redundancy, SeatIndex, Token,
    UnixSeconds, commitment,
};

const NODES: u32 = 6;
const COIN: Token = Token::Erc20(Address::repeat_byte(0x20));

/// Something that somebody tries.
#[derive(Debug, Clone)]
enum Try {
    Post { redundancy: Redundancy, erc20: bool },
    Cancel { job: usize },
    Claim { job: usize, node: u32 },
    Commit { job: usize, seat: u8, code: Code },
    Reveal { job: usize, seat: u8, code: Code },
    Poke { job: usize },
    Refund { job: usize },
    Leave { node: u32, gwei: u64 },
    Release { node: u32 },
    WithdrawStake { node: u32, gwei: u64 },
    OptIn { node: u32, gwei: u64 },
    WithdrawNode { node: u32 },
    Withdraw,
}

fn tries() -> impl Strategy<Value = (u64, Try)> {
    let job = || prop_oneof![6 => Just(0usize), 2 => Just(1usize), 1 => 2usize..4];
    let node = || 1..=NODES;
    let seat = || prop_oneof![12 => 0u8..3, 2 => 3u8..5, 1 => 5u8..7];
    let code = || prop::sample::select(vec![HONEST, HONEST, HONEST, LIE_A, UNAVAILABLE, LIMIT]);
    let redundancy = prop::sample::select(Redundancy::ALL.to_vec());
    let gwei = || 1u64..120_000_000;
    let step = prop_oneof![
        2 => (redundancy, any::<bool>()).prop_map(|(redundancy, erc20)| Try::Post { redundancy, erc20 }),
        1 => job().prop_map(|job| Try::Cancel { job }),
        20 => (job(), node()).prop_map(|(job, node)| Try::Claim { job, node }),
        20 => (job(), seat(), code()).prop_map(|(job, seat, code)| Try::Commit { job, seat, code }),
        24 => (job(), seat(), code()).prop_map(|(job, seat, code)| Try::Reveal { job, seat, code }),
        6 => job().prop_map(|job| Try::Poke { job }),
        2 => job().prop_map(|job| Try::Refund { job }),
        1 => (node(), gwei()).prop_map(|(node, gwei)| Try::Leave { node, gwei }),
        1 => node().prop_map(|node| Try::Release { node }),
        1 => (node(), gwei()).prop_map(|(node, gwei)| Try::WithdrawStake { node, gwei }),
        1 => (node(), gwei()).prop_map(|(node, gwei)| Try::OptIn { node, gwei }),
        2 => node().prop_map(|node| Try::WithdrawNode { node }),
        1 => Just(Try::Withdraw),
    ];
    let pause = prop_oneof![40 => 0u64..2, 6 => 2u64..20, 1 => 40u64..400];
    (pause, step)
}

struct History {
    escrow: Escrow,
    orders: Vec<Order>,
    now: u64,
    block: u64,
    /// What each seat's commit hides, as the last one who committed knows it.
    known: BTreeMap<(JobId, u8), Code>,
    finished: BTreeMap<(JobId, u8), usize>,
    paid: BTreeMap<JobId, Payment>,
}

impl History {
    fn new() -> Self {
        let erc20 = TokenTerms {
            token: COIN,
            ..native_terms()
        };
        let mut escrow = Escrow::new(here(), Parameters::testnet(), [native_terms(), erc20]);
        let early = Moment {
            now: UnixSeconds(START - 1),
            block: 1,
            base_fee: Amount::ZERO,
        };
        for node in 1..=NODES {
            register(&mut escrow, early, node, Stake::from_gwei(100_000_000));
        }
        let (known, finished, paid) = Default::default();
        let mut it = Self {
            escrow,
            orders: Vec::new(),
            now: START,
            block: 10,
            known,
            finished,
            paid,
        };
        it.attempt(&Try::Post {
            redundancy: Redundancy::Three,
            erc20: false,
        });
        it
    }

    fn apply(&mut self, caller: Address, call: Call) -> bool {
        // base fee of 3 gwei: what a claim costs stays below a third of the attempt fee in some cases
        let at = Moment {
            now: UnixSeconds(self.now),
            block: self.block,
            base_fee: Amount::from_gwei(0),
        };
        let result = self.escrow.apply(at, caller, call.clone());
        self.escrow
            .sanity_check()
            .unwrap_or_else(|error| panic!("after {call:?}: {error}"));
        for event in result.iter().flatten() {
            if let MarketEvent::Revealed {
                job, seat, answer, ..
            } = event
            {
                let known = self
                    .known
                    .get(&(*job, seat.0))
                    .map(|code| Self::answer(*job, *code));
                assert_eq!(known, Some(*answer), "a commit was opened to something else");
            }
            if let MarketEvent::SeatFinished { job, seat, paid, .. } = event {
                let times = self.finished.entry((*job, seat.0)).or_default();
                *times += 1;
                assert_eq!(*times, 1, "seat {seat} of {job} was finished twice");
                let sum = self.paid.entry(*job).or_default();
                *sum = sum.saturating_add(Payment(*paid));
            }
        }
        result.is_ok()
    }

    fn job(&self, job: usize) -> JobId {
        self.orders[job % self.orders.len()].job_id(here())
    }

    fn attempt(&mut self, step: &Try) -> bool {
        match step {
            Try::Post { redundancy, erc20 } => self.post(*redundancy, *erc20),
            Try::Cancel { job } => self.apply(CLIENT, Call::Cancel { job: self.job(*job) }),
            Try::Claim { job, node } => {
                let call = Call::Claim {
                    job: self.job(*job),
                    node: NodeIndex(*node),
                    unit: 0,
                    seed: B256::ZERO,
                };
                self.apply(worker(*node), call)
            }
            Try::Commit { job, seat, code } => self.commit(self.job(*job), *seat, *code),
            Try::Reveal { job, seat, code } => self.reveal(self.job(*job), *seat, *code),
            Try::Poke { job } => self.apply(KEEPER, Call::Poke { job: self.job(*job) }),
            Try::Refund { job } => self.apply(KEEPER, Call::Refund { job: self.job(*job) }),
            Try::Leave { node, gwei } => {
                let call = Call::Leave {
                    node: NodeIndex(*node),
                    stake: Stake::from_gwei(*gwei),
                };
                self.apply(account(*node), call)
            }
            Try::Release { node } => self.apply(
                KEEPER,
                Call::Release {
                    node: NodeIndex(*node),
                },
            ),
            Try::WithdrawStake { node, gwei } => {
                let (stake, to) = (Stake::from_gwei(*gwei), account(*node));
                self.apply(
                    account(*node),
                    Call::WithdrawStake {
                        node: NodeIndex(*node),
                        stake,
                        to,
                    },
                )
            }
            Try::OptIn { node, gwei } => {
                let classes = vec![class(ClassKind::Native)];
                let call = Call::OptIn {
                    node: NodeIndex(*node),
                    cap: Stake::from_gwei(*gwei),
                    classes,
                };
                self.apply(account(*node), call)
            }
            Try::WithdrawNode { node } => self.apply(
                account(*node),
                Call::WithdrawNode {
                    node: NodeIndex(*node),
                    token: Token::Native,
                },
            ),
            Try::Withdraw => self.apply(
                CLIENT,
                Call::Withdraw {
                    token: Token::Native,
                    to: CLIENT,
                },
            ),
        }
    }

    fn post(&mut self, redundancy: Redundancy, erc20: bool) -> bool {
        if self.orders.len() >= 4 {
            return false;
        }
        let nonce = u64::try_from(self.orders.len()).expect("few");
        let mut order = order(ClassKind::Native, redundancy, 100_003, 20_000_000, nonce);
        order.token = if erc20 { COIN } else { Token::Native };
        let sent = Payment(order.locked_sum().expect("small"));
        self.orders.push(order.clone());
        self.apply(
            CLIENT,
            Call::Post {
                order: Box::new(order),
                sent,
            },
        )
    }

    /// The seat's node and round, if it is taken.
    fn holder(&self, job: JobId, seat: u8) -> Option<(u32, u8)> {
        let record = self.escrow.job(job)?;
        let holder = record.holders.get(usize::from(seat))?;
        Some((
            holder.node.0,
            record.progress.seats.get(usize::from(seat))?.round.number(),
        ))
    }

    fn answer(job: JobId, code: Code) -> Answer {
        match code {
            UNAVAILABLE => Answer::Unavailable,
            LIMIT => Answer::Limit,
            Code(digest) => Answer::Digest(parts(ClassKind::Native, digest - 10).digest(here(), job)),
        }
    }

    fn commit(&mut self, job: JobId, seat: u8, code: Code) -> bool {
        let Some((node, round)) = self.holder(job, seat) else {
            return false;
        };
        let word = Self::answer(job, code).to_word();
        let commitment = commitment(job, round, NodeIndex(node), word, B256::repeat_byte(seat));
        let done = self.apply(
            worker(node),
            Call::Commit {
                job,
                seat: SeatIndex(seat),
                commitment,
            },
        );
        if done {
            self.known.insert((job, seat), code);
        }
        done
    }

    /// Mostly what was committed; sometimes something else, which is refused.
    fn reveal(&mut self, job: JobId, seat: u8, code: Code) -> bool {
        let known = self.known.get(&(job, seat)).copied();
        let code = if code == UNAVAILABLE {
            code
        } else {
            known.unwrap_or(code)
        };
        let (index, salt) = (SeatIndex(seat), B256::repeat_byte(seat));
        let call = match Self::answer(job, code) {
            Answer::Digest(_) => Call::RevealResult {
                job,
                seat: index,
                result: parts(ClassKind::Native, code.0 - 10),
                salt,
            },
            answer @ (Answer::Unavailable | Answer::Limit) => Call::Reveal {
                job,
                openings: vec![Opening {
                    seat: index,
                    answer,
                    salt,
                }],
            },
        };
        self.apply(KEEPER, call)
    }

    /// All windows pass; anyone does what is due.
    fn end(&mut self) {
        for _ in 0..4 {
            self.now += 1_000;
            self.block += 600;
            for job in 0..self.orders.len() {
                self.attempt(&Try::Poke { job });
            }
        }
        for (job, order) in self.orders.clone().iter().enumerate() {
            let id = order.job_id(here());
            let record = self.escrow.job(id).expect("posted");
            assert_eq!(record.progress.phase, Phase::Closed, "every job reaches an end");
            let cancelled = record.progress.resolution == Some(Resolution::Cancelled);
            self.attempt(&Try::Refund { job });
            let record = self.escrow.job(id).expect("posted");
            assert!(record.remaining.is_zero());
            let paid = self.paid.get(&id).copied().unwrap_or_default();
            assert!(paid <= record.terms.locked_sum() && (!cancelled || paid.is_zero()));
        }
        assert!(
            self.escrow.nodes().all(|(_, node)| node.locked.is_zero()),
            "every bond is free again"
        );
    }
}

fn play(steps: &[(u64, Try)]) -> History {
    let mut history = History::new();
    for (pause, step) in steps {
        history.now += pause;
        history.block += 1 + pause;
        if history.attempt(step) {
            // the same again: it is refused, or it is a step of its own
            history.attempt(step);
        }
    }
    history.end();
    history
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn money_is_conserved_and_every_job_ends(steps in prop::collection::vec(tries(), 1..320)) {
        play(&steps);
    }
}

#[test]
fn random_histories_reach_most_ends() {
    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(tries(), 200..320);
    let mut reached = BTreeSet::new();
    for _ in 0..100 {
        let steps = strategy.new_tree(&mut runner).unwrap().current();
        let history = play(&steps);
        reached.extend(
            history
                .escrow
                .jobs()
                .flat_map(|(_, job)| job.holders.iter().filter_map(|it| it.end)),
        );
    }
    use SeatEnd::{AttemptFee, Paid, Released, Shared, SlashedUncommitted, SlashedUnrevealed, SlashedWrong};
    for end in [
        Released,
        Paid,
        AttemptFee,
        Shared,
        SlashedWrong,
        SlashedUnrevealed,
        SlashedUncommitted,
    ] {
        assert!(reached.contains(&end), "{end:?} was never reached: {reached:?}");
    }
}
