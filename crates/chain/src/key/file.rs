//! Key files. Owns their formats and permissions; an existing file is never overwritten.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use alloy::signers::local::PrivateKeySigner;

use super::{Key, KeyError};

/// Environment variable with the password of a keystore.
const PASSWORD_ENV: &str = "SANDRUN_KEY_PASSWORD";

/// Where a keystore's password is from.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// The first line of a file that its owner alone can read.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "Password(file {})", path.display()),
            Self::Env(name) => write!(f, "Password(variable {name})"),
        }
    }
}

impl Password {
    fn read(&self) -> Result<String, KeyError> {
        match self {
            Self::File(path) => {
                let text = read_private(path).map_err(|error| {
                    if let KeyError::Read { path, source } = error {
                        KeyError::ReadPassword { path, source }
                    } else {
                        error
                    }
                })?;
                Ok(text.lines().next().unwrap_or_default().to_owned())
            }
            Self::Env(name) => std::env::var(name).map_err(|_| KeyError::NoVariable { name: name.clone() }),
        }
    }
}

pub(super) fn load(path: &Path, password: Option<&Password>) -> Result<Key, KeyError> {
    let text = read_private(path)?;
    if !text.trim_start().starts_with('{') {
        return Key::from_hex(&text, &path.display().to_string());
    }
    let from_env = Password::Env(PASSWORD_ENV.to_owned());
    let password = match password {
        Some(password) => password.read()?,
        None => from_env.read().map_err(|_| KeyError::NoPassword {
            path: path.to_owned(),
        })?,
    };
    let opened = PrivateKeySigner::decrypt_keystore(path, password);
    opened.map(Key).map_err(|error| KeyError::Keystore {
        path: path.to_owned(),
        detail: error.to_string(),
    })
}

/// Reads a file that must be its owner's alone.
fn read_private(path: &Path) -> Result<String, KeyError> {
    let read = |source| KeyError::Read {
        path: path.to_owned(),
        source,
    };
    let mode = std::fs::metadata(path).map_err(read)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::TooOpen {
            path: path.to_owned(),
            mode,
        });
    }
    let bytes = std::fs::read(path).map_err(read)?;
    String::from_utf8(bytes).map_err(|_| KeyError::NotAKey {
        from: path.display().to_string(),
    })
}

/// Writes a new file that its owner alone can read, from its first moment on.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let write = |source: std::io::Error| {
        let path = path.to_owned();
        if source.kind() == std::io::ErrorKind::AlreadyExists {
            KeyError::Exists { path }
        } else {
            KeyError::Write { path, source }
        }
    };
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(write)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(write)
}

/// The library writes its file with the usual mode: it does so inside a private folder, and the file is moved out once
/// it is closed to others.
pub(super) fn write_keystore(
    path: &Path,
    key: &PrivateKeySigner,
    password: &Password,
) -> Result<(), KeyError> {
    let write = |source| KeyError::Write {
        path: path.to_owned(),
        source,
    };
    let password = password.read()?;
    let parent = path
        .parent()
        .filter(|it| !it.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    let room = parent.join(format!(".keystore-{}", hex::encode(rand::random::<[u8; 8]>())));
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
        .create(&room)
        .map_err(write)?;
    let written = encrypt(&room, key, &password, path).and_then(|text| write_new(path, text.as_bytes()));
    let cleaned = std::fs::remove_dir_all(&room).map_err(write);
    written.and(cleaned)
}

fn encrypt(room: &Path, key: &PrivateKeySigner, password: &str, path: &Path) -> Result<String, KeyError> {
    let secret = key.to_bytes();
    PrivateKeySigner::encrypt_keystore(
        room,
        &mut rand::rngs::OsRng,
        secret.as_slice(),
        password,
        Some("key"),
    )
    .map_err(|error| KeyError::Keystore {
        path: path.to_owned(),
        detail: error.to_string(),
    })?;
    std::fs::read_to_string(room.join("key")).map_err(|source| KeyError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generates_private_files_and_loads_them_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let key = Key::generate(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(Key::load(&path, None).unwrap().address(), key.address());
        assert!(
            matches!(Key::generate(&path), Err(KeyError::Exists { .. })),
            "never overwrites"
        );
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        Key::generate(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Key::load(&path, None).unwrap_err().to_string();
        assert!(error.contains("0640") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn keystores_open_with_their_password_only() {
        let dir = tempfile::tempdir().unwrap();
        let (path, secret, wrong) = (
            dir.path().join("ks"),
            dir.path().join("pw"),
            dir.path().join("wrong"),
        );
        write_new(&secret, b"correct horse\n").unwrap();
        write_new(&wrong, b"battery\n").unwrap();
        let key = Key::generate_keystore(&path, &Password::File(secret.clone())).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            3,
            "nothing is left behind"
        );
        assert_eq!(
            Key::load(&path, Some(&Password::File(secret))).unwrap().address(),
            key.address()
        );
        assert!(matches!(
            Key::load(&path, Some(&Password::File(wrong))),
            Err(KeyError::Keystore { .. })
        ));
        assert!(matches!(Key::load(&path, None), Err(KeyError::NoPassword { .. })));
    }

    #[test]
    fn nothing_prints_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let secret = "11".repeat(31);
        write_new(&path, secret.as_bytes()).unwrap();
        let error = Key::load(&path, None).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("1111"), "{error:?}");
        let key = Key::from_hex(&"11".repeat(32), "a test").unwrap();
        assert!(!format!("{key:?}").contains("1111"));
    }
}
