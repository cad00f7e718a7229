//! Scripts and their outcomes for the contract's tests: `contracts/test/vectors/outcomes.json`.
//!
//! One script a line: `{name, n, q, kind, price, bond, wall, fee, steps, expect}`; money in gwei, `at` in seconds since
//! the posting, `answer` 1 `unavailable`, 2 `limit`, 10 + k "digest k", 0 where there is none. Windows are those of the
//! testnet, the token is native with a granule of 1 gwei, the base fee is 0. Every step is a call that is accepted, at
//! least two blocks after the one before, so that seeds are known; with as many units as seven nodes of one unit have,
//! every ticket wins by then. `seat` of a claim is the number that it gets; nodes claim in the order of their indices.
//! `expect.refund` is what a refund credits when all steps are done (nothing is left to refund when it is 0).
//!
//! Written by `cargo test -p sandrun-core --test market_vectors -- --ignored`.

mod market_support;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use market_support::{
    Behaviour, Code, Does, Ending, FEE, HONEST, LIE_A, LIE_B, LIMIT, Player, START, UNAVAILABLE, WALL, World,
    multisets,
};
use sandrun_core::market::rules::Standing;
use sandrun_core::market::{Outcome, Phase, Round, SeatEnd};
use sandrun_types::{ClassKind, Redundancy};
use serde_json::{Value, json};

const PRICE: u64 = 100_001;
const BOND: u64 = 1_001_000;
const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../contracts/test/vectors/outcomes.json"
);

/// A script that was played to its end.
struct Vector {
    name: String,
    kind: ClassKind,
    player: Player,
    ending: Ending,
}

impl Vector {
    fn json(&self) -> Value {
        let redundancy = self.player.world.order.redundancy;
        let steps = self.player.steps.iter().map(|step| {
            let does = match step.does {
                Does::Claim => "claim",
                Does::Commit => "commit",
                Does::Reveal => "reveal",
                Does::Poke => "poke",
            };
            json!({"at": step.at, "do": does, "seat": step.seat, "answer": step.answer.0})
        });
        let seats =
            self.ending.seats.iter().map(
                |(end, paid, slashed)| json!({"end": format!("{end:?}"), "paid": paid, "slashed": slashed}),
            );
        json!({
            "name": self.name,
            "n": redundancy.replicas(),
            "q": redundancy.quorum(),
            "kind": kind_name(self.kind),
            "price": PRICE,
            "bond": BOND,
            "wall": WALL,
            "fee": FEE,
            "steps": steps.collect::<Vec<_>>(),
            "expect": {
                "outcome": format!("{:?}", self.ending.outcome),
                "seats": seats.collect::<Vec<_>>(),
                "refund": self.ending.rest,
            },
        })
    }

    /// What makes a script worth having: rows of the tables that it reaches.
    fn features(&self) -> BTreeSet<String> {
        let world = &self.player.world;
        let progress = world.facts.progress();
        let context = format!(
            "{:?} {:?} {:?}",
            world.order.redundancy, self.kind, self.ending.outcome
        );
        let extra = (
            progress.taken(Round::First),
            world.facts.round,
            progress.taken(Round::Extra),
        );
        let mut features = BTreeSet::from([format!("{context} {extra:?} {}", progress.reveals_together())]);
        for (seat, (end, paid, _)) in progress.seats.iter().zip(&self.ending.seats) {
            let row = match seat.standing {
                Standing::Uncommitted => "uncommitted".to_owned(),
                Standing::Committed => "unrevealed".to_owned(),
                Standing::Late(answer) => format!("late {}", class(world.code(answer))),
                Standing::Revealed(answer) => class(world.code(answer)).to_owned(),
            };
            features.insert(format!("{context} {:?} {row} {end:?} {paid}", seat.round));
        }
        features
    }
}

const fn kind_name(kind: ClassKind) -> &'static str {
    match kind {
        ClassKind::Native => "native",
        ClassKind::Det => "det",
    }
}

const fn class(code: Code) -> &'static str {
    match code {
        UNAVAILABLE => "unavailable",
        LIMIT => "limit",
        Code(_) => "digest",
    }
}

fn word(behaviour: Behaviour) -> String {
    let answer = |code: Code| match code {
        HONEST => "honest",
        LIE_A => "lie A",
        LIE_B => "lie B",
        UNAVAILABLE => "unavailable",
        LIMIT => "limit",
        Code(_) => "other",
    };
    match behaviour {
        Behaviour::Absent => "absent".to_owned(),
        Behaviour::Silent => "silent".to_owned(),
        Behaviour::Late(code) => format!("late {}", answer(code)),
        Behaviour::Timely(code) => answer(code).to_owned(),
    }
}

