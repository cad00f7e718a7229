//! Calls to the market's contracts. Owns their encoding; never sends one (see `send`).

use alloy::primitives::{Bytes, FixedBytes};
use alloy::sol_types::SolCall;
use sandrun_core::market::Profile;
use sandrun_types::{
    Address, Amount, B256, ClassId, Commitment, JobId, NodeIndex, Order, ResultParts, SeatIndex, Token, U256,
};
use serde::{Deserialize, Serialize};

use crate::abi::{Erc20, Escrow, IEscrow, IRegistry, Registry};
use crate::deployment::Deployment;

/// A call that can be signed: receiver, data, money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Receiver; `None` creates a contract.
    pub to: Option<Address>,
    /// Selector and arguments.
    pub input: Bytes,
    /// Native coin that goes with it.
    pub value: Amount,
    /// What it does, for logs and errors.
    pub what: String,
}

impl Call {
    fn new<C: SolCall>(to: Address, call: &C, value: Amount, what: String) -> Self {
        Self {
            to: Some(to),
            input: call.abi_encode().into(),
            value,
            what,
        }
    }

    /// A plain payment in the native coin.
    pub fn pay(to: Address, value: Amount) -> Self {
        Self {
            to: Some(to),
            input: Bytes::new(),
            value,
            what: format!("pay {value} to {to}"),
        }
    }

    /// Allows `spender` to take `amount` of an ERC-20.
    pub fn approve(token: Address, spender: Address, amount: Amount) -> Self {
        let call = Erc20::approveCall {
            spender,
            amount: amount.0,
        };
        Self::new(
            token,
            &call,
            Amount::ZERO,
            format!("approve {spender} for {token}"),
        )
    }

    /// Makes `amount` of a test token for `to`.
    pub fn mint(token: Address, to: Address, amount: Amount) -> Self {
        Self::new(
            token,
            &Erc20::mintCall { to, value: amount.0 },
            Amount::ZERO,
            format!("mint {token} for {to}"),
        )
    }

    /// Transfers an ERC-20.
    pub fn transfer(token: Address, to: Address, amount: Amount) -> Self {
        let call = Erc20::transferCall { to, amount: amount.0 };
        Self::new(token, &call, Amount::ZERO, format!("transfer {token} to {to}"))
    }
}

/// One opened commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The seat.
    pub seat: SeatIndex,
    /// The word that it committed to (see [`sandrun_types::Answer::to_word`]).
    pub answer: B256,
    /// Its salt.
    pub salt: B256,
}

/// Calls to the registry. See `IRegistry.sol`.
impl Deployment {
    /// Registers the sender as a node with `stake`; `worker_signature` is [`crate::Key::sign_registration`]'s.
    pub fn register(
        &self,
        worker: Address,
        worker_signature: [u8; 65],
        payout: Address,
        profile: &Profile,
        stake: Amount,
    ) -> Call {
        let call = Registry::registerCall {
            worker,
            workerSignature: Bytes::copy_from_slice(&worker_signature),
            payout,
            profile: abi_profile(profile),
        };
        Call::new(self.registry, &call, stake, "register".into())
    }

    /// Adds stake to a node.
    pub fn add_stake(&self, node: NodeIndex, amount: Amount) -> Call {
        let call = Registry::addStakeCall { node: node.0 };
        Call::new(self.registry, &call, amount, format!("add stake to node {node}"))
    }

    /// Announces new keys or capabilities.
    pub fn set_profile(&self, node: NodeIndex, profile: &Profile) -> Call {
        let call = Registry::setProfileCall {
            node: node.0,
            profile: abi_profile(profile),
        };
        Call::new(
            self.registry,
            &call,
            Amount::ZERO,
            format!("set profile of node {node}"),
        )
    }

    /// Changes where earnings go.
    pub fn set_payout(&self, node: NodeIndex, payout: Address) -> Call {
        let call = Registry::setPayoutCall { node: node.0, payout };
        Call::new(
            self.registry,
            &call,
            Amount::ZERO,
            format!("set payout of node {node}"),
        )
    }

