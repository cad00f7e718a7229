//! A small world around the model: one client, nodes with one unit of stake each, a clock. Every call is followed by
//! the check of the whole state, and the facts folded from the effects have to agree with the model.

#![allow(dead_code, unused_imports, reason = "each test uses its part")]

mod script;

use sandrun_core::market::escrow::{Call, Escrow, Moment, Opening, Parameters, Refusal, TokenTerms};
use sandrun_core::market::rules::{Payment, Resolution, Stake};
use sandrun_core::market::{Due, JobFacts, MarketEvent, Outcome, Phase, SeatEnd, due};
use sandrun_types::{
    Address, Amount, Answer, B256, ChainId, ClassId, ClassKind, ContentDigest, EscrowRef, ExitStatus, JobId,
    ManifestDigest, NodeIndex, Order, OutputRoot, Redundancy, ResultParts, SeatIndex, Token, TraceRoot, U256,
    UnixSeconds, commitment,
};

pub(crate) use script::{Behaviour, Does, Player, Step, multisets};

pub(crate) const START: u64 = 1_000_000;
pub(crate) const WALL: u32 = 20;
pub(crate) const FEE: u64 = 1_000;
pub(crate) const CLIENT: Address = Address::repeat_byte(0xc1);
pub(crate) const KEEPER: Address = Address::repeat_byte(0xee);

pub(crate) fn here() -> EscrowRef {
    EscrowRef {
        chain: ChainId::LOCAL,
        escrow: Address::repeat_byte(0xe5),
    }
}

pub(crate) fn class(kind: ClassKind) -> ClassId {
    let mut bytes = [7; 32];
    bytes[0] = match kind {
        ClassKind::Native => 0,
        ClassKind::Det => 1,
    };
    ClassId(bytes)
}

pub(crate) fn worker(node: u32) -> Address {
    Address::with_last_byte(u8::try_from(100 + node).expect("few nodes"))
}

pub(crate) fn account(node: u32) -> Address {
    Address::with_last_byte(u8::try_from(node).expect("few nodes"))
}

pub(crate) fn native_terms() -> TokenTerms {
    TokenTerms {
        token: Token::Native,
        granule: Payment::from_gwei(1),
        attempt_fee: Payment::from_gwei(FEE),
        min_price: Payment::from_gwei(10 * FEE),
        max_single_price: Payment::from_gwei(1_000_000_000),
        bond_per_price: Stake(Amount(U256::from(5u8) * U256::from(10u8).pow(U256::from(18u8)))),
    }
}

pub(crate) fn order(kind: ClassKind, redundancy: Redundancy, price: u64, bond: u64, nonce: u64) -> Order {
    Order {
        client: CLIENT,
        payer: CLIENT,
        nonce: U256::from(nonce),
        bundle: ContentDigest([2; 32]),
        manifest: ManifestDigest([3; 32]),
        class: class(kind),
        requirements: U256::ZERO,
        token: Token::Native,
        price: Amount::from_gwei(price),
        redundancy,
        bond: Amount::from_gwei(bond),
        wall_limit: WALL,
        min_reputation: 0,
        client_key: B256::ZERO,
    }
}

/// Parts whose digest is "digest k".
pub(crate) fn parts(kind: ClassKind, k: u8) -> ResultParts {
    ResultParts {
        class: class(kind),
        exit: ExitStatus::Code(k),
        output_root: OutputRoot([4; 32]),
        trace_root: TraceRoot([5; 32]),
        content: ContentDigest([6; 32]),
    }
}

/// An answer as scripts write it: 1 `unavailable`, 2 `limit`, 10 + k digest k.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Code(pub(crate) u8);

pub(crate) const UNAVAILABLE: Code = Code(1);
pub(crate) const LIMIT: Code = Code(2);
pub(crate) const HONEST: Code = Code(10);
pub(crate) const LIE_A: Code = Code(11);
pub(crate) const LIE_B: Code = Code(12);

#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) escrow: Escrow,
    pub(crate) job: JobId,
    pub(crate) order: Order,
    pub(crate) kind: ClassKind,
    pub(crate) now: u64,
    pub(crate) block: u64,
    pub(crate) facts: JobFacts,
    pub(crate) events: Vec<MarketEvent>,
}

impl World {
    /// Nodes registered with room for a few bonds, one job posted.
    pub(crate) fn new(kind: ClassKind, redundancy: Redundancy, price: u64, bond: u64) -> Self {
        let order = order(kind, redundancy, price, bond, 1);
        let mut escrow = Escrow::new(here(), Parameters::testnet(), [native_terms()]);
        let early = Moment {
            now: UnixSeconds(START - 100),
            block: 50,
            base_fee: Amount::ZERO,
        };
        for node in 1..=7 {
            register(
                &mut escrow,
                early,
                node,
                Stake::from_gwei(100_000_000).max(Stake::from_gwei(bond)),
            );
        }
        let sent = Payment(order.locked_sum().expect("small"));
        let at = Moment {
            now: UnixSeconds(START),
            block: 100,
            base_fee: Amount::ZERO,
        };
        let post = Call::Post {
            order: Box::new(order.clone()),
            sent,
        };
        let events = escrow.apply(at, CLIENT, post).expect("a good order");
        let facts = JobFacts::posted(&events[0], Parameters::testnet().windows).expect("posted");
        let job = order.job_id(here());
        Self {
            escrow,
            job,
            order,
            kind,
            now: START,
            block: 100,
            facts,
            events,
        }
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment {
            now: UnixSeconds(self.now),
            block: self.block,
            base_fee: Amount::ZERO,
        }
    }

