//! Any Kubo RPC as a content store: a Kubo node, or the embedded store of another process.
//!
//! Owns the patience (a service that goes silent is an error) and the distrust: blocks are fetched with `block/get` and
//! checked here, and what `block/put` acknowledges must be the CID that was computed here. Trees are packed on this
//! side, so that one tree has one id whatever service stores it.

mod address;
mod failure;

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::io::Cursor;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use cid::Cid;
use futures::TryStreamExt;
use futures::stream::FuturesUnordered;
use ipfs_api_backend_hyper::request::BlockPut;
use ipfs_api_backend_hyper::{BackendWithGlobalOptions, GlobalOptions, IpfsApi, IpfsClient};
use tokio::time::timeout;

use crate::block::{Block, BlockError, MAX_BLOCK_BYTES, supported};
use crate::error::ContentError;
use crate::id::{ContentId, RAW_CODEC};
use crate::store::{BlockStream, ContentStore, StoreHealth};

use failure::Failures;

/// Longest wait for a word about the service's health.
const HEALTH: Duration = Duration::from_secs(8);

/// How to talk to a content service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KuboConfig {
    /// The service: `http://host:port`, `host:port`, or a multiaddr such as `/ip4/127.0.0.1/tcp/5001`.
    pub api: String,
    /// The longest time without a byte, per request.
    pub stall: Duration,
    /// The longest time that pinning may take: a node checks the whole tree before it answers.
    pub pin: Duration,
    /// Blocks that are sent at once.
    pub uploads: usize,
}

impl KuboConfig {
    /// The service at `api` with 30 s of patience, 5 min for a pin, 8 uploads at once.
    #[must_use]
    pub fn new(api: impl Into<String>) -> Self {
        Self {
            api: api.into(),
            stall: Duration::from_secs(30),
            pin: Duration::from_secs(300),
            uploads: 8,
        }
    }
}

/// A content store behind a Kubo RPC. Cheap to clone; holds no connection open.
#[derive(Clone)]
pub struct KuboClient {
    client: IpfsClient,
    api: String,
    config: KuboConfig,
}

impl fmt::Debug for KuboClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KuboClient")
            .field("api", &self.api)
            .finish_non_exhaustive()
    }
}

impl KuboClient {
    /// A client of the service at `api`, with the default patience. Connects to nothing yet.
    ///
    /// # Errors
    /// [`ContentError::Address`] where `api` is no address.
    pub fn new(api: &str) -> Result<Self, ContentError> {
        Self::with(KuboConfig::new(api))
    }

    /// A client as configured. Connects to nothing yet.
    ///
    /// # Errors
    /// [`ContentError::Address`] where the address is none.
    pub fn with(config: KuboConfig) -> Result<Self, ContentError> {
        let (client, api) = address::client(&config.api)?;
        Ok(Self { client, api, config })
    }

    /// The service's address.
    #[must_use]
    pub fn api(&self) -> &str {
        &self.api
    }

