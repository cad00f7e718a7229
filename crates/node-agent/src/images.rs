//! The images that jobs here run with, kept in the content store until the last of these jobs has ended. Owns which job
//! needs which, across restarts:
//!
//! ```text
//! DIR/<content id>/<job>    an empty file: the job needs the image
//! DIR/<content id>/ours     an empty file: it is pinned for these jobs alone, and unpinned after them
//! ```
//!
//! A pin does not say whose it is: what somebody else has pinned before stays pinned, but two agents with one store may let
//! go of each other's images. An agent's store is its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use sandrun_content::{ContentError, ContentId, ContentStore};
use sandrun_types::JobId;
use thiserror::Error;
use tokio::fs;
use tokio::sync::Mutex;

/// Says that we have pinned an image.
const OURS: &str = "ours";

/// Why an image is not kept, or not let go of.
#[derive(Debug, Error)]
pub(crate) enum HoldError {
    /// The content store.
    #[error("the content store cannot keep or let go of the image {id}")]
    Store {
        /// Which.
        id: ContentId,
        /// Why.
        source: ContentError,
    },
    /// Our own disk.
    #[error("cannot use {}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Images {
    dir: PathBuf,
    /// Notes are made or folders removed; never held while the store is asked.
    notes: Mutex<()>,
    /// The store is asked about an image, by one at a time. A store may take minutes, and other images do not wait for it.
    turns: std::sync::Mutex<BTreeMap<ContentId, Arc<Mutex<()>>>>,
}

impl Images {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            notes: Mutex::default(),
            turns: std::sync::Mutex::default(),
        }
    }

    /// Notes that a job needs an image. The store is not asked: see [`Self::keep`].
    pub(crate) async fn need(&self, job: JobId, id: ContentId) -> Result<(), HoldError> {
        let folder = self.dir.join(id.to_string());
        let noted = folder.join(hex::encode(job.as_bytes()));
        let _notes = self.notes.lock().await;
        fs::create_dir_all(&folder).await.map_err(disk(&folder))?;
        note(&noted).await
    }

    /// Has the store keep an image, if a job needs it. As long as the store takes: a pin fetches what is missing there.
    pub(crate) async fn keep(&self, store: &dyn ContentStore, id: ContentId) -> Result<(), HoldError> {
        let turn = self.turn(id);
        let _turn = turn.lock().await;
        let folder = self.dir.join(id.to_string());
        let failed = |source| HoldError::Store { id, source };
        if !is_needed(&folder).await? || store.is_pinned(id).await.map_err(failed)? {
            return Ok(());
        }
        note(&folder.join(OURS)).await?;
        store.pin(id).await.map_err(failed)
    }

    /// A job has ended: what no other job needs may go.
    pub(crate) async fn release(&self, store: &dyn ContentStore, job: JobId) -> Result<(), HoldError> {
        for image in names(&self.dir).await? {
            forget(&self.dir.join(image).join(hex::encode(job.as_bytes()))).await?;
        }
        self.sweep(store).await
    }

    /// Forgets what a former process has noted for all jobs but these.
    pub(crate) async fn forget_others(&self, open: &[JobId]) -> Result<(), HoldError> {
        let open: BTreeSet<String> = open.iter().map(|job| hex::encode(job.as_bytes())).collect();
        for image in names(&self.dir).await? {
            let folder = self.dir.join(image);
            for name in names(&folder).await? {
                if name != OURS && !open.contains(&name) {
                    forget(&folder.join(name)).await?;
                }
            }
        }
        Ok(())
    }

    /// Lets go of all images that no job needs; what fails is tried again the next time.
    pub(crate) async fn sweep(&self, store: &dyn ContentStore) -> Result<(), HoldError> {
        let mut swept = Ok(());
        for image in names(&self.dir).await? {
            if let Ok(id) = image.parse() {
                swept = swept.and(self.let_go(store, id).await);
            }
        }
        swept
    }

    async fn let_go(&self, store: &dyn ContentStore, id: ContentId) -> Result<(), HoldError> {
        let folder = self.dir.join(id.to_string());
        if is_needed(&folder).await? {
            return Ok(());
        }
        let turn = self.turn(id);
        let _turn = turn.lock().await;
        if is_needed(&folder).await? {
            return Ok(());
        }
        let ours = folder.join(OURS);
        if fs::try_exists(&ours).await.map_err(disk(&ours))? {
            let unpinned = store.unpin(id).await;
            unpinned.map_err(|source| HoldError::Store { id, source })?;
            forget(&ours).await?;
        }
        // a job that needs it since then waits for its turn to keep it
        let _notes = self.notes.lock().await;
        if is_needed(&folder).await? {
            return Ok(());
        }
        match fs::remove_dir_all(&folder).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(disk(&folder)),
        }
    }

    fn turn(&self, id: ContentId) -> Arc<Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(id).or_default())
    }
}

/// Whether a job needs the image of this folder.
async fn is_needed(folder: &Path) -> Result<bool, HoldError> {
    Ok(names(folder).await?.iter().any(|name| name != OURS))
}

