//! The straight way, and each way aside from it, step by step.

use super::*;

#[test]
fn a_job_goes_from_seen_to_finished_and_nothing_else_is_done() {
    let mut rig = Rig::new(Redundancy::Three, 1);
    assert_eq!(rig.state(), StateName::Seen);
    let (_, sealed) = rig.reach_committed();
    assert_eq!(rig.state(), StateName::Committed);
    // the others commit: the last commit has to be one block deep
    let reveal = rig.now + 1 + 60;
    rig.mine([rig.committed(2, 1, reveal), rig.committed(3, 2, reveal)]);
    rig.nothing();
    rig.mine([]);
    rig.expect(&[Action::RevealResult {
        seat: SeatIndex(0),
        result: result(1),
        salt: sealed.salt,
    }]);
    assert_eq!(rig.state(), StateName::Revealing);
    rig.mined(Transaction::Reveal);
    rig.mine([rig.published(result(1)), rig.revealed(1, 0, sealed.answer)]);
    rig.nothing();
    assert_eq!(rig.state(), StateName::Revealed);
    rig.mine([
        rig.revealed(2, 1, sealed.answer),
        rig.decided(Outcome::Digest),
        rig.finished(1, 0, SeatEnd::Paid),
        rig.finished(2, 1, SeatEnd::Paid),
    ]);
    rig.nothing();
    rig.mine([]);
    rig.journal(Record::Ended { end: SeatEnd::Paid });
    rig.expect(&[Action::Retire]);
    assert_eq!(rig.state(), StateName::Finished);
    rig.mine([]);
    rig.nothing();
}

#[test]
fn nothing_is_fetched_or_claimed_before_the_job_is_wanted() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.mine([rig.posted()]);
    rig.nothing();
    rig.feed(Event::Judged(Err(vec![Objection::OwnJob])));
    rig.nothing();
    assert_eq!(rig.state(), StateName::Declined);
    let refused = rig.try_feed(Event::Ticket {
        round: Round::First,
        unit: 0,
    });
    assert_eq!(
        refused,
        Err(Refused::Illegal {
            state: StateName::Declined,
            event: "ticket"
        })
    );
    // stake has become free
    rig.feed(Event::Judged(Ok(())));
    rig.expect(&[Action::FetchBundle]);
}

#[test]
fn a_bundle_that_is_not_what_the_order_says_is_never_claimed() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.mine([rig.posted()]);
    rig.feed(Event::Judged(Ok(())));
    rig.expect(&[Action::FetchBundle]);
    rig.feed(Event::Fetched(Err(FetchFailure::Mismatch)));
    rig.nothing();
    assert_eq!(*rig.seat.state(), State::Lost(Loss::BadBundle));
}

#[test]
fn a_bundle_that_nobody_serves_is_asked_for_once_a_block() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.mine([rig.posted()]);
    rig.feed(Event::Judged(Ok(())));
    rig.expect(&[Action::FetchBundle]);
    rig.feed(Event::Fetched(Err(FetchFailure::NotFound)));
    rig.nothing();
    rig.feed(Event::Tick);
    rig.nothing();
    rig.mine([]);
    rig.expect(&[Action::FetchBundle]);
}

#[test]
fn a_claim_that_fails_leads_back_to_waiting() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.reach_accepted();
    rig.claims(3);
    rig.feed(Event::Sent {
        transaction: Transaction::Claim,
        end: TransactionEnd::Failed,
    });
    rig.nothing();
    assert_eq!(rig.state(), StateName::Accepted);
    // no new try in the same block
    rig.feed(Event::Ticket {
        round: Round::First,
        unit: 3,
    });
    rig.nothing();
    rig.mine([]);
    rig.feed(Event::Ticket {
        round: Round::First,
        unit: 3,
    });
    rig.expect(&[Action::Journal(Record::Claiming {
        round: Round::First,
        unit: 3,
    })]);
}

#[test]
fn a_claim_is_not_sent_when_the_seats_went_while_it_was_journalled() {
    let mut rig = Rig::new(Redundancy::One, 0);
    rig.reach_accepted();
    rig.feed(Event::Ticket {
        round: Round::First,
        unit: 3,
    });
    let record = Record::Claiming {
        round: Round::First,
        unit: 3,
    };
    rig.expect(&[Action::Journal(record)]);
    rig.mine([rig.claimed(2, 0, 2_000)]);
    rig.disk.push(record);
    rig.feed(Event::Journalled);
    rig.nothing();
    assert_eq!(*rig.seat.state(), State::Lost(Loss::NoSeats));
}

