//! How a sandbox is set up. Owns the settings and their defaults; never touches the system.

use std::ffi::OsString;
use std::path::PathBuf;

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
    /// at the same place. One that does not exist is left out.
    pub extra_dirs: Vec<PathBuf>,
    /// Control groups.
    pub cgroups: CgroupPolicy,
    /// Where images lie, each in a directory named by its content id; must exist before the sandbox starts. Jobs see
    /// the one that they name.
    pub environments_dir: Option<PathBuf>,
}

impl SandboxConfig {
    /// Default settings with this launcher command.
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
        }
    }
}
