//! The images that jobs here run with, kept in the content store until the last of these jobs has ended. Owns which job
//! needs which, across restarts:
//!
//! ```text
//! DIR/<content id>/<job>    an empty file: the job needs the image
//! DIR/<content id>/others   an empty file: it was pinned before, and stays so
//! ```

use std::io;
use std::path::{Path, PathBuf};

use sandrun_content::{ContentError, ContentId, ContentStore};
use sandrun_types::JobId;
use thiserror::Error;
use tokio::fs;
use tokio::sync::Mutex;

/// Says that somebody else has pinned an image.
const OTHERS: &str = "others";
/// How the folder of an image begins that is not noted yet.
const NEW: &str = ".new-";

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
    /// One at a time: two jobs may need one image.
    turn: Mutex<()>,
}

impl Images {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            turn: Mutex::default(),
        }
    }

    /// Keeps an image for a job.
    pub(crate) async fn hold(
        &self,
        store: &dyn ContentStore,
        job: JobId,
        id: ContentId,
    ) -> Result<(), HoldError> {
        let _turn = self.turn.lock().await;
        let folder = self.dir.join(id.to_string());
        let failed = |source| HoldError::Store { id, source };
        if !fs::try_exists(&folder).await.map_err(disk(&folder))? {
            let is_pinned = store.is_pinned(id).await.map_err(failed)?;
            let new = self.dir.join(format!("{NEW}{id}"));
            fs::create_dir_all(&new).await.map_err(disk(&new))?;
            if is_pinned {
                note(&new.join(OTHERS)).await?;
            }
            fs::rename(&new, &folder).await.map_err(disk(&new))?;
        }
        note(&folder.join(hex::encode(job.as_bytes()))).await?;
        store.pin(id).await.map_err(failed)
    }

    /// A job has ended: what no other job needs may go.
    pub(crate) async fn release(&self, store: &dyn ContentStore, job: JobId) -> Result<(), HoldError> {
        self.release_of(store, &hex::encode(job.as_bytes())).await
    }

    /// Lets go of all that a former process has kept: what is needed is fetched again.
    pub(crate) async fn clear(&self, store: &dyn ContentStore) -> Result<(), HoldError> {
        for image in names(&self.dir).await? {
            for job in names(&self.dir.join(image)).await? {
                if job != OTHERS {
                    self.release_of(store, &job).await?;
                }
            }
        }
        Ok(())
    }

    async fn release_of(&self, store: &dyn ContentStore, name: &str) -> Result<(), HoldError> {
        let _turn = self.turn.lock().await;
        for image in names(&self.dir).await? {
            let Ok(id) = image.parse::<ContentId>() else {
                continue;
            };
            let folder = self.dir.join(&image);
            let noted = folder.join(name);
            match fs::remove_file(&noted).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                removed => removed.map_err(disk(&noted))?,
            }
            let left = names(&folder).await?;
            if left.iter().any(|it| it != OTHERS) {
                continue;
            }
            if left.is_empty() {
                let unpinned = store.unpin(id).await;
                unpinned.map_err(|source| HoldError::Store { id, source })?;
            }
            fs::remove_dir_all(&folder).await.map_err(disk(&folder))?;
        }
        Ok(())
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
    use sandrun_content::{EmbeddedConfig, EmbeddedStore, Limits, pack_directory};

    use super::*;

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

    #[tokio::test]
    async fn an_image_is_kept_until_the_last_job_that_needs_it_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (store, id) = store(folder.path()).await;
        let dir = folder.path().join("images");
        let (one, two) = (JobId([1; 32]), JobId([2; 32]));
        let images = Images::new(dir.clone());
        images.hold(&store, one, id).await.unwrap();
        images.hold(&store, two, id).await.unwrap();
        // as after a restart
        let images = Images::new(dir.clone());
        images.hold(&store, one, id).await.unwrap();
        images.release(&store, one).await.unwrap();
        assert!(ContentStore::is_pinned(&store, id).await.unwrap());
        images.release(&store, two).await.unwrap();
        assert!(!ContentStore::is_pinned(&store, id).await.unwrap());
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        images.release(&store, two).await.unwrap();
        images.hold(&store, one, id).await.unwrap();
        Images::new(dir).clear(&store).await.unwrap();
        assert!(!ContentStore::is_pinned(&store, id).await.unwrap());
    }

    #[tokio::test]
    async fn what_somebody_else_has_pinned_stays_so() {
        let folder = tempfile::tempdir().unwrap();
        let (store, id) = store(folder.path()).await;
        store.pin(id).await.unwrap();
        let images = Images::new(folder.path().join("images"));
        let job = JobId([1; 32]);
        images.hold(&store, job, id).await.unwrap();
        images.release(&store, job).await.unwrap();
        assert!(ContentStore::is_pinned(&store, id).await.unwrap());
        assert_eq!(
            std::fs::read_dir(folder.path().join("images")).unwrap().count(),
            0
        );
    }
}
