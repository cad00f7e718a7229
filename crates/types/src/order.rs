//! An order: a job as its client signs it. Owns its fields, the check of what needs no network, the packing of
//! requirements, and the job id. Never prices anything.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::{SolStruct, eip712_domain, sol};
use serde::{Deserialize, Serialize};

use crate::{Amount, ClassId, ContentDigest, EscrowRef, JobId, ManifestDigest, NodeIndex, SeatIndex, Token};

mod abi {
    #![allow(missing_docs, unreachable_pub)]
    alloy_sol_types::sol! {
        struct Order {
            address client;
            address payer;
            uint256 nonce;
            bytes32 bundle;
            bytes32 manifest;
            bytes32 classId;
            uint256 requirements;
            address token;
            uint256 price;
            uint8 replicas;
            uint8 quorum;
            uint256 bond;
            uint32 wallLimit;
            uint16 minReputation;
            bytes32 clientKey;
            uint8 version;
            bytes32 extensions;
        }
    }
}

/// How many nodes run a job, and how many have to agree. See docs/protocol.md, "Terms".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Redundancy {
    /// One node, unverified, price capped.
    One,
    /// Two of two.
    Two,
    /// Two of three.
    Three,
    /// Three of five.
    Five,
}

/// A redundancy that there is none of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no redundancy {0}: choose 1 (unverified), 2 (2-of-2), 3 (2-of-3) or 5 (3-of-5)")]
pub struct RedundancyError(pub u8);

impl Redundancy {
    /// All, in ascending order.
    pub const ALL: [Self; 4] = [Self::One, Self::Two, Self::Three, Self::Five];

    /// n: seats of the first round.
    pub const fn replicas(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Three => 3,
            Self::Five => 5,
        }
    }

    /// q: equal answers that win.
    pub const fn quorum(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two | Self::Three => 2,
            Self::Five => 3,
        }
    }

    /// How many prices are locked: n, and one more for 2-of-2, whose extra round can end with three payees.
    pub const fn locked_prices(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two | Self::Three => 3,
            Self::Five => 5,
        }
    }

    /// Whether there can be an extra round.
    pub const fn has_extra_round(self) -> bool {
        !matches!(self, Self::One)
    }
}

impl TryFrom<u8> for Redundancy {
    type Error = RedundancyError;

    fn try_from(replicas: u8) -> Result<Self, RedundancyError> {
        Self::ALL
            .into_iter()
            .find(|it| it.replicas() == replicas)
            .ok_or(RedundancyError(replicas))
    }
}

impl From<Redundancy> for u8 {
    fn from(redundancy: Redundancy) -> Self {
        redundancy.replicas()
    }
}

/// Hardware and software that a job asks for, as it stands in the order: enough for a node to pass by without fetching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Requirements {
    /// CPU cores; 0 for any.
    pub cpu_cores: u16,
    /// Memory, MiB; 0 for any.
    pub memory_mib: u32,
    /// Whether a GPU is needed.
    pub gpu: bool,
    /// GPU memory, MiB; 0 for any.
    pub vram_mib: u32,
    /// Least compute capability times ten (8.6 is 86); 0 for any.
    pub compute_capability_x10: u16,
}

impl Requirements {
    /// The word that stands in the order: cores in bits 0…15, memory 16…47, GPU 48, its memory 49…80, compute capability
    /// 81…96.
    pub fn to_word(self) -> U256 {
        U256::from(self.cpu_cores)
            | U256::from(self.memory_mib) << 16
            | U256::from(u8::from(self.gpu)) << 48
            | U256::from(self.vram_mib) << 49
            | U256::from(self.compute_capability_x10) << 81
    }

    /// Reads the word; `None` when it has bits that this version does not know, so that no requirement is overlooked.
    pub fn from_word(word: U256) -> Option<Self> {
        let field = |shift: usize, bits: usize| -> u32 {
            let value = (word >> shift) & ((U256::from(1u8) << bits) - U256::from(1u8));
            value.saturating_to::<u32>()
        };
        let requirements = Self {
            cpu_cores: u16::try_from(field(0, 16)).ok()?,
            memory_mib: field(16, 32),
            gpu: field(48, 1) == 1,
            vram_mib: field(49, 32),
            compute_capability_x10: u16::try_from(field(81, 16)).ok()?,
        };
        (requirements.to_word() == word).then_some(requirements)
    }
}

/// A job as its client signs it; field by field the contract's `Order`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Who may cancel.
    pub client: Address,
    /// Whose money is locked.
    pub payer: Address,
    /// Makes equal jobs of one client different.
    pub nonce: U256,
    /// The packed bundle.
    pub bundle: ContentDigest,
    /// The canonical manifest, the bundle's `job.json`.
    pub manifest: ManifestDigest,
    /// The one class that may run it.
    pub class: ClassId,
    /// What the node has to have.
    pub requirements: U256,
    /// What pays.
    pub token: Token,
    /// Payment for each replica.
    pub price: Amount,
    /// n and q.
    pub redundancy: Redundancy,
    /// Stake that each seat locks, wei.
    pub bond: Amount,
    /// Real time that a run may take, seconds.
    pub wall_limit: u32,
    /// Consecutive valid answers that a node needs.
    pub min_reputation: u16,
    /// X25519 key that the result is sealed to; zero for a plain result.
    pub client_key: B256,
}

/// Version of the order format.
pub const ORDER_VERSION: u8 = 1;

impl Order {
    /// The job's id on `at`: EIP-712 hash of the order.
    pub fn job_id(&self, at: EscrowRef) -> JobId {
        let domain = eip712_domain! {
            name: "Sandrun Escrow",
            version: "1",
            chain_id: at.chain.0,
            verifying_contract: at.escrow,
        };
        self.abi().eip712_signing_hash(&domain).into()
    }

