//! Every event of escrow and registry in the words of this workspace: what a chain reader decodes to, and what the
//! model of the contract emits. Field by field `contracts/src/interfaces`. Never says where on the chain it stood.

use serde::{Deserialize, Serialize};

use sandrun_types::{
    Address, Amount, Answer, B256, Bytes, ClassId, ContentDigest, ExitStatus, ExitStatusError, JobId,
    NodeIndex, Order, OutputRoot, ResultDigest, ResultParts, SeatIndex, Token, TraceRoot, UnixSeconds,
    WorkerId,
};

use super::{Outcome, Phase, SeatEnd};

/// One event of the market's contracts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum MarketEvent {
    /// A job was posted, its money locked, its first seat window opened.
    JobPosted {
        /// The job.
        job: JobId,
        /// Who may cancel.
        client: Address,
        /// The whole order.
        order: Box<Order>,
        /// End of the seat window.
        deadline: UnixSeconds,
        /// U: active units of stake at the posting.
        units: u32,
    },
    /// A seat was taken, its bond locked.
    SeatClaimed {
        /// The job.
        job: JobId,
        /// Who took it.
        node: NodeIndex,
        /// The seat.
        seat: SeatIndex,
        /// Deadline of the phase that the job is in after the claim.
        deadline: UnixSeconds,
    },
    /// A seat has bound itself to an answer.
    Committed {
        /// The job.
        job: JobId,
        /// The seat's node.
        node: NodeIndex,
        /// The seat.
        seat: SeatIndex,
        /// Deadline of the phase that the job is in after the commit.
        deadline: UnixSeconds,
    },
    /// A commit was opened.
    Revealed {
        /// The job.
        job: JobId,
        /// The seat's node.
        node: NodeIndex,
        /// The seat.
        seat: SeatIndex,
        /// What it says.
        answer: Answer,
    },
    /// The parts of a result digest were published.
    ResultPublished {
        /// The job.
        job: JobId,
        /// Digest of the parts in this job.
        digest: ResultDigest,
        /// The parts as somebody sent them.
        result: PublishedResult,
    },
    /// The extra round was opened.
    RoundOpened {
        /// The job.
        job: JobId,
        /// End of the round's seat window.
        deadline: UnixSeconds,
        /// U: active units of stake at the opening.
        units: u32,
    },
    /// The job is in another phase.
    PhaseChanged {
        /// The job.
        job: JobId,
        /// The new phase.
        phase: Phase,
        /// Its deadline; zero for `Closed`.
        deadline: UnixSeconds,
    },
    /// How the job ends is fixed.
    JobDecided {
        /// The job.
        job: JobId,
        /// How.
        outcome: Outcome,
        /// The winner's word or its leading bits, zero when no answer won. [`super::JobFacts`] knows the whole word.
        answer: B256,
    },
    /// A seat's money and bond are settled.
    SeatFinished {
        /// The job.
        job: JobId,
        /// The seat's node.
        node: NodeIndex,
        /// The seat.
        seat: SeatIndex,
        /// What became of it.
        end: SeatEnd,
        /// Credited to the node, in the order's token.
        paid: Amount,
        /// Taken from its bond, wei.
        slashed: Amount,
    },
    /// What was left went back.
    Refunded {
        /// The job.
        job: JobId,
        /// Whose balance was credited.
        payer: Address,
        /// How much, in the order's token.
        amount: Amount,
    },
    /// Money of a cancelled job was burnt.
    Burnt {
        /// The job.
        job: JobId,
        /// How much, in the order's token.
        amount: Amount,
    },
    /// An account took out its balance.
    Withdrawn {
        /// Whose balance.
        owner: Address,
        /// What.
        token: Token,
        /// Receiver.
        to: Address,
        /// How much.
        amount: Amount,
    },
    /// A node's earnings were paid out.
    NodeWithdrawn {
        /// Whose earnings.
        node: NodeIndex,
        /// What.
        token: Token,
        /// Its payout address.
        to: Address,
        /// How much.
        amount: Amount,
    },
    /// A node was registered.
    NodeRegistered {
        /// Its index.
        node: NodeIndex,
        /// Owner of the stake.
        account: Address,
        /// Hot key.
        worker: Address,
        /// Where earnings go.
        payout: Address,
    },
    /// A node announced keys and capabilities.
    ProfileChanged {
        /// The node.
        node: NodeIndex,
        /// What it announced; nothing of it is checked on chain.
        profile: Box<Profile>,
    },
    /// A node's earnings go elsewhere.
    PayoutChanged {
        /// The node.
        node: NodeIndex,
        /// Where to.
        payout: Address,
    },
    /// Stake was deposited.
    StakeAdded {
        /// The node.
        node: NodeIndex,
        /// How much, wei.
        amount: Amount,
        /// Its whole stake now, wei.
        stake: Amount,
    },
    /// A node opted in to an escrow, raised its cap, or changed its classes.
    OptedIn {
        /// The node.
        node: NodeIndex,
        /// The escrow.
        escrow: Address,
        /// Stake that the escrow may lock or seize, wei.
        cap: Amount,
        /// Classes that the node serves there.
        classes: Vec<ClassId>,
    },
    /// Stake began to leave an escrow.
    Leaving {
        /// The node.
        node: NodeIndex,
        /// The escrow.
        escrow: Address,
        /// How much, wei.
        amount: Amount,
        /// When it can be released.
        leave_at: UnixSeconds,
    },
    /// Stake has left an escrow.
    Released {
        /// The node.
        node: NodeIndex,
        /// The escrow.
        escrow: Address,
        /// How much, wei.
        amount: Amount,
    },
    /// Stake was paid out.
    StakeWithdrawn {
        /// The node.
        node: NodeIndex,
        /// Receiver.
        to: Address,
        /// How much, wei.
        amount: Amount,
    },
    /// Stake was seized.
    Seized {
        /// The node.
        node: NodeIndex,
        /// The escrow that did it.
        escrow: Address,
        /// Burnt, wei.
        burnt: Amount,
        /// Given to the caller, wei.
        tip: Amount,
    },
}