#[test]
fn a_run_starts_only_when_enough_seats_are_taken() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.reach_accepted();
    rig.claims(3);
    rig.mined(Transaction::Claim);
    rig.mine([rig.claimed(1, 0, START + 60)]);
    rig.nothing();
    rig.mine([rig.claimed(2, 1, START + 60)]);
    rig.expect(&[Action::Journal(Record::Running {
        attempt: Attempt::FIRST,
    })]);
}

#[test]
fn an_answer_that_is_early_waits_for_the_run_window() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.reach_accepted();
    rig.claims(3);
    rig.mined(Transaction::Claim);
    rig.mine([rig.claimed(1, 0, START + 60), rig.claimed(2, 1, START + 60)]);
    rig.journal(Record::Running {
        attempt: Attempt::FIRST,
    });
    rig.out.clear();
    rig.feed(Event::Ran {
        attempt: Attempt::FIRST,
        end: RunEnd::Result(result(1)),
    });
    let sealed = rig.sealed(Round::First, rig.digest(1), Some(result(1)));
    rig.journal(Record::Answered(sealed));
    rig.nothing();
    assert_eq!(rig.state(), StateName::Answered);
    rig.tick(START + 60);
    rig.nothing();
    // the seat window is over with two of three seats: the run window began at its deadline
    rig.tick(START + 61);
    rig.expect(&[rig.commit_of(0, &sealed)]);
}

#[test]
fn limit_is_committed_half_of_the_slack_after_twice_the_wall_limit() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    let deadline = rig.reach_running();
    rig.feed(Event::Ran {
        attempt: Attempt::FIRST,
        end: RunEnd::Limit,
    });
    let sealed = rig.sealed(Round::First, Answer::Limit, None);
    rig.journal(Record::Answered(sealed));
    rig.nothing();
    let last = deadline - RUN + 2 * u64::from(WALL) + WINDOWS.run_slack / 2;
    rig.tick(last);
    rig.nothing();
    rig.tick(last + 1);
    rig.expect(&[rig.commit_of(0, &sealed)]);
}

#[test]
fn a_run_that_does_not_end_becomes_limit_while_a_commit_is_still_possible() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    let deadline = rig.reach_running();
    rig.tick(deadline - 16);
    rig.nothing();
    rig.tick(deadline - 15);
    let sealed = rig.sealed(Round::First, Answer::Limit, None);
    rig.expect(&[
        Action::StopRun {
            attempt: Attempt::FIRST,
        },
        Action::Journal(Record::Answered(sealed)),
    ]);
    rig.disk.push(Record::Answered(sealed));
    rig.feed(Event::Journalled);
    rig.expect(&[rig.commit_of(0, &sealed)]);
    // the run's report comes after all: refused by its number
    let late = rig.try_feed(Event::Ran {
        attempt: Attempt::FIRST,
        end: RunEnd::Result(result(1)),
    });
    assert_eq!(
        late,
        Err(Refused::StaleAttempt {
            told: Attempt::FIRST,
            current: None
        })
    );
}

#[test]
fn unavailable_is_answered_when_a_bundle_is_lost_and_cannot_be_had() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    let deadline = rig.reach_running();
    rig.feed(Event::Ran {
        attempt: Attempt::FIRST,
        end: RunEnd::BundleLost,
    });
    rig.expect(&[Action::FetchBundle]);
    rig.feed(Event::Fetched(Err(FetchFailure::NotFound)));
    rig.nothing();
    // a run may be short: the bundle is worth having as long as anything can come of it
    rig.tick(deadline - 15 - 1);
    rig.nothing();
    rig.tick(deadline - 15);
    let sealed = rig.sealed(Round::First, Answer::Unavailable, None);
    rig.journal(Record::Answered(sealed));
    rig.expect(&[rig.commit_of(0, &sealed)]);
}

#[test]
fn unavailable_is_answered_at_once_when_the_bundle_turns_out_to_be_another() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.reach_running();
    rig.feed(Event::Ran {
        attempt: Attempt::FIRST,
        end: RunEnd::BundleLost,
    });
    rig.expect(&[Action::FetchBundle]);
    rig.feed(Event::Fetched(Err(FetchFailure::Mismatch)));
    rig.journal(Record::Answered(rig.sealed(
        Round::First,
        Answer::Unavailable,
        None,
    )));
}