fn words(behaviours: &[Behaviour]) -> String {
    behaviours
        .iter()
        .copied()
        .map(word)
        .collect::<Vec<_>>()
        .join(", ")
}

fn play(kind: ClassKind, redundancy: Redundancy, first: &[Behaviour], extra: &[Behaviour]) -> Vector {
    let mut player = Player::new(World::new(kind, redundancy, PRICE, BOND));
    let ending = player.run(first, extra);
    let opened = player.world.facts.round == Round::Extra;
    let mut name = format!(
        "{} of {}, {}: ",
        redundancy.quorum(),
        redundancy.replicas(),
        kind_name(kind)
    );
    let _ = write!(name, "{}", words(first));
    if opened {
        let _ = write!(name, "; extra round: {}", words(extra));
    }
    Vector {
        name,
        kind,
        player,
        ending,
    }
}

/// Scripts of one redundancy: each that reaches something no earlier one did, from every `stride`th first round.
fn choose(
    kind: ClassKind,
    redundancy: Redundancy,
    stride: usize,
    known: &mut BTreeSet<String>,
    into: &mut Vec<Vector>,
) {
    let extras: Vec<Vec<Behaviour>> = (0..=2)
        .flat_map(|size| multisets(&Behaviour::extra(), size))
        .collect();
    for taken in 0..=usize::from(redundancy.replicas()) {
        for first in multisets(&Behaviour::first(), taken).iter().step_by(stride) {
            for extra in &extras {
                let vector = play(kind, redundancy, first, extra);
                let opened = vector.player.world.facts.round == Round::Extra;
                let features = vector.features();
                if !features.is_subset(known) {
                    known.extend(features);
                    into.push(vector);
                }
                if !opened {
                    break;
                }
            }
        }
    }
}

type Line = (u64, Does, usize, Code);

/// Plays a script as it is written; pokes only at its end, while it is not closed.
fn scripted(name: &str, redundancy: Redundancy, lines: &[Line]) -> Vector {
    let kind = ClassKind::Det;
    let mut player = Player::new(World::new(kind, redundancy, PRICE, BOND));
    for (at, does, seat, answer) in lines {
        player.world.now = START + at - 1;
        player
            .act(*does, *seat, *answer)
            .unwrap_or_else(|error| panic!("{name} at {at}: {error}"));
    }
    player.pass_while(|_| true);
    let ending = player.world.ending();
    Vector {
        name: name.to_owned(),
        kind,
        player,
        ending,
    }
}

/// Acting at the deadline itself, and several windows that nobody noticed.
fn at_the_edges() -> Vec<Vector> {
    use Does::{Claim, Commit, Poke, Reveal};
    let none = Code(0);
    let claims = |n: usize| {
        (0..n)
            .map(|seat| (1 + seat as u64, Claim, seat, none))
            .collect::<Vec<Line>>()
    };
    // wall 20: the run window is 90 s, limit is late enough after 40 s
    let script = |claims: Vec<Line>, rest: &[Line]| [claims, rest.to_vec()].concat();
    let three = Redundancy::Three;
    vec![
        scripted(
            "nobody came and nobody looked for hours",
            three,
            &[(10_000, Poke, 0, none)],
        ),
        scripted(
            "three seats, nobody committed, one poke hours later passes every window",
            three,
            &script(claims(3), &[(10_000, Poke, 0, none)]),
        ),
        scripted(
            "three commits, nobody revealed, one poke hours later passes every window",
            three,
            &script(
                claims(3),
                &[
                    (5, Commit, 0, HONEST),
                    (6, Commit, 1, HONEST),
                    (7, Commit, 2, HONEST),
                    (10_000, Poke, 0, none),
                ],
            ),
        ),
        scripted(
            "claim, commit and reveal at the deadline itself; the run begins by a commit, the reveals by a reveal",
            three,
            &[
                (1, Claim, 0, none),
                (60, Claim, 1, none),
                // run: 60 to 150
                (70, Commit, 0, HONEST),
                (150, Commit, 1, HONEST),
                // reveal: 150 to 210
                (160, Reveal, 0, HONEST),
                (210, Reveal, 1, HONEST),
            ],
        ),
        scripted(
            "the third seat reveals the winner after the decision, at the deadline itself",
            three,
            &script(
                claims(3),
                &[
                    // run: 3 to 93
                    (10, Commit, 2, HONEST),
                    (11, Commit, 1, HONEST),
                    (93, Commit, 0, HONEST),
                    // reveal: 93 to 153
                    (94, Reveal, 1, HONEST),
                    (95, Reveal, 2, HONEST),
                    (153, Reveal, 0, HONEST),
                ],
            ),
        ),
        scripted(
            "a late reveal of the winner after the decision, before anybody poked",
            three,
            &script(
                claims(3),
                &[
                    (5, Commit, 0, HONEST),
                    (6, Commit, 1, HONEST),
                    (7, Commit, 2, HONEST),
                    // reveal: 7 to 67
                    (8, Reveal, 0, HONEST),
                    (9, Reveal, 1, HONEST),
                    (100, Reveal, 2, HONEST),
                ],
            ),
        ),
        scripted(
            "limit is late enough one second after twice the wall limit",
            Redundancy::Two,
            &script(
                claims(2),
                // run: 2 to 92, limit from 43 on
                &[
                    (43, Commit, 0, LIMIT),
                    (44, Commit, 1, LIMIT),
                    (45, Reveal, 0, LIMIT),
                    (46, Reveal, 1, LIMIT),
                ],
            ),
        ),
        scripted(
            "reveals begin by a reveal when the run window is over and q have committed",
            three,
            &script(
                claims(3),
                &[
                    (10, Commit, 0, LIE_A),
                    (11, Commit, 1, LIE_A),
                    // reveal: 93 to 153
                    (120, Reveal, 0, LIE_A),
                    (121, Reveal, 1, LIE_A),
                ],
            ),
        ),
        scripted(
            "the extra round's window counts from the deadline that was missed, not from the poke",
            Redundancy::Two,
            &script(
                claims(2),
                &[
                    (5, Commit, 0, HONEST),
                    (6, Commit, 1, LIE_B),
                    // reveal: 6 to 66; seats of the extra round: 66 to 126
                    (10, Reveal, 0, HONEST),
                    (100, Poke, 0, none),
                    (126, Claim, 2, none),
                    // run: 126 to 216, ended early by the only commit; reveal: 150 to 210
                    (150, Commit, 2, HONEST),
                    (205, Reveal, 1, LIE_B),
                    (210, Reveal, 2, HONEST),
                ],
            ),
        ),
    ]
}

