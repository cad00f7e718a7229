//! What jobs print: so far, and as it comes, by server-sent events or a WebSocket.

use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::header::{SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream;
use serde_json::{Value, json};

use super::body::At;
use super::error::ApiError;
use super::follow::{Follower, LogEvent, Mark};
use super::found::number;
use super::http::Shared;

/// Most bytes of what a client says on a WebSocket: nothing that matters.
const HEARD: usize = 4 << 10;

/// `GET /v1/jobs/{id}/logs`.
pub(super) async fn logs(State(app): State<Shared>, At(id): At<String>) -> Result<Json<Value>, ApiError> {
    let job = number(&app, &id)?;
    let ([stdout, stderr], bytes) = Follower::new(app, job).so_far().await?;
    let mut view = json!({"stdout": stdout, "stderr": stderr});
    for (name, bytes) in ["stdout_base64", "stderr_base64"].into_iter().zip(bytes) {
        if let Some(encoded) = bytes.as_deref().and_then(no_text) {
            view[name] = Value::from(encoded);
        }
    }
    Ok(Json(view))
}

/// Base64 of what an ended program printed, where it is no UTF-8: a text can't say it.
pub(super) fn no_text(printed: &[u8]) -> Option<String> {
    let is_text = std::str::from_utf8(printed).is_ok();
    (!is_text).then(|| STANDARD.encode(printed))
}

/// `GET /v1/jobs/{id}/logs/stream`.
pub(super) async fn stream(
    State(app): State<Shared>,
    At(id): At<String>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    if let Err(WebSocketUpgradeRejection::InvalidWebSocketVersionHeader(_)) = upgrade {
        let why = ApiError::new(
            StatusCode::UPGRADE_REQUIRED,
            "this version of the WebSocket protocol is not known here; use 13",
        );
        return Ok(([(SEC_WEBSOCKET_VERSION, "13"), (UPGRADE, "websocket")], why).into_response());
    }
    let mark = headers.get("last-event-id").and_then(|it| it.to_str().ok());
    let job = number(&app, &id)?;
    let follower = Follower::new(app.clone(), job).behind(mark.and_then(Mark::parse));
    let follower = follower.begun().await?;
    if let Ok(upgrade) = upgrade {
        let upgrade = upgrade
            .read_buffer_size(HEARD)
            .max_message_size(HEARD)
            .write_buffer_size(0);
        return Ok(upgrade.on_upgrade(async move |socket| {
            let streams = app.streams.clone();
            streams.track_future(talk(socket, follower)).await;
        }));
    }
    let token = app.streams.token();
    let events = stream::unfold((follower, token), |(mut follower, token)| async move {
        let event = follower.next().await?;
        let event = sse(&event);
        Some((Ok::<Event, Infallible>(event), (follower, token)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

fn sse(event: &LogEvent) -> Event {
    let sent = Event::default()
        .event(event.name())
        .data(event.data().to_string());
    match event.mark() {
        Some(mark) => sent.id(mark.to_string()),
        None => sent,
    }
}

/// Sends events as text frames until the job has ended, the client has gone, or the service ends.
async fn talk(mut socket: WebSocket, mut follower: Follower) {
    loop {
        tokio::select! {
            event = follower.next() => {
                let Some(event) = event else { break };
                let frame = json!({"event": event.name(), "data": event.data()}).to_string();
                if socket.send(Message::Text(frame.into())).await.is_err() {
                    return;
                }
            }
            // pings are answered by the library; anything else that a client says is ignored
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => {}
            },
        }
    }
    let code = if follower.is_over() {
        close_code::NORMAL
    } else {
        close_code::AWAY
    };
    let frame = CloseFrame {
        code,
        reason: "".into(),
    };
    // the client may have gone already
    drop(socket.send(Message::Close(Some(frame))).await);
}
