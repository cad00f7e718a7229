//! A rig that plays chain, disk, executor and sender for one seat's machine, records what it asks for, and lets a test
//! say that nothing else was asked.

mod backoff;
mod chain;
mod crash;
mod gate;
mod judge;
mod path;
mod random;
mod reorg;
mod table;

use std::cmp::Ordering;
use std::collections::VecDeque;

use sandrun_types::{
    Address, Amount, Answer, Attempt, B256, ChainId, ClassId, ContentDigest, EscrowRef, ExitStatus, JobId,
    ManifestDigest, NodeIndex, Order, OutputRoot, Redundancy, ResultParts, SeatIndex, Token, TraceRoot, U256,
    UnixSeconds,
};

use super::*;
use crate::market::rules::Windows;
use crate::market::{MarketEvent, Outcome, PublishedResult, Round, SeatEnd};

const ME: NodeIndex = NodeIndex(1);
const AT: EscrowRef = EscrowRef {
    chain: ChainId::LOCAL,
    escrow: Address::repeat_byte(9),
};
const WINDOWS: Windows = Windows {
    seat: 60,
    run_multiple: 3,
    run_slack: 30,
    reveal: 60,
};
const WALL: u32 = 20;
/// 3 × 20 + 30
const RUN: u64 = 90;
/// When the posting is mined.
const START: u64 = 1_000;

fn order(redundancy: Redundancy) -> Order {
    Order {
        client: Address::repeat_byte(1),
        payer: Address::repeat_byte(1),
        nonce: U256::ZERO,
        bundle: ContentDigest([2; 32]),
        manifest: ManifestDigest([3; 32]),
        class: ClassId([0; 32]),
        requirements: U256::ZERO,
        token: Token::Native,
        price: Amount::from_gwei(30_000_000),
        redundancy,
        bond: Amount::from_gwei(150_000_000),
        wall_limit: WALL,
        min_reputation: 0,
        client_key: B256::ZERO,
    }
}

fn result(byte: u8) -> ResultParts {
    ResultParts {
        class: ClassId([0; 32]),
        exit: ExitStatus::Code(0),
        output_root: OutputRoot([byte; 32]),
        trace_root: TraceRoot([2; 32]),
        content: ContentDigest([3; 32]),
    }
}

fn salts(byte: u8) -> Salts {
    Salts {
        first: Salt(B256::repeat_byte(byte)),
        extra: Salt(B256::repeat_byte(byte.wrapping_add(100))),
    }
}

/// Plays everything around one machine.
struct Rig {
    seat: Seat,
    now: u64,
    block: u64,
    logs: Vec<(MarketEvent, Position)>,
    disk: Vec<Record>,
    out: VecDeque<Action>,
    salt: u8,
}

impl Rig {
    fn new(redundancy: Redundancy, confirmations: u64) -> Self {
        let terms = Terms::of(&order(redundancy), AT, ME, WINDOWS, confirmations);
        let seat = Seat::new(terms, salts(1));
        Self {
            seat,
            now: START - 1,
            block: 10,
            logs: vec![],
            disk: vec![],
            out: VecDeque::new(),
            salt: 1,
        }
    }

    fn job(&self) -> JobId {
        self.seat.job()
    }

    fn state(&self) -> StateName {
        self.seat.state().name()
    }

    /// Feeds one event and checks the whole machine.
    fn try_feed(&mut self, event: Event) -> Result<(), Refused> {
        let before = self.seat.clone();
        match self.seat.apply(UnixSeconds(self.now), event) {
            Ok(actions) => {
                for (from, to) in self.seat.arrows.drain(..) {
                    let known = from == to || from.successors().contains(&to);
                    assert!(known, "{from:?} became {to:?}: not in the table");
                }
                self.out.extend(actions);
                self.sanity_check();
                Ok(())
            }
            Err(refused) => {
                assert_eq!(
                    format!("{before:?}"),
                    format!("{:?}", self.seat),
                    "a refused event changed something"
                );
                Err(refused)
            }
        }
    }

    fn feed(&mut self, event: Event) {
        self.try_feed(event).unwrap();
    }

