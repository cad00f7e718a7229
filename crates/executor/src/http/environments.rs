//! Environments over HTTP: what there is, and getting one ready before a job needs it.

use std::net::{IpAddr, SocketAddr};

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use sandrun_environment::{Available, ObtainError};
use sandrun_types::Manifest;

use super::path::Path;
use super::slots::Slot;
use super::{ApiError, App, Shared};
use crate::image::Image;
use crate::wire::{EnvironmentEntry, EnvironmentStats, Environments};

const MIB: u64 = 1024 * 1024;

/// `GET /environments`.
pub(super) async fn list(State(app): State<Shared>) -> Json<Environments> {
    let all = app.environments.available();
    let can_be_had = |it: &&Available| it.bytes.is_some() || app.environments.can_fetch();
    let templates: Vec<String> = all
        .iter()
        .filter(can_be_had)
        .filter_map(|it| Some(it.name.as_ref()?.to_string()))
        .collect();
    // two names may stand for one image
    let held: std::collections::BTreeMap<_, _> = all
        .iter()
        .filter_map(|it| Some((it.content, it.bytes?)))
        .collect();
    let stats = EnvironmentStats {
        total_templates: templates.len() as u64,
        cached_environments: held.len() as u64,
        total_uses: app.environments.uses(),
        disk_usage_mb: held.values().sum::<u64>().div_ceil(MIB),
    };
    Json(Environments {
        templates,
        stats,
        environments: all.into_iter().map(entry).collect(),
        fetches: app.environments.can_fetch(),
    })
}

fn entry(it: Available) -> EnvironmentEntry {
    EnvironmentEntry {
        name: it.name.map(|name| name.to_string()),
        content: it.content.to_string(),
        cached: it.bytes.is_some(),
        size_bytes: it.bytes,
    }
}

/// `POST /environments/{name or content id}`: answers when the image is at hand.
pub(super) async fn obtain(
    State(app): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(asked): Path<String>,
) -> Result<Json<EnvironmentEntry>, ApiError> {
    let client = peer.ip().to_canonical();
    app.service.may_submit(client).await??;
    let id = app.environments.resolve(&asked).map_err(ObtainError::from);
    let refused = |error: ObtainError| ApiError::environment("", &error, StatusCode::NOT_FOUND);
    let id = id.map_err(refused)?;
    let image = match app.environments.at_hand(id) {
        Some(lease) => Image::new(lease),
        None => {
            let _place = place(&app, client).await?;
            bring(&app, id).await?.map_err(refused)?
        }
    };
    let name = asked.parse().ok().filter(|_| asked != id.to_string());
    Ok(Json(entry(Available {
        name,
        content: id,
        bytes: image.id().and_then(|id| app.environments.size(id)),
    })))
}

/// The image that a manifest asks for, at hand, and the place that its job has until it is queued: that of its upload,
/// or, as an image may take minutes to come and uploads must not wait for it, one of those who wait for images.
pub(super) async fn of_manifest(
    app: &App,
    client: IpAddr,
    manifest: &Manifest,
    upload: Slot,
) -> Result<(Image, Slot), ApiError> {
    let Some(asked) = &manifest.environment else {
        return Ok((Image::default(), upload));
    };
    let field = "manifest field \"environment\": ";
    let refused = |error: ObtainError| ApiError::environment(field, &error, StatusCode::FAILED_DEPENDENCY);
    let id = app
        .environments
        .resolve(asked)
        .map_err(|error| refused(error.into()))?;
    if let Some(lease) = app.environments.at_hand(id) {
        return Ok((Image::new(lease), upload));
    }
    let place = place(app, client).await?;
    drop(upload);
    Ok((bring(app, id).await?.map_err(refused)?, place))
}

/// A place among those who wait for an image.
async fn place(app: &App, client: IpAddr) -> Result<Slot, ApiError> {
    let full = "too many wait for their environments; ask again in a moment";
    app.images
        .take(client)
        .await
        .ok_or_else(|| ApiError::unavailable(full))
}

async fn bring(app: &App, id: sandrun_content::ContentId) -> Result<Result<Image, ObtainError>, ApiError> {
    tokio::select! {
        lease = app.environments.obtain(id) => Ok(lease.map(Image::new).map_err(ObtainError::from)),
        () = app.shutdown.cancelled() => Err(ApiError::unavailable("the service is shutting down")),
    }
}
