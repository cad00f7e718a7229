//! The connection to one chain. Owns the client, its timeouts and the checks at the start; never holds a key.
//! HTTP only so far: another transport is another arm in [`Chain::connect_with`], the rest asks the provider alone.

use std::sync::{Arc, Once};
use std::time::Duration;

use alloy::eips::BlockNumberOrTag;
use alloy::network::Ethereum;
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::client::RpcClient;
use alloy::transports::TransportError;
use alloy::transports::http::reqwest;
use sandrun_types::{Address, Amount, ChainId, U256, UnixSeconds};

use crate::meters::ChainMeters;
use crate::position::{BlockHash, BlockRef, Head, TxHash};
use crate::rpc::{Endpoint, RpcError};
use crate::transport::Transport;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is none.
    #[error("`{url}` is not an RPC address ({detail}): write one such as http://127.0.0.1:8545")]
    BadUrl {
        /// What was given, without path and query.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A transport that we don't speak.
    #[error("cannot use `{scheme}` for the blockchain RPC: give an http:// or https:// address")]
    Scheme {
        /// Scheme of the address.
        scheme: String,
    },
    /// The HTTP client could not be built.
    #[error("cannot set up the HTTP client: {0}")]
    Client(#[source] reqwest::Error),
    /// Another chain.
    #[error(
        "the RPC at {endpoint} serves chain {found}, but chain {expected} was asked for: point --blockchain-rpc to a \
         node of chain {expected}, or ask for chain {found}"
    )]
    WrongChain {
        /// Where.
        endpoint: Endpoint,
        /// Its chain.
        found: ChainId,
        /// The chain that was asked for.
        expected: ChainId,
    },
    /// No usable answer.
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

/// How to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Pause between two looks for a new block; `None` for 250 ms on a local chain (id 31337), else 4 s.
    pub poll_interval: Option<Duration>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            poll_interval: None,
        }
    }
}

/// EIP-1559 fees per gas, wei.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Fees {
    /// Most that is paid per gas.
    pub max_fee_per_gas: u128,
    /// Of it, most that goes to the block's producer.
    pub max_priority_fee_per_gas: u128,
}

/// A connection to one chain, cheap to clone.
#[derive(Debug, Clone)]
pub struct Chain {
    provider: DynProvider<Ethereum>,
    id: ChainId,
    endpoint: Endpoint,
    timeout: Duration,
    poll_interval: Duration,
    meters: Arc<ChainMeters>,
}

impl Chain {
    /// Connects by HTTP and checks that a chain answers, and that it is the expected one.
    ///
    /// # Errors
    /// A bad address, no answer, an answer that makes no sense, or another chain.
    pub async fn connect(url: &str, expected: Option<ChainId>) -> Result<Self, ConnectError> {
        Self::connect_with(url, expected, ConnectOptions::default()).await
    }

    /// [`Chain::connect`] with other timeouts.
    ///
    /// # Errors
    /// As [`Chain::connect`].
    pub async fn connect_with(
        url: &str,
        expected: Option<ChainId>,
        options: ConnectOptions,
    ) -> Result<Self, ConnectError> {
        let url = parse(url)?;
        let endpoint = Endpoint::of(&url);
        let client = http_client(&url, options.timeout)?;
        let local = is_loopback(&url);
        let provider = ProviderBuilder::default()
            .connect_client(RpcClient::new(Transport::new(client, url), local))
            .erased();
        let id = provider
            .get_chain_id()
            .await
            .map_err(|error| RpcError::classify(&endpoint, options.timeout, "eth_chainId", error))?;
        let found = ChainId(id);
        if let Some(expected) = expected
            && expected != found
        {
            return Err(ConnectError::WrongChain {
                endpoint,
                found,
                expected,
            });
        }
        let usual = Duration::from_millis(if found == ChainId::LOCAL { 250 } else { 4_000 });
        let poll_interval = options.poll_interval.unwrap_or(usual);
        Ok(Self {
            provider,
            id: found,
            endpoint,
            timeout: options.timeout,
            poll_interval,
            meters: Arc::default(),
        })
    }

    /// The chain.
    pub const fn id(&self) -> ChainId {
        self.id
    }

    /// Where the RPC is, without anything secret.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What this connection and its clones have counted.
    pub fn meters(&self) -> &ChainMeters {
        &self.meters
    }

    /// Pause between two looks for a new block.
    pub const fn poll_interval(&self) -> Duration {
        self.poll_interval
    }

    /// The provider, for what this crate has no word for.
    pub const fn provider(&self) -> &DynProvider<Ethereum> {
        &self.provider
    }