    /// Makes a call a little later in blocks, not in time.
    pub(crate) fn call(&mut self, caller: Address, call: Call) -> Result<Vec<MarketEvent>, Refusal> {
        self.block += 10;
        let before = self.escrow.clone();
        let (_, pending) = self.facts.at(UnixSeconds(self.now));
        if matches!(due(&self.facts, UnixSeconds(self.now)), Some(Due::Poke(_))) {
            assert!(!pending.is_empty(), "a poke is due that has nothing to do");
        }
        let result = self.escrow.apply(self.moment(), caller, call.clone());
        match &result {
            Ok(events) => {
                for event in events.iter().filter(|event| event.job() == Some(self.job)) {
                    self.facts.apply(event).expect("effects fold");
                }
                self.events.extend(events.iter().cloned());
            }
            Err(_) => assert_eq!(self.escrow, before, "a refused call leaves nothing behind"),
        }
        if matches!(call, Call::Poke { .. }) {
            assert_eq!(
                result.is_ok(),
                !pending.is_empty(),
                "a poke makes what the facts say is pending: {pending:?}"
            );
        }
        self.escrow
            .sanity_check()
            .unwrap_or_else(|error| panic!("after {call:?}: {error}"));
        let record = self.escrow.job(self.job).expect("posted");
        assert_eq!(self.facts.progress(), record.progress, "facts after {call:?}");
        assert_eq!(
            self.facts.remaining(),
            record.remaining,
            "remaining after {call:?}"
        );
        result
    }

    pub(crate) fn answer(&self, code: Code) -> Answer {
        match code.0 {
            1 => Answer::Unavailable,
            2 => Answer::Limit,
            other => Answer::Digest(parts(self.kind, other - 10).digest(here(), self.job)),
        }
    }

    pub(crate) fn code(&self, answer: Answer) -> Code {
        let all = [UNAVAILABLE, LIMIT, HONEST, LIE_A, LIE_B, Code(13), Code(14)];
        all.into_iter()
            .find(|code| self.answer(*code) == answer)
            .expect("a known answer")
    }

    pub(crate) fn salt(seat: usize) -> B256 {
        B256::with_last_byte(u8::try_from(seat + 1).expect("few seats"))
    }

    pub(crate) fn seat(seat: usize) -> SeatIndex {
        SeatIndex(u8::try_from(seat).expect("few seats"))
    }

    /// Node `seat + 1` takes the next seat.
    pub(crate) fn claim(&mut self, seat: usize) -> Result<Vec<MarketEvent>, Refusal> {
        let node = u32::try_from(seat + 1).expect("few seats");
        let call = Call::Claim {
            job: self.job,
            node: NodeIndex(node),
            unit: 0,
            seed: B256::repeat_byte(9),
        };
        self.call(worker(node), call)
    }

    pub(crate) fn commit(&mut self, seat: usize, code: Code) -> Result<Vec<MarketEvent>, Refusal> {
        let holder = u32::try_from(seat + 1).expect("few seats");
        let round = self.facts.seats[seat].round.number();
        let word = self.answer(code).to_word();
        let commitment = commitment(self.job, round, NodeIndex(holder), word, Self::salt(seat));
        self.call(
            worker(holder),
            Call::Commit {
                job: self.job,
                seat: Self::seat(seat),
                commitment,
            },
        )
    }

    pub(crate) fn reveal(&mut self, seat: usize, code: Code) -> Result<Vec<MarketEvent>, Refusal> {
        let (job, salt, index) = (self.job, Self::salt(seat), Self::seat(seat));
        let call = match self.answer(code) {
            Answer::Digest(_) => Call::RevealResult {
                job,
                seat: index,
                result: parts(self.kind, code.0 - 10),
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
        self.call(KEEPER, call)
    }

    pub(crate) fn poke(&mut self) -> Result<Vec<MarketEvent>, Refusal> {
        self.call(KEEPER, Call::Poke { job: self.job })
    }

    pub(crate) fn refund(&mut self) -> Result<Vec<MarketEvent>, Refusal> {
        self.call(KEEPER, Call::Refund { job: self.job })
    }

    pub(crate) fn phase(&self) -> Phase {
        self.facts.phase
    }

    /// How the closed job ended.
    pub(crate) fn ending(&self) -> Ending {
        assert_eq!(self.phase(), Phase::Closed, "not closed: {:?}", self.facts);
        let resolution = self.facts.resolution.expect("closed jobs are decided");
        let seats = self.facts.seats.iter().map(|seat| seat.end.expect("finished"));
        Ending {
            resolution,
            outcome: resolution.outcome(),
            seats: seats
                .map(|it| (it.end, gwei(it.paid.0), gwei(it.slashed.0)))
                .collect(),
            rest: gwei(self.facts.remaining().0),
        }
    }
}

/// A closed job: outcome, each seat's end with gwei paid and slashed, and what goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) resolution: Resolution,
    pub(crate) outcome: Outcome,
    pub(crate) seats: Vec<(SeatEnd, u64, u64)>,
    pub(crate) rest: u64,
}

pub(crate) fn gwei(amount: Amount) -> u64 {
    assert!(
        (amount.0 % U256::from(Amount::GWEI)).is_zero(),
        "{amount:?} is no whole gwei"
    );
    (amount.0 / U256::from(Amount::GWEI)).to::<u64>()
}

pub(crate) fn register(escrow: &mut Escrow, at: Moment, node: u32, stake: Stake) {
    let register = Call::Register {
        worker: worker(node),
        payout: account(node),
        stake,
    };
    escrow.apply(at, account(node), register).expect("registers");
    let classes = vec![class(ClassKind::Native), class(ClassKind::Det)];
    let opt_in = Call::OptIn {
        node: NodeIndex(node),
        cap: stake,
        classes,
    };
    escrow.apply(at, account(node), opt_in).expect("opts in");
}
