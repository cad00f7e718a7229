//! What the model refuses, and the rules that no enumeration of seats reaches: cancel, eligibility, reputation, tips,
//! expiry, stake under a bond.

mod market_support;

use market_support::{
    CLIENT, Code, FEE, HONEST, KEEPER, LIE_A, LIMIT, START, World, account, class, gwei, here, native_terms,
    order, register, worker,
};
use sandrun_core::market::escrow::{Call, Escrow, Moment, Opening, Parameters, Refusal};
use sandrun_core::market::rules::{Payment, Stake};
use sandrun_core::market::{MarketEvent, Outcome, Phase, SeatEnd};
use sandrun_types::{
    Amount, B256, ClassKind, NodeIndex, Order, Redundancy, SeatIndex, Token, U256, UnixSeconds,
};

fn world(redundancy: Redundancy) -> World {
    World::new(ClassKind::Native, redundancy, 100_000, 1_000_000)
}

fn committed(redundancy: Redundancy, codes: &[Code]) -> World {
    let mut world = world(redundancy);
    for seat in 0..codes.len() {
        world.claim(seat).expect("a free seat");
    }
    for (seat, code) in codes.iter().enumerate() {
        world.commit(seat, *code).expect("in time");
    }
    world
}

fn reputation(world: &World, node: u32) -> u16 {
    world.escrow.node(NodeIndex(node)).expect("registered").reputation
}

#[test]
fn cancel_is_free_until_the_seed_is_known() {
    for (block, burnt) in [(91, 0), (92, FEE)] {
        // `call` moves on by ten blocks; the posting is in block 100, the seed block is 101
        let mut world = world(Redundancy::Three);
        world.block = block;
        let cancel = Call::Cancel { job: world.job };
        assert!(matches!(
            world.call(KEEPER, cancel.clone()),
            Err(Refusal::NotClient { .. })
        ));
        world.block = block;
        let events = world.call(CLIENT, cancel.clone()).unwrap();
        let amount = |event: &MarketEvent| {
            let MarketEvent::Refunded { amount, .. } = event else {
                return None;
            };
            Some(gwei(*amount))
        };
        let refunded = events.iter().find_map(amount);
        assert_eq!(refunded, Some(300_000 - burnt));
        assert_eq!(world.facts.outcome(), Some(Outcome::Cancelled));
        assert!(matches!(
            world.call(CLIENT, cancel),
            Err(Refusal::TooLateToCancel { .. })
        ));
    }
}

#[test]
fn nothing_is_taken_back_once_a_seat_is_taken_or_the_window_is_over() {
    let mut taken = world(Redundancy::Three);
    taken.claim(0).unwrap();
    let cancel = Call::Cancel { job: taken.job };
    assert!(matches!(
        taken.call(CLIENT, cancel.clone()),
        Err(Refusal::TooLateToCancel { .. })
    ));
    let mut over = world(Redundancy::Three);
    over.now = START + 61;
    assert!(matches!(
        over.call(CLIENT, cancel),
        Err(Refusal::TooLateToCancel { .. })
    ));
}

/// An order and a deployment in which node 1 could claim at once.
fn deployment(change: impl FnOnce(&mut Order)) -> (Escrow, Order) {
    let mut order = order(ClassKind::Native, Redundancy::Three, 100_000, 1_000_000, 1);
    change(&mut order);
    let mut escrow = Escrow::new(here(), Parameters::testnet(), [native_terms()]);
    register(
        &mut escrow,
        moment(START - 1, 1),
        1,
        Stake::from_gwei(100_000_000),
    );
    (escrow, order)
}

const fn moment(now: u64, block: u64) -> Moment {
    Moment {
        now: UnixSeconds(now),
        block,
        base_fee: Amount::ZERO,
    }
}

/// What node 1 is told when it claims in a job of that order.
fn claim(
    change: impl FnOnce(&mut Order),
    before: impl FnOnce(&mut Escrow),
    block: u64,
) -> Result<(), Refusal> {
    let (mut escrow, order) = deployment(change);
    before(&mut escrow);
    let sent = Payment(order.locked_sum().expect("small"));
    escrow.apply(
        moment(START, 10),
        order.payer,
        Call::Post {
            order: Box::new(order.clone()),
            sent,
        },
    )?;
    let job = order.job_id(here());
    let call = Call::Claim {
        job,
        node: NodeIndex(1),
        unit: 0,
        seed: B256::ZERO,
    };
    escrow
        .apply(moment(START + 1, block), worker(1), call)
        .map(|_| ())
}

