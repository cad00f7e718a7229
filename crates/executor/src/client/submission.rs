//! What a client submits.

use std::path::PathBuf;

use sandrun_types::{Attempt, BundlePath, ClassId, Manifest};

use crate::origin::Origin;

/// The bytes of one file.
#[derive(Clone, Debug)]
pub enum FileContent {
    /// In memory.
    Bytes(Vec<u8>),
    /// On disk; it is streamed.
    Path(PathBuf),
}

/// Files and a manifest. A `.tar.gz`, `.tgz` or `.zip` among the files is unpacked by the service.
#[derive(Clone, Debug, Default)]
pub struct Submission {
    pub(super) files: Vec<(BundlePath, FileContent)>,
    pub(super) manifest: Option<String>,
    pub(super) key: Option<String>,
    pub(super) class: Option<ClassId>,
    pub(super) origin: Origin,
}

impl Submission {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file under its name in the bundle.
    #[must_use]
    pub fn file(mut self, name: BundlePath, content: FileContent) -> Self {
        self.files.push((name, content));
        self
    }

    /// Sets the manifest, in its canonical form.
    #[must_use]
    pub fn manifest(self, manifest: &Manifest) -> Self {
        let text = String::from_utf8_lossy(&manifest.canonical_bytes()).into_owned();
        self.manifest_text(text)
    }

    /// Asks for an exact class, whatever the manifest leaves open.
    #[must_use]
    pub fn class(mut self, class: ClassId) -> Self {
        self.class = Some(class);
        self
    }

    /// Names the submission: an executor that was sent the same name before answers with the run that it has, or with 409
    /// as long as that upload is under way; an executor of old runs it once more. 32 to 128 letters and digits that
    /// nobody guesses: whoever knows them knows the run.
    #[must_use]
    pub fn idempotency_key(mut self, key: String) -> Self {
        self.key = Some(key);
        self
    }

    /// Says for whom it is: a job, an attempt and a node as the service knows them that this comes from. The executor puts
    /// them into its log.
    #[must_use]
    pub fn origin(mut self, job: String, attempt: Attempt, node: String) -> Self {
        self.origin = Origin {
            job: Some(job),
            attempt: Some(attempt.0),
            node: Some(node),
            ..self.origin
        };
        self
    }

    /// Says for which seat of a market's job it is: node and round. It goes into the executor's log too.
    #[must_use]
    pub fn seat(mut self, seat: String) -> Self {
        self.origin.seat = Some(seat);
        self
    }

    /// Sets the manifest as it was written, for the service to check.
    #[must_use]
    pub fn manifest_text(mut self, text: String) -> Self {
        self.manifest = Some(text);
        self
    }
}
