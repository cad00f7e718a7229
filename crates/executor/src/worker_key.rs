//! The worker key: the Ed25519 key by which an executor is known and with which it signs.
//!
//! Owns the key file (PKCS#8 PEM, RFC 8410, mode 0600) and every signature. Never prints or logs the key.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{self, DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use ed25519_dalek::{Signer as _, SigningKey};
use rand::RngCore as _;
use rand::rngs::OsRng;
use sandrun_types::WorkerId;
use thiserror::Error;

/// A key file cannot be written or used.
#[derive(Debug, Error)]
pub enum WorkerKeyError {
    /// There is a file already.
    #[error("{} exists already; choose another path, or move it away first", .0.display())]
    Exists(PathBuf),
    /// The key file cannot be written.
    #[error("cannot write the worker key {}", path.display())]
    Write {
        /// The key file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key file cannot be read.
    #[error("cannot read the worker key {}; make one with --generate-key {}", path.display(), path.display())]
    Read {
        /// The key file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner may read or write the file.
    #[error(
        "the worker key {} is open to others (mode {mode:03o}); make it yours alone: chmod 600 {}",
        path.display(), path.display()
    )]
    OpenToOthers {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds no Ed25519 private key.
    #[error(
        "{} holds no Ed25519 private key in PKCS#8 PEM; make one with --generate-key, or with \
         openssl genpkey -algorithm ed25519", path.display()
    )]
    Format {
        /// The key file.
        path: PathBuf,
        /// What the decoder says.
        source: pkcs8::Error,
    },
    /// The key cannot be encoded.
    #[error("cannot encode the new worker key")]
    Encode(#[source] pkcs8::Error),
}

/// An executor's signing key. Shows nothing but its public half.
#[derive(Clone)]
pub struct WorkerKey(SigningKey);

impl WorkerKey {
    /// The key of this seed, for tests and for those who keep seeds elsewhere.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public key, which is the worker's id.
    #[must_use]
    pub fn worker_id(&self) -> WorkerId {
        WorkerId(self.0.verifying_key().to_bytes())
    }

    /// The Ed25519 signature (RFC 8032) over these bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for WorkerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerKey({})", self.worker_id())
    }
}

/// Writes a new key to `path` (mode 0600) and returns its id. A file that is there is never overwritten.
///
/// # Errors
/// [`WorkerKeyError::Exists`], [`WorkerKeyError::Write`] or [`WorkerKeyError::Encode`].
pub fn generate(path: &Path) -> Result<WorkerId, WorkerKeyError> {
    let mut seed = [0; 32];
    OsRng.fill_bytes(&mut seed);
    let key = WorkerKey::from_seed(&seed);
    let private = KeypairBytes {
        secret_key: seed,
        public_key: None,
    };
    // Without the public key (RFC 5958), which some OpenSSL releases refuse to read in a private key file.
    let pem = private
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(WorkerKeyError::Encode)?;
    let write = |source: io::Error| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            return WorkerKeyError::Exists(path.to_owned());
        }
        WorkerKeyError::Write {
            path: path.to_owned(),
            source,
        }
    };
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(write)?;
    file.write_all(pem.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(write)?;
    Ok(key.worker_id())
}

/// Loads a key file that [`generate`] or `openssl genpkey -algorithm ed25519` made.
///
/// # Errors
/// [`WorkerKeyError::Read`], [`WorkerKeyError::OpenToOthers`] or [`WorkerKeyError::Format`].
pub fn load(path: &Path) -> Result<WorkerKey, WorkerKeyError> {
    let read = |source| WorkerKeyError::Read {
        path: path.to_owned(),
        source,
    };
    let file = fs::File::open(path).map_err(read)?;
    let mode = file.metadata().map_err(read)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(WorkerKeyError::OpenToOthers {
            path: path.to_owned(),
            mode,
        });
    }
    let pem = io::read_to_string(io::Read::take(file, 64 * 1024)).map_err(read)?;
    SigningKey::from_pkcs8_pem(&pem)
        .map(WorkerKey)
        .map_err(|source| WorkerKeyError::Format {
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandrun_types::verify_signature;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_generated_key_loads_and_signs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.pem");
        let id = generate(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let key = load(&path).unwrap();
        assert_eq!(key.worker_id(), id);
        assert!(verify_signature(b"x", &key.sign(b"x"), id).is_ok());
        assert!(verify_signature(b"y", &key.sign(b"x"), id).is_err());
        assert!(matches!(generate(&path), Err(WorkerKeyError::Exists(_))));
        assert!(!format!("{key:?}").contains(&hex::encode(key.0.to_bytes())));
    }

    #[test]
    fn a_key_that_openssl_made_loads() {
        // openssl genpkey -algorithm ed25519; its public key by openssl pkey -pubout
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                   -----END PRIVATE KEY-----\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("openssl.pem");
        fs::write(&path, pem).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        // RFC 8410, section 10.3: this private key's public key
        assert_eq!(
            load(&path).unwrap().worker_id().to_string(),
            "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="
        );
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.pem");
        generate(&path).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load(&path).unwrap_err();
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.pem");
        assert!(matches!(load(&path), Err(WorkerKeyError::Read { .. })));
        fs::write(&path, "hello").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(load(&path), Err(WorkerKeyError::Format { .. })));
    }
}