    /// Opts in to this deployment's escrow, raises the cap, or changes the classes.
    pub fn opt_in(&self, node: NodeIndex, cap: Amount, classes: &[ClassId]) -> Call {
        let classes = classes.iter().map(|it| B256::from(*it)).collect();
        let call = Registry::optInCall {
            node: node.0,
            escrow: self.escrow,
            cap: cap.0,
            classes,
        };
        Call::new(self.registry, &call, Amount::ZERO, format!("opt in node {node}"))
    }

    /// Starts the exit of stake from the escrow.
    pub fn leave(&self, node: NodeIndex, amount: Amount) -> Call {
        let call = Registry::leaveCall {
            node: node.0,
            escrow: self.escrow,
            amount: amount.0,
        };
        Call::new(
            self.registry,
            &call,
            Amount::ZERO,
            format!("leave with stake of node {node}"),
        )
    }

    /// Releases what has left.
    pub fn release(&self, node: NodeIndex) -> Call {
        let call = Registry::releaseCall {
            node: node.0,
            escrow: self.escrow,
        };
        Call::new(
            self.registry,
            &call,
            Amount::ZERO,
            format!("release stake of node {node}"),
        )
    }

    /// Pays out free stake.
    pub fn withdraw_stake(&self, node: NodeIndex, amount: Amount, to: Address) -> Call {
        let call = Registry::withdrawStakeCall {
            node: node.0,
            amount: amount.0,
            to,
        };
        Call::new(
            self.registry,
            &call,
            Amount::ZERO,
            format!("withdraw stake of node {node}"),
        )
    }
}

/// Calls to the escrow. See `IEscrow.sol`.
impl Deployment {
    /// Posts a job; `None` when the sum to lock overflows. An ERC-20 must be approved before.
    pub fn post(&self, order: &Order) -> Option<Call> {
        let value = match order.token {
            Token::Native => order.locked_sum()?,
            Token::Erc20(_) => {
                order.locked_sum()?;
                Amount::ZERO
            }
        };
        let what = format!("post job {}", order.job_id(self.escrow_ref()).short());
        Some(Call::new(
            self.escrow,
            &Escrow::postCall {
                order: abi_order(order),
            },
            value,
            what,
        ))
    }

    /// Takes a job back.
    pub fn cancel(&self, order: &Order) -> Call {
        let what = format!("cancel job {}", order.job_id(self.escrow_ref()).short());
        Call::new(
            self.escrow,
            &Escrow::cancelCall {
                order: abi_order(order),
            },
            Amount::ZERO,
            what,
        )
    }

    /// Takes a seat with a unit of stake.
    pub fn claim(&self, job: JobId, node: NodeIndex, unit: u32) -> Call {
        let call = Escrow::claimCall {
            job: job.into(),
            node: node.0,
            unit,
        };
        Call::new(
            self.escrow,
            &call,
            Amount::ZERO,
            format!("claim a seat in job {}", job.short()),
        )
    }

    /// Commits to an answer.
    pub fn commit(&self, job: JobId, seat: SeatIndex, commitment: Commitment) -> Call {
        let call = Escrow::commitCall {
            job: job.into(),
            seat: seat.0,
            commitment: FixedBytes::from(commitment.0),
        };
        Call::new(
            self.escrow,
            &call,
            Amount::ZERO,
            format!("commit seat {seat} of job {}", job.short()),
        )
    }

    /// Opens commits whose digest is published, or soft answers.
    pub fn reveal(&self, job: JobId, openings: &[Opening]) -> Call {
        let openings = openings
            .iter()
            .map(|it| IEscrow::Opening {
                seat: it.seat.0,
                answer: it.answer,
                salt: it.salt,
            })
            .collect();
        let call = Escrow::revealCall {
            job: job.into(),
            openings,
        };
        Call::new(
            self.escrow,
            &call,
            Amount::ZERO,
            format!("reveal in job {}", job.short()),
        )
    }

    /// Publishes a result and opens a commit on its digest.
    pub fn reveal_result(&self, job: JobId, seat: SeatIndex, result: &ResultParts, salt: B256) -> Call {
        let result = abi_result(result);
        let call = Escrow::revealResultCall {
            job: job.into(),
            seat: seat.0,
            result,
            salt,
        };
        Call::new(
            self.escrow,
            &call,
            Amount::ZERO,
            format!("reveal the result of seat {seat} in job {}", job.short()),
        )
    }