#[test]
fn an_executor_that_fails_gets_another_attempt_with_the_next_number() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.reach_running();
    rig.feed(Event::Ran {
        attempt: Attempt::FIRST,
        end: RunEnd::ExecutorFailed,
    });
    rig.nothing();
    rig.mine([]);
    rig.journal(Record::Running { attempt: Attempt(2) });
    assert!(matches!(
        rig.out.pop_front(),
        Some(Action::Run {
            attempt: Attempt(2),
            ..
        })
    ));
    rig.nothing();
    let late = rig.try_feed(Event::Ran {
        attempt: Attempt::FIRST,
        end: RunEnd::Limit,
    });
    assert_eq!(
        late,
        Err(Refused::StaleAttempt {
            told: Attempt::FIRST,
            current: Some(Attempt(2))
        })
    );
}

#[test]
fn a_digest_that_is_published_is_revealed_in_the_short_form() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    let (_, sealed) = rig.reach_committed();
    let reveal = rig.now + 1 + 60;
    rig.mine([
        rig.committed(2, 1, reveal),
        rig.committed(3, 2, reveal),
        rig.published(result(1)),
        rig.revealed(2, 1, sealed.answer),
    ]);
    rig.expect(&[Action::Reveal {
        seat: SeatIndex(0),
        answer: sealed.answer,
        salt: sealed.salt,
    }]);
}

#[test]
fn a_short_reveal_whose_publication_is_undone_is_planned_in_full() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    let (_, sealed) = rig.reach_committed();
    let reveal = rig.now + 1 + 60;
    rig.mine([rig.committed(2, 1, reveal), rig.committed(3, 2, reveal)]);
    rig.out.clear();
    rig.feed(Event::Sent {
        transaction: Transaction::Reveal,
        end: TransactionEnd::Failed,
    });
    rig.mine([rig.published(result(1))]);
    rig.expect(&[Action::Reveal {
        seat: SeatIndex(0),
        answer: sealed.answer,
        salt: sealed.salt,
    }]);
    rig.undo(1);
    rig.feed(Event::Sent {
        transaction: Transaction::Reveal,
        end: TransactionEnd::Failed,
    });
    rig.mine([]);
    rig.expect(&[Action::RevealResult {
        seat: SeatIndex(0),
        result: result(1),
        salt: sealed.salt,
    }]);
}

#[test]
fn nothing_is_revealed_while_a_seat_may_still_commit() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    let (deadline, sealed) = rig.reach_committed();
    rig.mine([rig.committed(2, 1, deadline)]);
    rig.nothing();
    rig.tick(deadline);
    rig.nothing();
    rig.tick(deadline + 1);
    rig.expect(&[Action::RevealResult {
        seat: SeatIndex(0),
        result: result(1),
        salt: sealed.salt,
    }]);
}

#[test]
fn a_reveal_waits_for_depth_but_not_longer_than_half_of_its_window() {
    let mut rig = Rig::new(Redundancy::Three, 5);
    rig.reach_committed();
    let reveal = rig.now + 1 + 60;
    rig.mine([rig.committed(2, 1, reveal), rig.committed(3, 2, reveal)]);
    rig.nothing();
    rig.tick(reveal - 31);
    rig.nothing();
    rig.tick(reveal - 30);
    assert!(matches!(rig.out.pop_front(), Some(Action::RevealResult { .. })));
}

#[test]
fn a_result_is_published_by_the_lowest_seat_and_by_others_when_it_does_not() {
    for lower_seat_reveals in [true, false] {
        let mut rig = Rig::new(Redundancy::Three, 0);
        let run = rig.reach_seated_at(1);
        rig.run_from(run);
        let sealed = rig.answer();
        rig.expect(&[rig.commit_of(1, &sealed)]);
        rig.mined(Transaction::Commit);
        let reveal = rig.now + 1 + 60;
        rig.mine([
            rig.committed(2, 0, reveal),
            rig.committed(1, 1, reveal),
            rig.committed(3, 2, reveal),
        ]);
        rig.nothing();
        rig.tick(reveal - 60 + 4);
        rig.nothing();
        let (seat, answer, salt) = (SeatIndex(1), sealed.answer, sealed.salt);
        if lower_seat_reveals {
            rig.mine([rig.published(result(1)), rig.revealed(2, 0, rig.digest(1))]);
            rig.expect(&[Action::Reveal { seat, answer, salt }]);
        } else {
            rig.tick(reveal - 60 + 5);
            let result = result(1);
            rig.expect(&[Action::RevealResult { seat, result, salt }]);
        }
    }
}

