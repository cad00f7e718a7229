//! A world around the rig that goes on by itself: two other nodes, a chain that takes what is valid, an executor that
//! gives one result. Three of three take seats, so that every reveal counts.

use sandrun_types::Commitment;

use super::*;

/// What happens to an action that is about to be performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is performed and reported.
    Done,
    /// It fails and says so.
    Fails,
    /// The process dies before it.
    CrashBefore,
    /// The process dies after its effect and before the report.
    CrashAfter,
}

pub(super) struct World {
    pub(super) rig: Rig,
    /// Commitments of ours that were ever sent, with their round.
    pub(super) sent: Vec<Commitment>,
    result: u8,
}

impl World {
    pub(super) fn new(confirmations: u64) -> Self {
        Self {
            rig: Rig::new(Redundancy::Three, confirmations),
            sent: vec![],
            result: 1,
        }
    }

    fn has(&self, is_it: impl Fn(&MarketEvent) -> bool) -> bool {
        self.rig.logs.iter().any(|(event, _)| is_it(event))
    }

    pub(super) fn claimed(&self) -> bool {
        self.has(|it| matches!(it, MarketEvent::SeatClaimed { node: ME, .. }))
    }

    pub(super) fn committed(&self) -> bool {
        self.has(|it| matches!(it, MarketEvent::Committed { node: ME, .. }))
    }

    pub(super) fn revealed(&self) -> bool {
        self.has(|it| matches!(it, MarketEvent::Revealed { node: ME, .. }))
    }

    fn others_committed(&self) -> bool {
        self.has(|it| {
            matches!(
                it,
                MarketEvent::Committed {
                    node: NodeIndex(2),
                    ..
                }
            )
        })
    }

    pub(super) fn finished(&self) -> bool {
        self.has(|it| matches!(it, MarketEvent::SeatFinished { node: ME, .. }))
    }

    fn posted(&self) -> bool {
        self.has(|it| matches!(it, MarketEvent::JobPosted { .. }))
    }

    fn run_deadline(&self) -> Option<u64> {
        let claim = self
            .rig
            .logs
            .iter()
            .rev()
            .find(|(it, _)| matches!(it, MarketEvent::SeatClaimed { .. }));
        claim.map(|(_, at)| at.time.0 + RUN)
    }

    /// Performs the next action, or lets the world go on.
    pub(super) fn step(&mut self, fate: Fate) {
        match self.rig.out.pop_front() {
            Some(action) => self.perform(action, fate),
            None if fate == Fate::CrashBefore || fate == Fate::CrashAfter => self.rig.crash(),
            None => self.go_on(),
        }
    }

    fn perform(&mut self, action: Action, fate: Fate) {
        if fate == Fate::CrashBefore {
            return self.rig.crash();
        }
        if let Action::Commit { commitment, .. } = &action
            && !self.sent.contains(commitment)
        {
            self.sent.push(*commitment);
        }
        let ok = fate != Fate::Fails;
        let report = match action {
            Action::Journal(record) => {
                // a disk that fails ends the process
                if !ok {
                    return self.rig.crash();
                }
                self.rig.disk.push(record);
                Some(Event::Journalled)
            }
            Action::FetchBundle if ok => Some(Event::Fetched(Ok(()))),
            Action::FetchBundle => Some(Event::Fetched(Err(FetchFailure::NotFound))),
            Action::Run { attempt, .. } => {
                // a native program: each run differs
                self.result += 1;
                let end = if ok {
                    RunEnd::Result(result(self.result))
                } else {
                    RunEnd::ExecutorFailed
                };
                Some(Event::Ran { attempt, end })
            }
            Action::StopRun { .. } | Action::Retire => None,
            Action::Claim { .. } => Some(self.transact(Transaction::Claim, ok)),
            Action::Commit { .. } => Some(self.transact(Transaction::Commit, ok)),
            Action::Reveal { .. } | Action::RevealResult { .. } => {
                Some(self.transact(Transaction::Reveal, ok))
            }
            Action::Poke => Some(self.transact(Transaction::Poke, false)),
        };
        if fate == Fate::CrashAfter {
            return self.rig.crash();
        }
        match report.map(|report| self.rig.try_feed(report)) {
            // a run that was stopped meanwhile
            Some(Err(Refused::StaleAttempt { current: None, .. })) | Some(Ok(())) | None => {}
            Some(Err(refused)) => panic!("{refused}"),
        }
    }

