//! A local chain for tests and the testnet: starts the program `anvil`, waits until it answers, ends it when dropped.
//! Never used on a real chain.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use alloy::primitives::{B256, Bytes};
use sandrun_types::UnixSeconds;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::connect::{Chain, ConnectError};
use crate::key::{Key, KeyError};

/// Environment variable with the path of the program.
pub const ANVIL_ENV: &str = "SANDRUN_ANVIL";

/// Longest wait for the program to listen.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// The well-known keys of anvil's default mnemonic ("test test … junk"), in its order: worthless elsewhere.
const DEV_KEYS: [&str; 10] = [
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
    "92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
    "4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
    "dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
    "2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
];

/// How blocks come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mining {
    /// One with each transaction.
    #[default]
    Auto,
    /// One every so many seconds.
    Every(u32),
    /// Only when asked for (see [`Chain::dev_mine`]).
    Manual,
}

/// How to start it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnvilOptions {
    /// How blocks come.
    pub mining: Mining,
    /// Chain id.
    pub chain_id: u64,
    /// Port on loopback; 0 for a free one.
    pub port: u16,
    /// Number of funded accounts; their keys come from [`Anvil::key`].
    pub accounts: u32,
    /// Further arguments.
    pub extra: Vec<String>,
}

impl Default for AnvilOptions {
    fn default() -> Self {
        Self {
            mining: Mining::Auto,
            chain_id: 31_337,
            port: 0,
            accounts: 10,
            extra: Vec::new(),
        }
    }
}

/// Why there is no local chain.
#[derive(Debug, thiserror::Error)]
pub enum AnvilError {
    /// The program is nowhere.
    #[error(
        "anvil (the local chain) is not installed: run `tools/setup.sh demo`, or set SANDRUN_ANVIL to the program"
    )]
    NotFound,
    /// It does not start.
    #[error("cannot start {program}: {source}; `tools/setup.sh demo` installs anvil")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It ended before it listened.
    #[error("{program} ended before it listened: {output}")]
    Ended {
        /// The program.
        program: PathBuf,
        /// The end of what it said.
        output: String,
    },
    /// It never listened.
    #[error("{program} did not listen within {} s: {output}", READY_WITHIN.as_secs())]
    NotReady {
        /// The program.
        program: PathBuf,
        /// The end of what it said.
        output: String,
    },
    /// It does not answer as it should.
    #[error("the local chain refused {method}: {detail}")]
    Refused {
        /// The request.
        method: &'static str,
        /// Why.
        detail: String,
    },
}

/// A running local chain; ends when dropped.
#[derive(Debug)]
pub struct Anvil {
    // ends the program when dropped
    child: Child,
    url: String,
    chain_id: u64,
}

impl Anvil {
    /// Starts the program and returns when it listens.
    ///
    /// # Errors
    /// No program, a program that does not start or does not listen.
    pub async fn start(options: &AnvilOptions) -> Result<Self, AnvilError> {
        let program = find().ok_or(AnvilError::NotFound)?;
        let mut command = Command::new(&program);
        command
            .args(arguments(options))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.kill_on_drop(true);
        let mut child = command.spawn().map_err(|source| AnvilError::Start {
            program: program.clone(),
            source,
        })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut said = Vec::new();
        let ready = async {
            let mut lines = BufReader::new(stdout?).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(address) = line.trim().strip_prefix("Listening on ") {
                    drain(lines.into_inner());
                    return Some(address.to_owned());
                }
                said.push(line);
            }
            None
        };
        let Ok(address) = tokio::time::timeout(READY_WITHIN, ready).await else {
            return Err(AnvilError::NotReady {
                program,
                output: last_words(&said),
            });
        };
        let Some(address) = address else {
            let mut errors = BufReader::new(stderr.ok_or(AnvilError::NotFound)?).lines();
            while let Ok(Some(line)) = errors.next_line().await {
                said.push(line);
            }
            return Err(AnvilError::Ended {
                program,
                output: last_words(&said),
            });
        };
        if let Some(stderr) = stderr {
            drain(stderr);
        }
        Ok(Self {
            child,
            url: format!("http://{address}"),
            chain_id: options.chain_id,
        })
    }

    /// Address of its RPC.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its chain id.
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Connects to it.
    ///
    /// # Errors
    /// As [`Chain::connect`].
    pub async fn connect(&self) -> Result<Chain, ConnectError> {
        Chain::connect(&self.url, Some(sandrun_types::ChainId(self.chain_id))).await
    }

    /// Key of its funded account `index`, 0 to 9.
    ///
    /// # Errors
    /// An index above 9.
    pub fn key(index: usize) -> Result<Key, KeyError> {
        let hex = DEV_KEYS.get(index).copied().unwrap_or_default();
        Key::from_hex(hex, &format!("anvil's account {index}"))
    }

    /// Ends it and waits for its end.
    pub async fn stop(mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::debug!(%error, "anvil had ended");
        }
    }
}

