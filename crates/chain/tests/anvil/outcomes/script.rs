//! Scripts of `contracts/test/vectors/outcomes.json`, and the choice of those that are played.

use std::collections::{BTreeMap, BTreeSet};

use sandrun_core::market::{Outcome, SeatEnd};
use sandrun_types::ClassKind;
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Script {
    pub(super) name: String,
    pub(super) n: u8,
    pub(super) kind: ClassKind,
    pub(super) price: u64,
    pub(super) bond: u64,
    pub(super) wall: u32,
    pub(super) fee: u64,
    pub(super) steps: Vec<Step>,
    pub(super) expect: Expect,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Step {
    pub(super) at: u64,
    #[serde(rename = "do")]
    pub(super) does: Does,
    pub(super) seat: u8,
    pub(super) answer: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Does {
    Claim,
    Commit,
    Reveal,
    Poke,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Expect {
    pub(super) outcome: Outcome,
    pub(super) refund: u64,
    pub(super) seats: Vec<ExpectSeat>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ExpectSeat {
    pub(super) end: SeatEnd,
    pub(super) paid: u64,
    pub(super) slashed: u64,
}

/// What a script is chosen for: ends by outcome and by what was answered, as far as it says so itself.
fn features(script: &Script) -> BTreeSet<String> {
    let (mut said, mut opened) = (BTreeMap::new(), BTreeSet::new());
    for step in &script.steps {
        match step.does {
            Does::Commit => {
                // all digests alike
                said.insert(step.seat, step.answer.min(3));
            }
            Does::Reveal => {
                opened.insert(step.seat);
            }
            Does::Claim | Does::Poke => {}
        }
    }
    let context = format!("{:?} {:?}", script.kind, script.expect.outcome);
    let seat = |(seat, expect): (u8, &ExpectSeat)| {
        let (said, is_open) = (said.get(&seat), opened.contains(&seat));
        format!("{context} {:?} {said:?} {is_open}", expect.end)
    };
    let seats = (0..).zip(&script.expect.seats).map(seat);
    seats.chain([context.clone()]).collect()
}

/// As few scripts, and as short ones, as have every feature that one of them has.
pub(super) fn choose(scripts: Vec<Script>) -> Vec<Script> {
    let all: Vec<(BTreeSet<String>, Script)> = scripts.into_iter().map(|it| (features(&it), it)).collect();
    let mut missing: BTreeSet<String> = all.iter().flat_map(|(it, _)| it.iter().cloned()).collect();
    let mut chosen = Vec::new();
    while !missing.is_empty() {
        // features for each thousand calls
        let gain = |(features, script): &&(BTreeSet<String>, Script)| {
            1_000 * features.intersection(&missing).count() / (script.steps.len() + 4)
        };
        let Some((features, script)) = all.iter().max_by_key(gain) else {
            break;
        };
        missing = missing.difference(features).cloned().collect();
        chosen.push(script.clone());
    }
    chosen
}
