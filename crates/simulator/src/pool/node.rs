//! A node: takes leases, runs, and says what came of it until it is heard. A crash loses its runs; answers that it has
//! spooled it tells again.

use std::collections::{BTreeMap, BTreeSet};

use sandrun_core::pool::{ClaimNumber, JobNumber, NodeNumber, NodeSpec, Offer, Report, SignatureCheck};
use sandrun_types::{Attempt, Capabilities, ResultDigest};

use super::call::{Answer, Call, LeaseId};
use super::ledger::Ledger;
use crate::rng::Rng;
use crate::violation::{Violation, promise};

/// Seconds after which it waits no longer for the answer to a claim.
const CLAIM: u64 = 6;

/// How a node behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conduct {
    Honest,
    /// Says a digest of its own.
    Liar,
    /// Has a bad signature now and then.
    Forger,
    /// Takes jobs and says nothing, now and then.
    Sleepy,
}

/// The node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) number: NodeNumber,
    pub(crate) spec: NodeSpec,
    conduct: Conduct,
    /// Whether it asks for jobs.
    asks: bool,
    /// Whether it numbers its claims and says what it holds.
    numbers: bool,
    /// Claims that may still be answered, and when they were sent.
    claims: BTreeMap<ClaimNumber, u64>,
    last_claim: u64,
    pub(crate) down_until: u64,
    is_known: bool,
    running: BTreeMap<LeaseId, u64>,
    /// What it has to say, on its disk.
    spool: BTreeMap<LeaseId, Call>,
    /// Leases that it knows in this life.
    seen: BTreeSet<LeaseId>,
    pub(crate) stale: u64,
}

impl Node {
    pub(crate) fn draw(number: NodeNumber, asks: bool, rng: &mut Rng) -> Self {
        use Conduct::{Forger, Honest, Liar, Sleepy};
        let conduct = rng.pick(&[Honest, Honest, Honest, Liar, Liar, Forger, Sleepy], Honest);
        let slots = 1 + rng.small(3);
        Self::new(number, conduct, slots, rng.chance(70), asks)
    }

    pub(crate) fn new(number: NodeNumber, conduct: Conduct, slots: u32, announced: bool, asks: bool) -> Self {
        let capabilities = Capabilities {
            region: Some("eu".to_owned()),
            ..Capabilities::default()
        };
        let offer = if announced {
            Offer::Announced {
                capabilities: Box::new(capabilities),
                features: BTreeSet::new(),
            }
        } else {
            Offer::Unannounced
        };
        Self {
            number,
            spec: NodeSpec {
                offer,
                slots,
                admitted: true,
            },
            conduct,
            asks,
            // an older one of each four
            numbers: asks && !number.0.is_multiple_of(4),
            claims: BTreeMap::new(),
            last_claim: 0,
            down_until: 0,
            is_known: false,
            running: BTreeMap::new(),
            spool: BTreeMap::new(),
            seen: BTreeSet::new(),
            stale: 0,
        }
    }

    /// kill -9, and a start later.
    pub(crate) fn kill(&mut self, until: u64) {
        self.down_until = until;
        self.is_known = false;
        self.running.clear();
        self.claims.clear();
        self.seen.clear();
    }

    /// One second of its life: what it says.
    pub(crate) fn live(&mut self, now: u64, faults: bool, rng: &mut Rng) -> Vec<Call> {
        if now < self.down_until {
            return vec![];
        }
        let node = self.number;
        let mut said = vec![];
        if !self.is_known {
            let spec = self.spec.clone();
            said.push(Call::Register { node, spec });
        } else if now % 10 == u64::from(node.0) % 10 {
            said.push(Call::Heartbeat { node });
        }
        self.claims.retain(|_, sent| *sent + CLAIM > now);
        if self.numbers && rng.chance(20) {
            let (settled, held) = (self.settled(), self.held());
            said.push(Call::Holds { node, settled, held });
        }
        let due = |(lease, at): (&LeaseId, &u64)| (*at <= now).then_some(*lease);
        let over: Vec<LeaseId> = self.running.iter().filter_map(due).collect();
        for lease in over {
            self.running.remove(&lease);
            if let Some(call) = self.outcome(lease, faults, rng) {
                self.spool.insert(lease, call);
            }
        }
        // a fair network answers within two seconds; a word is said again every third
        said.extend(self.spool.values().filter(|_| rng.chance(40)).cloned());
        let is_free = self.running.len() + self.claims.len() < usize::try_from(self.spec.slots).unwrap_or(0);
        if self.asks && self.is_known && is_free && rng.chance(60) {
            self.last_claim += 1;
            let claim = ClaimNumber(self.last_claim);
            self.claims.insert(claim, now);
            let claim = self.numbers.then_some(claim);
            said.push(Call::Claim { node, claim });
        }
        said
    }

