//! One connection to a service, kept open: as little work of the client's as a real client can do.

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// A connection that carries one request after another.
pub(super) struct Wire {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Wire {
    /// Connects to a service by its address.
    ///
    /// # Errors
    /// Nobody listens there.
    pub(super) async fn open(url: &str) -> anyhow::Result<Self> {
        let host = url.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&host)
            .await
            .with_context(|| format!("connecting to {host}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // an error of the connection is one of its requests too
            let _ = connection.await;
        });
        Ok(Self { sender, host })
    }

    /// Posts a body of JSON, and hands the answer's bytes over.
    ///
    /// # Errors
    /// A connection that breaks, a status that is no success.
    pub(super) async fn post(
        &mut self,
        path: &str,
        client: Option<&str>,
        body: Bytes,
    ) -> anyhow::Result<Bytes> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("host", &self.host)
            .header("content-type", "application/json");
        if let Some(client) = client {
            request = request.header("x-client", client);
        }
        self.send(path, request.body(Full::new(body))?).await
    }

    /// Posts a form whose parts are already in place, between `boundary`s.
    ///
    /// # Errors
    /// As [`Wire::post`].
    pub(super) async fn post_form(
        &mut self,
        path: &str,
        boundary: &str,
        body: Bytes,
    ) -> anyhow::Result<Bytes> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("host", &self.host)
            .header(
                "content-type",
                format!("multipart/form-data; boundary={boundary}"),
            );
        self.send(path, request.body(Full::new(body))?).await
    }

    /// Gets an answer's bytes.
    ///
    /// # Errors
    /// As [`Wire::post`].
    pub(super) async fn get(&mut self, path: &str) -> anyhow::Result<Bytes> {
        let request = Request::builder().uri(path).header("host", &self.host);
        self.send(path, request.body(Full::default())?).await
    }

    async fn send(&mut self, path: &str, request: Request<Full<Bytes>>) -> anyhow::Result<Bytes> {
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        anyhow::ensure!(
            status == StatusCode::OK,
            "{path} answered {status}: {}",
            String::from_utf8_lossy(&body)
        );
        Ok(body)
    }

    /// As [`Wire::post`], with JSON on both sides.
    ///
    /// # Errors
    /// As there, and an answer that is no JSON.
    pub(super) async fn ask(&mut self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self.post(path, None, body.to_string().into()).await?;
        serde_json::from_slice(&answer).with_context(|| format!("{path} answered no JSON"))
    }
}
