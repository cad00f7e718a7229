//! The content store: whether it answers, keeps a block, and has room.

use bytes::Bytes;
use sandrun_content::{Block, ContentStore as _, KuboClient, KuboConfig, RAW_CODEC};
use serde::Deserialize;

use super::{ANSWER, Finding, Findings};
use crate::exit::words;

/// Room from which on it is enough, bytes.
const ROOM: u64 = 1 << 30;

/// What the findings about a block and about room are called.
const BLOCK: &str = "content store, a block";
const ROOM_LEFT: &str = "content store, room";

/// What `repo/stat` says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RepoStat {
    repo_size: u64,
    storage_max: u64,
}

/// Looks at it; leaves a block of some bytes there, which nothing pins.
pub(super) async fn check(api: &str) -> Findings {
    let what = "content store";
    let todo = "start it (sandrun-pool content, or a Kubo node), or give its address with --ipfs-api";
    let refused = |seen: String| {
        let rest = [BLOCK, ROOM_LEFT].map(|it| Finding::skip(it, "the content store can't be asked"));
        [Finding::fail(what, seen, todo)]
            .into_iter()
            .chain(rest)
            .collect()
    };
    let config = KuboConfig {
        stall: ANSWER,
        ..KuboConfig::new(api)
    };
    let store = match KuboClient::with(config) {
        Ok(store) => store,
        Err(error) => return refused(words(&error.into())),
    };
    match tokio::time::timeout(ANSWER, store.health()).await {
        Ok(Ok(health)) => {
            let mut found = vec![Finding::ok(what, format!("{} at {api}", health.version))];
            found.push(block(&store).await);
            found.extend(room(&store).await);
            found
        }
        Ok(Err(error)) => refused(words(&error.into())),
        Err(_) => refused(format!("{api} does not answer within {} s", ANSWER.as_secs())),
    }
}

/// Puts a block and reads it again.
async fn block(store: &KuboClient) -> Finding {
    let what = BLOCK;
    let block = Block::hashed(RAW_CODEC, Bytes::from_static(b"sandrun-pool doctor\n"));
    let cid = block.cid();
    let tried = async {
        store.put_block(block).await?;
        store.get_block(&cid).await
    };
    match tried.await {
        Ok(_) => Finding::ok(what, "was put and read again"),
        Err(error) => Finding::fail(
            what,
            words(&error.into()),
            "look at the store's log, its disk and its limit of size",
        ),
    }
}

/// How much may still be added; nothing where the store does not say.
async fn room(store: &KuboClient) -> Option<Finding> {
    let http = reqwest::Client::builder().timeout(ANSWER).build().ok()?;
    let url = format!("{}/api/v0/repo/stat", store.api().trim_end_matches('/'));
    let answer = http.post(url).send().await.ok()?;
    let stat: RepoStat = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
    let (what, free) = (ROOM_LEFT, stat.storage_max.saturating_sub(stat.repo_size));
    let used = stat.repo_size >> 20;
    Some(if stat.storage_max >= 1 << 60 {
        Finding::ok(
            what,
            format!("{used} MiB are used, there is no limit but the disk's"),
        )
    } else if free < ROOM {
        let seen = format!("{} MiB are left, {used} MiB are used", free >> 20);
        Finding::warn(
            what,
            seen,
            "unpin what is not needed any more and collect garbage, or raise the limit",
        )
    } else {
        Finding::ok(what, format!("{} MiB are left, {used} MiB are used", free >> 20))
    })
}
