//! What can go wrong between us and a JSON-RPC endpoint, in words that say what to do. Owns the classification of
//! transport errors; never retries.

use std::fmt;
use std::time::Duration;

use alloy::contract::Error as ContractError;
use alloy::transports::http::reqwest;
use alloy::transports::{RpcError as AlloyError, TransportError, TransportErrorKind};

use crate::revert::Revert;
use crate::transport::{LARGEST_ANSWER, TooLarge};

/// Where the RPC is, safe to print: scheme, host and port. Paths and queries often hold an API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    pub(crate) fn of(url: &reqwest::Url) -> Self {
        let host = url.host_str().unwrap_or("?");
        Self(match url.port() {
            Some(port) => format!("{}://{host}:{port}", url.scheme()),
            None => format!("{}://{host}", url.scheme()),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request to the RPC that got no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// No connection.
    #[error(
        "cannot reach the blockchain RPC at {endpoint}: {detail}; check that the node runs there and that \
         --blockchain-rpc (SANDRUN_RPC) is right"
    )]
    Unreachable {
        /// Where.
        endpoint: Endpoint,
        /// What the network said.
        detail: String,
    },
    /// Connected, but no answer in time.
    #[error("the blockchain RPC at {endpoint} did not answer within {} s; it may be overloaded, try again or use another", .after.as_secs_f32())]
    Timeout {
        /// Where.
        endpoint: Endpoint,
        /// How long we waited.
        after: Duration,
    },
    /// Too many requests.
    #[error("the blockchain RPC at {endpoint} limits our requests (HTTP 429); use one with a higher limit")]
    RateLimited {
        /// Where.
        endpoint: Endpoint,
    },
    /// Another HTTP status.
    #[error(
        "the blockchain RPC at {endpoint} answered with HTTP status {status}; check the address and its key"
    )]
    Status {
        /// Where.
        endpoint: Endpoint,
        /// HTTP status.
        status: u16,
    },
    /// An answer that is no JSON-RPC answer.
    #[error(
        "{endpoint} does not speak Ethereum JSON-RPC: {detail}; check that --blockchain-rpc is the address of a node"
    )]
    Nonsense {
        /// Where.
        endpoint: Endpoint,
        /// What was wrong with it.
        detail: String,
    },
    /// An answer without an end.
    #[error("what {endpoint} answered to {method} is larger than {} MiB; check that --blockchain-rpc is the address of a node", LARGEST_ANSWER >> 20)]
    TooLarge {
        /// Where.
        endpoint: Endpoint,
        /// The request.
        method: &'static str,
    },
    /// The node refused the request.
    #[error("the blockchain RPC at {endpoint} refused {method}: {message} (code {code})")]
    Refused {
        /// Where.
        endpoint: Endpoint,
        /// The request.
        method: &'static str,
        /// JSON-RPC error code.
        code: i64,
        /// The node's words.
        message: String,
    },
    /// The node has not got what was asked for.
    #[error("the blockchain RPC at {endpoint} has no {what}; it may be behind, try again")]
    Missing {
        /// Where.
        endpoint: Endpoint,
        /// What was asked for.
        what: String,
    },
}

impl RpcError {
    /// Whether the same request may work a moment later.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::RateLimited { .. }
            | Self::Missing { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            Self::Nonsense { .. } | Self::TooLarge { .. } | Self::Refused { .. } => false,
        }
    }

    /// Says in our words what alloy says in its own.
    pub(crate) fn classify(
        endpoint: &Endpoint,
        timeout: Duration,
        method: &'static str,
        error: TransportError,
    ) -> Self {
        let endpoint = endpoint.clone();
        match error {
            AlloyError::ErrorResp(payload) => Self::Refused {
                endpoint,
                method,
                code: payload.code,
                message: payload.message.into_owned(),
            },
            AlloyError::NullResp => Self::Missing {
                endpoint,
                what: format!("answer to {method}"),
            },
            AlloyError::UnsupportedFeature(what) => Self::Nonsense {
                endpoint,
                detail: what.to_owned(),
            },
            AlloyError::LocalUsageError(source) if source.is::<TooLarge>() => {
                Self::TooLarge { endpoint, method }
            }
            AlloyError::LocalUsageError(source) => Self::Nonsense {
                endpoint,
                detail: source.to_string(),
            },
            AlloyError::SerError(source) => Self::Nonsense {
                endpoint,
                detail: source.to_string(),
            },
            AlloyError::DeserError { err, text } => {
                let start: String = text.chars().take(60).collect();
                Self::Nonsense {
                    endpoint,
                    detail: format!("{method} was answered with `{start}` ({err})"),
                }
            }
            AlloyError::Transport(kind) => Self::of_transport(endpoint, timeout, kind),
        }
    }

    fn of_transport(endpoint: Endpoint, timeout: Duration, kind: TransportErrorKind) -> Self {
        if let Some(http) = kind.as_http_error() {
            let status = http.status;
            return if status == 429 {
                Self::RateLimited { endpoint }
            } else {
                Self::Status { endpoint, status }
            };
        }
        if let TransportErrorKind::Custom(source) = &kind
            && let Some(http) = source.downcast_ref::<reqwest::Error>()
        {
            if http.is_timeout() {
                return Self::Timeout {
                    endpoint,
                    after: timeout,
                };
            }
            return Self::Unreachable {
                endpoint,
                detail: root_cause(http),
            };
        }
        Self::Unreachable {
            endpoint,
            detail: kind.to_string(),
        }
    }
}

/// The innermost words of an error chain: reqwest's outer ones repeat the URL, which may hold a key.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// A read of the contracts that failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No usable answer.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The contract refused.
    #[error("{call} was refused: {revert}")]
    Reverted {
        /// What was called.
        call: &'static str,
        /// Why.
        revert: Revert,
    },
    /// What stands at the address is not the contract that was expected.
    #[error(
        "{call}: the contract did not answer as ours does ({detail}); check the deployment of this chain"
    )]
    WrongContract {
        /// What was called.
        call: &'static str,
        /// What was wrong.
        detail: String,
    },
}

impl ReadError {
    pub(crate) fn classify(
        endpoint: &Endpoint,
        timeout: Duration,
        call: &'static str,
        error: ContractError,
    ) -> Self {
        if let Some(data) = error.as_revert_data() {
            return Self::Reverted {
                call,
                revert: Revert::decode(&data),
            };
        }
        if let ContractError::TransportError(source) = error {
            return Self::Rpc(RpcError::classify(endpoint, timeout, call, source));
        }
        Self::WrongContract {
            call,
            detail: error.to_string(),
        }
    }
}
