//! Which contracts to talk to on which chain. Owns the file of known deployments; never guesses an address.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sandrun_types::{Address, ChainId, EscrowRef};
use serde::{Deserialize, Serialize};

/// Environment variable that names a file of deployments.
pub const DEPLOYMENTS_ENV: &str = "SANDRUN_DEPLOYMENTS";

/// Deployments on public chains: none yet.
const BUILT_IN: &str = include_str!("../deployments.json");

/// The contracts of one market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// The chain.
    pub chain: ChainId,
    /// Registry of nodes.
    pub registry: Address,
    /// Escrow of jobs.
    pub escrow: Address,
    /// First block that can hold an event.
    pub deployed_block: u64,
    /// Allowed ERC-20 tokens by symbol, for people; the contract knows its own.
    pub tokens: BTreeMap<String, Address>,
}

/// A deployment as it stands in the file, by chain id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    registry: Address,
    escrow: Address,
    block: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tokens: BTreeMap<String, Address>,
}

/// Why there is no deployment.
#[derive(Debug, thiserror::Error)]
pub enum DeploymentError {
    /// The file can't be read.
    #[error("cannot read the deployments file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file can't be written.
    #[error("cannot write the deployments file {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error(
        "{path} is not a deployments file: {source}; expected {{\"31337\": {{\"registry\": \"0x…\", \"escrow\": \
         \"0x…\", \"block\": 0}}}}"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The chain is not in it.
    #[error(
        "no contracts are known on chain {chain}: give --deployments FILE (SANDRUN_DEPLOYMENTS) with an entry for \
         \"{chain}\", or deploy some with `make deploy-contracts`"
    )]
    UnknownChain {
        /// The chain.
        chain: ChainId,
    },
}

impl Deployment {
    /// The deployment on `chain`: from `file`, else from the file that [`DEPLOYMENTS_ENV`] names, else built in.
    ///
    /// # Errors
    /// A file that can't be read or understood, or a chain that none of them has.
    pub fn lookup(chain: ChainId, file: Option<&Path>) -> Result<Self, DeploymentError> {
        let named = std::env::var_os(DEPLOYMENTS_ENV).map(PathBuf::from);
        let found = match file.map(Path::to_path_buf).or(named) {
            Some(path) => find(chain, &path, &read(&path)?)?,
            None => None,
        };
        match found {
            Some(deployment) => Ok(deployment),
            None => {
                find(chain, Path::new("(built in)"), BUILT_IN)?.ok_or(DeploymentError::UnknownChain { chain })
            }
        }
    }

    /// Writes this deployment into `file`; entries of other chains stay.
    ///
    /// # Errors
    /// A file that can't be read, understood or written.
    pub fn save(&self, file: &Path) -> Result<(), DeploymentError> {
        let mut entries = if file.exists() {
            parse(file, &read(file)?)?
        } else {
            BTreeMap::new()
        };
        let entry = Entry {
            registry: self.registry,
            escrow: self.escrow,
            block: self.deployed_block,
            tokens: self.tokens.clone(),
        };
        entries.insert(self.chain.0, entry);
        let format = |source| DeploymentError::Format {
            path: file.to_owned(),
            source,
        };
        let text = serde_json::to_string_pretty(&entries).map_err(format)?;
        let write = |source| DeploymentError::Write {
            path: file.to_owned(),
            source,
        };
        // readers see the old file or the new one, never half of it
        let half = file.with_extension("json.new");
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(write)?;
        }
        std::fs::write(&half, text + "\n").map_err(write)?;
        std::fs::rename(&half, file).map_err(write)
    }

    /// Chain and escrow: what job ids, commits and digests are bound to.
    pub const fn escrow_ref(&self) -> EscrowRef {
        EscrowRef {
            chain: self.chain,
            escrow: self.escrow,
        }
    }
}

fn read(path: &Path) -> Result<String, DeploymentError> {
    std::fs::read_to_string(path).map_err(|source| DeploymentError::Read {
        path: path.to_owned(),
        source,
    })
}

fn parse(path: &Path, text: &str) -> Result<BTreeMap<u64, Entry>, DeploymentError> {
    serde_json::from_str(text).map_err(|source| DeploymentError::Format {
        path: path.to_owned(),
        source,
    })
}

fn find(chain: ChainId, path: &Path, text: &str) -> Result<Option<Deployment>, DeploymentError> {
    Ok(parse(path, text)?.remove(&chain.0).map(|entry| Deployment {
        chain,
        registry: entry.registry,
        escrow: entry.escrow,
        deployed_block: entry.block,
        tokens: entry.tokens,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(chain: u64) -> Deployment {
        Deployment {
            chain: ChainId(chain),
            registry: Address::repeat_byte(1),
            escrow: Address::repeat_byte(2),
            deployed_block: 7,
            tokens: BTreeMap::from([("TEST".to_owned(), Address::repeat_byte(3))]),
        }
    }

    #[test]
    fn saves_beside_other_chains_and_finds_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("deployments.json");
        deployment(1).save(&file).unwrap();
        deployment(31_337).save(&file).unwrap();
        for chain in [1, 31_337] {
            assert_eq!(
                Deployment::lookup(ChainId(chain), Some(&file)).unwrap(),
                deployment(chain)
            );
        }
        let error = Deployment::lookup(ChainId(5), Some(&file)).unwrap_err();
        assert!(error.to_string().contains("chain 5"), "{error}");
    }

    #[test]
    fn bad_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("d.json");
        let error = Deployment::lookup(ChainId(1), Some(&file)).unwrap_err();
        assert!(matches!(error, DeploymentError::Read { .. }));
        for bad in ["[]", "{\"1\": {\"registry\": \"0x12\"}}", "{\"one\": {}}"] {
            std::fs::write(&file, bad).unwrap();
            let error = Deployment::lookup(ChainId(1), Some(&file)).unwrap_err();
            assert!(matches!(error, DeploymentError::Format { .. }), "{bad}: {error}");
            assert!(error.to_string().contains("d.json"));
        }
    }
}
