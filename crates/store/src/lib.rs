//! What must survive `kill -9`: journals and tables in SQLite, the queue also in PostgreSQL.
//!
//! Owns files, schemas and their migrations, and the durability of what was written. Never decides anything, and
//! speaks to no network but to the PostgreSQL that it is told of. A write returns after the disk has it.

mod index;
mod journal;
mod lock;
pub mod queue;
mod sqlite;

pub use index::{EventChange, EventKey, Index, IndexBatch, IndexError, JobChange, JobFilter};
pub use journal::{Journal, JournalError, Note};
pub use lock::LockFile;
pub use sqlite::{Migration, OpenError, open_database};
