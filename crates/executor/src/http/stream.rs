//! `WS /stream/{id}` and `WS /logs/{id}/stream`: live output as text frames.
//!
//! What was printed so far comes first, then a line `[STATUS] Job status: …`, then each new piece as it is printed and
//! `[STATUS] Job started` when it does; a piece of stderr has a line `[STDERR]` before it; `[DONE] Job completed (…)`
//! or `[DONE] Job failed (…)` is last, then the connection is closed.

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use tokio::sync::watch;

use super::path::Path;
use super::status::find;
use super::{ApiError, Shared};
use crate::job::Stage;
use crate::log::{LogReader, Stream, TextPieces};

/// Bytes of log that are read at once.
const STEP: u64 = 256 * 1024;

pub(super) async fn stream(
    State(app): State<Shared>,
    Path(id): Path<String>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let found = find(&app, &id).await?.data()?;
    let upgrade =
        upgrade.map_err(|_| ApiError::bad_request("this call is a WebSocket; connect with ws://"))?;
    let (log, stage) = (found.job.log.clone(), found.job.stage.subscribe());
    drop(found);
    Ok(upgrade.on_upgrade(async move |socket| {
        let shutdown = app.shutdown.clone();
        let follow = async move {
            let mut follower = Follower {
                socket,
                log,
                stage,
                offset: 0,
                text: <[TextPieces; 2]>::default(),
            };
            tokio::select! {
                // Either way the socket is closed when this returns; the client may have gone before.
                sent = follower.follow() => drop(sent),
                () = shutdown.cancelled() => {
                    drop(follower.close(close_code::AWAY, "the service is shutting down").await);
                }
            }
        };
        app.streams.track_future(follow).await;
    }))
}

/// The client has gone, or the log cannot be read any more: nothing is left to do.
struct Over;

struct Follower {
    socket: WebSocket,
    log: LogReader,
    stage: watch::Receiver<Stage>,
    offset: u64,
    text: [TextPieces; 2],
}

impl Follower {
    async fn follow(&mut self) -> Result<(), Over> {
        let mut stage = self.stage.borrow_and_update().clone();
        self.send_output().await?;
        let state = match &stage {
            Stage::Queued => "queued",
            Stage::Running => "running",
            Stage::Ended(line) => line.split(' ').nth(1).unwrap_or("completed"),
        };
        self.send(format!("[STATUS] Job status: {state}\n")).await?;
        loop {
            if let Stage::Ended(line) = &stage {
                self.send_output().await?;
                self.send_rest().await?;
                self.send(format!("[DONE] {line}\n")).await?;
                return self.close(close_code::NORMAL, "").await;
            }
            tokio::select! {
                () = self.log.grown_beyond(self.offset) => self.send_output().await?,
                changed = self.stage.changed() => {
                    if changed.is_err() {
                        return self.close(close_code::NORMAL, "the job's data was deleted").await;
                    }
                    stage = self.stage.borrow_and_update().clone();
                    if stage == Stage::Running {
                        self.send("[STATUS] Job started\n".to_owned()).await?;
                    }
                }
                // Pings are answered by the library; anything else that a client says is ignored.
                message = self.socket.recv() => match message {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Over),
                    Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => {}
                },
            }
        }
    }

    /// Sends what was printed since.
    async fn send_output(&mut self) -> Result<(), Over> {
        loop {
            let (log, offset) = (self.log.clone(), self.offset);
            let read = tokio::task::spawn_blocking(move || log.pieces(offset, STEP)).await;
            let (pieces, offset) = read.map_err(|_| Over)?.map_err(|_| Over)?;
            if pieces.is_empty() {
                return Ok(());
            }
            self.offset = offset;
            for piece in pieces {
                let text = self.text[usize::from(piece.stream == Stream::Stderr)].push(&piece.bytes);
                self.send_text(piece.stream, text).await?;
            }
        }
    }

    /// Sends what never became a whole character.
    async fn send_rest(&mut self) -> Result<(), Over> {
        for (at, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
            let text = self.text[at].finish();
            self.send_text(stream, text).await?;
        }
        Ok(())
    }

    async fn send_text(&mut self, stream: Stream, text: String) -> Result<(), Over> {
        match stream {
            _ if text.is_empty() => Ok(()),
            Stream::Stdout => self.send(text).await,
            Stream::Stderr => self.send(format!("[STDERR]\n{text}")).await,
        }
    }

    async fn send(&mut self, text: String) -> Result<(), Over> {
        self.socket
            .send(Message::Text(text.into()))
            .await
            .map_err(|_| Over)
    }

    async fn close(&mut self, code: u16, reason: &'static str) -> Result<(), Over> {
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        self.socket
            .send(Message::Close(Some(frame)))
            .await
            .map_err(|_| Over)
    }
}
