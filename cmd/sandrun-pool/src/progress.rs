//! The progress display of a job: escrowed → seats → running → committed → revealed → paid. Drawn on standard error, and
//! only for a person who watches.

use indicatif::{ProgressBar, ProgressStyle};
use sandrun_core::market::rules::Standing;
use sandrun_core::market::{JobFacts, Phase, SeatFacts};

use crate::output::Output;

/// A line that says what happens now.
#[derive(Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// A display, where one is wanted.
    pub(crate) fn new(output: &Output) -> Self {
        if !output.shows_progress() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        Self(Some(bar))
    }

    /// No display.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Says what happens now.
    pub(crate) fn say(&self, text: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(text.to_owned());
        }
    }

    /// Says how a job stands.
    pub(crate) fn facts(&self, facts: &JobFacts) {
        self.say(&line(facts));
    }

    /// Prints something above the display.
    pub(crate) fn above(&self, print: impl FnOnce()) {
        match &self.0 {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Removes the display.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// A job's stages in one line, the one that it is in marked: of the seats that there are in this round those that are taken,
/// of the taken ones those that committed, of the commits those that were revealed, and the seats that were paid.
pub(crate) fn line(facts: &JobFacts) -> String {
    let count =
        |wanted: fn(&Standing) -> bool| facts.seats.iter().filter(|seat| wanted(&seat.standing)).count();
    let (progress, taken) = (facts.progress(), facts.seats.len());
    // the extra round adds to what the first one got
    let all = taken - progress.taken(progress.round) + progress.wanted();
    let committed = count(|it| !matches!(it, Standing::Uncommitted));
    let revealed = count(|it| matches!(it, Standing::Revealed(_) | Standing::Late(_)));
    let was_paid = |seat: &&SeatFacts| seat.end.is_some_and(|end| !end.paid.is_zero());
    let paid = facts.seats.iter().filter(was_paid).count();
    let stages = [
        (Some(Phase::Seats), format!("seats {taken}/{all}")),
        (Some(Phase::Run), "running".to_owned()),
        (None, format!("committed {committed}/{taken}")),
        (Some(Phase::Reveal), format!("revealed {revealed}/{committed}")),
        (Some(Phase::Closed), format!("paid {paid}")),
    ];
    let mut text = "escrowed".to_owned();
    for (phase, stage) in stages {
        text += &if phase == Some(facts.phase) {
            format!(" → [{stage}]")
        } else {
            format!(" → {stage}")
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use sandrun_core::market::rules::{Payment, Stake, Windows};
    use sandrun_core::market::{Round, SeatEnd, SeatFinish};
    use sandrun_types::{
        Address, Amount, Answer, B256, ClassId, ContentDigest, JobId, ManifestDigest, NodeIndex, Order,
        Redundancy, Token, U256, UnixSeconds,
    };

    use super::*;

    fn facts() -> JobFacts {
        let order = Order {
            client: Address::ZERO,
            payer: Address::ZERO,
            nonce: U256::ZERO,
            bundle: ContentDigest([0; 32]),
            manifest: ManifestDigest([0; 32]),
            class: ClassId([0; 32]),
            requirements: U256::ZERO,
            token: Token::Native,
            price: Amount::ZERO,
            redundancy: Redundancy::Three,
            bond: Amount::ZERO,
            wall_limit: 60,
            min_reputation: 0,
            client_key: B256::ZERO,
        };
        let windows = Windows {
            seat: 60,
            run_slack: 60,
            run_multiple: 3,
            reveal: 60,
        };
        JobFacts {
            job: JobId([0; 32]),
            order,
            windows,
            round: Round::First,
            phase: Phase::Seats,
            deadline: UnixSeconds(0),
            units: 3,
            seats: Vec::new(),
            resolution: None,
            results: std::collections::BTreeMap::new(),
            refunded: None,
            burnt: Payment::ZERO,
        }
    }
    fn seat(node: u32, round: Round, standing: Standing) -> SeatFacts {
        SeatFacts {
            node: NodeIndex(node),
            round,
            standing,
            end: None,
        }
    }

    #[test]
    fn each_stage_counts_of_what_there_is() {
        let mut facts = facts();
        assert_eq!(
            line(&facts),
            "escrowed → [seats 0/3] → running → committed 0/0 → revealed 0/0 → paid 0"
        );
        facts.phase = Phase::Run;
        facts.seats = vec![
            seat(1, Round::First, Standing::Committed),
            seat(2, Round::First, Standing::Uncommitted),
        ];
        assert_eq!(
            line(&facts),
            "escrowed → seats 2/3 → [running] → committed 1/2 → revealed 0/1 → paid 0"
        );
        // two more are wanted than the first round got
        (facts.round, facts.phase) = (Round::Extra, Phase::Seats);
        assert!(line(&facts).contains("[seats 2/4]"), "{}", line(&facts));
        facts
            .seats
            .push(seat(3, Round::Extra, Standing::Revealed(Answer::Unavailable)));
        facts.phase = Phase::Closed;
        let paid = Payment(Amount::from_gwei(1));
        facts.seats[2].end = Some(SeatFinish {
            end: SeatEnd::Paid,
            paid,
            slashed: Stake::ZERO,
        });
        assert_eq!(
            line(&facts),
            "escrowed → seats 3/4 → running → committed 2/3 → revealed 1/2 → [paid 1]"
        );
    }
}
