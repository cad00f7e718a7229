//! Keys. Owns loading, creating and using a secp256k1 key; a secret never reaches a log, an error or a debug print.
//! Never sends anything.

mod file;

use std::fmt;
use std::path::{Path, PathBuf};

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolStruct as _, eip712_domain};
use sandrun_types::{Address, B256, ChainId};
use sha2::{Digest as _, Sha256};

pub use file::Password;

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can't be read.
    #[error("cannot read the key file {path}: {source}; `sandrun-pool keys new {path}` makes a new key")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The password's file can't be read.
    #[error(
        "cannot read the password file {path}: {source}; write the keystore's password into it, mode 0600"
    )]
    ReadPassword {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is a file already: it may hold the only copy of a key.
    #[error("{path} exists already and is never overwritten: choose another path, or move it away")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file can't be written.
    #[error("cannot write the key file {path}: {source}; check that its folder is there and writable")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others can read the secret.
    #[error(
        "the secret in {path} can be read by others (mode {mode:04o}): run `chmod 600 {path}`, or take a new one"
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Neither a hex key nor a keystore.
    #[error("{from} holds no key: expected 64 hex digits or a keystore (version 3) in JSON")]
    NotAKey {
        /// File or variable.
        from: String,
    },
    /// A keystore without a password.
    #[error(
        "the keystore {path} needs a password: give --password-file FILE (SANDRUN_PASSWORD_FILE), or set \
         SANDRUN_KEY_PASSWORD"
    )]
    NoPassword {
        /// The file.
        path: PathBuf,
    },
    /// The keystore does not open.
    #[error("the keystore {path} does not open ({detail}): is the password right?")]
    Keystore {
        /// The file.
        path: PathBuf,
        /// What the library said.
        detail: String,
    },
    /// The variable is not set.
    #[error(
        "the environment variable {name} is not set: put the key there as 64 hex digits, or give a key file"
    )]
    NoVariable {
        /// Its name.
        name: String,
    },
    /// The signature failed.
    #[error("cannot sign {what}: {detail}")]
    Sign {
        /// What was to be signed.
        what: &'static str,
        /// Why.
        detail: String,
    },
}

/// A secp256k1 key: an account's or a worker's.
#[derive(Clone)]
pub struct Key(PrivateKeySigner);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.address())
    }
}

impl Key {
    /// Loads a key file: 64 hex digits, or a keystore of version 3 with `password`. The file must be readable by its
    /// owner alone.
    ///
    /// # Errors
    /// A file that is missing, open to others, or no key; a keystore that does not open.
    pub fn load(path: &Path, password: Option<&Password>) -> Result<Self, KeyError> {
        file::load(path, password)
    }

    /// Makes a new key and writes it to `path` as hex, readable by its owner alone.
    ///
    /// # Errors
    /// A file that exists already or can't be written.
    pub fn generate(path: &Path) -> Result<Self, KeyError> {
        let key = Self(PrivateKeySigner::random());
        file::write_new(path, format!("0x{}\n", hex::encode(key.0.to_bytes())).as_bytes())?;
        Ok(key)
    }

    /// Makes a new key and writes it to `path` as a keystore of version 3.
    ///
    /// # Errors
    /// A file that exists already or can't be written, a password that can't be had.
    pub fn generate_keystore(path: &Path, password: &Password) -> Result<Self, KeyError> {
        let key = Self(PrivateKeySigner::random());
        file::write_keystore(path, &key.0, password)?;
        Ok(key)
    }

    /// A fresh key that is written nowhere.
    pub fn random() -> Self {
        Self(PrivateKeySigner::random())
    }

    /// Reads a key of 64 hex digits from the environment variable `name`.
    ///
    /// # Errors
    /// A variable that is not set or holds no key.
    pub fn from_env(name: &str) -> Result<Self, KeyError> {
        let text = std::env::var(name).map_err(|_| KeyError::NoVariable {
            name: name.to_owned(),
        })?;
        Self::from_hex(&text, &format!("the environment variable {name}"))
    }

    /// Reads 64 hex digits; `from` names where they are from, for the error.
    ///
    /// # Errors
    /// Text that is no key.
    pub fn from_hex(text: &str, from: &str) -> Result<Self, KeyError> {
        text.trim().parse().map(Self).map_err(|_| KeyError::NotAKey {
            from: from.to_owned(),
        })
    }

    /// The account that it controls.
    pub const fn address(&self) -> Address {
        self.0.address()
    }

    /// Signs, as a worker key, the registration of a node of `account` at `registry`: 65 bytes.
    ///
    /// # Errors
    /// A signature that fails.
    pub fn sign_registration(
        &self,
        chain: ChainId,
        registry: Address,
        account: Address,
    ) -> Result<[u8; 65], KeyError> {
        let domain = eip712_domain! {
            name: "Sandrun Registry",
            version: "1",
            chain_id: chain.0,
            verifying_contract: registry,
        };
        let hash = crate::abi::WorkerKey { account }.eip712_signing_hash(&domain);
        let signature = self.sign_hash(&hash, "the registration")?;
        Ok(signature.as_bytes())
    }

    pub(crate) fn sign_transaction(&self, tx: TxEip1559) -> Result<TxEnvelope, KeyError> {
        let signature = self.sign_hash(&tx.signature_hash(), "the transaction")?;
        Ok(tx.into_signed(signature).into())
    }

    fn sign_hash(&self, hash: &B256, what: &'static str) -> Result<alloy::primitives::Signature, KeyError> {
        self.0.sign_hash_sync(hash).map_err(|error| KeyError::Sign {
            what,
            detail: error.to_string(),
        })
    }
}

/// What a node's Ed25519 worker key signs to bind itself to `account`; see `IRegistry.workerKeyMessage`.
pub fn worker_key_message(chain: ChainId, registry: Address, account: Address) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"sandrun-worker-key-v1");
    hasher.update(B256::left_padding_from(&chain.0.to_be_bytes()));
    hasher.update(registry);
    hasher.update(account);
    hasher.finalize().into()
}