#[test]
fn with_fewer_commits_than_the_quorum_the_extra_round_comes_before_any_reveal() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    let (deadline, sealed) = rig.reach_committed();
    rig.tick(deadline + 1);
    // the extra round has to be opened by a transaction: seat 0 waits 5 s for others
    rig.nothing();
    rig.tick(deadline + 6);
    rig.expect(&[Action::Poke]);
    rig.mined(Transaction::Poke);
    let opened = MarketEvent::RoundOpened {
        job: rig.job(),
        deadline: UnixSeconds(deadline + 60),
        units: 30,
    };
    rig.mine([opened]);
    rig.nothing();
    let run = rig.now + 1 + RUN;
    rig.mine([rig.claimed(4, 3, run), rig.claimed(5, 4, run)]);
    rig.nothing();
    let reveal = rig.now + 1 + 60;
    rig.mine([rig.committed(4, 3, reveal), rig.committed(5, 4, reveal)]);
    rig.expect(&[Action::RevealResult {
        seat: SeatIndex(0),
        result: result(1),
        salt: sealed.salt,
    }]);
}

#[test]
fn a_node_without_a_seat_may_win_one_in_the_extra_round() {
    let mut rig = Rig::new(Redundancy::Two, 0);
    rig.reach_accepted();
    let run = rig.now + 1 + RUN;
    rig.mine([rig.claimed(2, 0, run), rig.claimed(3, 1, run)]);
    rig.nothing();
    assert_eq!(*rig.seat.state(), State::Lost(Loss::NoSeats));
    rig.mine([MarketEvent::RoundOpened {
        job: rig.job(),
        deadline: UnixSeconds(run + 60),
        units: 30,
    }]);
    assert_eq!(rig.state(), StateName::Accepted);
    rig.feed(Event::Ticket {
        round: Round::Extra,
        unit: 1,
    });
    rig.journal(Record::Claiming {
        round: Round::Extra,
        unit: 1,
    });
    rig.expect(&[Action::Claim {
        round: Round::Extra,
        unit: 1,
    }]);
    rig.mined(Transaction::Claim);
    rig.mine([rig.claimed(1, 2, run + 60)]);
    rig.expect(&[Action::Journal(Record::Running {
        attempt: Attempt::FIRST,
    })]);
}

#[test]
fn a_ticket_of_another_round_claims_nothing() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.reach_accepted();
    rig.feed(Event::Ticket {
        round: Round::Extra,
        unit: 3,
    });
    rig.nothing();
}

#[test]
fn a_job_that_ends_stops_its_run_and_lets_the_bundle_go() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.reach_running();
    rig.mine([
        rig.decided(Outcome::NoneWins),
        rig.finished(1, 0, SeatEnd::SlashedUncommitted),
    ]);
    assert_eq!(
        rig.out.pop_front(),
        Some(Action::StopRun {
            attempt: Attempt::FIRST
        })
    );
    rig.journal(Record::Ended {
        end: SeatEnd::SlashedUncommitted,
    });
    rig.expect(&[Action::Retire]);
}

#[test]
fn a_job_without_enough_seats_is_poked_to_its_end_by_those_whose_bond_it_holds() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.reach_accepted();
    rig.feed(Event::Ticket {
        round: Round::First,
        unit: 3,
    });
    rig.journal(Record::Claiming {
        round: Round::First,
        unit: 3,
    });
    rig.out.clear();
    rig.mined(Transaction::Claim);
    rig.mine([rig.claimed(1, 0, START + 60)]);
    rig.tick(START + 65);
    rig.nothing();
    rig.tick(START + 66);
    rig.expect(&[Action::Poke]);
    rig.mined(Transaction::Poke);
    rig.mine([
        rig.decided(Outcome::Expired),
        rig.finished(1, 0, SeatEnd::Released),
    ]);
    rig.journal(Record::Ended {
        end: SeatEnd::Released,
    });
    rig.expect(&[Action::Retire]);
}

