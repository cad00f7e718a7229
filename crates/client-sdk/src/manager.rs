//! The client of a manager's HTTP queries. Owns the check that a manager serves the market that is meant and keeps up
//! with its chain. A manager is a convenience: whoever gets an error that [is silence](ManagerClientError::is_silence)
//! reads the chain instead. Never believes a manager where money depends on the answer.

use std::time::Duration;

use reqwest::{StatusCode, Url};
use sandrun_chain::Head;
use sandrun_types::{EscrowRef, JobId};
use serde::de::DeserializeOwned;

use crate::JobEntry;
use crate::views::{ErrorView, JobView, JobsQuery, JobsView, NodeEntry, NodesView, StatusView, job_path};

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest answer that is read, bytes: the largest list of jobs stays well below.
const MAX_ANSWER: usize = 32 << 20;
/// Blocks that a manager may be behind its chain.
const MAX_LAG: u64 = 10;

/// Why a manager did not help.
#[derive(Debug, thiserror::Error)]
pub enum ManagerClientError {
    /// The address is none.
    #[error("`{url}` is not a manager's address ({detail}): write one such as http://127.0.0.1:9545")]
    BadUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The HTTP client could not be built.
    #[error("cannot set up the HTTP client: {0}")]
    Client(#[source] reqwest::Error),
    /// No answer.
    #[error("the manager at {url} does not answer ({detail})")]
    Unreachable {
        /// Where.
        url: String,
        /// What the network said.
        detail: String,
    },
    /// It failed, or has not read the chain yet.
    #[error("the manager at {url} can't say: {detail}")]
    Failed {
        /// Where.
        url: String,
        /// Its words.
        detail: String,
    },
    /// It has not kept up.
    #[error("the manager at {url} is {blocks} blocks behind the chain")]
    Behind {
        /// Where.
        url: String,
        /// How far.
        blocks: u64,
    },
    /// It serves another market.
    #[error(
        "the manager at {url} serves escrow {theirs}, not {ours}: correct --pool (SANDRUN_POOL), or leave it out",
        theirs = of(theirs), ours = of(ours)
    )]
    OtherMarket {
        /// Where.
        url: String,
        /// Its market.
        theirs: EscrowRef,
        /// The market that is meant.
        ours: EscrowRef,
    },
    /// No manager's answer.
    #[error(
        "what answers at {url} is no manager of this version ({detail}): correct --pool (SANDRUN_POOL), or leave it out"
    )]
    Nonsense {
        /// Where.
        url: String,
        /// What was wrong with the answer.
        detail: String,
    },
}

fn of(market: &EscrowRef) -> String {
    format!("{} on chain {}", market.escrow, market.chain)
}

impl ManagerClientError {
    /// Whether there was no answer, so that the chain may be asked instead; otherwise the address is wrong.
    pub const fn is_silence(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Failed { .. } | Self::Behind { .. } => true,
            Self::BadUrl { .. } | Self::Client(_) | Self::OtherMarket { .. } | Self::Nonsense { .. } => false,
        }
    }
}

/// A manager that serves the market that is meant.
#[derive(Debug, Clone)]
pub struct ManagerClient {
    http: reqwest::Client,
    base: Url,
    /// As it is shown, without anything secret.
    url: String,
}

impl ManagerClient {
    /// Connects to the manager at `url`, and checks that it serves the market `at` and is not far behind `head`.
    ///
    /// # Errors
    /// [`ManagerClientError`].
    pub async fn connect(url: &str, at: EscrowRef, head: &Head) -> Result<Self, ManagerClientError> {
        let client = Self::new(url)?;
        let status = client.status().await?;
        let theirs = EscrowRef {
            chain: status.chain,
            escrow: status.escrow,
        };
        if theirs != at {
            return Err(ManagerClientError::OtherMarket {
                url: client.url,
                theirs,
                ours: at,
            });
        }
        let Some(read) = status.head else {
            let detail = "it has not read the chain yet".to_owned();
            return Err(ManagerClientError::Failed {
                url: client.url,
                detail,
            });
        };
        let blocks = head.block.number.saturating_sub(read.block.number);
        if blocks > MAX_LAG {
            return Err(ManagerClientError::Behind {
                url: client.url,
                blocks,
            });
        }
        Ok(client)
    }