    /// Does what is due.
    pub fn poke(&self, job: JobId) -> Call {
        let call = Escrow::pokeCall { job: job.into() };
        Call::new(
            self.escrow,
            &call,
            Amount::ZERO,
            format!("poke job {}", job.short()),
        )
    }

    /// Credits the rest of a closed job to its payer.
    pub fn refund(&self, order: &Order) -> Call {
        let what = format!("refund job {}", order.job_id(self.escrow_ref()).short());
        Call::new(
            self.escrow,
            &Escrow::refundCall {
                order: abi_order(order),
            },
            Amount::ZERO,
            what,
        )
    }

    /// Pays out the sender's balance.
    pub fn withdraw(&self, token: Token, to: Address) -> Call {
        let call = Escrow::withdrawCall {
            token: token.address(),
            to,
        };
        Call::new(self.escrow, &call, Amount::ZERO, format!("withdraw {token}"))
    }

    /// Pays out a node's earnings to its payout address.
    pub fn withdraw_node(&self, node: NodeIndex, token: Token) -> Call {
        let call = Escrow::withdrawNodeCall {
            node: node.0,
            token: token.address(),
        };
        Call::new(
            self.escrow,
            &call,
            Amount::ZERO,
            format!("withdraw earnings of node {node} in {token}"),
        )
    }

    /// Lets the escrow take the sum of a posting in an ERC-20.
    pub fn approve(&self, token: Address, amount: Amount) -> Call {
        Call::approve(token, self.escrow, amount)
    }
}

fn abi_profile(profile: &Profile) -> IRegistry::Profile {
    IRegistry::Profile {
        workerKey: B256::from(profile.worker_key.0),
        workerKeyProof: profile.worker_key_proof.clone(),
        sealKey: profile.seal_key,
        capabilities: profile.capabilities.clone(),
    }
}

fn abi_result(result: &ResultParts) -> IEscrow::Result {
    IEscrow::Result {
        classId: result.class.into(),
        exitStatus: result.exit.number(),
        outputRoot: result.output_root.into(),
        traceRoot: result.trace_root.into(),
        content: result.content.into(),
    }
}

pub(crate) fn abi_order(order: &Order) -> IEscrow::Order {
    IEscrow::Order {
        client: order.client,
        payer: order.payer,
        nonce: order.nonce,
        bundle: order.bundle.into(),
        manifest: order.manifest.into(),
        classId: order.class.into(),
        requirements: order.requirements,
        token: order.token.address(),
        price: order.price.0,
        replicas: order.redundancy.replicas(),
        quorum: order.redundancy.quorum(),
        bond: order.bond.0,
        wallLimit: order.wall_limit,
        minReputation: order.min_reputation,
        clientKey: order.client_key,
        version: sandrun_types::ORDER_VERSION,
        extensions: B256::ZERO,
    }
}

/// The order that stands in an event; says what this version does not know.
pub(crate) fn order_of(order: &IEscrow::Order) -> Result<Order, String> {
    let redundancy = order.replicas.try_into().map_err(|error| format!("{error}"))?;
    if order.version != sandrun_types::ORDER_VERSION || order.extensions != B256::ZERO {
        return Err(format!(
            "order version {} or its extensions are not known here",
            order.version
        ));
    }
    let order_words = Order {
        client: order.client,
        payer: order.payer,
        nonce: order.nonce,
        bundle: order.bundle.into(),
        manifest: order.manifest.into(),
        class: order.classId.into(),
        requirements: order.requirements,
        token: order.token.into(),
        price: Amount(order.price),
        redundancy,
        bond: Amount(order.bond),
        wall_limit: order.wallLimit,
        min_reputation: order.minReputation,
        client_key: order.clientKey,
    };
    if order_words.redundancy.quorum() == order.quorum {
        Ok(order_words)
    } else {
        Err(format!(
            "quorum {} does not belong to {} replicas",
            order.quorum, order.replicas
        ))
    }
}

/// The largest allowance, for those who want to approve once.
pub const UNLIMITED: Amount = Amount(U256::MAX);