    /// What holds in every state.
    fn sanity_check(&self) {
        let job = self.job();
        for action in &self.out {
            // an answer is on disk before anything is sent that depends on it
            if let Action::Commit { commitment, .. } = action {
                let on_disk = self.disk.iter().any(|record| match record {
                    Record::Answered(SealedAnswer {
                        round, answer, salt, ..
                    }) => {
                        let word = answer.to_word();
                        sandrun_types::commitment(job, round.number(), ME, word, salt.0) == *commitment
                    }
                    Record::Claiming { .. }
                    | Record::Running { .. }
                    | Record::Ended { .. }
                    | Record::Reopened => false,
                });
                assert!(on_disk, "a commit was handed out whose answer is not on disk");
            }
        }
        let answers = |wanted: Round| {
            let is_one =
                |record: &&Record| matches!(record, Record::Answered(sealed) if sealed.round == wanted);
            self.disk.iter().filter(is_one).count()
        };
        assert!(
            answers(Round::First) <= 1 && answers(Round::Extra) <= 1,
            "two answers for one round: {:?}",
            self.disk
        );
    }

    /// A block with these events, one second after the last.
    fn mine(&mut self, events: impl IntoIterator<Item = MarketEvent>) {
        self.now += 1;
        self.block += 1;
        for (log, event) in events.into_iter().enumerate() {
            let at = Position {
                block: self.block,
                log: log as u64,
                time: UnixSeconds(self.now),
            };
            self.logs.push((event.clone(), at));
            self.feed(Event::Chain(ChainNews::Applied(event, at)));
        }
        self.head();
    }

    fn head(&mut self) {
        let (number, time) = (self.block, UnixSeconds(self.now));
        self.feed(Event::Chain(ChainNews::Head { number, time }));
    }

    /// Takes the last `blocks` back.
    fn undo(&mut self, blocks: u64) {
        self.block -= blocks;
        while let Some((event, at)) = self.logs.pop_if(|(_, at)| at.block > self.block) {
            self.feed(Event::Chain(ChainNews::Undone(event, at)));
        }
    }

    /// Kills the process and starts another one: only disk and chain are left.
    fn crash(&mut self) {
        self.salt += 1;
        self.out.clear();
        self.seat = Seat::resume(*self.seat.terms(), salts(self.salt), &self.disk).unwrap();
        for (event, at) in self.logs.clone() {
            self.feed(Event::Chain(ChainNews::Applied(event, at)));
        }
        assert!(self.out.is_empty(), "acted on a half-read chain: {:?}", self.out);
        self.head();
    }

    /// Asserts that exactly this was asked for.
    #[track_caller]
    fn expect(&mut self, wanted: &[Action]) {
        let out: Vec<Action> = self.out.drain(..).collect();
        assert_eq!(out, wanted, "in state {:?}", self.seat.state());
    }

    #[track_caller]
    fn nothing(&mut self) {
        self.expect(&[]);
    }

    /// Asserts that a record is to be journalled, and journals it.
    #[track_caller]
    fn journal(&mut self, record: Record) {
        self.expect(&[Action::Journal(record)]);
        self.disk.push(record);
        self.feed(Event::Journalled);
    }

    fn tick(&mut self, now: u64) {
        self.now = now;
        self.feed(Event::Tick);
    }

    fn mined(&mut self, transaction: Transaction) {
        let block = self.block + 1;
        self.feed(Event::Sent {
            transaction,
            end: TransactionEnd::Mined { block },
        });
    }

    // words of the chain

    fn posted(&self) -> MarketEvent {
        MarketEvent::JobPosted {
            job: self.job(),
            client: Address::repeat_byte(1),
            order: Box::new(order(self.seat.terms().redundancy)),
            deadline: UnixSeconds(START + 60),
            units: 30,
        }
    }

    fn claimed(&self, node: u32, seat: u8, deadline: u64) -> MarketEvent {
        MarketEvent::SeatClaimed {
            job: self.job(),
            node: NodeIndex(node),
            seat: SeatIndex(seat),
            deadline: UnixSeconds(deadline),
        }
    }

    fn committed(&self, node: u32, seat: u8, deadline: u64) -> MarketEvent {
        MarketEvent::Committed {
            job: self.job(),
            node: NodeIndex(node),
            seat: SeatIndex(seat),
            deadline: UnixSeconds(deadline),
        }
    }

    fn revealed(&self, node: u32, seat: u8, answer: Answer) -> MarketEvent {
        MarketEvent::Revealed {
            job: self.job(),
            node: NodeIndex(node),
            seat: SeatIndex(seat),
            answer,
        }
    }

