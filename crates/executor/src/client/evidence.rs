//! What a service gives to check a run by: its trace, and proofs for its outputs.

use std::path::Path;

use reqwest::header::{CONTENT_LENGTH, RANGE};
use reqwest::{Method, StatusCode};
use sandrun_types::{FileRange, OutputName, OutputProof};

use super::{ANSWER, ClientError, ExecutorClient};

/// Most bytes of one range of a trace: a block of the longest leaves.
const MAX_RANGE: u64 = 16 << 20;

impl ExecutorClient {
    /// `HEAD /trace/{id}`: how long the file with the run's trace is.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Refused`] where there is none.
    pub async fn trace_length(&self, job: &str) -> Result<u64, ClientError> {
        let request = self.request(Method::HEAD, &["trace", job]).timeout(ANSWER);
        let response = self.send(request).await?;
        let length = response.headers().get(CONTENT_LENGTH);
        length
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .ok_or_else(|| ClientError::Failed {
                status: response.status().as_u16(),
                words: "it does not say how long the trace is".to_owned(),
            })
    }

    /// `GET /trace/{id}` with a range: so many bytes of the file, and no others.
    ///
    /// # Errors
    /// [`ClientError`], also where other bytes come than were asked for.
    pub async fn trace_range(&self, job: &str, range: FileRange) -> Result<Vec<u8>, ClientError> {
        if range.length > MAX_RANGE {
            return Err(ClientError::TooLong {
                what: "the part of the trace",
                most: MAX_RANGE,
            });
        }
        let last = range.offset.saturating_add(range.length).saturating_sub(1);
        let bytes = format!("bytes={}-{last}", range.offset);
        let response = self.send(self.get(&["trace", job]).header(RANGE, bytes)).await?;
        let status = response.status();
        let other = |words: &str| ClientError::Failed {
            status: status.as_u16(),
            words: words.to_owned(),
        };
        if status != StatusCode::PARTIAL_CONTENT {
            return Err(other("it does not serve a part of the trace"));
        }
        let bytes = self.bounded(response).await?;
        if bytes.len() as u64 == range.length {
            Ok(bytes)
        } else {
            Err(other("it sent another part of the trace"))
        }
    }

    /// `GET /trace/{id}`: writes the run's trace to the new file `to`, at most `most` bytes of it, and returns its length.
    ///
    /// # Errors
    /// As [`ExecutorClient::save_output`].
    pub async fn save_trace(&self, job: &str, to: &Path, most: u64) -> Result<u64, ClientError> {
        self.save(self.request(Method::GET, &["trace", job]), to, most)
            .await
    }

    /// `GET /proof/{id}/…`: the proof that an output is under the receipt's output root. It is for the caller to check.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Refused`] where there is no such output.
    pub async fn output_proof(&self, job: &str, name: &OutputName) -> Result<OutputProof, ClientError> {
        let mut segments = vec!["proof", job];
        match name {
            OutputName::Stdout => segments.push("stdout"),
            OutputName::Stderr => segments.push("stderr"),
            OutputName::File(path) => {
                segments.push("outputs");
                segments.extend(path.as_str().split('/'));
            }
        }
        self.json(self.get(&segments)).await
    }
}
