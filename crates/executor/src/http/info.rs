//! What the service says about itself: `/`, `/health`, `/stats`, `/environments`.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ApiError, Shared};
use crate::wire::{Health, QuotaStats, Stats, SystemStats, health_challenge};

/// Longest audience and endpoint that are signed, in bytes.
const MAX_NAME: usize = 1024;

pub(super) async fn root(State(app): State<Shared>) -> Json<Value> {
    Json(json!({
        "service": "sandrun",
        "status": "running",
        "description": "Runs jobs in isolation: POST /submit files and a manifest, then GET /status, /logs, /download",
        "privacy": "No accounts; a job's data is deleted after download, 5 minutes after a failure, or after an hour",
        "limits": app.limits_line,
    }))
}

/// The challenge of whoever wants the worker key proven.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Challenge {
    nonce: Option<String>,
    audience: Option<String>,
    endpoint: Option<String>,
}

impl Challenge {
    /// The bytes to sign, if there is a challenge.
    fn message(&self) -> Result<Option<Vec<u8>>, ApiError> {
        let Some(nonce) = &self.nonce else { return Ok(None) };
        if nonce.len() != 64 || !nonce.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ApiError::bad_request("nonce must be 64 hexadecimal digits"));
        }
        let name = |name: &str, value: &Option<String>| match value {
            Some(text) if text.len() <= MAX_NAME && !text.chars().any(char::is_control) => Ok(text.clone()),
            Some(_) => Err(ApiError::bad_request(format!(
                "{name} is too long, or holds a control character"
            ))),
            None => Err(ApiError::bad_request(format!(
                "{name} is missing; a nonce is signed with audience and endpoint"
            ))),
        };
        let audience = name("audience", &self.audience)?;
        let endpoint = name("endpoint", &self.endpoint)?;
        Ok(Some(health_challenge(&audience, &endpoint, nonce)))
    }
}

/// What is said of the service, and of the parts that it needs.
#[derive(Debug, Serialize)]
pub(super) struct HealthAnswer {
    #[serde(flatten)]
    health: Health,
    checks: Vec<sandrun_metrics::Check>,
}

pub(super) async fn health(
    State(app): State<Shared>,
    challenge: Result<Query<Challenge>, QueryRejection>,
) -> Result<(StatusCode, Json<HealthAnswer>), ApiError> {
    let message = challenge?.message()?;
    let readiness = super::metrics::readiness(&app).await;
    let proof = app
        .key
        .as_ref()
        .zip(message)
        .map(|(key, message)| STANDARD.encode(key.sign(&message)));
    let status = if readiness.is_ready() {
        "healthy"
    } else {
        "not ready"
    };
    let code = StatusCode::from_u16(readiness.code()).unwrap_or(StatusCode::OK);
    let health = Health {
        status: status.to_owned(),
        worker_id: app.key.as_ref().map(crate::worker_key::WorkerKey::worker_id),
        proof,
        class: Some(app.class),
        classes: app
            .sandbox
            .offered()
            .into_iter()
            .map(|(class, id)| (class.to_string(), sandrun_types::Sha256Hex(id.0)))
            .collect(),
        isolation: app.isolation.clone(),
        max_concurrent_jobs: Some(app.parallel),
        hardware: Some(crate::machine::hardware()),
    };
    let checks = readiness.checks;
    Ok((code, Json(HealthAnswer { health, checks })))
}

pub(super) async fn stats(
    State(app): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
) -> Result<Json<Stats>, ApiError> {
    let stats = app.service.stats(peer.ip().to_canonical()).await?;
    let used = stats.quota.used.as_secs_f64();
    Ok(Json(Stats {
        your_quota: QuotaStats {
            used,
            limit: app.cpu_quota,
            available: app.cpu_quota.map(|limit| (limit - used).max(0.0)),
            active_jobs: stats.quota.active_jobs,
            can_submit: stats.quota.refusal.is_none(),
            reason: stats
                .quota
                .refusal
                .map(|refusal| refusal.to_string())
                .unwrap_or_default(),
        },
        system: SystemStats {
            queue_length: stats.queued,
            active_jobs: stats.running,
        },
    }))
}
