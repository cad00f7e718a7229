//! Key files, and the accounts that they are of.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sandrun_chain::{Chain, Key, MarketReader, Password};
use sandrun_types::{Address, Amount, U256};

use super::chain::Reached;
use super::{Arguments, Finding, Findings};
use crate::exit::words;

/// Gas of claim, commit and reveal together, rounded up.
const GAS_PER_SEAT: u64 = 400_000;

/// A key file and what it is for.
#[derive(Debug, Clone)]
pub(super) struct KeyFile {
    what: &'static str,
    path: PathBuf,
    /// Whether it is of an account on the chain.
    is_account: bool,
}

/// The key files that are configured.
pub(super) fn of(arguments: &Arguments) -> Vec<KeyFile> {
    let named = [
        ("key", &arguments.key, true),
        ("hot key", &arguments.hot_key, true),
        ("worker key", &arguments.worker_key, false),
    ];
    let file = |(what, path, is_account): (&'static str, &Option<PathBuf>, bool)| {
        let path = path.clone()?;
        Some(KeyFile {
            what,
            path,
            is_account,
        })
    };
    named.into_iter().filter_map(file).collect()
}

/// An account that a key file is of, and what the file is for.
pub(super) type Account = (&'static str, Address);

/// Looks at the files; says which accounts they are of.
pub(super) async fn files(arguments: &Arguments, files: Vec<KeyFile>) -> (Findings, Vec<Account>) {
    let mut found = Vec::new();
    let mut accounts = Vec::new();
    for file in files {
        let password = arguments.password.password_file.clone().map(Password::File);
        // opening a keystore takes a while
        let opened = tokio::task::spawn_blocking(move || open(&file, password.as_ref()));
        if let Ok((finding, account)) = opened.await {
            found.push(finding);
            accounts.extend(account);
        }
    }
    (found, accounts)
}

/// Looks at the accounts on the chain, as far as that can be used.
pub(super) async fn on_chain(accounts: Vec<Account>, reached: &Reached) -> Findings {
    let mut found = Vec::new();
    for (what, account) in accounts {
        let Some(chain) = &reached.chain else {
            let why = "the chain can't be used";
            found.push(Finding::skip(coin_of(what), why));
            continue;
        };
        found.push(coin(chain, what, account).await);
        match &reached.market {
            _ if what != "key" => {}
            Some(reader) => found.extend(stake(reader, account).await),
            None => found.push(Finding::skip("stake", "the contracts can't be used")),
        }
    }
    found
}

fn open(file: &KeyFile, password: Option<&Password>) -> (Finding, Option<Account>) {
    let KeyFile {
        what,
        path,
        is_account,
    } = file;
    let mode = match std::fs::metadata(path) {
        Ok(about) => about.permissions().mode() & 0o777,
        Err(error) => {
            let make = if *is_account {
                "sandrun-pool keys new FILE makes one"
            } else {
                "sandrun-pool sandrun --generate-key FILE makes one"
            };
            let seen = format!("{}: {error}", path.display());
            return (
                Finding::fail(*what, seen, format!("name the right file; {make}")),
                None,
            );
        }
    };
    if mode & 0o077 != 0 {
        let seen = format!("{} has mode {mode:04o}: others can read it", path.display());
        let todo = format!(
            "chmod 600 {}; if others were on this machine, use a new key",
            path.display()
        );
        return (Finding::fail(*what, seen, todo), None);
    }
    if !is_account {
        return (executors(what, path, mode), None);
    }
    match Key::load(path, password) {
        Ok(key) => {
            let address = key.address();
            let seen = format!("{} is of {address}, mode {mode:04o}", path.display());
            (Finding::ok(*what, seen), Some((*what, address)))
        }
        Err(error) => {
            let todo = "name a key file; a keystore needs --password-file or SANDRUN_KEY_PASSWORD";
            (Finding::fail(*what, words(&error.into()), todo), None)
        }
    }
}

fn executors(what: &str, path: &Path, mode: u32) -> Finding {
    match sandrun_executor::worker_key::load(path) {
        Ok(key) => Finding::ok(
            what,
            format!(
                "{} is of worker {}, mode {mode:04o}",
                path.display(),
                key.worker_id()
            ),
        ),
        Err(error) => Finding::fail(
            what,
            words(&error.into()),
            "sandrun-pool sandrun --generate-key FILE makes one",
        ),
    }
}

/// What the finding about an account's coin is called.
fn coin_of(what: &str) -> String {
    format!("{what}, coin")
}

/// Coin for gas.
async fn coin(chain: &Chain, what: &str, account: Address) -> Finding {
    let what = coin_of(what);
    let (balance, fees) = tokio::join!(chain.balance(account), chain.fees());
    let balance = match balance {
        Ok(balance) => balance,
        Err(error) => return Finding::fail(what, error.to_string(), "use another RPC"),
    };
    let price = fees.map_or(0, |fees| fees.max_fee_per_gas);
    let seat = Amount(U256::from(GAS_PER_SEAT).saturating_mul(U256::from(price)));
    let seen = format!("{account} has {balance} coin; the gas of a job is about {seat}");
    let todo = format!("send coin to {account}");
    if balance.is_zero() {
        Finding::fail(what, seen, todo)
    } else if balance.0 < seat.0.saturating_mul(U256::from(10)) {
        Finding::warn(what, seen, todo)
    } else {
        Finding::ok(what, seen)
    }
}

/// The stake of a node, where the account has one.
async fn stake(reader: &MarketReader, account: Address) -> Option<Finding> {
    let what = "stake";
    let index = match reader.node_by_account(account).await {
        Ok(index) => index?,
        // said by the check of the contracts
        Err(_) => return None,
    };
    let record = match reader.node(index).await {
        Ok(record) => record?,
        Err(error) => return Some(Finding::fail(what, error.to_string(), "use another RPC")),
    };
    let (cap, locked) = (record.escrow.cap, record.escrow.locked);
    let free = Amount(cap.0.saturating_sub(locked.0));
    let seen = format!("node {index} has {cap} at the escrow, of it {free} free and {locked} in bonds");
    Some(if cap.is_zero() {
        Finding::warn(what, seen, "start the agent with --stake COINS: it opts in")
    } else if free.is_zero() {
        Finding::warn(what, seen, "no seat can be taken until a bond is back; add stake")
    } else {
        Finding::ok(what, seen)
    })
}
