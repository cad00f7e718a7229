//! Why a contract refused. Owns the decoding of revert data into named refusals and what a person can do about each;
//! never talks to a chain.

use std::fmt;
use std::sync::OnceLock;

use alloy::dyn_abi::{DynSolValue, JsonAbiExt};
use alloy::json_abi::JsonAbi;
use alloy::primitives::Bytes;
use alloy::sol_types::{Panic, Revert as Message, SolError};
use serde::{Deserialize, Serialize};

use crate::abi;

macro_rules! refusals {
    ($($name:ident: $advice:literal,)+) => {
        /// A custom error of escrow or registry, by name. See `contracts/src/interfaces`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Refusal {
            $(#[doc = $advice] $name,)+
        }

        impl Refusal {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The error's name in the contract.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What it means for who sent the call, and what to do.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice,)+ }
            }
        }
    };
}

refusals! {
    BadOrder: "a field of the order is not one that the escrow takes; correct it and post again",
    UnknownToken: "this deployment does not take that token; pay in the native coin or an allowed token",
    PriceTooLow: "the price per replica is below the token's minimum or no multiple of its granule; raise --payment",
    PriceTooHigh: "a job with one replica is not verified, so its price is capped; lower --payment or use more replicas",
    BondTooLow: "the bond per seat is too small for this price; raise the bond or lower the price",
    WrongPayment: "the money sent is not the sum that the order locks; send exactly that sum",
    AlreadyPosted: "this very order is posted already; to run it again give it another nonce",
    UnknownJob: "the escrow has no such job; check the job id and the chain",
    NotClient: "only the client of the job may do that; use the client's key",
    NotPayer: "the caller of the posting must be the order's payer; use the payer's key",
    NotWorker: "only the worker key of that node may do that; use the key that the node was registered with",
    WrongPhase: "the job is in another phase; look at it again with `sandrun-pool job ID`",
    WindowOver: "the time for that is over; somebody may now move the job on (poke)",
    TooLateToCancel: "a job can be cancelled until its seed is known, or while no seat is taken; wait for its end",
    SeedNotReady: "the lottery's seed is known two blocks after the posting; try again then",
    NoTicket: "this unit's ticket is above the threshold yet; it doubles with each block, try again later",
    NotEligible: "the node may not take this seat; see the reason",
    SeatsFull: "all seats are taken; nothing to do",
    NoSuchSeat: "the job has no such seat; look at the job again",
    AlreadyCommitted: "the seat has committed already; a seat commits once",
    NotCommitted: "the seat has not committed, so there is nothing to reveal",
    CommitMismatch: "answer and salt are not what the seat committed to",
    ResultUnpublished: "the result behind this digest is not published yet; reveal it with its parts",
    LimitTooEarly: "`limit` counts only for a commit made later than twice the wall limit after the run began",
    NothingDue: "nothing is due for this job now; try again after its deadline",
    NothingToWithdraw: "there is nothing to withdraw",
    NotClosed: "the job is not closed yet; wait for its end",
    TransferFailed: "the transfer failed: check balance and allowance of the payer, or the receiving contract",
    OnlyRegistry: "only the registry may call that",
    AlreadyRegistered: "account or worker key belongs to a node already; one node per account and worker",
    BadWorkerSignature: "the worker key did not sign this registration for this chain, registry and account",
    NotAccount: "only the node's account may do that; use the account's key",
    UnknownNode: "there is no node with that index; register first",
    CapabilitiesTooLong: "the capabilities are longer than 4096 bytes; shorten them",
    TooManyClasses: "a node serves at most 8 classes in an escrow",
    NotEnoughStake: "the node's free stake does not cover that; add stake",
    NotOptedIn: "the node has not opted in to this escrow; opt in first",
    ExitNotDue: "the exit delay is not over; release later",
    BondsLocked: "bonds are locked in unfinished jobs; try again when they have ended",
    ExitPending: "an exit is under way already; release it first",
    ZeroAddress: "an address is zero that must not be",
    BadParameters: "a parameter of the deployment is out of its range; correct it and deploy again",
    Reentered: "the call re-entered the contract; no honest call does that",
}

/// Why a call reverted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revert {
    /// One of the contracts' own errors.
    Refused {
        /// Which.
        refusal: Refusal,
        /// Its arguments, names and values for people.
        args: Vec<(String, String)>,
    },
    /// `require` with a text, as some tokens have it.
    Message(String),
    /// A failed check of the compiler, such as an overflow: a defect of the contract.
    Panic(String),
    /// No reason: out of gas, no contract at the address, or a contract that gives none.
    NoReason,
    /// A reason of a contract that we don't know.
    Unknown(Bytes),
}

