//! The decision to accept, objection by objection.

use sandrun_types::{Capabilities, ClassKind, Cpu, Requirements, Shortfall};

use super::*;

const NOW: UnixSeconds = UnixSeconds(START);
const DEADLINE: UnixSeconds = UnixSeconds(START + 60);

fn standing() -> Standing {
    Standing {
        accounts: [Address::repeat_byte(7), Address::repeat_byte(8)],
        halted: None,
        avoided: vec![],
        capabilities: Capabilities {
            cpu: Cpu {
                cores: 4,
                model: "any".into(),
            },
            memory_mib: 8_192,
            ..Capabilities::default()
        },
        classes: vec![ClassId([0; 32])],
        free_stake: Amount::from_gwei(1_000_000_000),
        reputation: 3,
        minimum_prices: vec![(Token::Native, Amount::from_gwei(1_000_000))],
        value_cap: Amount::from_gwei(100_000_000),
        bond_cap: Amount::from_gwei(500_000_000),
        gas_cost: Amount::from_gwei(500_000),
        gas_money: Amount::from_gwei(5_000_000),
        active_jobs: 0,
        max_jobs: 2,
        max_wall: 90,
        can_seal: false,
    }
}

fn objections(change: impl FnOnce(&mut Order, &mut Standing)) -> Vec<Objection> {
    let (mut order, mut standing) = (order(Redundancy::Three), standing());
    change(&mut order, &mut standing);
    judge(&order, DEADLINE, &standing, NOW).err().unwrap_or_default()
}

#[test]
fn an_ordinary_order_is_wanted() {
    assert_eq!(objections(|_, _| ()), []);
}

#[test]
fn each_objection_is_raised_alone_by_its_cause() {
    let gwei = Amount::from_gwei;
    let erc20 = Token::Erc20(Address::repeat_byte(5));
    let fault = Fault::Slashed {
        job: JobId([1; 32]),
        end: SeatEnd::SlashedWrong,
    };
    let requirements = |it: Requirements| it.to_word();
    assert_eq!(
        objections(|_, it| it.halted = Some(fault)),
        [Objection::Halted(fault)]
    );
    assert_eq!(
        objections(|it, _| it.client = Address::repeat_byte(7)),
        [Objection::OwnJob]
    );
    assert_eq!(
        objections(|it, _| it.payer = Address::repeat_byte(8)),
        [Objection::OwnJob]
    );
    let client = order(Redundancy::Three).client;
    assert_eq!(
        objections(|_, it| it.avoided = vec![client]),
        [Objection::Avoided(client)]
    );
    let unknown = ClassId([9; 32]);
    assert_eq!(
        objections(|it, _| it.class = unknown),
        [Objection::UnknownClassKind(unknown)]
    );
    let class = ClassId([1; 32]);
    assert_eq!(
        objections(|it, _| it.class = class),
        [Objection::ClassNotServed {
            class,
            kind: ClassKind::Det
        }]
    );
    assert_eq!(
        objections(|it, _| it.requirements = U256::MAX),
        [Objection::UnknownRequirements]
    );
    let gpu = requirements(Requirements {
        gpu: true,
        ..Requirements::default()
    });
    assert_eq!(
        objections(|it, _| it.requirements = gpu),
        [Objection::Capability(Shortfall::NoGpu)]
    );
    assert_eq!(
        objections(|it, _| it.wall_limit = 91),
        [Objection::WallLimit {
            asked: 91,
            allowed: 90
        }]
    );
    assert_eq!(
        objections(|it, _| it.min_reputation = 4),
        [Objection::Reputation { asked: 4, had: 3 }]
    );
    assert_eq!(
        objections(|it, _| it.client_key = B256::repeat_byte(1)),
        [Objection::SealedResult]
    );
    assert_eq!(objections(|it, _| it.token = erc20), [Objection::Token(erc20)]);
    let (price, minimum) = (gwei(900_000), gwei(1_000_000));
    assert_eq!(
        objections(|it, _| it.price = price),
        [Objection::Price {
            token: Token::Native,
            price,
            minimum
        }]
    );
    let (price, gas) = (gwei(30_000_000), gwei(30_000_000));
    assert_eq!(
        objections(|_, it| (it.gas_cost, it.gas_money) = (gas, gas)),
        [Objection::GasAbovePrice { price, gas }]
    );
    let (needed, had) = (gwei(500_000), gwei(499_999));
    assert_eq!(
        objections(|_, it| it.gas_money = had),
        [Objection::GasMoney { needed, had }]
    );
    let (bond, cap) = (gwei(150_000_000), gwei(149_000_000));
    assert_eq!(
        objections(|_, it| it.bond_cap = cap),
        [Objection::BondAboveCap { bond, cap }]
    );
    assert_eq!(
        objections(|_, it| it.free_stake = cap),
        [Objection::FreeStake { bond, free: cap }]
    );
    let cap = gwei(29_000_000);
    assert_eq!(
        objections(|_, it| it.value_cap = cap),
        [Objection::ValueAboveCap { price, cap }]
    );
    assert_eq!(
        objections(|_, it| it.active_jobs = 2),
        [Objection::Busy { active: 2, max: 2 }]
    );
    let late = judge(
        &order(Redundancy::Three),
        DEADLINE,
        &standing(),
        UnixSeconds(START + 61),
    );
    assert_eq!(
        late,
        Err(vec![Objection::WindowOver {
            deadline: DEADLINE,
            now: UnixSeconds(START + 61)
        }])
    );
}

#[test]
fn all_objections_are_named_at_once() {
    let all = objections(|order, standing| {
        order.wall_limit = 1_000;
        order.price = Amount::ZERO;
        standing.active_jobs = 9;
    });
    assert_eq!(all.len(), 4, "{all:?}");
}

#[test]
fn who_works_alone_needs_no_value_cap() {
    assert_eq!(
        objections(|order, standing| {
            order.redundancy = Redundancy::One;
            standing.value_cap = Amount::ZERO;
        }),
        []
    );
}

#[test]
fn a_client_is_avoided_in_native_jobs_alone() {
    let det = ClassId([1; 32]);
    assert_eq!(
        objections(|order, standing| {
            order.class = det;
            standing.classes = vec![det];
            standing.avoided = vec![order.client];
        }),
        []
    );
}
