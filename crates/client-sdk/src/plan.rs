//! From a prepared job and a payment to an order. Owns the checks against the deployment's terms and the choice of the
//! execution class; pure, so that everything that can be refused is refused before anything is sent.

use std::collections::BTreeMap;

use sandrun_chain::{NodeRecord, Parameters, TokenTerms};
use sandrun_core::pricing::{PaymentError, TokenLimits, price_per_replica};
use sandrun_types::{
    Address, Amount, B256, Capabilities, ClassId, ClassRequest, NodeIndex, Order, Redundancy, Token, U256,
};

use crate::PreparedJob;
use crate::class::choose_class;
use crate::fit::{Missing, nodes_for};

/// What a client wants, beside the job itself.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Who posts and pays.
    pub client: Address,
    /// Makes equal jobs different; random.
    pub nonce: U256,
    /// What pays.
    pub token: Token,
    /// The sum that is locked: the most that the job can cost, in the token's base units.
    pub payment: Amount,
    /// How many nodes run it.
    pub redundancy: Redundancy,
    /// The class; the manifest's when not given, else any of the kind `det`.
    pub class: Option<ClassRequest>,
    /// Consecutive valid answers that a node needs.
    pub min_reputation: u16,
    /// Stake that each seat locks; the least that the deployment allows when not given.
    pub bond: Option<Amount>,
    /// Whether to post it even where too few nodes can take a seat in it now: the job expires unless that changes in time.
    pub force: bool,
}

/// Why there is no order.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The escrow takes other tokens.
    #[error("the escrow takes no payment in {token}; it takes {}", join(allowed))]
    UnknownToken {
        /// The token.
        token: Token,
        /// What it takes.
        allowed: Vec<Token>,
    },
    /// The escrow would not take this payment.
    #[error(transparent)]
    Payment(#[from] PaymentError),
    /// The manifest's timeout is longer than the escrow allows.
    #[error("the manifest's timeout of {wall} s is longer than this escrow's limit of {maximum} s: lower it")]
    WallLimit {
        /// What was asked.
        wall: u32,
        /// The most.
        maximum: u32,
    },
    /// Nobody serves the class, or too few do.
    #[error(
        "redundancy {replicas} needs {replicas} nodes that serve one class of {wanted}, and there are {available}: \
         {instead} or choose a lower redundancy"
    )]
    TooFewNodes {
        /// n.
        replicas: u8,
        /// What class was asked for.
        wanted: String,
        /// How many serve the class that most serve.
        available: usize,
        /// What to do.
        instead: String,
    },
    /// Too few of the nodes that serve the class can run the job.
    #[error(
        "redundancy {replicas} needs {replicas} nodes that can run this job, and there are {able} of {serving}: {missing}"
    )]
    Unfit {
        /// n.
        replicas: u8,
        /// How many can run it.
        able: usize,
        /// How many serve the class.
        serving: usize,
        /// What the others lack.
        missing: Missing,
    },
    /// Too few of the nodes that serve the class have had enough valid answers in a row.
    #[error(
        "redundancy {replicas} needs {replicas} nodes with a reputation of {wanted}, and there are {able}: the best have \
         {}; give --min-reputation {most} or less, or post it all the same with --force (it expires, and the payment comes \
         back, unless nodes get there in time)",
        join(best)
    )]
    TooLittleReputation {
        /// n.
        replicas: u8,
        /// What was asked for.
        wanted: u16,
        /// How many have it.
        able: usize,
        /// What the best n have, the best first.
        best: Vec<u16>,
        /// The most that enough of them have.
        most: u16,
    },
    /// A bond below what the deployment asks for.
    #[error(
        "--bond {bond} is too low: with this payment each seat locks at least {least} coin; raise it or leave it out"
    )]
    BondTooLow {
        /// What was asked for.
        bond: Amount,
        /// The least.
        least: Amount,
    },
    /// A bond that is no multiple of what a bond is counted in.
    #[error("--bond {bond} is too precise: bonds are multiples of 0.000001 coin")]
    BondTooPrecise {
        /// What was asked for.
        bond: Amount,
    },
    /// A bond that too few nodes have.
    #[error(
        "--bond {bond} is too high: redundancy {replicas} needs {replicas} nodes with so much stake, and there are \
         {able}; the most that would do is {most}"
    )]
    BondTooHigh {
        /// What was asked for.
        bond: Amount,
        /// n.
        replicas: u8,
        /// How many have it.
        able: usize,
        /// What enough nodes have.
        most: Amount,
    },
    /// The sum overflows.
    #[error("the payment is too large to be counted")]
    Overflow,
}

