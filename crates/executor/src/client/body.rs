//! Output files as they come, for callers who keep them elsewhere than in a file.

use std::io;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use reqwest::Method;
use sandrun_types::BundlePath;

use super::{ClientError, ExecutorClient, PIECE};

impl ExecutorClient {
    /// `GET /outputs/{id}/{path}`: the file's pieces as they come, at most `most` bytes of them; one that is longer, or
    /// that stops in the middle, ends with an error. What it holds is for the caller to check against the receipt.
    ///
    /// # Errors
    /// [`ClientError`] where the file does not begin to come.
    pub async fn output_body(
        &self,
        job: &str,
        path: &BundlePath,
        most: u64,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, ClientError> {
        let segments: Vec<&str> = ["outputs", job]
            .into_iter()
            .chain(path.as_str().split('/'))
            .collect();
        let request = self.request(Method::GET, &segments);
        let response = self.in_time(self.send(request)).await??;
        Ok(Box::pin(stream::try_unfold(
            (response, most),
            |(mut response, left)| async move {
                let piece = tokio::time::timeout(PIECE, response.chunk()).await;
                let piece = piece.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
                let Some(piece) = piece.map_err(io::Error::other)? else {
                    return Ok(None);
                };
                let left = left.checked_sub(piece.len() as u64);
                let left = left.ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
                Ok(Some((piece, (response, left))))
            },
        )))
    }
}