    fn failures(&self, request: impl Into<String>) -> Failures<'_> {
        Failures::new(&self.api, request.into())
    }

    /// Runs one request with its patience.
    async fn ask<T>(
        &self,
        request: &Failures<'_>,
        patience: Duration,
        answer: impl Future<Output = Result<T, ipfs_api_backend_hyper::Error>> + Send,
    ) -> Result<T, ContentError> {
        match timeout(patience, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(request.failed(error)),
            Err(_) => Err(request.stalled(patience)),
        }
    }

    /// The bytes of a block, unchecked but not more than a block may have.
    async fn raw_block(&self, cid: &Cid) -> Result<Bytes, ContentError> {
        let request = self.failures(format!("send block {cid}")).about(*cid);
        let text = cid.to_string();
        let mut chunks = self.client.block_get(&text);
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.ask(&request, self.config.stall, chunks.try_next()).await? {
            if bytes.len() + chunk.len() > MAX_BLOCK_BYTES {
                return Err(BlockError::TooLarge { cid: *cid }.into());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    async fn send_block(&self, block: Block) -> Result<(), ContentError> {
        let cid = block.cid();
        let request = self.failures(format!("store block {cid}"));
        let options = BlockPut {
            // the old option: the crate knows no `cid-codec`, and Kubo reads both
            format: Some(if cid.codec() == RAW_CODEC { "raw" } else { "dag-pb" }),
            mhtype: Some("sha2-256"),
            mhlen: Some(32),
            pin: Some(false),
        };
        let sent = self
            .client
            .block_put_with_options(Cursor::new(block.into_bytes()), options);
        let stored = self.ask(&request, self.config.stall, sent).await?;
        if stored.key.parse::<Cid>().is_ok_and(|key| key == cid) {
            return Ok(());
        }
        Err(request.refused(format!("it was stored as {}", stored.key)))
    }
}

#[async_trait]
impl ContentStore for KuboClient {
    async fn get_block(&self, cid: &Cid) -> Result<Block, ContentError> {
        supported(cid)?;
        let bytes = self.raw_block(cid).await?;
        Ok(Block::checked(*cid, bytes)?)
    }

    async fn put_blocks(&self, mut blocks: BlockStream<'_>) -> Result<u64, ContentError> {
        // a file of many equal chunks is sent once
        let mut seen = HashSet::new();
        let mut count = 0;
        let mut uploads = FuturesUnordered::new();
        let mut last = None;
        while let Some(block) = blocks.try_next().await? {
            count += 1;
            if !seen.insert(block.cid()) {
                continue;
            }
            if let Some(previous) = last.replace(block) {
                uploads.push(self.send_block(previous));
            }
            if uploads.len() >= self.config.uploads.max(1) {
                uploads.try_next().await?;
            }
        }
        while uploads.try_next().await?.is_some() {}
        // the root goes alone and last: where it is, the whole tree is
        match last {
            Some(root) => self.send_block(root).await.map(|()| count),
            None => Ok(count),
        }
    }

    async fn has(&self, id: ContentId) -> Result<bool, ContentError> {
        let cid = id.to_cid();
        let request = self.failures(format!("look for {cid}")).about(cid);
        let options = GlobalOptions {
            offline: Some(true),
            timeout: None,
        };
        let offline = BackendWithGlobalOptions::new(self.client.clone(), options);
        let text = cid.to_string();
        match self
            .ask(&request, self.config.stall, offline.block_stat(&text))
            .await
        {
            Ok(_) => Ok(true),
            Err(ContentError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn pin(&self, id: ContentId) -> Result<(), ContentError> {
        let cid = id.to_cid();
        let request = self.failures(format!("pin {cid}")).about(cid);
        let text = cid.to_string();
        self.ask(&request, self.config.pin, self.client.pin_add(&text, true))
            .await
            .map(drop)
    }

    async fn unpin(&self, id: ContentId) -> Result<(), ContentError> {
        let cid = id.to_cid();
        let request = self.failures(format!("unpin {cid}"));
        let text = cid.to_string();
        match self
            .ask(&request, self.config.pin, self.client.pin_rm(&text, true))
            .await
        {
            Ok(_) => Ok(()),
            Err(ContentError::Refused { message, .. }) if message.contains("not pinned") => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn is_pinned(&self, id: ContentId) -> Result<bool, ContentError> {
        let cid = id.to_cid();
        let request = self.failures(format!("say whether {cid} is pinned"));
        let text = cid.to_string();
        let asked = self.client.pin_ls(Some(&text), Some("recursive"));
        match self.ask(&request, self.config.stall, asked).await {
            Ok(_) => Ok(true),
            Err(ContentError::Refused { message, .. }) if message.contains("not pinned") => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn health(&self) -> Result<StoreHealth, ContentError> {
        let request = self.failures("say its version");
        let answer = self
            .ask(&request, self.config.stall.min(HEALTH), self.client.version())
            .await?;
        Ok(StoreHealth {
            place: self.api.clone(),
            version: answer.version,
        })
    }
}

#[cfg(test)]
mod tests;