    /// The chain takes a transaction when it is valid; its logs are told before the sender's report.
    fn transact(&mut self, transaction: Transaction, ok: bool) -> Event {
        let failed = Event::Sent {
            transaction,
            end: TransactionEnd::Failed,
        };
        let logs = match transaction {
            Transaction::Claim if ok && self.posted() && !self.claimed() && self.rig.now < START + 60 => {
                let deadline = self.rig.now + 1 + RUN;
                vec![
                    self.rig.claimed(1, 0, deadline),
                    self.rig.claimed(2, 1, deadline),
                    self.rig.claimed(3, 2, deadline),
                ]
            }
            Transaction::Commit if ok && self.claimed() && !self.committed() => {
                let Some(deadline) = self.run_deadline().filter(|deadline| self.rig.now < *deadline) else {
                    return failed;
                };
                let after = if self.others_committed() {
                    self.rig.now + 1 + 60
                } else {
                    deadline
                };
                vec![self.rig.committed(1, 0, after)]
            }
            Transaction::Reveal if ok && self.committed() && self.others_committed() && !self.revealed() => {
                let answers = self.rig.disk.iter().find_map(|record| match record {
                    Record::Answered(sealed) => Some(*sealed),
                    Record::Claiming { .. }
                    | Record::Running { .. }
                    | Record::Ended { .. }
                    | Record::Reopened => None,
                });
                let sealed = answers.unwrap();
                let revealed = self.rig.revealed(1, 0, sealed.answer);
                sealed
                    .result
                    .map(|parts| self.rig.published(parts))
                    .into_iter()
                    .chain([revealed])
                    .collect()
            }
            Transaction::Claim | Transaction::Commit | Transaction::Reveal | Transaction::Poke => {
                return failed;
            }
        };
        // the machine may ask for more while the logs are told: what it asked for before stays first
        self.rig.mine(logs);
        Event::Sent {
            transaction,
            end: TransactionEnd::Mined {
                block: self.rig.block,
            },
        }
    }

    /// What the others do when this node has nothing to do.
    fn go_on(&mut self) {
        if !self.posted() {
            return self.rig.mine([self.rig.posted()]);
        }
        let state = self.rig.state();
        if state == StateName::Seen {
            self.rig.feed(Event::Judged(Ok(())));
        } else if state == StateName::Accepted {
            self.rig.mine([]);
            if self.rig.state() == StateName::Accepted && self.rig.out.is_empty() {
                self.rig.feed(Event::Ticket {
                    round: Round::First,
                    unit: 3,
                });
            }
        } else if self.claimed() && !self.finished() && !self.others_committed() {
            let deadline = self.run_deadline().unwrap();
            let after = if self.committed() {
                self.rig.now + 1 + 60
            } else {
                deadline
            };
            self.rig
                .mine([self.rig.committed(2, 1, after), self.rig.committed(3, 2, after)]);
        } else if self.revealed() && !self.finished() {
            let digest = self.rig.digest(1);
            self.rig.mine([
                self.rig.revealed(2, 1, digest),
                self.rig.revealed(3, 2, digest),
                self.rig.decided(Outcome::Digest),
                self.rig.finished(1, 0, SeatEnd::Paid),
            ]);
        } else {
            self.rig.mine([]);
        }
    }

    /// Everything goes well from here on.
    pub(super) fn settle(&mut self) {
        for _ in 0..60 {
            self.step(Fate::Done);
            if self.rig.state() == StateName::Finished && self.rig.out.is_empty() {
                return;
            }
        }
    }
}
