//! What tokens are called and how their amounts are written: whole coins or tokens as decimal text, the same for people
//! and for scripts. Owns the look-up of symbols and decimals, and the check of `--token`.

use std::collections::BTreeMap;

use sandrun_chain::MarketReader;
use sandrun_types::{Address, Amount, AmountError, Token};

use crate::exit::{Failure, Status, WithStatus as _};

/// The tokens that an answer is about.
#[derive(Debug, Default)]
pub(crate) struct Coins(BTreeMap<Token, (String, u8)>);

impl Coins {
    /// Looks `tokens` up; the native coin needs no network.
    pub(crate) async fn of(
        reader: &MarketReader,
        tokens: impl IntoIterator<Item = Token>,
    ) -> anyhow::Result<Self> {
        let mut coins = Self::default();
        for token in tokens {
            if let Token::Erc20(address) = token
                && !coins.0.contains_key(&token)
            {
                let decimals = reader.decimals(token).await.status(Status::Unreachable)?;
                let name = match symbol(&reader.deployment().tokens, address) {
                    Some(known) => known.to_owned(),
                    // a token without a symbol is known by its address
                    None => reader
                        .symbol(address)
                        .await
                        .unwrap_or_else(|_| address.to_string()),
                };
                coins.0.insert(token, (name, decimals));
            }
        }
        Ok(coins)
    }

    /// An amount in whole coins or tokens.
    pub(crate) fn amount(&self, token: Token, amount: Amount) -> String {
        amount.display(self.decimals(token))
    }

    /// The token's decimals.
    pub(crate) fn decimals(&self, token: Token) -> u8 {
        let known = self.0.get(&token);
        known.map_or(Amount::COIN_DECIMALS, |(_, decimals)| *decimals)
    }

    /// What the token is called.
    pub(crate) fn name(&self, token: Token) -> String {
        match self.0.get(&token) {
            Some((name, _)) => name.clone(),
            None => "coin".to_owned(),
        }
    }
}

/// A token's symbol by a deployment's file.
pub(crate) fn symbol(known: &BTreeMap<String, Address>, address: Address) -> Option<&str> {
    let mut known = known.iter();
    known
        .find(|(_, it)| **it == address)
        .map(|(symbol, _)| symbol.as_str())
}

/// The token that `--token` means, by address or symbol: one that the escrow takes. The native coin without it.
pub(crate) async fn token(reader: &MarketReader, text: Option<&str>) -> anyhow::Result<Token> {
    let Some(text) = text else {
        return Ok(Token::Native);
    };
    let known = &reader.deployment().tokens;
    let names = || known.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let token = match known.get(text) {
        Some(address) => Token::Erc20(*address),
        None => text.parse::<Address>().map(Token::from).map_err(|_| {
            let words = format!(
                "--token {text} is neither an address nor a symbol of this deployment ({})",
                names()
            );
            Failure::new(Status::BadInput, words)
        })?,
    };
    let taken = reader.token_terms().await.status(Status::Unreachable)?;
    if taken.iter().any(|it| it.token == token) {
        return Ok(token);
    }
    let words = format!(
        "--token {text} is no token that this escrow takes: give one of {}, or leave it out for the native coin",
        names()
    );
    Err(Failure::new(Status::BadInput, words))
}

/// Text that can be an amount; how many decimals it may have, its token says.
pub(crate) fn decimal(text: &str) -> Result<String, String> {
    match Amount::parse(text, Amount::COIN_DECIMALS) {
        Err(error @ AmountError::NotANumber(_)) => Err(error.to_string()),
        Ok(_) | Err(AmountError::TooPrecise { .. } | AmountError::TooLarge(_)) => Ok(text.to_owned()),
    }
}

/// An address on the command line.
pub(crate) fn address(text: &str) -> Result<Address, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not an address: write 0x and 40 hex digits"))
}

/// An address for a table: its first and last digits.
pub(crate) fn short(address: Address) -> String {
    let text = address.to_string();
    match (text.get(..6), text.get(text.len().saturating_sub(4)..)) {
        (Some(first), Some(last)) => format!("{first}…{last}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_amounts_are_checked_before_any_network() {
        assert!(address("0x12").unwrap_err().contains("40 hex digits"));
        assert!(decimal("-1").unwrap_err().contains("such as 0.1"));
        assert!(decimal("abc").is_err());
        assert_eq!(decimal("0.1").unwrap(), "0.1");
        assert_eq!(short(Address::ZERO), "0x0000…0000");
    }
}