    fn new(url: &str) -> Result<Self, ManagerClientError> {
        let bad = |detail: String| ManagerClientError::BadUrl {
            url: url.chars().take_while(|it| *it != '?' && *it != '@').collect(),
            detail,
        };
        let mut base: Url = url.trim().parse().map_err(|error| bad(format!("{error}")))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(bad("it does not begin with http:// or https://".to_owned()));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        // a provider that the process has chosen before stays
        let _ = rustls::crypto::ring::default_provider().install_default();
        let host = base.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let is_loopback =
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback());
        let builder = reqwest::Client::builder().timeout(ANSWER);
        // a proxy for the outside world does not lead to our own machine
        let builder = if is_loopback { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(ManagerClientError::Client)?;
        Ok(Self {
            http,
            url: base.origin().ascii_serialization(),
            base,
        })
    }

    /// The market as a whole.
    ///
    /// # Errors
    /// [`ManagerClientError`].
    pub async fn status(&self) -> Result<StatusView, ManagerClientError> {
        let found = self.get("v1/status", &()).await?;
        found.ok_or_else(|| self.nonsense("it knows no /v1/status"))
    }

    /// Jobs, newest first, and how many were ever posted.
    ///
    /// # Errors
    /// [`ManagerClientError`].
    pub async fn jobs(&self, query: &JobsQuery) -> Result<JobsView, ManagerClientError> {
        let found = self.get("v1/jobs", query).await?;
        found.ok_or_else(|| self.nonsense("it knows no /v1/jobs"))
    }

    /// One job; `None` when the manager has none of this id.
    ///
    /// # Errors
    /// [`ManagerClientError`].
    pub async fn job(&self, job: JobId) -> Result<Option<JobEntry>, ManagerClientError> {
        let found: Option<JobView> = self.get(&job_path(job), &()).await?;
        Ok(found.map(|view| view.job))
    }

    /// The nodes, by index.
    ///
    /// # Errors
    /// [`ManagerClientError`].
    pub async fn nodes(&self) -> Result<Vec<NodeEntry>, ManagerClientError> {
        let found: Option<NodesView> = self.get("v1/nodes", &()).await?;
        Ok(found.ok_or_else(|| self.nonsense("it knows no /v1/nodes"))?.nodes)
    }

    /// An answer; `None` for 404.
    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl serde::Serialize,
    ) -> Result<Option<T>, ManagerClientError> {
        let url = self
            .base
            .join(path)
            .map_err(|error| self.nonsense(&error.to_string()))?;
        let answer = self.http.get(url).query(query).send().await;
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.unreachable(&error))? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(self.nonsense("its answer does not end"));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| self.nonsense(&error.to_string()));
        }
        let refusal: Option<ErrorView> = serde_json::from_slice(&bytes).ok();
        match refusal {
            Some(_) if status == StatusCode::NOT_FOUND => Ok(None),
            Some(refusal) => Err(ManagerClientError::Failed {
                url: self.url.clone(),
                detail: refusal.error,
            }),
            None if status.is_server_error() => Err(ManagerClientError::Failed {
                url: self.url.clone(),
                detail: format!("HTTP status {status}"),
            }),
            None => Err(self.nonsense(&format!("HTTP status {status}"))),
        }
    }

    fn nonsense(&self, detail: &str) -> ManagerClientError {
        ManagerClientError::Nonsense {
            url: self.url.clone(),
            detail: detail.to_owned(),
        }
    }

    /// The innermost words: reqwest's outer ones repeat the address, which may hold a password.
    fn unreachable(&self, error: &reqwest::Error) -> ManagerClientError {
        let mut innermost: &dyn std::error::Error = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        ManagerClientError::Unreachable {
            url: self.url.clone(),
            detail: innermost.to_string(),
        }
    }
}
