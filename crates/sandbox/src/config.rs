//! How a sandbox is set up. Owns the settings and their defaults; never touches the system.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whether jobs are put in control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum CgroupPolicy {
    /// Version 2 or 1 where they can be used, else resource limits alone; [`crate::Layers`] says which.
    #[default]
    Auto,
    /// Starting fails where there are none that can be used.
    Required,
    /// Never, for machines where something else owns them.
    Off,
}

/// Settings of a [`crate::Sandbox`].
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// Command that ends up in [`crate::supervisor_main`], program first: `[current_exe, "__sandbox"]`.
    pub launcher: Vec<OsString>,
    /// Where interpreters are looked for, in this order; never in the service's `PATH`.
    pub interpreter_dirs: Vec<PathBuf>,
    /// What of the host a job may read besides `/usr`, `/lib`, `/lib64`, `/bin` and `/sbin`; each is bound read-only
    /// at the same place. One that does not exist is left out. Class ids cover what lies there.
    pub extra_dirs: Vec<PathBuf>,
    /// Control groups.
    pub cgroups: CgroupPolicy,
    /// Where images lie, each in a directory named by its content id; must exist before the sandbox starts. Jobs see
    /// the one that they name.
    pub environments_dir: Option<PathBuf>,
    /// Where this machine's programs and libraries are remembered by their content, of which the ids of the classes
    /// with a tracer are made; `None` reads them all at every start. Another user must not be able to write there.
    pub cache_dir: Option<PathBuf>,
    /// How often those programs and libraries are looked at again before a job of a class with a tracer; where they
    /// were changed, it is refused.
    pub system_check: Duration,
    /// A supervisor that has not told a job's end so long after the job's limit is given up.
    pub grace: Duration,
}

/// See [`SandboxConfig::grace`].
pub(crate) const GRACE: Duration = Duration::from_secs(60);
/// See [`SandboxConfig::system_check`].
const SYSTEM_CHECK: Duration = Duration::from_secs(600);

impl SandboxConfig {
    /// Default settings with this launcher command; the cache lies where the user's caches do (`XDG_CACHE_HOME`, or
    /// `.cache` in `HOME`).
    #[must_use]
    pub fn new(launcher: Vec<OsString>) -> Self {
        Self {
            launcher,
            interpreter_dirs: ["/usr/bin", "/usr/local/bin"].map(PathBuf::from).to_vec(),
            extra_dirs: ["/etc/alternatives", "/etc/R", "/etc/java-17-openjdk"]
                .map(PathBuf::from)
                .to_vec(),
            cgroups: CgroupPolicy::Auto,
            environments_dir: None,
            cache_dir: user_cache(),
            system_check: SYSTEM_CHECK,
            grace: GRACE,
        }
    }
}

fn user_cache() -> Option<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute())
    };
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(caches.join("sandrun-pool"))
}
