//! The client of any broker: requests, their limits in time and size, and the words of each refusal. Never retries.

use std::path::Path;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, Url};
use sandrun_executor::without_credentials;
use sandrun_types::Sha256Hex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use super::error::{BrokerError, BrokerNodeError};
use super::wire::{
    Claim, Claimed, Completion, CompletionAnswer, CompletionAnswers, Completions, FailedAttempt, FileRef,
    Heartbeat, Held, LogUpdate, NodeId, Registered, Registration, Wishes,
};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for an answer that no file is in.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest wait between two pieces of an answer.
const PIECE: Duration = Duration::from_secs(60);
/// Longest wait for a file to be sent or fetched.
const FILE: Duration = Duration::from_secs(900);
/// Longest JSON answer in bytes: as many jobs as a node takes, each with its code.
const MAX_JSON: u64 = 256 << 20;
/// Longest error sentence that is kept, in characters.
const MAX_WORDS: usize = 500;

/// Talks to one broker. Clones share its connections.
#[derive(Debug, Clone)]
pub(crate) struct BrokerClient {
    http: reqwest::Client,
    base: Url,
}

impl BrokerClient {
    /// A client of the broker at `url`. Connects to nothing yet.
    pub(crate) fn new(url: &str) -> Result<Self, BrokerNodeError> {
        let bad = |why: String| BrokerNodeError::BrokerAddress {
            url: without_credentials(url),
            why,
        };
        let mut base = Url::parse(url).map_err(|error| bad(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(bad("it does not begin with http:// or https://".to_owned()));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        // the process may have chosen a provider before: then that one stays
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(PIECE)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(BrokerNodeError::Setup)?;
        Ok(Self { http, base })
    }

    fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        self.http.request(method, url)
    }

    /// A call about one attempt.
    fn work(&self, method: Method, held: &Held, segments: &[&str]) -> RequestBuilder {
        let attempt = held.attempt.map_or(0, |attempt| attempt.0).to_string();
        let all: Vec<&str> = ["v1", "work", &held.id.0, &attempt]
            .into_iter()
            .chain(segments.iter().copied())
            .collect();
        self.request(method, &all)
    }

    async fn send(request: RequestBuilder) -> Result<Response, BrokerError> {
        let response = request.send().await.map_err(BrokerError::Unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = bounded(response, 64 << 10).await.unwrap_or_default();
        Err(BrokerError::Status {
            status: status.as_u16(),
            words: words(&body, status.as_str()),
        })
    }

    async fn json<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, BrokerError> {
        let body = bounded(Self::send(request).await?, MAX_JSON).await?;
        serde_json::from_slice(&body).map_err(BrokerError::NotUnderstood)
    }

    fn post<B: Serialize + ?Sized>(&self, segments: &[&str], body: &B) -> RequestBuilder {
        self.request(Method::POST, segments).timeout(ANSWER).json(body)
    }

    /// `POST /register`.
    pub(crate) async fn register(&self, registration: &Registration<'_>) -> Result<NodeId, BrokerError> {
        let registered: Registered = Self::json(self.post(&["register"], registration)).await?;
        Ok(registered.node_id)
    }

    /// `POST /heartbeat`.
    pub(crate) async fn heartbeat(&self, heartbeat: &Heartbeat<'_>) -> Result<Wishes, BrokerError> {
        Self::json(self.post(&["heartbeat"], heartbeat)).await
    }

    /// `POST /claim?wait=`: the broker may take so long where it has no job.
    pub(crate) async fn claim(&self, claim: &Claim<'_>, wait: Duration) -> Result<Claimed, BrokerError> {
        let request = self
            .post(&["claim"], claim)
            .query(&[("wait", wait.as_secs())])
            .timeout(wait + ANSWER);
        let body = bounded(Self::send(request).await?, MAX_JSON).await?;
        Claimed::read(&body).map_err(BrokerError::NotUnderstood)
    }

    /// `POST /complete`.
    pub(crate) async fn complete(&self, completion: &Completion) -> Result<(), BrokerError> {
        Self::send(self.post(&["complete"], completion)).await.map(drop)
    }

    /// `POST /v1/work/complete`: what became of each, in their order.
    pub(crate) async fn complete_all(
        &self,
        completions: &[Completion],
    ) -> Result<Vec<Result<(), BrokerError>>, BrokerError> {
        let request = self.post(&["v1", "work", "complete"], &Completions { completions });
        let answers: CompletionAnswers = Self::json(request).await?;
        let read = |it: CompletionAnswer| match it.status {
            200 => Ok(()),
            status => Err(BrokerError::Status {
                status,
                words: it.error.chars().take(MAX_WORDS).collect(),
            }),
        };
        Ok(answers.results.into_iter().map(read).collect())
    }

    /// `POST /v1/work/{id}/{attempt}/fail`.
    pub(crate) async fn fail(&self, held: &Held, failed: &FailedAttempt<'_>) -> Result<(), BrokerError> {
        let request = self.work(Method::POST, held, &["fail"]).timeout(ANSWER);
        Self::send(request.json(failed)).await.map(drop)
    }

    /// `POST /v1/work/{id}/{attempt}/logs`.
    pub(crate) async fn logs(&self, held: &Held, update: &LogUpdate<'_>) -> Result<(), BrokerError> {
        let request = self.work(Method::POST, held, &["logs"]).timeout(CONNECT);
        Self::send(request.json(update)).await.map(drop)
    }

    /// `GET /v1/work/{id}/{attempt}/files/{sha256}`: writes the file to the new file `to` and checks what it is.
    pub(crate) async fn fetch(
        &self,
        held: &Held,
        node_id: &NodeId,
        file: &FileRef,
        to: &Path,
    ) -> Result<(), BrokerError> {
        let request = self
            .work(Method::GET, held, &["files", &file.sha256.to_string()])
            .query(&[("node_id", &node_id.0)])
            .timeout(FILE);
        let mut response = Self::send(request).await?;
        let local = |source| BrokerError::LocalFile {
            path: to.to_owned(),
            source,
        };
        let mut target = tokio::fs::File::create_new(to).await.map_err(local)?;
        let (mut hasher, mut length) = (Sha256::new(), 0);
        while let Some(piece) = response.chunk().await.map_err(BrokerError::Unreachable)? {
            length += piece.len() as u64;
            if length > file.size {
                return Err(BrokerError::OtherFile(file.path.to_string()));
            }
            hasher.update(&piece);
            target.write_all(&piece).await.map_err(local)?;
        }
        target.flush().await.map_err(local)?;
        if length != file.size || Sha256Hex(hasher.finalize().into()) != file.sha256 {
            return Err(BrokerError::OtherFile(file.path.to_string()));
        }
        Ok(())
    }

    /// `PUT /v1/work/{id}/{attempt}/outputs/{path}`.
    pub(crate) async fn upload(
        &self,
        held: &Held,
        node_id: &NodeId,
        file: &FileRef,
        from: &Path,
    ) -> Result<(), BrokerError> {
        let local = |source| BrokerError::LocalFile {
            path: from.to_owned(),
            source,
        };
        let source = tokio::fs::File::open(from).await.map_err(local)?;
        let segments: Vec<&str> = std::iter::once("outputs")
            .chain(file.path.as_str().split('/'))
            .collect();
        let request = self
            .work(Method::PUT, held, &segments)
            .query(&[("node_id", &node_id.0)])
            .header(reqwest::header::CONTENT_LENGTH, file.size)
            .timeout(FILE)
            .body(reqwest::Body::wrap_stream(tokio_util::io::ReaderStream::new(
                source,
            )));
        Self::send(request).await.map(drop)
    }
}

async fn bounded(mut response: Response, most: u64) -> Result<Vec<u8>, BrokerError> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(BrokerError::Unreachable)? {
        if (bytes.len() + piece.len()) as u64 > most {
            return Err(BrokerError::TooLong(most));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// The sentence in an error's body, else its text, else the status.
fn words(body: &[u8], status: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let told = json.as_ref().and_then(|json| json.get("error")?.as_str());
    let text = told.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    let text = if text.trim().is_empty() {
        status
    } else {
        text.trim()
    };
    text.chars().take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusals_words_are_found() {
        assert_eq!(words(br#"{"error":"Node not found"}"#, "404"), "Node not found");
        assert_eq!(words(b"<html>", "502"), "<html>");
        assert_eq!(words(b" ", "503"), "503");
        assert_eq!(words(&[b'x'; 9_000], "500").len(), MAX_WORDS);
    }

    #[test]
    fn only_http_addresses_are_taken() {
        for bad in ["", "localhost:8000", "ftp://x", "http://"] {
            assert!(BrokerClient::new(bad).is_err(), "{bad}");
        }
        let client = BrokerClient::new("http://broker/pool").unwrap();
        let request = client.post(&["claim"], &()).build().unwrap();
        assert_eq!(request.url().as_str(), "http://broker/pool/claim");
    }
}
