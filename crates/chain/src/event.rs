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
    /// A posting whose order has another hash: no escrow has ever emitted it.
    #[error("the posting of job {0} holds the order of another")]
    Forged(sandrun_types::JobId),
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
        let event = escrow_event(EscrowEvents::decode_log(log).map_err(malformed)?.data)?;
        return genuine(deployment, event).map(Some);
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

/// Refuses a posting that is not of its job: ids of jobs are hashes of their orders.
fn genuine(deployment: &Deployment, event: MarketEvent) -> Result<MarketEvent, DecodeError> {
    if let MarketEvent::JobPosted { job, order, .. } = &event
        && order.job_id(deployment.escrow_ref()) != *job
    {
        return Err(DecodeError::Forged(*job));
    }
    Ok(event)
}

/// Decodes what can be decoded, in the order of the logs. What can't is logged and left out: one log that a later
/// contract version would have to explain must not keep a node from its other duties.
///
/// # Errors
/// A log that was made up: nothing of such an answer is believed.
pub(crate) fn decode_all(
    deployment: &Deployment,
    logs: &[Log],
    timestamp: UnixSeconds,
) -> Result<Vec<Logged>, DecodeError> {
    let mut decoded = Vec::new();
    for log in logs {
        match decode_placed(deployment, log, timestamp) {
            Ok(logged) => decoded.extend(logged),
            Err(error @ DecodeError::Forged(_)) => return Err(error),
            Err(error) => tracing::error!(%error, tx = ?log.transaction_hash, "left out a log"),
        }
    }
    Ok(decoded)
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

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256, U256};
    use alloy::sol_types::SolEvent as _;
    use sandrun_types::{ChainId, ClassId, ContentDigest, JobId, ManifestDigest, Order, Redundancy, Token};

    use super::*;
    use crate::calls::abi_order;

    fn deployment() -> Deployment {
        Deployment {
            chain: ChainId::LOCAL,
            escrow: Address::repeat_byte(1),
            registry: Address::repeat_byte(2),
            tokens: std::collections::BTreeMap::new(),
            deployed_block: 0,
        }
    }

    fn order() -> Order {
        Order {
            client: Address::repeat_byte(3),
            payer: Address::repeat_byte(3),
            nonce: U256::ONE,
            bundle: ContentDigest([4; 32]),
            manifest: ManifestDigest([5; 32]),
            class: ClassId([1; 32]),
            requirements: U256::ZERO,
            token: Token::Native,
            price: Amount::from_gwei(10),
            redundancy: Redundancy::Three,
            bond: Amount::from_gwei(50),
            wall_limit: 60,
            min_reputation: 0,
            client_key: B256::ZERO,
        }
    }

    fn posting(job: JobId, order: &Order) -> RawLog {
        let event = Escrow::JobPosted {
            job: job.into(),
            client: order.client,
            order: abi_order(order),
            deadline: 9,
            units: 7,
        };
        RawLog {
            address: deployment().escrow,
            data: event.encode_log_data(),
        }
    }

    #[test]
    fn a_posting_is_believed_when_its_order_is_the_jobs() {
        let (deployment, order) = (deployment(), order());
        let job = order.job_id(deployment.escrow_ref());
        let decoded = decode(&deployment, &posting(job, &order));
        assert!(matches!(decoded, Ok(Some(MarketEvent::JobPosted { job: told, .. })) if told == job));
        let cheaper = Order {
            price: Amount::from_gwei(1),
            ..order
        };
        let decoded = decode(&deployment, &posting(job, &cheaper));
        assert_eq!(decoded, Err(DecodeError::Forged(job)));
    }

    #[test]
    fn an_answer_with_something_made_up_is_no_answer() {
        let (deployment, order) = (deployment(), order());
        let job = order.job_id(deployment.escrow_ref());
        let log = |job| Log {
            inner: posting(job, &order),
            block_hash: Some(B256::ZERO),
            block_number: Some(1),
            transaction_hash: Some(B256::ZERO),
            log_index: Some(0),
            ..Log::default()
        };
        let decoded = |logs: &[Log]| decode_all(&deployment, logs, UnixSeconds(1));
        assert_eq!(decoded(&[log(job)]).map(|it| it.len()), Ok(1));
        let other = JobId([9; 32]);
        assert_eq!(decoded(&[log(job), log(other)]), Err(DecodeError::Forged(other)));
        // what cannot be read is left out
        let pending = Log {
            block_hash: None,
            ..log(job)
        };
        assert_eq!(decoded(&[pending, log(job)]).map(|it| it.len()), Ok(1));
    }
}
