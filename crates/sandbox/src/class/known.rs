//! The ids of the classes as they were made, and whether they still hold: packages are installed and removed while a
//! service runs. Owns when the system's files are looked at again.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sandrun_types::{ClassId, Interpreter};

use super::{Class, Reader, system, traced};

/// What the ids of the classes with a tracer are made of.
#[derive(Debug)]
pub(crate) struct Ground<'a> {
    /// Programs by name, with their places.
    pub(crate) interpreters: &'a [(Interpreter, PathBuf)],
    /// What jobs see besides the system's own directories.
    pub(crate) dirs: &'a [PathBuf],
    /// Who they are to it.
    pub(crate) jobs: Reader,
    /// Where contents that were read are remembered.
    pub(crate) cache: Option<&'a Path>,
    /// Where environments lie.
    pub(crate) images: Option<&'a Path>,
}

/// All ids of a machine.
#[derive(Debug)]
pub(crate) struct Known {
    ids: Vec<(Class, ClassId)>,
    last: Mutex<Look>,
}

/// A look at the system's files.
#[derive(Debug)]
struct Look {
    at: Instant,
    /// What they were like then.
    stamps: [u8; 32],
    /// Whether the ids held.
    holds: bool,
}

impl Known {
    /// Makes the ids, with that of class `native` among them. Blocking: looks at the whole system.
    pub(crate) fn new(native: ClassId, ground: &Ground<'_>) -> Self {
        let found = system::look(ground.dirs, ground.jobs);
        let own = (Class::Native, native);
        Self {
            ids: [own].into_iter().chain(traced(ground, &found)).collect(),
            last: Mutex::new(Look {
                at: Instant::now(),
                stamps: system::stamps(&found),
                holds: true,
            }),
        }
    }

    /// The ids.
    pub(crate) fn ids(&self) -> &[(Class, ClassId)] {
        &self.ids
    }

    /// Whether the ids are those that would be made now; looks again where the last look is older than this.
    pub(crate) fn hold(&self, ground: &Ground<'_>, older: Duration) -> bool {
        let Ok(mut last) = self.last.lock() else {
            return false;
        };
        if last.at.elapsed() < older {
            return last.holds;
        }
        let found = system::look(ground.dirs, ground.jobs);
        let stamps = system::stamps(&found);
        if stamps != last.stamps {
            // whoever only touches a file changes nothing
            let now = traced(ground, &found);
            last.holds = self
                .ids
                .iter()
                .filter(|(class, _)| *class != Class::Native)
                .eq(&now);
            last.stamps = stamps;
        }
        last.at = Instant::now();
        last.holds
    }
}