#[test]
fn only_eligible_nodes_get_seats() {
    let why = |result| match result {
        Err(Refusal::NotEligible { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(claim(|_| {}, |_| {}, 20), Ok(()));
    assert!(matches!(
        claim(|_| {}, |_| {}, 11),
        Err(Refusal::SeedNotReady { .. })
    ));
    assert_eq!(why(claim(|it| it.client = account(1), |_| {}, 20)), "client");
    assert_eq!(why(claim(|it| it.payer = worker(1), |_| {}, 20)), "client");
    assert_eq!(why(claim(|it| it.min_reputation = 1, |_| {}, 20)), "reputation");
    assert_eq!(why(claim(|it| it.class.0[31] = 99, |_| {}, 20)), "class");
    assert_eq!(
        why(claim(|it| it.bond = Amount::from_gwei(100_001_000), |_| {}, 20)),
        "stake"
    );
    let raise = |escrow: &mut Escrow| {
        let add = Call::AddStake {
            node: NodeIndex(1),
            stake: Stake::from_gwei(1),
        };
        escrow.apply(moment(START, 10), CLIENT, add).expect("anyone may");
        let classes = vec![class(ClassKind::Native)];
        let cap = Stake::from_gwei(100_000_001);
        escrow
            .apply(
                moment(START, 10),
                account(1),
                Call::OptIn {
                    node: NodeIndex(1),
                    cap,
                    classes,
                },
            )
            .expect("more");
    };
    assert_eq!(why(claim(|_| {}, raise, 20)), "units");
    let leave = |escrow: &mut Escrow| {
        let call = Call::Leave {
            node: NodeIndex(1),
            stake: Stake::from_gwei(1),
        };
        escrow
            .apply(moment(START - 1, 9), account(1), call)
            .expect("its own");
    };
    assert_eq!(why(claim(|_| {}, leave, 20)), "unit");
}

#[test]
fn one_seat_a_node_and_no_seat_for_others_keys() {
    let mut world = world(Redundancy::Three);
    world.claim(0).unwrap();
    assert!(matches!(
        world.claim(0),
        Err(Refusal::NotEligible { why: "seat", .. })
    ));
    let call = Call::Claim {
        job: world.job,
        node: NodeIndex(2),
        unit: 0,
        seed: B256::ZERO,
    };
    assert!(matches!(world.call(KEEPER, call), Err(Refusal::NotWorker { .. })));
}

#[test]
fn commits_bind_once_and_to_one_answer() {
    let mut world = world(Redundancy::Two);
    world.claim(0).unwrap();
    assert!(matches!(
        world.commit(0, HONEST),
        Err(Refusal::WrongPhase {
            phase: Phase::Seats,
            ..
        })
    ));
    world.claim(1).unwrap();
    world.commit(0, HONEST).unwrap();
    assert!(matches!(
        world.commit(0, LIE_A),
        Err(Refusal::AlreadyCommitted { .. })
    ));
    assert!(matches!(
        world.reveal(0, HONEST),
        Err(Refusal::WrongPhase {
            phase: Phase::Run,
            ..
        })
    ));
    world.commit(1, LIMIT).unwrap();
    assert!(matches!(
        world.reveal(0, LIE_A),
        Err(Refusal::CommitMismatch { .. })
    ));
    assert!(matches!(
        world.reveal(1, LIMIT),
        Err(Refusal::LimitTooEarly { .. })
    ));
    let opening = Opening {
        seat: SeatIndex(0),
        answer: world.answer(HONEST),
        salt: World::salt(0),
    };
    let short = Call::Reveal {
        job: world.job,
        openings: vec![opening],
    };
    assert!(matches!(
        world.call(KEEPER, short.clone()),
        Err(Refusal::ResultUnpublished { .. })
    ));
    world.reveal(0, HONEST).unwrap();
    assert_eq!(
        world.call(KEEPER, short),
        Ok(Vec::new()),
        "what is open already is skipped"
    );
}

#[test]
fn a_reveal_after_the_window_never_counts() {
    let mut decided = committed(Redundancy::Three, &[HONEST, HONEST, HONEST]);
    decided.reveal(0, HONEST).unwrap();
    decided.reveal(1, HONEST).unwrap();
    decided.now = START + 61;
    decided.reveal(2, HONEST).unwrap();
    assert_eq!(decided.ending().seats[2], (SeatEnd::SlashedLate, 0, 300_000));
    let mut again = committed(Redundancy::Two, &[HONEST, HONEST]);
    again.reveal(0, HONEST).unwrap();
    again.now = START + 61;
    again.poke().unwrap();
    again.reveal(1, HONEST).unwrap();
    assert_eq!(
        again.facts.outcome(),
        None,
        "it would have been the second of two"
    );
    again.claim(2).unwrap();
    again.claim(3).unwrap();
    for seat in [2, 3] {
        again.commit(seat, HONEST).unwrap();
    }
    for seat in [2, 3] {
        again.reveal(seat, HONEST).unwrap();
    }
    let ends: Vec<SeatEnd> = again.ending().seats.iter().map(|(end, ..)| *end).collect();
    assert_eq!(
        ends,
        [SeatEnd::Paid, SeatEnd::SlashedLate, SeatEnd::Paid, SeatEnd::Paid]
    );
}

#[test]
fn what_is_open_is_passed_over_until_the_job_is_closed() {
    let mut world = committed(Redundancy::Three, &[HONEST, HONEST, HONEST]);
    world.reveal(0, HONEST).unwrap();
    let events = world.reveal(0, LIE_A).unwrap();
    assert_eq!(events, [], "another result is not published by who has revealed");
    world.reveal(1, HONEST).unwrap();
    world.reveal(2, HONEST).unwrap();
    assert_eq!(world.phase(), Phase::Closed);
    let again = world.reveal(0, HONEST);
    assert!(matches!(again, Err(Refusal::WrongPhase { .. })), "{again:?}");
}

#[test]
fn several_commits_open_in_one_transaction() {
    let mut world = committed(Redundancy::Three, &[HONEST, HONEST, HONEST]);
    let job = world.job;
    world.reveal(0, HONEST).unwrap();
    let answer = world.answer(HONEST);
    let openings = (0..3).map(|seat| Opening {
        seat: World::seat(seat),
        answer,
        salt: World::salt(seat),
    });
    world
        .call(
            KEEPER,
            Call::Reveal {
                job,
                openings: openings.collect(),
            },
        )
        .unwrap();
    assert_eq!(world.ending().seats, vec![(SeatEnd::Paid, 100_000, 0); 3]);
}

#[test]
fn reputation_grows_with_agreement_and_falls_with_any_slash() {
    let mut world = committed(Redundancy::Three, &[HONEST, HONEST, LIE_A]);
    for (seat, code) in [HONEST, HONEST, LIE_A].into_iter().enumerate() {
        world.reveal(seat, code).unwrap();
    }
    assert_eq!([1, 2, 3].map(|node| reputation(&world, node)), [1, 1, 0]);
    let mut alone = committed(Redundancy::One, &[HONEST]);
    alone.reveal(0, HONEST).unwrap();
    assert_eq!(reputation(&alone, 1), 0, "one replica proves nothing");
    // the same nodes once more: the second one is silent now
    let next = order(ClassKind::Native, Redundancy::Two, 100_000, 1_000_000, 2);
    let sent = Payment(next.locked_sum().unwrap());
    world
        .escrow
        .apply(
            world.moment(),
            CLIENT,
            Call::Post {
                order: Box::new(next.clone()),
                sent,
            },
        )
        .unwrap();
    let (job, mut block) = (next.job_id(here()), world.block);
    for node in [1, 2] {
        block += 10;
        let call = Call::Claim {
            job,
            node: NodeIndex(node),
            unit: 0,
            seed: B256::ZERO,
        };
        world
            .escrow
            .apply(moment(world.now, block), worker(node), call)
            .unwrap();
    }
    for _ in 0..3 {
        world.now += 1_000;
        let _ = world
            .escrow
            .apply(moment(world.now, block), KEEPER, Call::Poke { job });
    }
    assert_eq!([1, 2].map(|node| reputation(&world, node)), [0, 0]);
}

#[test]
fn a_poke_is_tipped_for_slashes_and_a_reveal_is_not() {
    let keeper = |world: &World| gwei(world.escrow.balance_of(Token::Native, KEEPER).0);
    let mut wrong = committed(Redundancy::Three, &[HONEST, HONEST, LIE_A]);
    for (seat, code) in [HONEST, HONEST, LIE_A].into_iter().enumerate() {
        wrong.reveal(seat, code).unwrap();
    }
    assert_eq!(
        (wrong.ending().seats[2].0, keeper(&wrong)),
        (SeatEnd::SlashedWrong, 0)
    );
    let mut silent = committed(Redundancy::One, &[HONEST]);
    silent.now = START + 1_000;
    silent.poke().unwrap();
    // 30 % of the bond is 300,000 gwei; 5 % of that is below the fixed tip
    assert_eq!(
        (silent.ending().seats[0].0, keeper(&silent)),
        (SeatEnd::SlashedUnrevealed, 15_000)
    );
}

#[test]
fn claims_of_an_expired_job_get_their_gas() {
    for (base_fee, paid) in [(0, 0), (1_000_000, 100), (9_000_000, FEE / 3)] {
        let mut world = world(Redundancy::Three);
        world.claim(0).unwrap();
        let at = Moment {
            base_fee: Amount(U256::from(base_fee)),
            ..moment(START + 61, 200)
        };
        world
            .escrow
            .apply(at, KEEPER, Call::Poke { job: world.job })
            .unwrap();
        assert_eq!(gwei(world.escrow.earned(Token::Native, NodeIndex(1)).0), paid);
        world.escrow.sanity_check().unwrap();
    }
}

#[test]
fn stake_under_a_bond_stays_seizable() {
    let mut world = committed(Redundancy::Two, &[HONEST, HONEST]);
    let leave = Call::Leave {
        node: NodeIndex(1),
        stake: Stake::from_gwei(100_000_000),
    };
    world.call(account(1), leave).unwrap();
    let release = Call::Release { node: NodeIndex(1) };
    assert!(matches!(
        world.call(account(1), release.clone()),
        Err(Refusal::ExitNotDue { .. })
    ));
    world.now += 900;
    assert!(matches!(
        world.call(account(1), release.clone()),
        Err(Refusal::BondsLocked { .. })
    ));
    world.poke().unwrap();
    world.call(account(1), release).unwrap();
    let left = Stake::from_gwei(100_000_000 - 300_000);
    let take = |stake| Call::WithdrawStake {
        node: NodeIndex(1),
        stake,
        to: account(1),
    };
    let more = left.saturating_add(Stake::from_gwei(1));
    assert!(matches!(
        world.call(account(1), take(more)),
        Err(Refusal::NotEnoughStake { .. })
    ));
    world.call(account(1), take(left)).unwrap();
}

#[test]
fn orders_that_break_a_rule_are_refused() {
    let post = |change: &dyn Fn(&mut Order), sent: Option<u64>| {
        let (mut escrow, order) = deployment(|it| change(it));
        let sent = sent.map_or(
            Payment(order.locked_sum().unwrap_or_default()),
            Payment::from_gwei,
        );
        escrow
            .apply(
                moment(START, 10),
                CLIENT,
                Call::Post {
                    order: Box::new(order),
                    sent,
                },
            )
            .map(|_| ())
    };
    assert_eq!(post(&|_| {}, None), Ok(()));
    assert!(matches!(
        post(&|it| it.price = Amount::from_gwei(10), None),
        Err(Refusal::PriceTooLow { .. })
    ));
    assert!(matches!(
        post(&|it| it.bond = Amount::from_gwei(499_000), None),
        Err(Refusal::BondTooLow { .. })
    ));
    assert!(matches!(
        post(&|it| it.bond = Amount::from_gwei(500_001), None),
        Err(Refusal::BadOrder { field: "bond" })
    ));
    assert!(matches!(
        post(&|it| it.wall_limit = 91, None),
        Err(Refusal::BadOrder { field: "wallLimit" })
    ));
    assert!(matches!(
        post(&|it| it.class.0[0] = 7, None),
        Err(Refusal::BadOrder { field: "classId" })
    ));
    assert!(matches!(
        post(&|it| it.price.0 += U256::from(1u8), None),
        Err(Refusal::BadOrder { field: "price" })
    ));
    assert!(matches!(
        post(&|_| {}, Some(1)),
        Err(Refusal::WrongPayment { .. })
    ));
    assert!(matches!(
        post(&|it| it.payer = KEEPER, None),
        Err(Refusal::NotPayer { .. })
    ));
    let expensive = |it: &mut Order| {
        it.redundancy = Redundancy::One;
        it.price = Amount::from_gwei(2_000_000_000);
    };
    assert!(matches!(
        post(&expensive, None),
        Err(Refusal::PriceTooHigh { .. })
    ));
}
