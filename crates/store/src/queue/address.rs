//! Where a queue lies, and opening it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{QueueReader, QueueStore, QueueStoreError};

/// A SQLite file, or a PostgreSQL database that several replicas share. Shows no password.
#[derive(Clone, PartialEq, Eq)]
pub enum QueueAddress {
    /// A file; made where it is missing, in a folder that is there.
    Sqlite(PathBuf),
    /// A URL `postgres://user:password@host:port/database`, also of a socket (`postgres:///db?host=/run/postgresql`).
    /// Connections are not encrypted: keep it on the machine or on a closed network.
    Postgres(Box<tokio_postgres::Config>),
}

impl QueueAddress {
    /// Whether several processes may use it at once.
    pub const fn is_shared(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(_) => true,
        }
    }
}

impl FromStr for QueueAddress {
    type Err = QueueStoreError;

    fn from_str(text: &str) -> Result<Self, QueueStoreError> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            let config: tokio_postgres::Config = text
                .parse()
                .map_err(|error: tokio_postgres::Error| QueueStoreError::Address(error.to_string()))?;
            if config.get_hosts().is_empty() {
                return Err(QueueStoreError::Address("it names no host".to_owned()));
            }
            return Ok(Self::Postgres(Box::new(config)));
        }
        // one that lacks a slash may hold a password: it is not taken for a file, whose name is shown
        let is_mistyped = text.starts_with("postgres:") || text.starts_with("postgresql:");
        if text.is_empty() || text.contains("://") || is_mistyped {
            return Err(QueueStoreError::Address(
                "only files and PostgreSQL are known".to_owned(),
            ));
        }
        if text.starts_with(':') || text.starts_with("file:") {
            return Err(QueueStoreError::Address(
                "SQLite's own names (`:memory:`, `file:…`) are no files; a file whose name begins so is ./NAME".to_owned(),
            ));
        }
        Ok(Self::Sqlite(PathBuf::from(text)))
    }
}

impl fmt::Display for QueueAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(out, "{}", path.display()),
            Self::Postgres(config) => {
                out.write_str("postgres:")?;
                for (at, host) in config.get_hosts().iter().enumerate() {
                    match host {
                        tokio_postgres::config::Host::Tcp(name) => write!(out, "//{name}")?,
                        tokio_postgres::config::Host::Unix(path) => write!(out, "//{}", path.display())?,
                    }
                    if let Some(port) = config.get_ports().get(at).or(config.get_ports().first()) {
                        write!(out, ":{port}")?;
                    }
                }
                write!(out, "/{}", config.get_dbname().unwrap_or_default())
            }
        }
    }
}

impl fmt::Debug for QueueAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Opens or makes the queue at `address` and brings its tables up to date: the writing side for a thread of its own, and
/// the reading side for everybody.
///
/// # Errors
/// What stands in the way: a file that another process has, a database that does not answer, tables of a later version.
pub async fn open_queue(
    address: &QueueAddress,
) -> Result<(Box<dyn QueueStore>, QueueReader), QueueStoreError> {
    match address {
        QueueAddress::Sqlite(path) => super::sqlite::open(&followed(path)).await,
        QueueAddress::Postgres(config) => super::postgres::open(config).await,
    }
}

/// Most links that lead to a file, as the system counts them.
const LINKS: usize = 40;

/// The file that a path leads to, whether there is one or not: lock and journal lie beside the file, not beside a link to
/// it.
fn followed(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let Ok(target) = std::fs::read_link(&path) else {
            break;
        };
        path = path.with_file_name("").join(target);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let link = |name: &str, to: &str| std::os::unix::fs::symlink(to, at(name)).unwrap();
        std::fs::create_dir(at("data")).unwrap();
        link("one", "two");
        link("two", "data/queue.db");
        assert_eq!(followed(&at("one")), at("data/queue.db"), "there is no file yet");
        std::fs::write(at("data/queue.db"), "").unwrap();
        assert_eq!(followed(&at("one")), at("data/queue.db"));
        assert_eq!(followed(&at("data/queue.db")), at("data/queue.db"));
        let absolute = at("data/queue.db");
        link("three", &absolute.to_string_lossy());
        assert_eq!(followed(&at("three")), absolute);
        link("loop", "loop");
        assert_eq!(followed(&at("loop")), at("loop"));
    }

    #[test]
    fn addresses_are_told_apart_and_show_no_password() {
        let file: QueueAddress = "data/queue.sqlite".parse().unwrap();
        assert_eq!(file, QueueAddress::Sqlite("data/queue.sqlite".into()));
        let shared: QueueAddress = "postgres://me:secret@db.example:5433/pool".parse().unwrap();
        assert!(shared.is_shared());
        assert_eq!(format!("{shared} {shared:?}").matches("secret").count(), 0);
        assert_eq!(shared.to_string(), "postgres://db.example:5433/pool");
        for bad in [
            "",
            "mysql://x/y",
            "postgres:/me:secret@h/x",
            "postgres://me:secret@h:port/x",
            "postgres://",
            ":memory:",
            "file:x.db",
        ] {
            let error = bad.parse::<QueueAddress>().unwrap_err().to_string();
            assert!(error.contains("give a file's path"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
