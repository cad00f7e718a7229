//! The client of any sandrun service: this crate's, an older one, or a coordinator's executors.
//!
//! Owns requests, their limits in time and size, and the meaning of each refusal. Never retries: whoever calls knows
//! what a retry means.

mod address;
mod body;
mod error;
mod evidence;
mod follow;
mod submission;

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::RngCore as _;
use rand::rngs::OsRng;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use sandrun_types::{BundlePath, Receipt, WorkerId, verify_signature};
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt as _;

use crate::wire::{
    Begun, Cancelled, EnvironmentEntry, Environments, Health, IDEMPOTENCY_KEY, JobStatus, Logs, Outputs,
    Stats, Submitted, health_challenge,
};

pub use address::without_credentials;
pub use error::ClientError;
pub use follow::{BegunRun, FollowedRun, SignedReceipt};
pub use submission::{FileContent, Submission};

/// Longest wait for an answer that no file is in.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest wait for a word about the service's health.
const HEALTH: Duration = Duration::from_secs(8);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for an upload to be sent, checked and queued.
const UPLOAD: Duration = Duration::from_secs(900);
/// Longest wait for the beginning of a file, and between two pieces of it.
const PIECE: Duration = Duration::from_secs(60);
/// Longest JSON answer in bytes: logs are the longest, 10 MiB that JSON may write six times as long.
const MAX_JSON: usize = 80 * 1024 * 1024;
/// Longest error sentence that is kept, in characters.
const MAX_WORDS: usize = 2000;

/// Talks to one service. Clones share its connections.
#[derive(Clone, Debug)]
pub struct ExecutorClient {
    http: reqwest::Client,
    base: Url,
    /// The address as it was given, without what it holds for requests alone; health proofs are bound to it.
    endpoint: String,
}

impl ExecutorClient {
    /// A client of the service at `endpoint`, such as `http://localhost:8443`. Connects to nothing yet.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`] if that is no HTTP address, [`ClientError::Setup`] if no HTTP client can be made.
    pub fn new(endpoint: &str) -> Result<Self, ClientError> {
        let shown = without_credentials(endpoint);
        let bad = |why: String| ClientError::Endpoint {
            endpoint: shown.clone(),
            why,
        };
        let mut base = Url::parse(endpoint).map_err(|error| bad(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(bad("it does not begin with http:// or https://".to_owned()));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        // The process may have chosen a provider before: then that one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(ClientError::Setup)?;
        Ok(Self {
            http,
            base,
            endpoint: shown,
        })
    }

    /// The address as it was given, without a name or a password.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        self.http.request(method, self.url(segments))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let unreachable = |source| ClientError::Unreachable {
            endpoint: self.endpoint.clone(),
            source,
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = response
            .headers()
            .get(reqwest::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let words = match self.bounded(response).await {
            Ok(bytes) => error::words(&bytes, status).chars().take(MAX_WORDS).collect(),
            Err(_) => status.to_string(),
        };
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS => ClientError::Busy { words, retry_after },
            status if status.is_client_error() => ClientError::Refused {
                status: status.as_u16(),
                words,
            },
            status => ClientError::Failed {
                status: status.as_u16(),
                words,
            },
        })
    }