impl Revert {
    /// Decodes what a call returned when it reverted.
    pub fn decode(data: &[u8]) -> Self {
        if data.is_empty() {
            return Self::NoReason;
        }
        if let Some(refused) = decode_custom(data) {
            return refused;
        }
        if let Ok(message) = Message::abi_decode(data) {
            return Self::Message(message.reason);
        }
        match Panic::abi_decode(data) {
            Ok(panic) => Self::Panic(panic.to_string()),
            Err(_) => Self::Unknown(Bytes::copy_from_slice(data)),
        }
    }

    /// The contracts' own error, if it is one.
    pub const fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(*refusal),
            Self::Message(_) | Self::Panic(_) | Self::NoReason | Self::Unknown(_) => None,
        }
    }

    /// What it means and what to do, for people.
    pub fn explain(&self) -> String {
        match self {
            Self::Refused { refusal, .. } => refusal.advice().to_owned(),
            Self::Message(text) => format!("the contract says: {text}"),
            Self::Panic(text) => format!("the contract failed ({text}); please report this job"),
            Self::NoReason => {
                "the contract gave no reason: check the gas limit and that the deployment of this chain is right".into()
            }
            Self::Unknown(data) => {
                let start = hex::encode(data.get(..4).unwrap_or(data));
                format!("unknown error 0x{start}: check that the deployment of this chain is right")
            }
        }
    }
}

impl fmt::Display for Revert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Refused { refusal, args } = self else {
            return f.write_str(&self.explain());
        };
        let args: Vec<String> = args
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        write!(f, "{}({}): {}", refusal.name(), args.join(", "), refusal.advice())
    }
}

fn errors() -> &'static [JsonAbi] {
    static ABI: OnceLock<Vec<JsonAbi>> = OnceLock::new();
    let parse = |text| {
        serde_json::from_str::<alloy::json_abi::ContractObject>(text)
            .ok()
            .and_then(|it| it.abi)
    };
    ABI.get_or_init(|| {
        [abi::ESCROW, abi::REGISTRY]
            .into_iter()
            .filter_map(parse)
            .collect()
    })
}

fn decode_custom(data: &[u8]) -> Option<Revert> {
    let (selector, body) = data.split_at_checked(4)?;
    let error = errors()
        .iter()
        .flat_map(JsonAbi::errors)
        .find(|it| it.selector() == selector)?;
    let refusal = *Refusal::ALL.iter().find(|it| it.name() == error.name)?;
    let values = error.abi_decode_input(body).ok()?;
    let args = error
        .inputs
        .iter()
        .zip(&values)
        .map(|(input, value)| (input.name.clone(), show(value)))
        .collect();
    Some(Revert::Refused { refusal, args })
}

/// A value for people; words that hold short text (`BadOrder("price")`) as text.
fn show(value: &DynSolValue) -> String {
    if let Some(number) = value.as_uint() {
        return number.0.to_string();
    }
    if let Some(address) = value.as_address() {
        return address.to_string();
    }
    if let Some((word, _)) = value.as_fixed_bytes() {
        let end = word
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let text = &word[..end];
        let readable = !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
        return if readable {
            String::from_utf8_lossy(text).into_owned()
        } else {
            format!("0x{}", hex::encode(word))
        };
    }
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::{B256, U256};

    #[test]
    fn every_custom_error_of_the_contracts_is_known() {
        for error in errors().iter().flat_map(JsonAbi::errors) {
            assert!(
                Refusal::ALL.iter().any(|it| it.name() == error.name),
                "{} has no refusal",
                error.name
            );
        }
    }

    #[test]
    fn names_arguments_and_says_what_to_do() {
        let data = abi::Escrow::PriceTooLow {
            price: U256::from(5),
            minimum: U256::from(10),
        }
        .abi_encode();
        let revert = Revert::decode(&data);
        assert_eq!(revert.refusal(), Some(Refusal::PriceTooLow));
        let text = revert.to_string();
        assert!(
            text.starts_with("PriceTooLow(price 5, minimum 10): ") && text.contains("--payment"),
            "{text}"
        );
    }

    #[test]
    fn a_word_with_text_is_shown_as_text() {
        let mut field = [0u8; 32];
        field[..5].copy_from_slice(b"price");
        let data = abi::Escrow::BadOrder {
            field: B256::from(field),
        }
        .abi_encode();
        assert!(
            Revert::decode(&data)
                .to_string()
                .starts_with("BadOrder(field price)")
        );
    }

    #[test]
    fn other_reverts_are_kept() {
        let text = Message {
            reason: "paused".into(),
        }
        .abi_encode();
        assert_eq!(Revert::decode(&text), Revert::Message("paused".into()));
        assert_eq!(Revert::decode(&[]), Revert::NoReason);
        assert!(matches!(Revert::decode(&[1, 2, 3, 4, 5]), Revert::Unknown(_)));
        assert!(matches!(Revert::decode(&[9]), Revert::Unknown(_)));
        let panic = Panic {
            code: U256::from(0x11),
        }
        .abi_encode();
        assert!(matches!(Revert::decode(&panic), Revert::Panic(_)));
    }
}