fn join(items: &[impl ToString]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// What the deployment and its nodes offer.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The deployment's parameters.
    pub parameters: &'a Parameters,
    /// What may pay.
    pub tokens: &'a [TokenTerms],
    /// The nodes.
    pub nodes: &'a [NodeRecord],
    /// What they announce.
    pub capabilities: &'a BTreeMap<NodeIndex, Capabilities>,
    /// Decimals of the wish's token, for messages.
    pub decimals: u8,
}

/// Makes the order.
///
/// # Errors
/// [`PlanError`], with what to do instead.
pub fn plan(job: &PreparedJob, wish: &Wish, terms: Terms<'_>) -> Result<Order, PlanError> {
    let token = terms
        .tokens
        .iter()
        .find(|it| it.token == wish.token)
        .ok_or_else(|| PlanError::UnknownToken {
            token: wish.token,
            allowed: terms.tokens.iter().map(|it| it.token).collect(),
        })?;
    if job.wall_limit > terms.parameters.max_wall {
        return Err(PlanError::WallLimit {
            wall: job.wall_limit,
            maximum: terms.parameters.max_wall,
        });
    }
    let price = price_per_replica(wish.payment, wish.redundancy, &limits(token, terms.decimals))?;
    let class = choose_class(terms.nodes, wish.class.or(job.manifest.class), wish.redundancy)?;
    enough_nodes(job, class, wish.redundancy, terms.nodes, terms.capabilities)?;
    if !wish.force {
        reputed(wish.min_reputation, class, wish.redundancy, terms.nodes)?;
    }
    let least = least_bond(price, token)?;
    let bond = match wish.bond {
        Some(bond) => wished_bond(bond, least, class, wish.redundancy, terms.nodes)?,
        None => least,
    };
    Ok(Order {
        client: wish.client,
        payer: wish.client,
        nonce: wish.nonce,
        bundle: job.bundle_digest(),
        manifest: job.manifest_digest,
        class,
        requirements: job.requirements.to_word(),
        token: wish.token,
        price,
        redundancy: wish.redundancy,
        bond,
        wall_limit: job.wall_limit,
        min_reputation: wish.min_reputation,
        client_key: B256::ZERO,
    })
}

/// Whether enough nodes serve the class that the manifest asks for and can run the job.
///
/// # Errors
/// [`PlanError::TooFewNodes`], [`PlanError::Unfit`].
pub fn runnable(
    job: &PreparedJob,
    redundancy: Redundancy,
    nodes: &[NodeRecord],
    capabilities: &BTreeMap<NodeIndex, Capabilities>,
) -> Result<(), PlanError> {
    let class = choose_class(nodes, job.manifest.class, redundancy)?;
    enough_nodes(job, class, redundancy, nodes, capabilities)
}

/// A token's limits in the words of the price rules.
fn limits(token: &TokenTerms, decimals: u8) -> TokenLimits {
    TokenLimits {
        decimals,
        granule: token.granule,
        min_price: token.min_price,
        max_single_price: token.max_single_price,
    }
}

/// The least bond for a price, rounded up to the bond's own granule of 10^12 wei.
fn least_bond(price: Amount, token: &TokenTerms) -> Result<Amount, PlanError> {
    let scale = U256::from(10u8).pow(U256::from(18u8));
    let exact = price
        .0
        .checked_mul(token.bond_per_price.0)
        .ok_or(PlanError::Overflow)?
        .div_ceil(scale);
    exact
        .div_ceil(bond_granule())
        .checked_mul(bond_granule())
        .map(Amount)
        .ok_or(PlanError::Overflow)
}

/// What a bond is counted in: 10^12 wei.
fn bond_granule() -> U256 {
    U256::from(1_000_000_000_000u64)
}