#[test]
fn a_job_that_is_cancelled_or_won_by_others_is_let_go() {
    for outcome in [Outcome::Cancelled, Outcome::Expired, Outcome::Digest] {
        let mut rig = Rig::new(Redundancy::Three, 1);
        rig.reach_accepted();
        rig.mine([rig.decided(outcome)]);
        rig.nothing();
        assert_eq!(*rig.seat.state(), State::Lost(Loss::Over(Some(outcome))));
        rig.mine([]);
        rig.expect(&[Action::Retire]);
        rig.mine([]);
        rig.nothing();
    }
}

#[test]
fn a_commit_without_a_journalled_answer_is_never_guessed_at() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.reach_committed();
    rig.disk.clear();
    rig.crash();
    assert_eq!(rig.state(), StateName::Missed);
    let reveal = rig.now + 1 + 60;
    rig.mine([rig.committed(2, 1, reveal), rig.committed(3, 2, reveal)]);
    rig.nothing();
}

#[test]
fn news_of_another_job_and_logs_that_never_were_are_refused() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.mine([rig.posted()]);
    let at = Position {
        block: 11,
        log: 9,
        time: UnixSeconds(START),
    };
    let undone = rig.try_feed(Event::Chain(ChainNews::Undone(rig.posted(), at)));
    assert_eq!(undone, Err(Refused::NeverApplied { block: 11, log: 9 }));
    let other = MarketEvent::JobDecided {
        job: JobId([7; 32]),
        outcome: Outcome::Digest,
        answer: B256::ZERO,
    };
    let refused = rig.try_feed(Event::Chain(ChainNews::Applied(other, at)));
    assert_eq!(refused, Err(Refused::OtherJob(JobId([7; 32]))));
}

#[test]
fn logs_told_twice_count_once() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.reach_committed();
    let before = rig.seat.state().clone();
    for (event, at) in rig.logs.clone() {
        rig.feed(Event::Chain(ChainNews::Applied(event, at)));
    }
    rig.nothing();
    assert_eq!(*rig.seat.state(), before);
}

#[test]
fn a_reveal_that_missed_its_window_is_made_late_because_that_saves_a_part_of_the_bond() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    let (_, sealed) = rig.reach_committed();
    let reveal = rig.now + 1 + 60;
    rig.mine([rig.committed(2, 1, reveal), rig.committed(3, 2, reveal)]);
    rig.out.clear();
    rig.feed(Event::Sent {
        transaction: Transaction::Reveal,
        end: TransactionEnd::Failed,
    });
    // no block for a long while; the window is over, the extra round was opened by others
    rig.now = reveal + 5;
    rig.mine([MarketEvent::RoundOpened {
        job: rig.job(),
        deadline: UnixSeconds(reveal + 60),
        units: 30,
    }]);
    rig.expect(&[Action::RevealResult {
        seat: SeatIndex(0),
        result: result(1),
        salt: sealed.salt,
    }]);
}

#[test]
fn no_seat_is_looked_for_in_a_job_that_can_hold_no_extra_round() {
    let mut rig = Rig::new(Redundancy::One, 0);
    rig.reach_accepted();
    let run = rig.now + 1 + RUN;
    rig.mine([rig.claimed(2, 0, run)]);
    let reveal = rig.now + 1 + 60;
    rig.mine([rig.committed(2, 0, reveal)]);
    assert_eq!(*rig.seat.state(), State::Lost(Loss::NoSeats));
    // nobody reveals: the job only waits to be closed
    rig.tick(reveal + 1);
    assert_eq!(*rig.seat.state(), State::Lost(Loss::Over(None)));
    // as long as the chain does not say so itself, there may be news that are not known here
    rig.nothing();
    rig.mine([]);
    rig.expect(&[Action::Retire]);
}

#[test]
fn a_seat_of_which_the_chain_tells_late_is_run_however_little_time_is_left() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.reach_accepted();
    rig.claims(7);
    let claimed_at = rig.now;
    // the chain can't be read, and by the clock nobody can have a seat any more
    rig.feed(Event::Sent {
        transaction: Transaction::Claim,
        end: TransactionEnd::Failed,
    });
    rig.tick(claimed_at + 10_000);
    assert_eq!(*rig.seat.state(), State::Lost(Loss::Over(None)));
    rig.nothing();
    // the clock was wrong, and the claim was mined
    rig.now = claimed_at;
    let deadline = rig.now + 1 + RUN;
    rig.mine([
        rig.claimed(1, 0, deadline),
        rig.claimed(2, 1, deadline),
        rig.claimed(3, 2, deadline),
    ]);
    rig.run_from(deadline);
}