    fn finished(&self, node: u32, seat: u8, end: SeatEnd) -> MarketEvent {
        MarketEvent::SeatFinished {
            job: self.job(),
            node: NodeIndex(node),
            seat: SeatIndex(seat),
            end,
            paid: Amount::ZERO,
            slashed: Amount::ZERO,
        }
    }

    fn published(&self, parts: ResultParts) -> MarketEvent {
        MarketEvent::ResultPublished {
            job: self.job(),
            digest: self.seat.terms().digest(&parts),
            result: PublishedResult::from(parts),
        }
    }

    fn decided(&self, outcome: Outcome) -> MarketEvent {
        MarketEvent::JobDecided {
            job: self.job(),
            outcome,
            answer: B256::ZERO,
        }
    }

    fn digest(&self, byte: u8) -> Answer {
        Answer::Digest(self.seat.terms().digest(&result(byte)))
    }

    fn sealed(&self, round: Round, answer: Answer, result: Option<ResultParts>) -> SealedAnswer {
        SealedAnswer {
            round,
            answer,
            salt: salts(self.salt).of(round),
            result,
        }
    }

    fn commit_of(&self, seat: u8, sealed: &SealedAnswer) -> Action {
        let word = sealed.answer.to_word();
        let commitment =
            sandrun_types::commitment(self.job(), sealed.round.number(), ME, word, sealed.salt.0);
        Action::Commit {
            seat: SeatIndex(seat),
            commitment,
        }
    }

    // stations of the straight way

    /// Posted, judged, fetched: waits for a ticket.
    fn reach_accepted(&mut self) {
        self.mine([self.posted()]);
        self.nothing();
        self.feed(Event::Judged(Ok(())));
        self.expect(&[Action::FetchBundle]);
        self.feed(Event::Fetched(Ok(())));
        self.nothing();
    }

    /// A ticket of the first round is found, noted and sent in.
    fn claims(&mut self, unit: u32) {
        let round = Round::First;
        self.feed(Event::Ticket { round, unit });
        self.journal(Record::Claiming { round, unit });
        self.expect(&[Action::Claim { round, unit }]);
    }

    /// All of `n` seats are taken, ours is seat 0, the run window has begun. Returns its deadline.
    fn reach_seated(&mut self) -> u64 {
        self.reach_seated_at(0)
    }

    /// The same with another seat; the other nodes are 2, 3, … in the order of their seats.
    fn reach_seated_at(&mut self, ours: u8) -> u64 {
        self.reach_accepted();
        self.claims(7);
        self.mined(Transaction::Claim);
        let n = self.seat.terms().redundancy.replicas();
        let deadline = self.now + 1 + RUN;
        let seats: Vec<MarketEvent> = (0..n)
            .map(|seat| {
                let node = match seat.cmp(&ours) {
                    Ordering::Less => u32::from(seat) + 2,
                    Ordering::Equal => 1,
                    Ordering::Greater => u32::from(seat) + 1,
                };
                self.claimed(node, seat, deadline)
            })
            .collect();
        self.mine(seats);
        deadline
    }

    fn reach_running(&mut self) -> u64 {
        let deadline = self.reach_seated();
        self.run_from(deadline);
        deadline
    }

    fn run_from(&mut self, deadline: u64) {
        self.journal(Record::Running {
            attempt: Attempt::FIRST,
        });
        self.expect(&[Action::Run {
            attempt: Attempt::FIRST,
            until: UnixSeconds(deadline - 15),
        }]);
    }

    fn reach_answered(&mut self) -> (u64, SealedAnswer) {
        let deadline = self.reach_running();
        (deadline, self.answer())
    }

    fn answer(&mut self) -> SealedAnswer {
        self.feed(Event::Ran {
            attempt: Attempt::FIRST,
            end: RunEnd::Result(result(1)),
        });
        let sealed = self.sealed(Round::First, self.digest(1), Some(result(1)));
        self.journal(Record::Answered(sealed));
        sealed
    }

    fn reach_committed(&mut self) -> (u64, SealedAnswer) {
        let (deadline, sealed) = self.reach_answered();
        self.expect(&[self.commit_of(0, &sealed)]);
        self.mined(Transaction::Commit);
        self.mine([self.committed(1, 0, deadline)]);
        self.nothing();
        (deadline, sealed)
    }
}
