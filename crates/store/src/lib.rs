//! What must survive `kill -9`: journals and tables in SQLite.
//!
//! Owns files, schemas and their migrations, and the durability of what was written. Never decides anything and never
//! speaks to a network. Everything here is synchronous; a write returns after the disk has it.

mod index;
mod journal;
mod lock;
mod sqlite;

pub use index::{EventChange, EventKey, Index, IndexBatch, IndexError, JobChange, JobFilter};
pub use journal::{Journal, JournalError, Note};
pub use lock::LockFile;
pub use sqlite::{Migration, OpenError, open_database};