    /// Up to which claim no answer will be read any more.
    fn settled(&self) -> ClaimNumber {
        let first = self.claims.keys().next();
        first.map_or(ClaimNumber(self.last_claim), |it| ClaimNumber(it.0 - 1))
    }

    fn held(&self) -> BTreeSet<(JobNumber, Attempt)> {
        let leases = self.running.keys().chain(self.spool.keys());
        leases.map(|it| (it.job, it.attempt)).collect()
    }

    pub(crate) fn has(&self, lease: LeaseId) -> bool {
        self.running.contains_key(&lease)
    }

    /// What comes of a run; `None` where it says nothing.
    fn outcome(&self, lease: LeaseId, faults: bool, rng: &mut Rng) -> Option<Call> {
        if faults && self.conduct == Conduct::Sleepy && rng.chance(30) {
            return None;
        }
        if lease.job.0 % 13 == 5 {
            return Some(Call::Failed { lease, retry: false });
        }
        if faults && rng.chance(6) {
            return Some(Call::Failed { lease, retry: true });
        }
        let byte = |number: u64| u8::try_from(number % 251).unwrap_or(0);
        let (digest, success) = match self.conduct {
            Conduct::Liar => (rng.word(), true),
            Conduct::Honest | Conduct::Forger | Conduct::Sleepy => {
                ([byte(lease.job.0); 32], lease.job.0 % 7 != 3)
            }
        };
        let is_forged = self.conduct == Conduct::Forger && rng.chance(30);
        let report = Report {
            digest: ResultDigest(digest),
            signature: if is_forged {
                SignatureCheck::Invalid
            } else {
                SignatureCheck::Valid
            },
            success,
        };
        Some(Call::Answered { lease, report })
    }

    /// What it is told.
    pub(crate) fn hear(
        &mut self,
        now: u64,
        answer: Answer,
        ledger: &Ledger,
        rng: &mut Rng,
    ) -> Result<Option<Call>, Violation> {
        if now < self.down_until {
            return Ok(None);
        }
        match answer {
            Answer::Known { .. } => self.is_known = true,
            Answer::Unknown { .. } => self.is_known = false,
            Answer::NoWork { claim, .. } => {
                claim.map(|claim| self.claims.remove(&claim));
            }
            Answer::Leased { lease, until, claim } => {
                // the answer to a claim that it has given up is not read
                let is_read = claim.is_none_or(|claim| self.claims.remove(&claim).is_some());
                if is_read && self.seen.insert(lease) && !self.spool.contains_key(&lease) {
                    // now and then longer than it may
                    let left = until.0.saturating_sub(now);
                    self.running.insert(lease, now + rng.below(left + left / 8 + 1));
                    return Ok(rng.chance(70).then_some(Call::Started(lease)));
                }
            }
            Answer::Stop(lease) => {
                self.running.remove(&lease);
            }
            Answer::Counted(lease) => {
                if let Some(Call::Answered { report, .. }) = self.spool.remove(&lease)
                    && report.signature == SignatureCheck::Valid
                {
                    promise!(
                        ledger.counts(lease),
                        "{lease:?} was acknowledged and does not count"
                    );
                }
            }
            Answer::Stale(lease) => {
                // who says the same again is told the same again; a liar does not
                let is_own = self.conduct == Conduct::Liar || !ledger.counts(lease);
                promise!(is_own, "{lease:?} counts, and was refused when it came again");
                self.stale += u64::from(self.spool.remove(&lease).is_some());
            }
            Answer::Accepted { .. } | Answer::Cancelled { .. } | Answer::Over { .. } => {}
        }
        Ok(None)
    }
}

/// Whom an answer is for, if it is for a node.
pub(crate) const fn addressee(answer: &Answer) -> Option<NodeNumber> {
    match answer {
        Answer::Known { node } | Answer::Unknown { node } | Answer::NoWork { node, .. } => Some(*node),
        Answer::Leased { lease, .. }
        | Answer::Stop(lease)
        | Answer::Counted(lease)
        | Answer::Stale(lease) => Some(lease.node),
        Answer::Accepted { .. } | Answer::Cancelled { .. } | Answer::Over { .. } => None,
    }
}
