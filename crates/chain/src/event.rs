//! Logs of the contracts in the workspace's words. Owns the decoding; never asks where a log is from but for its address.

use alloy::primitives::Log as RawLog;
use alloy::rpc::types::Log;
use alloy::sol_types::SolEventInterface;
use sandrun_core::market::{MarketEvent, Outcome, Phase, Profile, PublishedResult, SeatEnd};
use sandrun_types::{Amount, Answer, NodeIndex, SeatIndex, UnixSeconds, WorkerId};

use crate::abi::Escrow::EscrowEvents;
use crate::abi::Registry::RegistryEvents;
use crate::abi::{Escrow, IRegistry, Registry};
use crate::calls::order_of;
use crate::deployment::Deployment;
use crate::position::{BlockHash, BlockRef, LogPosition, Logged, TxHash};

/// A log that can't be what it says it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Data that don't fit the event.
    #[error("a log of {address} does not decode: {detail}")]
    Malformed {
        /// Contract that emitted it.
        address: sandrun_types::Address,
        /// What is wrong.
        detail: String,
    },
    /// A number without a meaning.
    #[error("{field} {number} has no meaning in this version")]
    Number {
        /// Which field.
        field: &'static str,
        /// Its value.
        number: u8,
    },
    /// An order that this version can't read.
    #[error("an order of another version: {0}")]
    Order(String),
    /// A log without block or transaction: still pending.
    #[error("a log has no place on the chain yet")]
    Pending,
}

/// Decodes one log of the deployment's contracts; `None` for a log of another contract, or one that is none of the
/// market's events.
///
/// # Errors
/// A log that names one of our events and can't be one.
pub fn decode(deployment: &Deployment, log: &RawLog) -> Result<Option<MarketEvent>, DecodeError> {
    let malformed = |error: alloy::sol_types::Error| DecodeError::Malformed {
        address: log.address,
        detail: error.to_string(),
    };
    let known = |selectors: &[[u8; 32]]| {
        log.topics()
            .first()
            .is_some_and(|topic| selectors.contains(&topic.0))
    };
    if log.address == deployment.escrow && known(EscrowEvents::SELECTORS) {
        return escrow_event(EscrowEvents::decode_log(log).map_err(malformed)?.data).map(Some);
    }
    if log.address == deployment.registry && known(RegistryEvents::SELECTORS) {
        return Ok(registry_event(
            RegistryEvents::decode_log(log).map_err(malformed)?.data,
        ));
    }
    Ok(None)
}

/// Decodes a log with its place; `timestamp` is its block's.
///
/// # Errors
/// As [`decode`], and a log that is still pending.
pub(crate) fn decode_placed(
    deployment: &Deployment,
    log: &Log,
    timestamp: UnixSeconds,
) -> Result<Option<Logged>, DecodeError> {
    let Some(event) = decode(deployment, &log.inner)? else {
        return Ok(None);
    };
    let at = position(log, timestamp).ok_or(DecodeError::Pending)?;
    Ok(Some(Logged { event, at }))
}

/// Decodes what can be decoded, in the order of the logs. What can't is logged and left out: one log that a later
/// contract version would have to explain must not keep a node from its other duties.
pub(crate) fn decode_all(deployment: &Deployment, logs: &[Log], timestamp: UnixSeconds) -> Vec<Logged> {
    let decoded = logs
        .iter()
        .filter_map(|log| match decode_placed(deployment, log, timestamp) {
            Ok(logged) => logged,
            Err(error) => {
                tracing::error!(%error, tx = ?log.transaction_hash, "left out a log");
                None
            }
        });
    decoded.collect()
}

fn position(log: &Log, timestamp: UnixSeconds) -> Option<LogPosition> {
    Some(LogPosition {
        block: BlockRef {
            number: log.block_number?,
            hash: BlockHash(log.block_hash?),
        },
        log_index: log.log_index?,
        tx: TxHash(log.transaction_hash?),
        timestamp,
    })
}

fn phase(number: u8) -> Result<Phase, DecodeError> {
    Phase::from_number(number).ok_or(DecodeError::Number {
        field: "phase",
        number,
    })
}

fn outcome(number: u8) -> Result<Outcome, DecodeError> {
    Outcome::from_number(number).ok_or(DecodeError::Number {
        field: "outcome",
        number,
    })
}

fn seat_end(number: u8) -> Result<SeatEnd, DecodeError> {
    SeatEnd::from_number(number).ok_or(DecodeError::Number {
        field: "seat end",
        number,
    })
}