fn vectors() -> Vec<Vector> {
    let mut chosen = at_the_edges();
    let mut known = BTreeSet::new();
    for kind in [ClassKind::Native, ClassKind::Det] {
        choose(kind, Redundancy::One, 1, &mut known, &mut chosen);
        choose(kind, Redundancy::Two, 1, &mut known, &mut chosen);
        choose(kind, Redundancy::Three, 5, &mut known, &mut chosen);
        choose(kind, Redundancy::Five, 67, &mut known, &mut chosen);
    }
    chosen
}

fn text(vectors: &[Vector]) -> String {
    let lines: Vec<String> = vectors.iter().map(|it| it.json().to_string()).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

#[test]
fn the_committed_file_is_fresh_and_reaches_every_row() {
    let vectors = vectors();
    if std::env::var_os("SANDRUN_WRITE_VECTORS").is_some() {
        std::fs::write(FILE, text(&vectors)).unwrap();
    }
    let committed = std::fs::read_to_string(FILE).unwrap();
    assert!(
        committed == text(&vectors),
        "run this test with SANDRUN_WRITE_VECTORS=1 and commit what it writes"
    );
    assert!(vectors.len() > 200);
    for end in SeatEnd::ALL {
        for kind in [ClassKind::Native, ClassKind::Det] {
            let reached =
                |it: &&Vector| it.kind == kind && it.ending.seats.iter().any(|(seat, ..)| seat == end);
            assert!(vectors.iter().any(|it| reached(&it)), "{end:?} {kind:?}");
        }
    }
    let outcomes = [
        Outcome::Digest,
        Outcome::Limit,
        Outcome::Unavailable,
        Outcome::NoneWins,
        Outcome::Expired,
    ];
    for redundancy in Redundancy::ALL {
        for outcome in outcomes {
            let reached =
                |it: &Vector| it.player.world.order.redundancy == redundancy && it.ending.outcome == outcome;
            assert!(vectors.iter().any(reached), "{redundancy:?} {outcome:?}");
        }
        if redundancy.has_extra_round() {
            extra_rounds(&vectors, redundancy);
        }
    }
}

/// Extra rounds of both kinds with 0, 1 and 2 seats.
fn extra_rounds(vectors: &[Vector], redundancy: Redundancy) {
    for together in [false, true] {
        for seats in 0..=2 {
            let reached = vectors.iter().any(|it| {
                let progress = it.player.world.facts.progress();
                progress.redundancy == redundancy
                    && progress.round == Round::Extra
                    && progress.taken(Round::Extra) == seats
                    && progress.reveals_together() == together
            });
            assert!(reached, "{redundancy:?} together {together} with {seats}");
        }
    }
    assert!(vectors.iter().all(|it| it.player.world.phase() == Phase::Closed));
}