    /// The newest block.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn head(&self) -> Result<Head, RpcError> {
        let head = self.block(BlockNumberOrTag::Latest).await?;
        head.ok_or_else(|| self.missing("newest block"))
    }

    /// The block at this height, `None` when the chain is not that long.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn block_at(&self, number: u64) -> Result<Option<Head>, RpcError> {
        self.block(BlockNumberOrTag::Number(number)).await
    }

    async fn block(&self, tag: BlockNumberOrTag) -> Result<Option<Head>, RpcError> {
        let block = self.provider.get_block_by_number(tag).await;
        let block = block.map_err(|error| self.rpc_error("eth_getBlockByNumber", error))?;
        let head = block.map(|block| head_of(&block));
        if let Some(head) = &head {
            self.meters.saw(head);
        }
        Ok(head)
    }

    /// Native coin of an account.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn balance(&self, of: Address) -> Result<Amount, RpcError> {
        let balance: Result<U256, _> = self.provider.get_balance(of).await;
        balance
            .map(Amount)
            .map_err(|error| self.rpc_error("eth_getBalance", error))
    }

    /// Fees that get a transaction into one of the next blocks.
    ///
    /// # Errors
    /// No usable answer, or a chain without EIP-1559.
    pub async fn fees(&self) -> Result<Fees, RpcError> {
        let fees = self.provider.estimate_eip1559_fees().await;
        let fees = fees.map_err(|error| self.rpc_error("eth_feeHistory", error))?;
        Ok(Fees {
            max_fee_per_gas: fees.max_fee_per_gas,
            max_priority_fee_per_gas: fees.max_priority_fee_per_gas,
        })
    }

    /// Gas that a mined transaction took.
    ///
    /// # Errors
    /// No usable answer, or a transaction that is not mined.
    pub async fn gas_used(&self, transaction: TxHash) -> Result<u64, RpcError> {
        let receipt = self.provider.get_transaction_receipt(transaction.0).await;
        let receipt = receipt.map_err(|error| self.rpc_error("eth_getTransactionReceipt", error))?;
        receipt
            .map(|it| it.gas_used)
            .ok_or_else(|| self.missing("receipt of a mined transaction"))
    }

    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn rpc_error(&self, method: &'static str, error: TransportError) -> RpcError {
        self.counted(RpcError::classify(&self.endpoint, self.timeout, method, error))
    }

    fn counted(&self, error: RpcError) -> RpcError {
        self.meters.failed(&error);
        error
    }

    /// An answer that no node can give.
    pub(crate) fn nonsense(&self, error: &impl std::error::Error) -> RpcError {
        RpcError::Nonsense {
            endpoint: self.endpoint.clone(),
            detail: error.to_string(),
        }
    }

    pub(crate) fn missing(&self, what: &str) -> RpcError {
        self.counted(RpcError::Missing {
            endpoint: self.endpoint.clone(),
            what: what.to_owned(),
        })
    }
}

/// The head that a block is.
pub(crate) fn head_of(block: &alloy::rpc::types::Block) -> Head {
    let header = &block.header;
    Head {
        block: BlockRef {
            number: header.inner.number,
            hash: BlockHash(header.hash),
        },
        timestamp: UnixSeconds(header.inner.timestamp),
        base_fee: header.inner.base_fee_per_gas,
    }
}

fn parse(text: &str) -> Result<reqwest::Url, ConnectError> {
    let url: reqwest::Url = text.trim().parse().map_err(|error| {
        let shown: String = text
            .chars()
            .take_while(|it| *it != '?' && *it != '@')
            .take(40)
            .collect();
        ConnectError::BadUrl {
            url: shown,
            detail: format!("{error}"),
        }
    })?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        scheme => Err(ConnectError::Scheme {
            scheme: scheme.to_owned(),
        }),
    }
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
}

fn http_client(url: &reqwest::Url, timeout: Duration) -> Result<reqwest::Client, ConnectError> {
    install_tls();
    let builder = reqwest::Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout.min(Duration::from_secs(5)));
    // a proxy for the outside world does not lead to our own machine
    let builder = if is_loopback(url) {
        builder.no_proxy()
    } else {
        builder
    };
    builder.build().map_err(ConnectError::Client)
}

/// rustls asks for one process-wide provider; ring is ours. A provider that somebody installed before stays.
fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if rustls::crypto::ring::default_provider()
            .install_default()
            .is_err()
        {
            tracing::debug!("another TLS provider is installed already");
        }
    });
}
