//! Who takes part in a simulated market, with what, and where: addresses, tokens, orders, results.

use sandrun_core::market::escrow::{Call, Escrow, Parameters, TokenTerms};
use sandrun_core::market::rules::{Payment, Stake};
use sandrun_types::{
    Address, Amount, B256, ChainId, ClassId, ClassKind, ContentDigest, EscrowRef, ExitStatus, ManifestDigest,
    NodeIndex, Order, OutputRoot, Redundancy, ResultParts, Token, TraceRoot, U256, UnixSeconds,
};

use crate::rng::Rng;
use crate::violation::Violation;

use super::block::moment;

/// When a history begins.
pub(crate) const START: u64 = 1_800_000_000;
/// Attempt fee of both tokens, gwei.
pub(crate) const FEE: u64 = 1_000;
/// The token beside the native coin.
pub(crate) const COIN: Token = Token::Erc20(Address::repeat_byte(0x20));
/// Where the escrow is.
pub(crate) const HERE: EscrowRef = EscrowRef {
    chain: ChainId::LOCAL,
    escrow: Address::repeat_byte(0xe5),
};

/// A client's account.
pub(crate) const fn client(number: u8) -> Address {
    let mut bytes = [0xc1; 20];
    bytes[19] = number;
    Address::new(bytes)
}

/// A keeper's account.
pub(crate) const fn keeper(number: u8) -> Address {
    let mut bytes = [0xee; 20];
    bytes[19] = number;
    Address::new(bytes)
}

/// A node's owner.
pub(crate) fn account(node: NodeIndex) -> Address {
    address(0xa0, node)
}

/// A node's hot key.
pub(crate) fn worker(node: NodeIndex) -> Address {
    address(0xb0, node)
}

fn address(kind: u8, node: NodeIndex) -> Address {
    let mut bytes = [kind; 20];
    bytes[16..].copy_from_slice(&node.0.to_be_bytes());
    Address::new(bytes)
}

/// A class of this kind.
pub(crate) const fn class(kind: ClassKind) -> ClassId {
    let mut bytes = [7; 32];
    bytes[0] = match kind {
        ClassKind::Native => 0,
        ClassKind::Det => 1,
    };
    ClassId(bytes)
}

/// The terms of a token.
pub(crate) fn terms(token: Token) -> TokenTerms {
    TokenTerms {
        token,
        granule: Payment::from_gwei(1),
        attempt_fee: Payment::from_gwei(FEE),
        min_price: Payment::from_gwei(10 * FEE),
        max_single_price: Payment::from_gwei(1_000_000_000),
        bond_per_price: Stake(Amount(U256::from(5u8) * U256::from(10u8).pow(U256::from(18u8)))),
    }
}

/// A deployment with registered nodes, whose stakes are whole units.
pub(crate) fn deployment(stakes: &[u64]) -> Result<Escrow, Violation> {
    let mut escrow = Escrow::new(HERE, Parameters::testnet(), [terms(Token::Native), terms(COIN)]);
    for (number, units) in (1..).zip(stakes) {
        let node = NodeIndex(number);
        let stake = Stake(Amount::from_gwei(100_000_000 * units));
        for call in registration(node, stake) {
            escrow
                .apply(moment(0, UnixSeconds(START - 10), 0), account(node), call)
                .map_err(Violation::new)?;
        }
    }
    Ok(escrow)
}

/// What a node's owner calls once.
pub(crate) fn registration(node: NodeIndex, stake: Stake) -> [Call; 2] {
    let register = Call::Register {
        worker: worker(node),
        payout: account(node),
        stake,
    };
    let opt_in = Call::OptIn {
        node,
        cap: stake,
        classes: vec![class(ClassKind::Native), class(ClassKind::Det)],
    };
    [register, opt_in]
}

/// Some order of `client`.
pub(crate) fn order(client: Address, nonce: u64, rng: &mut Rng) -> Order {
    use Redundancy::{Five, One, Three, Two};
    let kind = rng.pick(&[ClassKind::Native, ClassKind::Det], ClassKind::Det);
    let price = 10 * FEE + rng.below(200_000);
    Order {
        client,
        payer: client,
        nonce: U256::from(nonce),
        bundle: ContentDigest(rng.word()),
        manifest: ManifestDigest(rng.word()),
        class: class(kind),
        requirements: U256::ZERO,
        token: rng.pick(&[Token::Native, Token::Native, COIN], COIN),
        price: Amount::from_gwei(price),
        redundancy: rng.pick(&[One, Two, Two, Three, Three, Three, Five], Three),
        // whole thousands of gwei, five times the price and a little more
        bond: Amount::from_gwei((price * 5 / 1_000 + 1 + rng.below(50)) * 1_000),
        wall_limit: 5 + rng.small(12),
        min_reputation: 0,
        client_key: B256::ZERO,
    }
}

/// The result `variant` of a job.
pub(crate) const fn result(class: ClassId, variant: u8) -> ResultParts {
    ResultParts {
        class,
        exit: ExitStatus::Code(variant),
        output_root: OutputRoot([4; 32]),
        trace_root: TraceRoot([5; 32]),
        content: ContentDigest([6; 32]),
    }
}
