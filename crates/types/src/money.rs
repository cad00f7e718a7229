//! Money. Owns amounts in a token's base units and their decimal text; arithmetic is checked. Never converts between
//! tokens.

use std::fmt;

use alloy_primitives::{Address, U256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount in a token's smallest unit (wei for the native coin).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(pub U256);

/// A text that is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not a plain decimal number.
    #[error("`{0}` is not an amount: write a decimal number such as 0.1")]
    NotANumber(String),
    /// More decimals than the token has.
    #[error("`{text}` has more than {decimals} decimals, the token's smallest unit")]
    TooPrecise {
        /// What was given.
        text: String,
        /// Decimals of the token.
        decimals: u8,
    },
    /// More than 2^256 − 1 base units.
    #[error("`{0}` is too large")]
    TooLarge(String),
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(U256::ZERO);
    /// Decimals of the native coin.
    pub const COIN_DECIMALS: u8 = 18;
    /// Base units of a gwei.
    pub const GWEI: u64 = 1_000_000_000;

    /// `gwei` billions of wei.
    pub fn from_gwei(gwei: u64) -> Self {
        Self(U256::from(gwei).saturating_mul(U256::from(Self::GWEI)))
    }

    /// Parses a decimal number of whole tokens, such as `0.1`.
    ///
    /// # Errors
    /// Text that is no plain decimal, has more decimals than the token, or does not fit.
    pub fn parse(text: &str, decimals: u8) -> Result<Self, AmountError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
            return Err(AmountError::NotANumber(text.to_owned()));
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > usize::from(decimals) {
            return Err(AmountError::TooPrecise {
                text: text.to_owned(),
                decimals,
            });
        }
        let padded = format!("{whole}{fraction:0<width$}", width = usize::from(decimals));
        let too_large = || AmountError::TooLarge(text.to_owned());
        U256::from_str_radix(&padded, 10)
            .map(Self)
            .map_err(|_| too_large())
    }

    /// This amount in whole tokens, without needless zeros.
    pub fn display(&self, decimals: u8) -> String {
        let digits = self.0.to_string();
        let width = usize::from(decimals);
        let padded = format!("{digits:0>fill$}", fill = width + 1);
        let (whole, fraction) = padded.split_at(padded.len() - width);
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() {
            whole.to_owned()
        } else {
            format!("{whole}.{fraction}")
        }
    }

    /// Sum, or `None` on overflow.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Difference, or `None` when `other` is larger.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// Product, or `None` on overflow.
    pub fn checked_mul(self, factor: u64) -> Option<Self> {
        self.0.checked_mul(U256::from(factor)).map(Self)
    }

    /// Whether this is nothing.
    pub fn is_zero(&self) -> bool {
        self.0.is_zero()
    }
}

impl fmt::Display for Amount {
    /// Whole coins with 18 decimals; for another token use [`Amount::display`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display(Self::COIN_DECIMALS))
    }
}

impl Serialize for Amount {
    /// Base units as a decimal string: JSON numbers lose precision.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text, 0).map_err(serde::de::Error::custom)
    }
}

/// What pays for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Token {
    /// The chain's native coin; the zero address on chain.
    Native,
    /// An ERC-20 contract that the deployment allows.
    Erc20(Address),
}

impl Token {
    /// The address that stands for the token on chain.
    pub const fn address(self) -> Address {
        match self {
            Self::Native => Address::ZERO,
            Self::Erc20(address) => address,
        }
    }
}

impl From<Address> for Token {
    fn from(address: Address) -> Self {
        if address == Address::ZERO {
            Self::Native
        } else {
            Self::Erc20(address)
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native => f.write_str("native coin"),
            Self::Erc20(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_what_people_write() {
        assert_eq!(
            Amount::parse("0.1", 18),
            Ok(Amount(U256::from(100_000_000_000_000_000u64)))
        );
        assert_eq!(Amount::parse("2", 6), Ok(Amount(U256::from(2_000_000u64))));
        assert_eq!(Amount::parse("1.50", 1), Ok(Amount(U256::from(15u64))));
        for bad in ["", ".", "-1", "1e18", "0x10", "1,5", " 1"] {
            assert!(
                matches!(Amount::parse(bad, 18), Err(AmountError::NotANumber(_))),
                "{bad}"
            );
        }
        assert!(matches!(
            Amount::parse("0.1234567", 6),
            Err(AmountError::TooPrecise { .. })
        ));
        assert!(matches!(
            Amount::parse(&"9".repeat(90), 18),
            Err(AmountError::TooLarge(_))
        ));
    }

    proptest! {
        #[test]
        fn display_and_parse_agree(base: u128, decimals in 0u8..=30) {
            let amount = Amount(U256::from(base));
            prop_assert_eq!(Amount::parse(&amount.display(decimals), decimals), Ok(amount));
        }
    }
}
