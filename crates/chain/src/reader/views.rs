//! The contracts' records in the workspace's words. Owns their fields; never asks for them.

use sandrun_core::market::rules::Windows;
use sandrun_core::market::{Outcome, Phase, Round};
use sandrun_types::{Address, Amount, B256, ClassId, NodeIndex, SeatIndex, Token, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::abi::{IEscrow, IRegistry};

use super::{time, words};

/// A set of seats of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeatSet(pub u8);

impl SeatSet {
    /// Whether `seat` is in it.
    pub const fn contains(self, seat: SeatIndex) -> bool {
        seat.0 < 8 && self.0 & (1 << seat.0) != 0
    }

    /// How many seats are in it.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there is none in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Where a job stands; see `IEscrow.JobView`. Transitions are lazy: a deadline may have passed unnoticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobState {
    /// Phase.
    pub phase: Phase,
    /// How it ended, once that is fixed.
    pub outcome: Option<Outcome>,
    /// Present round.
    pub round: Round,
    /// Seats taken, both rounds.
    pub seats: u8,
    /// Of them in the first round.
    pub seats_first: u8,
    /// Seats that committed.
    pub committed: SeatSet,
    /// Seats that revealed in time.
    pub revealed: SeatSet,
    /// Seats whose money and bond are settled.
    pub finished: SeatSet,
    /// End of the phase; acting is valid up to and including it.
    pub deadline: UnixSeconds,
    /// Block that opened the present round.
    pub opened_block: u64,
    /// U: active units of stake when the round opened.
    pub units: u32,
    /// Locked money not yet paid, in the order's token.
    pub remaining: Amount,
    /// Leading bits of the winner, or of the leading answer; zero if there is none.
    pub answer: B256,
}

impl JobState {
    pub(super) fn of(view: &IEscrow::JobView) -> Result<Option<Self>, String> {
        let Some((phase, outcome, round)) = words(view.phase, view.outcome, view.round)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            phase,
            outcome,
            round,
            seats: view.seats,
            seats_first: view.seatsFirst,
            committed: SeatSet(view.committed),
            revealed: SeatSet(view.revealed),
            finished: SeatSet(view.finished),
            deadline: UnixSeconds(view.deadline),
            opened_block: view.openedBlock,
            units: view.units,
            remaining: Amount(view.remaining),
            answer: view.answer,
        }))
    }
}

/// A node in the registry; see `IRegistry.Node`. Amounts in wei.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryNode {
    /// Owner of the stake.
    pub account: Address,
    /// Hot key.
    pub worker: Address,
    /// Where earnings go.
    pub payout: Address,
    /// Whole stake, the leaving part included.
    pub stake: Amount,
    /// What escrows have a claim on, and what is leaving.
    pub reserved: Amount,
}

impl RegistryNode {
    pub(super) const fn of(node: &IRegistry::Node) -> Self {
        Self {
            account: node.account,
            worker: node.worker,
            payout: node.payout,
            stake: Amount(node.stake),
            reserved: Amount(node.reserved),
        }
    }
}

/// A node's relation to the escrow in the registry; see `IRegistry.OptIn`. Amounts in wei.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptIn {
    /// Stake that the escrow may lock or seize and that wins seats.
    pub cap: Amount,
    /// Stake on its way out.
    pub leaving: Amount,
    /// When that can be released, if something leaves.
    pub leave_at: Option<UnixSeconds>,
}

impl OptIn {
    pub(super) const fn of(opt_in: &IRegistry::OptIn) -> Self {
        Self {
            cap: Amount(opt_in.cap),
            leaving: Amount(opt_in.leaving),
            leave_at: time(opt_in.leaveAt),
        }
    }
}

/// A node as the escrow sees it; see `IEscrow.NodeView`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EscrowNode {
    /// Stake that it may lock, wei.
    pub cap: Amount,
    /// Of it locked in bonds, wei.
    pub locked: Amount,
    /// Native coin credited, wei.
    pub earned: Amount,
    /// Its units count for jobs posted after this time.
    pub since: UnixSeconds,
    /// Consecutive valid answers.
    pub reputation: u16,
}

