//! Whether a node wants a job: one pure function of the order and of what the node knows, with every objection named.

use sandrun_types::{
    Address, Amount, Capabilities, ClassId, ClassKind, Order, Redundancy, Requirements, Shortfall, Token,
    UnixSeconds,
};

use super::Fault;

/// What a node knows about itself and about prices when it judges an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The account that owns the stake, and the hot key: neither may be client or payer.
    pub accounts: [Address; 2],
    /// Why the node accepts nothing at all, if so.
    pub halted: Option<Fault>,
    /// Clients whose native jobs are left to others for now: the node was outvoted in one.
    pub avoided: Vec<Address>,
    /// What the machine offers.
    pub capabilities: Capabilities,
    /// Classes that the node serves and has registered.
    pub classes: Vec<ClassId>,
    /// Stake that no bond holds, less the bonds of claims under way, wei.
    pub free_stake: Amount,
    /// Consecutive valid answers, as the escrow has them.
    pub reputation: u16,
    /// Least price per replica that the operator works for, and in which tokens at all.
    pub minimum_prices: Vec<(Token, Amount)>,
    /// The largest price that the operator works for where owners of a quorum could collude: a bond does not deter
    /// who holds the majority.
    pub value_cap: Amount,
    /// The largest bond that the operator puts at risk in one job, wei.
    pub bond_cap: Amount,
    /// What claim, commit and reveal are expected to cost, wei.
    pub gas_cost: Amount,
    /// The hot key's native coin, wei.
    pub gas_money: Amount,
    /// Jobs under way and how many there may be.
    pub active_jobs: u32,
    /// How many there may be at once.
    pub max_jobs: u32,
    /// Longest wall limit that the executor allows, seconds.
    pub max_wall: u32,
    /// Whether the node can open sealed results and jobs.
    pub can_seal: bool,
}

/// Why a node does not want a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// The node accepts nothing.
    #[error("this node accepts no jobs: {0}")]
    Halted(Fault),
    /// Client or payer is the node itself.
    #[error("client or payer is this node itself")]
    OwnJob,
    /// The node was outvoted in a native job of this client.
    #[error("another answer won in a native job of {0} a short while ago")]
    Avoided(Address),
    /// The class's kind is unknown to this version.
    #[error("class {0} is of a kind that this version does not know")]
    UnknownClassKind(ClassId),
    /// The class is not served.
    #[error("class {class} ({}) is not served here", kind_name(*.kind))]
    ClassNotServed {
        /// The class.
        class: ClassId,
        /// Its kind.
        kind: ClassKind,
    },
    /// The order asks for something that this version does not know.
    #[error("the order has requirements that this version does not know")]
    UnknownRequirements,
    /// The machine does not have it.
    #[error("{0}")]
    Capability(Shortfall),
    /// The wall limit is more than the executor allows.
    #[error("the wall limit of {asked} s is above this node's {allowed} s")]
    WallLimit {
        /// Asked for, seconds.
        asked: u32,
        /// Allowed, seconds.
        allowed: u32,
    },
    /// Too little reputation.
    #[error("the order asks for reputation {asked}, this node has {had}")]
    Reputation {
        /// Asked for.
        asked: u16,
        /// Had.
        had: u16,
    },
    /// The token is not taken.
    #[error("this node takes no payment in {0}")]
    Token(Token),
    /// The price is below the operator's minimum.
    #[error("the price of {price} base units of {token} is below this node's minimum of {minimum}", price = .price.0, minimum = .minimum.0)]
    Price {
        /// What pays.
        token: Token,
        /// Offered per replica.
        price: Amount,
        /// Asked for.
        minimum: Amount,
    },
    /// The price does not pay for the gas.
    #[error("the price of {price} does not pay for gas of {gas}")]
    GasAbovePrice {
        /// Offered per replica, wei.
        price: Amount,
        /// Expected cost, wei.
        gas: Amount,
    },
    /// The hot key can't pay for the gas.
    #[error("the hot key has {had}, claim, commit and reveal cost {needed}; send it some coin")]
    GasMoney {
        /// Needed, wei.
        needed: Amount,
        /// Had, wei.
        had: Amount,
    },
    /// The bond is more than the operator risks.
    #[error("the bond of {bond} is above this node's limit of {cap}")]
    BondAboveCap {
        /// Asked for, wei.
        bond: Amount,
        /// Limit, wei.
        cap: Amount,
    },
    /// The stake does not cover the bond.
    #[error("the bond of {bond} is above the free stake of {free}")]
    FreeStake {
        /// Asked for, wei.
        bond: Amount,
        /// Free, wei.
        free: Amount,
    },
    /// So valuable that a majority of one owner would pay.
    #[error("the price of {price} base units is above this node's value cap of {cap}", price = .price.0, cap = .cap.0)]
    ValueAboveCap {
        /// Offered per replica.
        price: Amount,
        /// Limit.
        cap: Amount,
    },
    /// No room for another job.
    #[error("{active} of {max} jobs are under way")]
    Busy {
        /// Under way.
        active: u32,
        /// Limit.
        max: u32,
    },
    /// The result has to be sealed and this node can't.
    #[error("the result has to be sealed for the client, which this node cannot do")]
    SealedResult,
    /// Too little of the seat window is left.
    #[error("the seat window ends at {} and it is {}", .deadline.0, .now.0)]
    WindowOver {
        /// Its end.
        deadline: UnixSeconds,
        /// Now.
        now: UnixSeconds,
    },
}

