//! What is sent to a worker: a job's files and manifest, and our own commitment to them.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use futures::TryStreamExt as _;
use sandrun_executor::{
    Commitment, CommitmentError, FileContent, Submission, UploadedFile, commitment, is_archive,
};
use sandrun_store::queue::{BlobHash, QueueStoreError};
use sandrun_types::{BundlePath, InputFile, Interpreter, Manifest, Sha256Hex, job_hash};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use super::pack::pack;
use crate::broker::{ApiError, App, Program, StoredRequest, main_file, parents};

/// Files up to this many bytes are kept in memory on their way; longer ones go by a file.
const SMALL: u64 = 256 << 10;

/// The archive in which archives travel that are to stay what they are; no file of this name arrives.
const PACKED: &str = "parents.tar.gz";

/// A job that is ready to be sent.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) submission: Submission,
    /// What the receipt has to say.
    pub(super) job_hash: Sha256Hex,
    /// The manifest that an executor goes by.
    pub(super) manifest: Manifest,
    /// Holds the long files; goes with the bundle.
    _folder: Option<TempDir>,
}

/// A job that can't be sent.
#[derive(Debug)]
pub(super) enum Unsendable {
    /// No worker would take it.
    Bad(String),
    /// Not now.
    Later(String),
}

impl From<ApiError> for Unsendable {
    fn from(error: ApiError) -> Self {
        Self::Later(error.message)
    }
}

impl From<QueueStoreError> for Unsendable {
    fn from(error: QueueStoreError) -> Self {
        Self::Later(error.to_string())
    }
}

fn disk(error: io::Error) -> Unsendable {
    Unsendable::Later(format!(
        "a file could not be kept on its way to the worker: {error}"
    ))
}

/// A file on its way.
struct Loaded {
    name: BundlePath,
    content: FileContent,
    fact: InputFile,
}

fn loaded(name: &str, content: FileContent, fact: InputFile) -> Result<Loaded, Unsendable> {
    let name = BundlePath::parse(name).map_err(|error| Unsendable::Bad(error.to_string()))?;
    Ok(Loaded { name, content, fact })
}

/// Makes a job ready.
pub(super) async fn bundle(app: &App, request: &StoredRequest) -> Result<Bundle, Unsendable> {
    let mut loader = Loader {
        app,
        files: Vec::new(),
        packed: Vec::new(),
        spooled: 0,
        folder: None,
    };
    let manifest = match &request.program {
        Program::Code {
            code,
            interpreter,
            args,
        } => {
            let known = Interpreter::parse(interpreter).unwrap_or(Interpreter::Python3);
            let name = main_file(known);
            loader.text(name, code)?;
            // one that an earlier version has stored may be longer
            let timeout = request.timeout.clamp(1, Manifest::MAX_TIMEOUT);
            Some(json!({"entrypoint": name, "interpreter": interpreter, "args": args, "timeout": timeout}))
        }
        Program::Bundle { manifest, files } => {
            for file in files {
                loader.stored(&file.path, file.blob, file.size).await?;
            }
            manifest.clone()
        }
    };
    for parent in parents(app, &request.after).await? {
        for file in &parent.files {
            let name = match parent.into.as_str() {
                "" => file.path.clone(),
                into => format!("{into}/{}", file.path),
            };
            // what parents leave stays as it is; only the client's own archives are unpacked
            if is_archive(&name) {
                loader.packed(&name, file.blob, file.size).await?;
            } else {
                loader.stored(&name, file.blob, file.size).await?;
            }
        }
    }
    loader.finish(manifest.as_ref().map(Value::to_string)).await
}

struct Loader<'a> {
    app: &'a App,
    files: Vec<Loaded>,
    /// Archives that are to arrive as files.
    packed: Vec<Loaded>,
    /// Files in the folder.
    spooled: usize,
    folder: Option<TempDir>,
}

