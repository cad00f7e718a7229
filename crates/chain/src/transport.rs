//! JSON-RPC over HTTP, for what an RPC may do to us: its answers have an end, and its address, which often holds a key, is in
//! no log. In place of alloy's own transport, which reads any answer whole and names the address in its spans.

use std::task::{Context, Poll};

use alloy::rpc::json_rpc::{RequestPacket, ResponsePacket};
use alloy::transports::http::reqwest::{Client, Url};
use alloy::transports::{TransportError, TransportErrorKind, TransportFut};
use tower_service::Service;

/// Most bytes of one answer: more than any node gives to what is asked here, the logs of thousands of blocks included.
pub(crate) const LARGEST_ANSWER: usize = 64 << 20;

/// An answer that does not end where it should.
#[derive(Debug, thiserror::Error)]
#[error("its answer is larger than {} MiB", LARGEST_ANSWER >> 20)]
pub(crate) struct TooLarge;

/// Sends requests to one address.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    client: Client,
    url: Url,
}

impl Transport {
    pub(crate) const fn new(client: Client, url: Url) -> Self {
        Self { client, url }
    }

    async fn ask(self, request: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let asked = self
            .client
            .post(self.url)
            .json(&request)
            .headers(request.headers())
            .send();
        let mut response = asked.await.map_err(TransportErrorKind::custom)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(TransportErrorKind::custom)? {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return Err(TransportError::local_usage(TooLarge));
            }
            body.extend_from_slice(&chunk);
        }
        let answer = serde_json::from_slice::<ResponsePacket>(&body);
        let text = || String::from_utf8_lossy(&body).into_owned();
        match answer {
            Ok(answer) if status.is_success() || answer.is_error() => Ok(answer),
            Err(error) if status.is_success() => Err(TransportError::deser_err(error, text())),
            Ok(_) | Err(_) => Err(TransportErrorKind::http_error(status.as_u16(), text())),
        }
    }
}

impl Service<RequestPacket> for Transport {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        Box::pin(self.clone().ask(request))
    }
}