/// A result's parts as they were published: anybody's bytes, so the exit status may be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PublishedResult {
    /// Class that ran it.
    pub class: ClassId,
    /// How it ended, as the number on chain.
    pub exit_status: u32,
    /// Merkle root over the outputs.
    pub output_root: OutputRoot,
    /// Merkle root over the trace.
    pub trace_root: TraceRoot,
    /// The packed result.
    pub content: ContentDigest,
}

impl PublishedResult {
    /// The parts, if the exit status is one.
    ///
    /// # Errors
    /// A number that is no exit status: no honest node publishes it.
    pub fn parts(&self) -> Result<ResultParts, ExitStatusError> {
        Ok(ResultParts {
            class: self.class,
            exit: ExitStatus::try_from(self.exit_status)?,
            output_root: self.output_root,
            trace_root: self.trace_root,
            content: self.content,
        })
    }
}

impl From<ResultParts> for PublishedResult {
    fn from(parts: ResultParts) -> Self {
        Self {
            class: parts.class,
            exit_status: parts.exit.number(),
            output_root: parts.output_root,
            trace_root: parts.trace_root,
            content: parts.content,
        }
    }
}

/// Keys and capabilities as a node announced them; nothing of it is checked on chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Ed25519 key that signs receipts.
    pub worker_key: WorkerId,
    /// Its signature that binds it to the account; 64 bytes if it is one.
    pub worker_key_proof: Bytes,
    /// X25519 key that receives job keys; zero when the node takes no sealed jobs.
    pub seal_key: B256,
    /// UTF-8 JSON if it is well made; at most 4096 bytes.
    pub capabilities: Bytes,
}

impl MarketEvent {
    /// The job that it is about, if it is about one.
    pub const fn job(&self) -> Option<JobId> {
        match self {
            Self::JobPosted { job, .. }
            | Self::SeatClaimed { job, .. }
            | Self::Committed { job, .. }
            | Self::Revealed { job, .. }
            | Self::ResultPublished { job, .. }
            | Self::RoundOpened { job, .. }
            | Self::PhaseChanged { job, .. }
            | Self::JobDecided { job, .. }
            | Self::SeatFinished { job, .. }
            | Self::Refunded { job, .. }
            | Self::Burnt { job, .. } => Some(*job),
            Self::Withdrawn { .. }
            | Self::NodeWithdrawn { .. }
            | Self::NodeRegistered { .. }
            | Self::ProfileChanged { .. }
            | Self::PayoutChanged { .. }
            | Self::StakeAdded { .. }
            | Self::OptedIn { .. }
            | Self::Leaving { .. }
            | Self::Released { .. }
            | Self::StakeWithdrawn { .. }
            | Self::Seized { .. } => None,
        }
    }
}