/// Refuses a job that too few of the nodes which serve its class can run.
fn enough_nodes(
    job: &PreparedJob,
    class: ClassId,
    redundancy: Redundancy,
    nodes: &[NodeRecord],
    capabilities: &BTreeMap<NodeIndex, Capabilities>,
) -> Result<(), PlanError> {
    let replicas = redundancy.replicas();
    match nodes_for(job, class, nodes, capabilities) {
        (able, Some(missing)) if able < usize::from(replicas) => Err(PlanError::Unfit {
            replicas,
            able,
            serving: serving(nodes, class).count(),
            missing,
        }),
        _ => Ok(()),
    }
}

/// Refuses a reputation that too few of the nodes which serve the class have: the payment would lie there for nothing.
fn reputed(
    wanted: u16,
    class: ClassId,
    redundancy: Redundancy,
    nodes: &[NodeRecord],
) -> Result<(), PlanError> {
    let mut best: Vec<u16> = serving(nodes, class).map(|node| node.escrow.reputation).collect();
    best.sort_unstable_by(|a, b| b.cmp(a));
    let replicas = redundancy.replicas();
    let able = best.iter().filter(|it| **it >= wanted).count();
    best.truncate(usize::from(replicas));
    // that enough nodes serve the class was found out before
    match best.last() {
        Some(most) if *most < wanted => Err(PlanError::TooLittleReputation {
            replicas,
            wanted,
            able,
            most: *most,
            best,
        }),
        Some(_) | None => Ok(()),
    }
}

/// Nodes with stake here that serve a class.
fn serving(nodes: &[NodeRecord], class: ClassId) -> impl Iterator<Item = &NodeRecord> {
    nodes
        .iter()
        .filter(move |node| !node.escrow.cap.is_zero() && node.classes.contains(&class))
}

/// Holds a bond that was asked for against what is asked of it and what nodes have free.
fn wished_bond(
    bond: Amount,
    least: Amount,
    class: ClassId,
    redundancy: Redundancy,
    nodes: &[NodeRecord],
) -> Result<Amount, PlanError> {
    if bond < least {
        return Err(PlanError::BondTooLow { bond, least });
    }
    if !(bond.0 % bond_granule()).is_zero() {
        return Err(PlanError::BondTooPrecise { bond });
    }
    // what is locked now comes back: only what a node can never lock is refused
    let mut caps: Vec<Amount> = serving(nodes, class).map(|node| node.escrow.cap).collect();
    caps.sort_unstable_by(|a, b| b.cmp(a));
    let replicas = redundancy.replicas();
    let able = caps.iter().filter(|cap| **cap >= bond).count();
    if able >= usize::from(replicas) {
        return Ok(bond);
    }
    Err(PlanError::BondTooHigh {
        bond,
        replicas,
        able,
        most: caps
            .get(usize::from(replicas).saturating_sub(1))
            .copied()
            .unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::tests::{DET, node};

    #[test]
    fn a_reputation_that_too_few_nodes_have_is_refused_with_what_the_best_have() {
        let with = |(index, reputation): (u32, u16)| {
            let mut node = node(index, &[DET]);
            node.escrow.reputation = reputation;
            node
        };
        let mut nodes: Vec<NodeRecord> = [(1, 4), (2, 0), (3, 9), (4, 1)].map(with).into();
        // these take no seat, whatever they have
        nodes.push(with((5, 200)));
        nodes[4].escrow.cap = Amount::ZERO;
        nodes.push(with((6, 200)));
        nodes[5].classes.clear();
        let asked = |wanted, redundancy| reputed(wanted, DET, redundancy, &nodes);
        assert!(asked(0, Redundancy::Three).is_ok());
        assert!(asked(1, Redundancy::Three).is_ok());
        assert!(asked(9, Redundancy::One).is_ok());
        let words = asked(2, Redundancy::Three).unwrap_err().to_string();
        for part in [
            "3 nodes with a reputation of 2, and there are 2",
            "the best have 9, 4, 1",
            "--min-reputation 1 or less",
            "--force",
        ] {
            assert!(words.contains(part), "{part} in {words}");
        }
    }
}