    /// The sum that is locked, in the token's base units: the most that the job can cost. `None` when it overflows.
    pub fn locked_sum(&self) -> Option<Amount> {
        self.price.checked_mul(u64::from(self.redundancy.locked_prices()))
    }

    fn abi(&self) -> abi::Order {
        abi::Order {
            client: self.client,
            payer: self.payer,
            nonce: self.nonce,
            bundle: self.bundle.into(),
            manifest: self.manifest.into(),
            classId: self.class.into(),
            requirements: self.requirements,
            token: self.token.address(),
            price: self.price.0,
            replicas: self.redundancy.replicas(),
            quorum: self.redundancy.quorum(),
            bond: self.bond.0,
            wallLimit: self.wall_limit,
            minReputation: self.min_reputation,
            clientKey: self.client_key,
            version: ORDER_VERSION,
            extensions: B256::ZERO,
        }
    }
}

sol! {
    /// Preimage of a ticket.
    #[derive(Debug)]
    struct TicketParts { bytes32 seed; bytes32 job; uint256 round; uint256 node; uint256 unit; }
    /// Preimage of a commitment.
    #[derive(Debug)]
    struct CommitParts { bytes32 job; uint256 round; uint256 node; bytes32 answer; bytes32 salt; }
}

/// The ticket of one unit of a node's stake: wins when below the job's threshold. See docs/protocol.md, "Ticket".
pub fn ticket(seed: B256, job: JobId, round: u8, node: NodeIndex, unit: u32) -> U256 {
    use alloy_sol_types::SolValue as _;
    let parts = TicketParts {
        seed,
        job: job.into(),
        round: U256::from(round),
        node: U256::from(node.0),
        unit: U256::from(unit),
    };
    keccak256(parts.abi_encode()).into()
}

/// Upper 216 bits of the hash that binds a node to an answer. See docs/protocol.md, "Commit".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Commitment(pub [u8; 27]);

/// The commitment of `node` to `answer` in `round` of `job`.
pub fn commitment(job: JobId, round: u8, node: NodeIndex, answer: B256, salt: B256) -> Commitment {
    use alloy_sol_types::SolValue as _;
    let parts = CommitParts {
        job: job.into(),
        round: U256::from(round),
        node: U256::from(node.0),
        answer,
        salt,
    };
    let hash = keccak256(parts.abi_encode());
    let mut upper = [0u8; 27];
    upper.copy_from_slice(&hash[..27]);
    Commitment(upper)
}

/// A seat in a job: what a commit and a bond belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeatRef {
    /// The job.
    pub job: JobId,
    /// The seat in it.
    pub seat: SeatIndex,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChainId;
    use proptest::prelude::*;

    fn order() -> Order {
        Order {
            client: Address::repeat_byte(1),
            payer: Address::repeat_byte(1),
            nonce: U256::from(7u8),
            bundle: ContentDigest([2; 32]),
            manifest: ManifestDigest([3; 32]),
            class: ClassId([0; 32]),
            requirements: U256::ZERO,
            token: Token::Native,
            price: Amount::from_gwei(30_000_000),
            redundancy: Redundancy::Three,
            bond: Amount::from_gwei(150_000_000),
            wall_limit: 60,
            min_reputation: 0,
            client_key: B256::ZERO,
        }
    }

    #[test]
    fn job_id_binds_chain_contract_and_every_field() {
        let at = EscrowRef {
            chain: ChainId(31_337),
            escrow: Address::repeat_byte(9),
        };
        let id = order().job_id(at);
        assert_eq!(id, order().job_id(at));
        assert_ne!(
            id,
            order().job_id(EscrowRef {
                chain: ChainId(1),
                ..at
            })
        );
        assert_ne!(
            id,
            order().job_id(EscrowRef {
                escrow: Address::ZERO,
                ..at
            })
        );
        assert_ne!(
            id,
            Order {
                nonce: U256::from(8u8),
                ..order()
            }
            .job_id(at)
        );
        assert_ne!(
            id,
            Order {
                redundancy: Redundancy::Five,
                ..order()
            }
            .job_id(at)
        );
    }

    #[test]
    fn locked_sum_has_one_price_more_for_two_of_two() {
        let sum = |redundancy| {
            Order {
                redundancy,
                ..order()
            }
            .locked_sum()
        };
        assert_eq!(sum(Redundancy::One), Some(Amount::from_gwei(30_000_000)));
        assert_eq!(sum(Redundancy::Two), Some(Amount::from_gwei(90_000_000)));
        assert_eq!(sum(Redundancy::Three), Some(Amount::from_gwei(90_000_000)));
        assert_eq!(sum(Redundancy::Five), Some(Amount::from_gwei(150_000_000)));
    }

    #[test]
    fn there_is_no_redundancy_four() {
        assert_eq!(Redundancy::try_from(4), Err(RedundancyError(4)));
        assert_eq!(Redundancy::try_from(3), Ok(Redundancy::Three));
    }

    proptest! {
        #[test]
        fn requirements_round_trip(cpu_cores: u16, memory_mib: u32, gpu: bool, vram_mib: u32, cc: u16) {
            let it = Requirements { cpu_cores, memory_mib, gpu, vram_mib, compute_capability_x10: cc };
            prop_assert_eq!(Requirements::from_word(it.to_word()), Some(it));
            prop_assert_eq!(Requirements::from_word(it.to_word() | U256::from(1u8) << 200), None);
        }
    }
}