impl EscrowNode {
    pub(super) const fn of(view: &IEscrow::NodeView) -> Self {
        Self {
            cap: Amount(view.cap),
            locked: Amount(view.locked),
            earned: Amount(view.earned),
            since: UnixSeconds(view.since),
            reputation: view.reputation,
        }
    }
}

/// All that the contracts know about one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its index.
    pub index: NodeIndex,
    /// In the registry.
    pub registry: RegistryNode,
    /// Its relation to the escrow.
    pub opt_in: OptIn,
    /// Classes that it serves there.
    pub classes: Vec<ClassId>,
    /// In the escrow.
    pub escrow: EscrowNode,
}

/// A deployment's parameters; see `IEscrow.Parameters`. Windows in seconds, amounts in wei.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// Unit of stake.
    pub unit: Amount,
    /// Length of a seat window.
    pub seat_window: u32,
    /// Largest wall limit.
    pub max_wall: u32,
    /// The run window is this times the wall limit,
    pub run_multiple: u32,
    /// plus this.
    pub run_slack: u32,
    /// Length of a reveal window.
    pub reveal_window: u32,
    /// Tip per slash.
    pub tip: Amount,
    /// The registry.
    pub registry: Address,
    /// Source of seeds; `None` for block hashes.
    pub seed_source: Option<Address>,
}

impl Parameters {
    pub(super) fn of(it: &IEscrow::Parameters) -> Self {
        Self {
            unit: Amount(it.unit),
            seat_window: it.seatWindow,
            max_wall: it.maxWall,
            run_multiple: it.runMultiple,
            run_slack: it.runSlack,
            reveal_window: it.revealWindow,
            tip: Amount(it.tip),
            registry: it.registry,
            seed_source: (it.seedSource != Address::ZERO).then_some(it.seedSource),
        }
    }

    /// Lengths of the windows, in the words of the market's rules.
    pub fn windows(&self) -> Windows {
        Windows {
            seat: self.seat_window.into(),
            run_multiple: self.run_multiple.into(),
            run_slack: self.run_slack.into(),
            reveal: self.reveal_window.into(),
        }
    }

    pub(crate) fn abi(&self) -> IEscrow::Parameters {
        IEscrow::Parameters {
            unit: self.unit.0,
            seatWindow: self.seat_window,
            maxWall: self.max_wall,
            runMultiple: self.run_multiple,
            runSlack: self.run_slack,
            revealWindow: self.reveal_window,
            tip: self.tip.0,
            registry: self.registry,
            seedSource: self.seed_source.unwrap_or(Address::ZERO),
        }
    }
}

/// A token that may pay, and its terms in base units; see `IEscrow.TokenTerms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenTerms {
    /// The token.
    pub token: Token,
    /// Prices are multiples of this.
    pub granule: Amount,
    /// Fee for an attempt that nothing came of.
    pub attempt_fee: Amount,
    /// Least price per replica.
    pub min_price: Amount,
    /// Largest price of a job with one replica.
    pub max_single_price: Amount,
    /// Least bond, wei per 10^18 base units of price.
    pub bond_per_price: Amount,
}

impl TokenTerms {
    pub(super) fn of(it: &IEscrow::TokenTerms) -> Self {
        Self {
            token: it.token.into(),
            granule: Amount(it.granule),
            attempt_fee: Amount(it.attemptFee),
            min_price: Amount(it.minPrice),
            max_single_price: Amount(it.maxSinglePrice),
            bond_per_price: Amount(it.bondPerPrice),
        }
    }

    pub(crate) const fn abi(&self) -> IEscrow::TokenTerms {
        IEscrow::TokenTerms {
            token: self.token.address(),
            granule: self.granule.0,
            attemptFee: self.attempt_fee.0,
            minPrice: self.min_price.0,
            maxSinglePrice: self.max_single_price.0,
            bondPerPrice: self.bond_per_price.0,
        }
    }
}