    async fn bounded(&self, mut response: Response) -> Result<Vec<u8>, ClientError> {
        let broken = |source| ClientError::Unreachable {
            endpoint: self.endpoint.clone(),
            source,
        };
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(broken)? {
            if bytes.len() + piece.len() > MAX_JSON {
                return Err(ClientError::TooLong {
                    what: "the answer",
                    most: MAX_JSON as u64,
                });
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.send(request).await?;
        let bytes = self.bounded(response).await?;
        serde_json::from_slice(&bytes).map_err(|source| ClientError::NotUnderstood {
            endpoint: self.endpoint.clone(),
            source,
        })
    }

    fn get(&self, segments: &[&str]) -> RequestBuilder {
        self.request(Method::GET, segments).timeout(ANSWER)
    }

    /// `GET /health`, unproven.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.json(self.get(&["health"]).timeout(HEALTH)).await
    }

    /// `GET /environments`.
    ///
    /// # Errors
    /// [`ClientError`] if it does not answer, or knows no environments in this form.
    pub async fn environments(&self) -> Result<Environments, ClientError> {
        self.json(self.get(&["environments"])).await
    }

    /// Whether the service gets the images that jobs name: one that knows no environments, or none in this form, is of an
    /// older version and does not.
    ///
    /// # Errors
    /// [`ClientError`] if it does not say: it may, the next time.
    pub async fn fetches_environments(&self) -> Result<bool, ClientError> {
        match self.environments().await {
            Ok(there) => Ok(there.fetches),
            Err(ClientError::Refused { status: 404, .. } | ClientError::NotUnderstood { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `POST /environments/{name or content id}`: has the service get an image ready, and waits until it is.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where it cannot be had, others where it may be later.
    pub async fn obtain_environment(&self, asked: &str) -> Result<EnvironmentEntry, ClientError> {
        let request = self.request(Method::POST, &["environments", asked]);
        self.json(request.timeout(UPLOAD)).await
    }

    /// `GET /health` with a fresh challenge: returns the worker id that the service proved to hold the key of.
    /// `audience` is the caller's own name, which the proof is bound to, as it is to this client's endpoint.
    ///
    /// # Errors
    /// [`ClientError::Unproven`] if it gives no proof, or a wrong one; others if it does not answer.
    pub async fn prove_health(&self, audience: &str) -> Result<(WorkerId, Health), ClientError> {
        let mut nonce = [0; 32];
        OsRng.fill_bytes(&mut nonce);
        let nonce = hex::encode(nonce);
        let query = [
            ("nonce", nonce.as_str()),
            ("audience", audience),
            ("endpoint", &self.endpoint),
        ];
        let health: Health = self.json(self.get(&["health"]).query(&query)).await?;
        let unproven = |why: &str| ClientError::Unproven {
            endpoint: self.endpoint.clone(),
            why: why.to_owned(),
        };
        let worker = health.worker_id.ok_or_else(|| unproven("it is anonymous"))?;
        let proof = health
            .proof
            .as_deref()
            .ok_or_else(|| unproven("it gave no proof"))?;
        let signature = decode_signature(proof).ok_or_else(|| unproven("its proof is no signature"))?;
        verify_signature(
            &health_challenge(audience, &self.endpoint, &nonce),
            &signature,
            worker,
        )
        .map_err(|error| unproven(&error.to_string()))?;
        Ok((worker, health))
    }

    /// `GET /stats`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stats(&self) -> Result<Stats, ClientError> {
        self.json(self.get(&["stats"])).await
    }

    /// `POST /submit`: sends files and manifest; files on disk are streamed.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the service's words, [`ClientError::Busy`] over quota, and the others.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, ClientError> {
        self.json(self.upload(submission).await?).await
    }

    /// As [`Self::submit`], with what became of the run until it is over, or for a moment after its first output, or for
    /// so long (30 s at most). The run is the request's own: the executor ends it where this future is dropped, and forgets
    /// it where [`BegunRun::is_forgotten`]. An executor of old answers at once, without a word about the run.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn submit_and_follow(
        &self,
        submission: Submission,
        wait: Duration,
    ) -> Result<BegunRun, ClientError> {
        let wait = wait.as_secs_f64().to_string();
        let query = [("wait", wait.as_str()), ("discard", "true")];
        let begun: Begun = self.json(self.upload(submission).await?.query(&query)).await?;
        let id = begun.submitted.job_id;
        let followed = begun.followed.map(|followed| follow::read(&id, &followed));
        Ok(BegunRun {
            followed: followed.transpose()?,
            is_forgotten: begun.discarded,
            id,
        })
    }

    async fn upload(&self, submission: Submission) -> Result<RequestBuilder, ClientError> {
        let mut form = Form::new();
        for (name, content) in submission.files {
            let part = match content {
                FileContent::Bytes(bytes) => Part::bytes(bytes),
                FileContent::Path(path) => {
                    let open = |source| ClientError::LocalFile {
                        path: path.clone(),
                        source,
                    };
                    let file = tokio::fs::File::open(&path).await.map_err(open)?;
                    let length = file.metadata().await.map_err(open)?.len();
                    let stream = tokio_util::io::ReaderStream::new(file);
                    Part::stream_with_length(reqwest::Body::wrap_stream(stream), length)
                }
            };
            form = form.part("files", part.file_name(String::from(name)));
        }
        if let Some(manifest) = submission.manifest {
            form = form.text("manifest", manifest);
        }
        let mut request = self
            .request(Method::POST, &["submit"])
            .timeout(UPLOAD)
            .multipart(form);
        if let Some(class) = submission.class {
            request = request.query(&[("class", hex::encode(class.0))]);
        }
        if let Some(key) = submission.key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        for (name, value) in submission.origin.headers() {
            request = request.header(name, value);
        }
        Ok(request)
    }

    /// `GET /status/{id}`.
    ///
    /// # Errors
    /// [`ClientError`]; an unknown job is [`ClientError::Refused`] with status 404.
    pub async fn status(&self, job: &str) -> Result<JobStatus, ClientError> {
        self.json(self.get(&["status", job])).await
    }

    /// Asks for the status every `pause` until the run is over.
    ///
    /// # Errors
    /// [`ClientError`] of the first question that fails.
    pub async fn wait(&self, job: &str, pause: Duration) -> Result<JobStatus, ClientError> {
        loop {
            let status = self.status(job).await?;
            if status.status.has_ended() {
                return Ok(status);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// `GET /logs/{id}`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn logs(&self, job: &str) -> Result<Logs, ClientError> {
        self.json(self.get(&["logs", job])).await
    }

    /// `GET /logs/{id}/stdout` and `GET /logs/{id}/stderr`: both streams as they are, bytes that are no UTF-8 included.
    ///
    /// # Errors
    /// [`ClientError`]; an executor of old has no such call.
    pub async fn raw_logs(&self, job: &str) -> Result<(Vec<u8>, Vec<u8>), ClientError> {
        let stdout = self.send(self.get(&["logs", job, "stdout"])).await?;
        let stdout = self.bounded(stdout).await?;
        let stderr = self.send(self.get(&["logs", job, "stderr"])).await?;
        Ok((stdout, self.bounded(stderr).await?))
    }

    /// `DELETE /jobs/{id}`: ends a job that waits or runs, deletes the data of one that has ended.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Refused`] with status 404 for a job that is not known or whose data is gone.
    pub async fn cancel(&self, job: &str) -> Result<Cancelled, ClientError> {
        self.json(self.request(Method::DELETE, &["jobs", job]).timeout(ANSWER))
            .await
    }

    /// `GET /outputs/{id}`: which files there are.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn outputs(&self, job: &str) -> Result<Outputs, ClientError> {
        self.json(self.get(&["outputs", job])).await
    }

    /// `GET /outputs/{id}/{path}`: writes one output file to the new file `to`, at most `most` bytes of it, and
    /// returns its length. What it holds is for the caller to check against the receipt.
    ///
    /// # Errors
    /// [`ClientError::TooLong`] if it is longer; what was written until then is removed. And the others.
    pub async fn save_output(
        &self,
        job: &str,
        path: &BundlePath,
        to: &Path,
        most: u64,
    ) -> Result<u64, ClientError> {
        let segments: Vec<&str> = ["outputs", job]
            .into_iter()
            .chain(path.as_str().split('/'))
            .collect();
        self.save(self.request(Method::GET, &segments), to, most).await
    }

    /// `GET /download/{id}`: writes all outputs, a gzipped tar archive, to the new file `to`. The service deletes the
    /// job's data after it.
    ///
    /// # Errors
    /// As [`ExecutorClient::save_output`].
    pub async fn download(&self, job: &str, to: &Path, most: u64) -> Result<u64, ClientError> {
        self.save(self.request(Method::GET, &["download", job]), to, most)
            .await
    }

    async fn save(&self, request: RequestBuilder, to: &Path, most: u64) -> Result<u64, ClientError> {
        let response = self.in_time(self.send(request)).await??;
        let local = |source| ClientError::LocalFile {
            path: to.to_owned(),
            source,
        };
        let mut file = tokio::fs::File::create_new(to).await.map_err(local)?;
        let saved = self.copy(response, &mut file, most, to).await;
        if saved.is_err() {
            // The first error is the one to tell.
            drop(tokio::fs::remove_file(to).await);
        }
        saved
    }

    async fn in_time<T>(&self, piece: impl Future<Output = T>) -> Result<T, ClientError> {
        let stalled = |_| ClientError::Stalled {
            endpoint: self.endpoint.clone(),
        };
        tokio::time::timeout(PIECE, piece).await.map_err(stalled)
    }

    async fn copy(
        &self,
        mut response: Response,
        file: &mut tokio::fs::File,
        most: u64,
        to: &Path,
    ) -> Result<u64, ClientError> {
        let broken = |source| ClientError::Unreachable {
            endpoint: self.endpoint.clone(),
            source,
        };
        let local = |source| ClientError::LocalFile {
            path: to.to_owned(),
            source,
        };
        let mut length = 0;
        while let Some(piece) = self.in_time(response.chunk()).await?.map_err(broken)? {
            length += piece.len() as u64;
            if length > most {
                return Err(ClientError::TooLong {
                    what: "the file",
                    most,
                });
            }
            file.write_all(&piece).await.map_err(local)?;
        }
        file.flush().await.map_err(local)?;
        Ok(length)
    }

    /// `GET /receipt/{id}`: the bytes that the worker key signed.
    ///
    /// # Errors
    /// [`ClientError`]; 409 while the job has not ended, 404 for an executor of old, which has none.
    pub async fn receipt_bytes(&self, job: &str) -> Result<Vec<u8>, ClientError> {
        let response = self.send(self.get(&["receipt", job])).await?;
        self.bounded(response).await
    }

    /// The receipt, checked: made and signed by `worker`, and about this job.
    ///
    /// # Errors
    /// [`ClientError::BadReceipt`] if it is not, and the others.
    pub async fn verified_receipt(&self, job: &str, worker: WorkerId) -> Result<Receipt, ClientError> {
        let bad = |why: String| ClientError::BadReceipt {
            job: job.to_owned(),
            why,
        };
        let status = self.status(job).await?;
        let bytes = self.receipt_bytes(job).await?;
        let signature = status
            .worker_metadata
            .signature
            .as_deref()
            .and_then(decode_signature)
            .ok_or_else(|| bad("it is not signed".to_owned()))?;
        let receipt = Receipt::verify(&bytes, &signature, worker).map_err(|error| bad(error.to_string()))?;
        if receipt.job_id != job {
            return Err(bad(format!("it is about {}", receipt.job_id)));
        }
        Ok(receipt)
    }
}

/// 64 bytes in base64, as signatures are written.
#[must_use]
pub fn decode_signature(text: &str) -> Option<[u8; 64]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}