impl Loader<'_> {
    fn text(&mut self, name: &str, text: &str) -> Result<(), Unsendable> {
        let fact = InputFile {
            sha256: Sha256Hex::of(text.as_bytes()),
            size_bytes: text.len() as u64,
        };
        let content = FileContent::Bytes(text.as_bytes().to_vec());
        self.files.push(loaded(name, content, fact)?);
        Ok(())
    }

    async fn stored(&mut self, name: &str, blob: BlobHash, size: u64) -> Result<(), Unsendable> {
        let file = self.load(name, blob, size).await?;
        self.files.push(file);
        Ok(())
    }

    async fn packed(&mut self, name: &str, blob: BlobHash, size: u64) -> Result<(), Unsendable> {
        let file = self.load(name, blob, size).await?;
        self.packed.push(file);
        Ok(())
    }

    async fn load(&mut self, name: &str, blob: BlobHash, size: u64) -> Result<Loaded, Unsendable> {
        let fact = InputFile {
            sha256: Sha256Hex(blob.0),
            size_bytes: size,
        };
        if let Some(bytes) = self.app.recent.get(blob) {
            return loaded(name, FileContent::Bytes(bytes.to_vec()), fact);
        }
        let found = self.app.reader.get_blob(blob).await?;
        let (_, mut body) =
            found.ok_or_else(|| Unsendable::Bad(format!("its file {name} is not kept any more")))?;
        let mut file = None;
        let mut bytes = Vec::new();
        if size > SMALL {
            let at = self.folder()?.join(self.spooled.to_string());
            self.spooled += 1;
            let open = tokio::fs::File::create_new(&at).await.map_err(disk)?;
            file = Some((open, at));
        }
        while let Some(piece) = body.try_next().await.map_err(disk)? {
            match &mut file {
                Some((file, _)) => file.write_all(&piece).await.map_err(disk)?,
                None => bytes.extend_from_slice(&piece),
            }
        }
        let content = match file {
            Some((mut file, at)) => {
                file.flush().await.map_err(disk)?;
                FileContent::Path(at)
            }
            None => FileContent::Bytes(bytes),
        };
        loaded(name, content, fact)
    }

    /// Puts the archives that are to arrive as files into one that is unpacked.
    async fn pack(&mut self) -> Result<(), Unsendable> {
        let packed: Vec<(BundlePath, FileContent, u64)> = std::mem::take(&mut self.packed)
            .into_iter()
            .map(|file| (file.name, file.content, file.fact.size_bytes))
            .collect();
        if packed.is_empty() {
            return Ok(());
        }
        let at = self.folder()?.join(PACKED);
        let content = FileContent::Path(at.clone());
        let done = tokio::task::spawn_blocking(move || pack(&at, &packed)).await;
        done.map_err(|error| Unsendable::Later(error.to_string()))?
            .map_err(disk)?;
        // of what is unpacked only the files in it count
        let fact = InputFile {
            sha256: Sha256Hex::of(b""),
            size_bytes: 0,
        };
        self.files.push(loaded(PACKED, content, fact)?);
        Ok(())
    }

    fn folder(&mut self) -> Result<std::path::PathBuf, Unsendable> {
        let folder = match self.folder.take() {
            Some(folder) => folder,
            None => tempfile::tempdir().map_err(disk)?,
        };
        let path = folder.path().to_owned();
        self.folder = Some(folder);
        Ok(path)
    }

    async fn finish(mut self, manifest: Option<String>) -> Result<Bundle, Unsendable> {
        self.pack().await?;
        let unpacks = self.files.iter().any(|file| is_archive(file.name.as_str()))
            || manifest.is_none() && self.files.iter().any(|file| file.name.as_str() == "job.json");
        let Commitment {
            job_hash,
            manifest: known,
        } = if unpacks {
            self.unpacked(manifest.clone()).await?
        } else {
            let parsed = manifest
                .as_deref()
                .map(|text| Manifest::parse(text.as_bytes()))
                .transpose();
            let parsed = parsed.map_err(|error| Unsendable::Bad(error.to_string()))?;
            let facts: BTreeMap<BundlePath, InputFile> = self
                .files
                .iter()
                .map(|file| (file.name.clone(), file.fact))
                .collect();
            let manifest = parsed.unwrap_or_default();
            Commitment {
                job_hash: job_hash(manifest.digest(), &facts),
                manifest,
            }
        };
        let mut submission = Submission::new();
        for file in self.files {
            submission = submission.file(file.name, file.content);
        }
        if let Some(text) = manifest {
            submission = submission.manifest_text(text);
        }
        Ok(Bundle {
            submission,
            job_hash,
            manifest: known,
            _folder: self.folder,
        })
    }

    /// The commitment where archives have to be looked into: as an executor does it, in a folder of its own.
    async fn unpacked(&mut self, manifest: Option<String>) -> Result<Commitment, Unsendable> {
        let folder = self.folder()?;
        let files: Vec<(String, FileContent)> = self
            .files
            .iter()
            .map(|file| (file.name.as_str().to_owned(), file.content.clone()))
            .collect();
        let work = move || {
            let files = spool(&folder, files).map_err(disk)?;
            let manifest = manifest.map(String::into_bytes);
            commitment(files, manifest, &folder.join("unpacked")).map_err(|error| match error {
                CommitmentError::Bad(words) => Unsendable::Bad(words),
                CommitmentError::Disk { .. } => Unsendable::Later(error.to_string()),
            })
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| Unsendable::Later(error.to_string()))?
    }
}

/// Puts files where they may be removed.
fn spool(folder: &Path, files: Vec<(String, FileContent)>) -> io::Result<Vec<UploadedFile>> {
    let mut spooled = Vec::new();
    for (number, (name, content)) in files.into_iter().enumerate() {
        let at = folder.join(format!("spool-{number}"));
        match content {
            FileContent::Bytes(bytes) => std::fs::write(&at, bytes)?,
            FileContent::Path(path) => std::fs::hard_link(path, &at)?,
        }
        spooled.push(UploadedFile { name, at });
    }
    Ok(spooled)
}
