//! Arguments of the model: parameters, moments and calls. Mirrors the interfaces; never checks anything.

use sandrun_types::{
    Address, Amount, Answer, B256, ClassId, Commitment, JobId, NodeIndex, Order, ResultParts, SeatIndex,
    Token, UnixSeconds,
};

use crate::market::rules::{Payment, Stake, Windows};

/// A deployment's parameters, fixed for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// Unit of stake.
    pub unit: Stake,
    /// Lengths of the windows.
    pub windows: Windows,
    /// Largest wall limit, seconds.
    pub max_wall: u32,
    /// Fixed tip per slash, at most 5 % of it.
    pub tip: Stake,
    /// Time that stake needs to leave, seconds.
    pub exit_delay: u64,
    /// What a claim costs, gas.
    pub claim_gas: u64,
}

impl Parameters {
    /// The local testnet's: windows of a minute, jobs of at most 90 s.
    pub fn testnet() -> Self {
        Self {
            unit: Stake::from_gwei(100_000_000),
            windows: Windows {
                seat: 60,
                run_multiple: 3,
                run_slack: 30,
                reveal: 60,
            },
            max_wall: 90,
            tip: Stake::from_gwei(100_000),
            exit_delay: 900,
            claim_gas: 100_000,
        }
    }
}

/// A token that may pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenTerms {
    /// The token.
    pub token: Token,
    /// Amounts are multiples of this.
    pub granule: Payment,
    /// Attempt fee.
    pub attempt_fee: Payment,
    /// Smallest price; at least ten attempt fees.
    pub min_price: Payment,
    /// Largest price where one node is not verified.
    pub max_single_price: Payment,
    /// Smallest bond: wei for each 10^18 base units of price.
    pub bond_per_price: Stake,
}

/// When and where on the chain a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Block timestamp.
    pub now: UnixSeconds,
    /// Block number.
    pub block: u64,
    /// Base fee of the block, wei for each gas.
    pub base_fee: Amount,
}

/// One opened commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// The seat.
    pub seat: SeatIndex,
    /// What it committed to; a digest's parts have to be published.
    pub answer: Answer,
    /// With this salt.
    pub salt: B256,
}

/// A call of registry or escrow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Registers the caller as a node with a deposit.
    Register {
        /// Hot key.
        worker: Address,
        /// Where earnings go.
        payout: Address,
        /// The deposit.
        stake: Stake,
    },
    /// Adds to a node's deposit.
    AddStake {
        /// The node.
        node: NodeIndex,
        /// How much.
        stake: Stake,
    },
    /// Opts in to this escrow, raises the cap, or changes the classes.
    OptIn {
        /// The node.
        node: NodeIndex,
        /// New cap, at least the present one.
        cap: Stake,
        /// Classes served.
        classes: Vec<ClassId>,
    },
    /// Starts the exit of stake.
    Leave {
        /// The node.
        node: NodeIndex,
        /// How much.
        stake: Stake,
    },
    /// Releases what has left.
    Release {
        /// The node.
        node: NodeIndex,
    },
    /// Pays out stake that the escrow has no claim on.
    WithdrawStake {
        /// The node.
        node: NodeIndex,
        /// How much.
        stake: Stake,
        /// Receiver.
        to: Address,
    },
    /// Posts a job.
    Post {
        /// The order.
        order: Box<Order>,
        /// What came with it, in the order's token.
        sent: Payment,
    },
    /// Takes a job back.
    Cancel {
        /// The job.
        job: JobId,
    },
    /// Takes a seat.
    Claim {
        /// The job.
        job: JobId,
        /// The caller's node.
        node: NodeIndex,
        /// Unit of stake that wins.
        unit: u32,
        /// Hash of the present seed block, as the chain would answer; ignored once a seed is recorded.
        seed: B256,
    },
    /// Binds a seat to an answer.
    Commit {
        /// The job.
        job: JobId,
        /// The caller's seat.
        seat: SeatIndex,
        /// The bound answer.
        commitment: Commitment,
    },
    /// Opens commits.
    Reveal {
        /// The job.
        job: JobId,
        /// What to open; what is open already is skipped.
        openings: Vec<Opening>,
    },
    /// Publishes a result and opens a commit on its digest.
    RevealResult {
        /// The job.
        job: JobId,
        /// The seat.
        seat: SeatIndex,
        /// The result's parts.
        result: ResultParts,
        /// Salt of the commit.
        salt: B256,
    },
    /// Does what is due.
    Poke {
        /// The job.
        job: JobId,
    },
    /// Credits the rest of a closed job to its payer.
    Refund {
        /// The job.
        job: JobId,
    },
    /// Pays out the caller's balance.
    Withdraw {
        /// What.
        token: Token,
        /// Receiver.
        to: Address,
    },
    /// Pays out a node's earnings to its payout address.
    WithdrawNode {
        /// The node.
        node: NodeIndex,
        /// What.
        token: Token,
    },
}
