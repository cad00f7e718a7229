//! Reorganisations: what the chain takes back is put back properly.

use super::chain::{Fate, World};
use super::*;

#[test]
fn any_depth_at_any_point_ends_paid_with_one_answer() {
    for confirmations in [0, 2] {
        for at in 1..24 {
            for depth in 1..6 {
                let mut world = World::new(confirmations);
                (0..at).for_each(|_| world.step(Fate::Done));
                let depth = depth.min(world.rig.block - 10);
                world.rig.undo(depth);
                world.rig.mine([]);
                world.settle();
                assert_eq!(
                    world.rig.state(),
                    StateName::Finished,
                    "{depth} blocks at step {at}: {:?}",
                    world.rig.seat
                );
                assert_eq!(world.sent.len(), 1, "{depth} blocks at step {at}");
            }
        }
    }
}

#[test]
fn a_posting_that_is_undone_is_forgotten_and_comes_back() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.reach_accepted();
    rig.undo(1);
    rig.nothing();
    assert_eq!(*rig.seat.state(), State::Lost(Loss::Unposted));
    rig.mine([rig.posted()]);
    assert_eq!(rig.state(), StateName::Accepted);
    rig.nothing();
}

#[test]
fn a_claim_that_is_undone_is_made_again_and_its_run_goes_on() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    let deadline = rig.reach_running();
    rig.undo(1);
    rig.nothing();
    assert_eq!(rig.state(), StateName::Accepted);
    rig.claims(2);
    // the run ends before the seat is ours again
    rig.feed(Event::Ran {
        attempt: Attempt::FIRST,
        end: RunEnd::Result(result(1)),
    });
    rig.nothing();
    rig.mined(Transaction::Claim);
    rig.mine([
        rig.claimed(2, 0, deadline),
        rig.claimed(1, 1, deadline),
        rig.claimed(3, 2, deadline),
    ]);
    let sealed = rig.sealed(Round::First, rig.digest(1), Some(result(1)));
    rig.journal(Record::Answered(sealed));
    rig.expect(&[rig.commit_of(1, &sealed)]);
}

#[test]
fn a_commit_that_is_undone_is_sent_again_as_it_was() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    let (deadline, sealed) = rig.reach_committed();
    rig.undo(1);
    rig.expect(&[rig.commit_of(0, &sealed)]);
    rig.mined(Transaction::Commit);
    rig.mine([rig.committed(1, 0, deadline)]);
    rig.nothing();
}

#[test]
fn a_commit_that_was_mined_in_a_block_that_is_gone_is_sent_again() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    let (_, sealed) = rig.reach_answered();
    rig.expect(&[rig.commit_of(0, &sealed)]);
    rig.mined(Transaction::Commit);
    rig.nothing();
    // the block that the sender saw was replaced before its logs were told
    rig.mine([]);
    rig.expect(&[rig.commit_of(0, &sealed)]);
}

#[test]
fn a_reveal_and_an_end_that_are_undone_are_put_back() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    let (_, sealed) = rig.reach_committed();
    let reveal = rig.now + 1 + 60;
    rig.mine([rig.committed(2, 1, reveal), rig.committed(3, 2, reveal)]);
    let full = Action::RevealResult {
        seat: SeatIndex(0),
        result: result(1),
        salt: sealed.salt,
    };
    rig.expect(std::slice::from_ref(&full));
    rig.mined(Transaction::Reveal);
    rig.mine([rig.published(result(1)), rig.revealed(1, 0, sealed.answer)]);
    rig.mine([rig.decided(Outcome::Digest), rig.finished(1, 0, SeatEnd::Paid)]);
    rig.journal(Record::Ended { end: SeatEnd::Paid });
    rig.expect(&[Action::Retire]);
    rig.undo(2);
    // the seat is open again: that is on disk before anything is sent
    let asked: Vec<Action> = rig.out.drain(..).collect();
    assert_eq!(asked, [Action::Journal(Record::Reopened)]);
    rig.disk.push(Record::Reopened);
    rig.feed(Event::Journalled);
    rig.expect(&[full]);
    rig.mined(Transaction::Reveal);
    rig.mine([
        rig.published(result(1)),
        rig.revealed(1, 0, sealed.answer),
        rig.decided(Outcome::Digest),
        rig.finished(1, 0, SeatEnd::Paid),
    ]);
    rig.journal(Record::Ended { end: SeatEnd::Paid });
    rig.expect(&[Action::Retire]);
}

#[test]
fn a_seat_that_comes_back_in_the_other_round_keeps_the_result_under_another_salt() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    let (deadline, sealed) = rig.reach_answered();
    rig.expect(&[rig.commit_of(0, &sealed)]);
    rig.feed(Event::Sent {
        transaction: Transaction::Commit,
        end: TransactionEnd::Failed,
    });
    rig.undo(1);
    // in the new history others took the seats, said nothing, and the extra round opened
    rig.mine([
        rig.claimed(2, 0, deadline),
        rig.claimed(3, 1, deadline),
        rig.claimed(4, 2, deadline),
    ]);
    rig.mine([MarketEvent::RoundOpened {
        job: rig.job(),
        deadline: UnixSeconds(deadline + 60),
        units: 30,
    }]);
    rig.feed(Event::Ticket {
        round: Round::Extra,
        unit: 2,
    });
    rig.journal(Record::Claiming {
        round: Round::Extra,
        unit: 2,
    });
    rig.expect(&[Action::Claim {
        round: Round::Extra,
        unit: 2,
    }]);
    rig.mined(Transaction::Claim);
    let run = rig.now + 1 + RUN;
    rig.mine([rig.claimed(1, 3, run), rig.claimed(5, 4, run)]);
    let extra = rig.sealed(Round::Extra, sealed.answer, sealed.result);
    assert_ne!(extra.salt, sealed.salt);
    rig.journal(Record::Answered(extra));
    rig.expect(&[rig.commit_of(3, &extra)]);
}

#[test]
fn a_run_outlives_a_reorganisation_that_takes_even_its_posting() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    let deadline = rig.reach_running();
    rig.undo(2);
    rig.nothing();
    assert_eq!(*rig.seat.state(), State::Lost(Loss::Unposted));
    let seats = [
        rig.claimed(2, 0, deadline),
        rig.claimed(1, 1, deadline),
        rig.claimed(3, 2, deadline),
    ];
    rig.mine([rig.posted()].into_iter().chain(seats));
    rig.nothing();
    assert_eq!(rig.state(), StateName::Running);
    rig.feed(Event::Ran {
        attempt: Attempt::FIRST,
        end: RunEnd::Result(result(1)),
    });
    rig.journal(Record::Answered(rig.sealed(
        Round::First,
        rig.digest(1),
        Some(result(1)),
    )));
}
