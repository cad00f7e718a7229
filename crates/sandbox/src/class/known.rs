//! The ids of the classes as they were made, and whether they still hold: packages are installed and removed while a
//! service runs. Owns when the system's files are looked at again.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Whether the ids held at the last look, for who does not wait for the next one.
    holds: AtomicBool,
}

/// A look at the system's files.
#[derive(Debug)]
struct Look {
    at: Instant,
    /// What they were like then.
    stamps: [u8; 32],
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
            }),
            holds: AtomicBool::new(true),
        }
    }

    /// The ids.
    pub(crate) fn ids(&self) -> &[(Class, ClassId)] {
        &self.ids
    }

    /// Those that held at the last look at the system's files. Never waits for one.
    pub(crate) fn held(&self) -> Vec<(Class, ClassId)> {
        let holds = self.holds.load(Ordering::Relaxed);
        let ids = self.ids.iter().copied();
        ids.filter(|(class, _)| holds || *class == Class::Native)
            .collect()
    }

    /// Whether the ids are those that would be made now; looks again where the last look is older than this.
    pub(crate) fn hold(&self, ground: &Ground<'_>, older: Duration) -> bool {
        let Ok(mut last) = self.last.lock() else {
            return false;
        };
        if last.at.elapsed() < older {
            return self.holds.load(Ordering::Relaxed);
        }
        let found = system::look(ground.dirs, ground.jobs);
        let stamps = system::stamps(&found);
        if stamps != last.stamps {
            // whoever only touches a file changes nothing
            let now = traced(ground, &found);
            self.note(self.traced().eq(now.iter().copied()));
            last.stamps = stamps;
        }
        last.at = Instant::now();
        self.holds.load(Ordering::Relaxed)
    }

    /// Those of the classes with a tracer.
    fn traced(&self) -> impl Iterator<Item = (Class, ClassId)> {
        let ids = self.ids.iter().copied();
        ids.filter(|(class, _)| *class != Class::Native)
    }

    /// Takes note of whether the ids hold, and says so where that is new.
    fn note(&self, holds: bool) {
        let held = self.holds.swap(holds, Ordering::Relaxed);
        let classes: Vec<_> = self.traced().map(|(class, _)| class.to_string()).collect();
        match (held, holds) {
            (true, false) => tracing::warn!(
                ?classes,
                "this machine's programs or libraries were changed: these classes are withdrawn until the service is \
                 started anew"
            ),
            (false, true) => tracing::info!(
                ?classes,
                "this machine's programs and libraries are what they were: these classes are offered again"
            ),
            (true, true) | (false, false) => {}
        }
    }
}