fn escrow_event(event: EscrowEvents) -> Result<MarketEvent, DecodeError> {
    Ok(match event {
        EscrowEvents::JobPosted(it) => MarketEvent::JobPosted {
            job: it.job.into(),
            client: it.client,
            order: Box::new(order_of(&it.order).map_err(DecodeError::Order)?),
            deadline: UnixSeconds(it.deadline),
            units: it.units,
        },
        EscrowEvents::ResultPublished(it) => MarketEvent::ResultPublished {
            job: it.job.into(),
            digest: it.digest.into(),
            result: PublishedResult {
                class: it.result.classId.into(),
                exit_status: it.result.exitStatus,
                output_root: it.result.outputRoot.into(),
                trace_root: it.result.traceRoot.into(),
                content: it.result.content.into(),
            },
        },
        EscrowEvents::RoundOpened(it) => MarketEvent::RoundOpened {
            job: it.job.into(),
            deadline: UnixSeconds(it.deadline),
            units: it.units,
        },
        EscrowEvents::PhaseChanged(it) => MarketEvent::PhaseChanged {
            job: it.job.into(),
            phase: phase(it.phase)?,
            deadline: UnixSeconds(it.deadline),
        },
        EscrowEvents::JobDecided(it) => MarketEvent::JobDecided {
            job: it.job.into(),
            outcome: outcome(it.outcome)?,
            answer: it.answer,
        },
        EscrowEvents::SeatClaimed(it) => seat_claimed(&it),
        EscrowEvents::Committed(it) => committed(&it),
        EscrowEvents::Revealed(it) => revealed(&it),
        EscrowEvents::SeatFinished(it) => seat_finished(&it)?,
        EscrowEvents::Refunded(it) => MarketEvent::Refunded {
            job: it.job.into(),
            payer: it.payer,
            amount: Amount(it.amount),
        },
        EscrowEvents::Burnt(it) => MarketEvent::Burnt {
            job: it.job.into(),
            amount: Amount(it.amount),
        },
        EscrowEvents::Withdrawn(it) => MarketEvent::Withdrawn {
            owner: it.owner,
            token: it.token.into(),
            to: it.to,
            amount: Amount(it.amount),
        },
        EscrowEvents::NodeWithdrawn(it) => MarketEvent::NodeWithdrawn {
            node: NodeIndex(it.node),
            token: it.token.into(),
            to: it.to,
            amount: Amount(it.amount),
        },
    })
}

fn seat_claimed(it: &Escrow::SeatClaimed) -> MarketEvent {
    MarketEvent::SeatClaimed {
        job: it.job.into(),
        node: NodeIndex(it.node),
        seat: SeatIndex(it.seat),
        deadline: UnixSeconds(it.deadline),
    }
}

fn committed(it: &Escrow::Committed) -> MarketEvent {
    MarketEvent::Committed {
        job: it.job.into(),
        node: NodeIndex(it.node),
        seat: SeatIndex(it.seat),
        deadline: UnixSeconds(it.deadline),
    }
}

fn revealed(it: &Escrow::Revealed) -> MarketEvent {
    MarketEvent::Revealed {
        job: it.job.into(),
        node: NodeIndex(it.node),
        seat: SeatIndex(it.seat),
        answer: Answer::from_word(it.answer),
    }
}

fn seat_finished(it: &Escrow::SeatFinished) -> Result<MarketEvent, DecodeError> {
    Ok(MarketEvent::SeatFinished {
        job: it.job.into(),
        node: NodeIndex(it.node),
        seat: SeatIndex(it.seat),
        end: seat_end(it.end)?,
        paid: Amount(it.paid),
        slashed: Amount(it.slashed),
    })
}

fn profile(it: IRegistry::Profile) -> Profile {
    Profile {
        worker_key: WorkerId(it.workerKey.0),
        worker_key_proof: it.workerKeyProof,
        seal_key: it.sealKey,
        capabilities: it.capabilities,
    }
}

fn registry_event(event: RegistryEvents) -> Option<MarketEvent> {
    Some(match event {
        RegistryEvents::NodeRegistered(it) => MarketEvent::NodeRegistered {
            node: NodeIndex(it.node),
            account: it.account,
            worker: it.worker,
            payout: it.payout,
        },
        RegistryEvents::ProfileChanged(it) => MarketEvent::ProfileChanged {
            node: NodeIndex(it.node),
            profile: Box::new(profile(it.profile)),
        },
        RegistryEvents::PayoutChanged(it) => MarketEvent::PayoutChanged {
            node: NodeIndex(it.node),
            payout: it.payout,
        },
        RegistryEvents::StakeAdded(it) => MarketEvent::StakeAdded {
            node: NodeIndex(it.node),
            amount: Amount(it.amount),
            stake: Amount(it.stake),
        },
        RegistryEvents::OptedIn(it) => MarketEvent::OptedIn {
            node: NodeIndex(it.node),
            escrow: it.escrow,
            cap: Amount(it.cap),
            classes: it.classes.into_iter().map(Into::into).collect(),
        },
        RegistryEvents::Leaving(it) => leaving(&it),
        RegistryEvents::Released(it) => MarketEvent::Released {
            node: NodeIndex(it.node),
            escrow: it.escrow,
            amount: Amount(it.amount),
        },
        RegistryEvents::StakeWithdrawn(it) => MarketEvent::StakeWithdrawn {
            node: NodeIndex(it.node),
            to: it.to,
            amount: Amount(it.amount),
        },
        RegistryEvents::Seized(it) => MarketEvent::Seized {
            node: NodeIndex(it.node),
            escrow: it.escrow,
            burnt: Amount(it.burnt),
            tip: Amount(it.tip),
        },
    })
}

fn leaving(it: &Registry::Leaving) -> MarketEvent {
    MarketEvent::Leaving {
        node: NodeIndex(it.node),
        escrow: it.escrow,
        amount: Amount(it.amount),
        leave_at: UnixSeconds(it.leaveAt),
    }
}
