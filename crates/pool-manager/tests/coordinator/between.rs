//! Somebody between a coordinator and a worker, who changes or holds what the worker says.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::support::{Listed, Worker};

/// Changes an answer in JSON of the call with this path.
pub(crate) type Bend = fn(&str, &mut Value);

struct Way {
    target: String,
    http: reqwest::Client,
    bend: Bend,
    runs: UnboundedSender<String>,
    /// One answer to a submission goes through for each permit.
    gate: Arc<Semaphore>,
}

/// Who stands between.
pub(crate) struct Between {
    pub(crate) listed: Listed,
    /// The worker's ids of what was submitted, as soon as it has answered.
    pub(crate) runs: UnboundedReceiver<String>,
    /// Adding permits lets answers to submissions through.
    pub(crate) gate: Arc<Semaphore>,
}

impl Between {
    /// Stands before a worker; lets this many answers to submissions through at first.
    pub(crate) async fn start(worker: &Worker, bend: Bend, open: usize) -> Self {
        let (runs, seen) = unbounded_channel();
        let gate = Arc::new(Semaphore::new(open));
        let way = Way {
            target: worker.listed.endpoint.clone(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            bend,
            runs,
            gate: Arc::clone(&gate),
        };
        let router = Router::new().fallback(pass).with_state(Arc::new(way));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            listed: Listed::new(worker.listed.id, endpoint),
            runs: seen,
            gate,
        }
    }
}

async fn pass(State(way): State<Arc<Way>>, request: Request) -> Response {
    // of its own: whoever asked may go away, and the worker goes on
    let passed = tokio::spawn(async move { way.pass(request).await });
    passed.await.unwrap()
}

impl Way {
    async fn pass(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let url = format!("{}{}", self.target, parts.uri.path_and_query().unwrap());
        let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        let mut headers = parts.headers;
        headers.remove("host");
        let asked = self.http.request(parts.method, url).headers(headers).body(body);
        let Ok(answer) = asked.send().await else {
            return StatusCode::BAD_GATEWAY.into_response();
        };
        let status = answer.status();
        let bytes = answer.bytes().await.unwrap();
        let bytes = match serde_json::from_slice::<Value>(&bytes) {
            Ok(mut value) => {
                if path == "/submit" {
                    if let Some(run) = value["job_id"].as_str() {
                        // nobody may listen
                        drop(self.runs.send(run.to_owned()));
                    }
                    self.gate.acquire().await.unwrap().forget();
                }
                (self.bend)(&path, &mut value);
                Bytes::from(value.to_string())
            }
            Err(_) => bytes,
        };
        Response::builder()
            .status(status)
            .body(Body::from(bytes))
            .unwrap()
    }
}