/// Removes a note, if it is there.
async fn forget(path: &Path) -> Result<(), HoldError> {
    match fs::remove_file(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(disk(path)),
    }
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> HoldError + use<> {
    let path = path.to_owned();
    move |source| HoldError::Disk { path, source }
}

async fn note(path: &Path) -> Result<(), HoldError> {
    fs::write(path, "").await.map_err(disk(path))
}

/// What lies in a folder; nothing where there is none.
async fn names(folder: &Path) -> Result<Vec<String>, HoldError> {
    let mut entries = match fs::read_dir(folder).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(disk(folder))?,
    };
    let mut names = Vec::new();
    while let Some(entry) = entries.next_entry().await.map_err(disk(folder))? {
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::post;
    use sandrun_content::{EmbeddedConfig, EmbeddedStore, KuboClient, Limits, pack_directory};
    use tokio::net::TcpListener;

    use super::*;

    const ONE: JobId = JobId([1; 32]);
    const TWO: JobId = JobId([2; 32]);

    /// A store with an image that nobody has pinned.
    async fn store(folder: &Path) -> (EmbeddedStore, ContentId) {
        let image = folder.join("image");
        std::fs::create_dir(&image).unwrap();
        std::fs::write(image.join("a"), "a").unwrap();
        let store = EmbeddedStore::open(EmbeddedConfig::new(folder.join("store")))
            .await
            .unwrap();
        let id = store
            .add(&pack_directory(&image, &Limits::default()).unwrap())
            .await
            .unwrap();
        store.unpin(id).await.unwrap();
        (store, id)
    }

    async fn is_pinned(store: &EmbeddedStore, id: ContentId) -> bool {
        ContentStore::is_pinned(store, id).await.unwrap()
    }

    async fn hold(images: &Images, store: &EmbeddedStore, job: JobId, id: ContentId) {
        images.need(job, id).await.unwrap();
        images.keep(store, id).await.unwrap();
    }

    fn count(dir: &Path) -> usize {
        std::fs::read_dir(dir).unwrap().count()
    }

    #[tokio::test]
    async fn an_image_is_kept_until_the_last_job_that_needs_it_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (store, id) = store(folder.path()).await;
        let dir = folder.path().join("images");
        let images = Images::new(dir.clone());
        hold(&images, &store, ONE, id).await;
        hold(&images, &store, TWO, id).await;
        // as after a restart
        let images = Images::new(dir.clone());
        hold(&images, &store, ONE, id).await;
        images.release(&store, ONE).await.unwrap();
        assert!(is_pinned(&store, id).await);
        images.release(&store, TWO).await.unwrap();
        assert!(!is_pinned(&store, id).await);
        assert_eq!(count(&dir), 0);
        images.release(&store, TWO).await.unwrap();
        // it ended before its turn came
        images.need(ONE, id).await.unwrap();
        images.release(&store, ONE).await.unwrap();
        images.keep(&store, id).await.unwrap();
        assert!(!is_pinned(&store, id).await);
    }

    #[tokio::test]
    async fn at_a_start_the_images_of_open_jobs_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (store, id) = store(folder.path()).await;
        let dir = folder.path().join("images");
        hold(&Images::new(dir.clone()), &store, ONE, id).await;
        hold(&Images::new(dir.clone()), &store, TWO, id).await;
        for (open, stays) in [(&[TWO][..], true), (&[], false)] {
            let images = Images::new(dir.clone());
            images.forget_others(open).await.unwrap();
            images.sweep(&store).await.unwrap();
            assert_eq!(is_pinned(&store, id).await, stays);
        }
        assert_eq!(count(&dir), 0);
    }

    #[tokio::test]
    async fn what_somebody_else_has_pinned_stays_so() {
        let folder = tempfile::tempdir().unwrap();
        let (store, id) = store(folder.path()).await;
        store.pin(id).await.unwrap();
        let images = Images::new(folder.path().join("images"));
        hold(&images, &store, ONE, id).await;
        images.release(&store, ONE).await.unwrap();
        assert!(is_pinned(&store, id).await);
        assert_eq!(count(&folder.path().join("images")), 0);
    }

    /// A store that has pinned nothing, never ends a pin, and never takes one back.
    async fn stuck() -> KuboClient {
        let refused = |text: &str| (StatusCode::INTERNAL_SERVER_ERROR, text.to_owned());
        let none = refused(r#"{"Message":"path is not pinned","Code":0,"Type":"error"}"#);
        let broken = refused(r#"{"Message":"out of order","Code":0,"Type":"error"}"#);
        let router = Router::new()
            .route("/api/v0/pin/ls", post(|| std::future::ready(none)))
            .route("/api/v0/pin/add", post(std::future::pending::<()>))
            .route("/api/v0/pin/rm", post(|| std::future::ready(broken)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = KuboClient::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async { axum::serve(listener, router).await });
        client
    }

    #[tokio::test]
    async fn nobody_waits_for_a_pin_of_another_image() {
        let folder = tempfile::tempdir().unwrap();
        let (store, id) = store(folder.path()).await;
        let images = Images::new(folder.path().join("images"));
        let other = ContentId::from_digest(sandrun_types::ContentDigest([7; 32]));
        let stuck = stuck().await;
        images.need(ONE, other).await.unwrap();
        let rest = async {
            let ours = folder.path().join("images").join(other.to_string()).join(OURS);
            while !ours.exists() {
                tokio::task::yield_now().await;
            }
            images.need(TWO, other).await.unwrap();
            hold(&images, &store, TWO, id).await;
            images.release(&store, TWO).await.unwrap();
        };
        tokio::select! {
            kept = images.keep(&stuck, other) => panic!("a pin that never ends: {kept:?}"),
            ended = tokio::time::timeout(Duration::from_secs(20), rest) => ended.unwrap(),
        }
        assert!(!is_pinned(&store, id).await);
    }

    #[tokio::test]
    async fn what_could_not_be_let_go_of_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let (store, id) = store(folder.path()).await;
        let dir = folder.path().join("images");
        let images = Images::new(dir.clone());
        hold(&images, &store, ONE, id).await;
        images.release(&stuck().await, ONE).await.unwrap_err();
        // as after a restart
        Images::new(dir.clone()).sweep(&store).await.unwrap();
        assert!(!is_pinned(&store, id).await);
        assert_eq!(count(&dir), 0);
    }
}