/// What only a test chain can do.
impl Chain {
    /// Mines blocks, `seconds` apart.
    ///
    /// # Errors
    /// A chain that is no test chain.
    pub async fn dev_mine(&self, blocks: u64, seconds: u64) -> Result<(), AnvilError> {
        self.dev("anvil_mine", (format!("{blocks:#x}"), format!("{seconds:#x}")))
            .await
    }

    /// Moves the next block's time on by `seconds`.
    ///
    /// # Errors
    /// A chain that is no test chain.
    pub async fn dev_increase_time(&self, seconds: u64) -> Result<(), AnvilError> {
        self.dev("evm_increaseTime", (seconds,)).await
    }

    /// Gives the next block this very time, which is later than the head's.
    ///
    /// # Errors
    /// A chain that is no test chain, a time that is over.
    pub async fn dev_next_block_at(&self, time: UnixSeconds) -> Result<(), AnvilError> {
        self.dev("evm_setNextBlockTimestamp", (time.0,)).await
    }

    /// Replaces the last `depth` blocks by empty ones of the same height.
    ///
    /// # Errors
    /// A chain that is no test chain.
    pub async fn dev_reorg(&self, depth: u64) -> Result<(), AnvilError> {
        self.dev_reorg_with(depth, &[]).await
    }

    /// Replaces the last `depth` blocks by others of the same height, which hold `transactions` (signed, with the
    /// number of the new block, from 0). What is mined next is no older than what was there.
    ///
    /// # Errors
    /// A chain that is no test chain.
    pub async fn dev_reorg_with(&self, depth: u64, transactions: &[(Bytes, u64)]) -> Result<(), AnvilError> {
        let before = self.dev_time().await?;
        self.dev("anvil_reorg", (depth, transactions.to_vec())).await?;
        // anvil sets its clock back to the first block that it took away
        let back = self.dev_time().await?.until(before);
        self.dev_increase_time(back).await
    }

    /// The head's time.
    async fn dev_time(&self) -> Result<UnixSeconds, AnvilError> {
        let head = self.head().await.map_err(|error| AnvilError::Refused {
            method: "eth_getBlockByNumber",
            detail: error.to_string(),
        })?;
        Ok(head.timestamp)
    }

    /// Sets the next block's base fee, wei per gas.
    ///
    /// # Errors
    /// A chain that is no test chain.
    pub async fn dev_base_fee(&self, wei: u64) -> Result<(), AnvilError> {
        self.dev("anvil_setNextBlockBaseFeePerGas", (format!("{wei:#x}"),))
            .await
    }

    /// Takes a waiting transaction out of the pool.
    ///
    /// # Errors
    /// A chain that is no test chain.
    pub async fn dev_drop(&self, hash: crate::TxHash) -> Result<(), AnvilError> {
        self.dev("anvil_dropTransaction", (B256::from(hash.0),)).await
    }

    /// Switches mining with each transaction on or off.
    ///
    /// # Errors
    /// A chain that is no test chain.
    pub async fn dev_automine(&self, on: bool) -> Result<(), AnvilError> {
        self.dev("evm_setAutomine", (on,)).await
    }

    async fn dev<P>(&self, method: &'static str, params: P) -> Result<(), AnvilError>
    where
        P: serde::Serialize + Clone + std::fmt::Debug + Send + Sync + Unpin,
    {
        use alloy::providers::Provider as _;
        let answer: Result<serde_json::Value, _> = self.provider().client().request(method, params).await;
        answer.map(|_| ()).map_err(|error| AnvilError::Refused {
            method,
            detail: error.to_string(),
        })
    }
}

/// The program: named by the environment, else of this workspace's toolchain, else on PATH.
pub fn find() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(ANVIL_ENV) {
        return Some(PathBuf::from(named));
    }
    let toolchain = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.toolchain/bin/anvil");
    let here = PathBuf::from(".toolchain/bin/anvil");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path)
        .map(|it| it.join("anvil"))
        .collect::<Vec<_>>();
    [here, toolchain]
        .into_iter()
        .chain(on_path)
        .find(|it| it.is_file())
}

fn arguments(options: &AnvilOptions) -> Vec<String> {
    let mut arguments = vec![
        "--host".into(),
        "127.0.0.1".into(),
        "--port".into(),
        options.port.to_string(),
        "--chain-id".into(),
        options.chain_id.to_string(),
        "--accounts".into(),
        options.accounts.to_string(),
    ];
    match options.mining {
        Mining::Auto => {}
        Mining::Every(seconds) => arguments.extend(["--block-time".into(), seconds.to_string()]),
        Mining::Manual => arguments.push("--no-mining".into()),
    }
    arguments.extend(options.extra.iter().cloned());
    arguments
}

/// Reads on, so that the program never blocks on a full pipe.
fn drain(mut from: impl AsyncRead + Unpin + Send + 'static) {
    tokio::spawn(async move { tokio::io::copy(&mut from, &mut tokio::io::sink()).await });
}

fn last_words(said: &[String]) -> String {
    let skip = said.len().saturating_sub(5);
    said[skip..].join(" | ")
}