const fn kind_name(kind: ClassKind) -> &'static str {
    match kind {
        ClassKind::Native => "native",
        ClassKind::Det => "det",
    }
}

/// Whether the node whose standing this is wants `order`, whose seats can be had until `deadline`.
///
/// # Errors
/// All objections, not the first alone: an operator wants to know what all to change.
pub fn judge(
    order: &Order,
    deadline: UnixSeconds,
    standing: &Standing,
    now: UnixSeconds,
) -> Result<(), Vec<Objection>> {
    let mut objections = Vec::new();
    if let Some(fault) = standing.halted {
        objections.push(Objection::Halted(fault));
    }
    if now > deadline {
        objections.push(Objection::WindowOver { deadline, now });
    }
    fitness(order, standing, &mut objections);
    money(order, standing, &mut objections);
    if standing.active_jobs >= standing.max_jobs {
        objections.push(Objection::Busy {
            active: standing.active_jobs,
            max: standing.max_jobs,
        });
    }
    if objections.is_empty() {
        Ok(())
    } else {
        Err(objections)
    }
}

/// Can this node do it at all?
fn fitness(order: &Order, standing: &Standing, objections: &mut Vec<Objection>) {
    if standing.accounts.contains(&order.client) || standing.accounts.contains(&order.payer) {
        objections.push(Objection::OwnJob);
    }
    if order.class.kind() == Some(ClassKind::Native) && standing.avoided.contains(&order.client) {
        objections.push(Objection::Avoided(order.client));
    }
    match order.class.kind() {
        None => objections.push(Objection::UnknownClassKind(order.class)),
        Some(kind) if !standing.classes.contains(&order.class) => {
            objections.push(Objection::ClassNotServed {
                class: order.class,
                kind,
            });
        }
        Some(ClassKind::Native | ClassKind::Det) => {}
    }
    match Requirements::from_word(order.requirements) {
        None => objections.push(Objection::UnknownRequirements),
        Some(requirements) => {
            if let Err(shortfall) = standing.capabilities.satisfies(&requirements) {
                objections.push(Objection::Capability(shortfall));
            }
        }
    }
    if order.wall_limit > standing.max_wall {
        objections.push(Objection::WallLimit {
            asked: order.wall_limit,
            allowed: standing.max_wall,
        });
    }
    if order.min_reputation > standing.reputation {
        objections.push(Objection::Reputation {
            asked: order.min_reputation,
            had: standing.reputation,
        });
    }
    if !order.client_key.is_zero() && !standing.can_seal {
        objections.push(Objection::SealedResult);
    }
}

/// Is it worth it, and can it be afforded?
fn money(order: &Order, standing: &Standing, objections: &mut Vec<Objection>) {
    let (price, bond) = (order.price, order.bond);
    match standing
        .minimum_prices
        .iter()
        .find(|(token, _)| *token == order.token)
    {
        None => objections.push(Objection::Token(order.token)),
        Some((token, minimum)) if price < *minimum => {
            objections.push(Objection::Price {
                token: *token,
                price,
                minimum: *minimum,
            });
        }
        Some(_) => {}
    }
    // a token's price can't be set against gas here: its operator's minimum price has to
    if order.token == Token::Native && price <= standing.gas_cost {
        objections.push(Objection::GasAbovePrice {
            price,
            gas: standing.gas_cost,
        });
    }
    if standing.gas_money < standing.gas_cost {
        objections.push(Objection::GasMoney {
            needed: standing.gas_cost,
            had: standing.gas_money,
        });
    }
    if bond > standing.bond_cap {
        objections.push(Objection::BondAboveCap {
            bond,
            cap: standing.bond_cap,
        });
    }
    if bond > standing.free_stake {
        objections.push(Objection::FreeStake {
            bond,
            free: standing.free_stake,
        });
    }
    // who works alone can't be outvoted
    if order.redundancy != Redundancy::One && price > standing.value_cap {
        objections.push(Objection::ValueAboveCap {
            price,
            cap: standing.value_cap,
        });
    }
}
