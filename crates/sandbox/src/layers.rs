//! The layers of isolation and which of them hold. Owns their names, in `/health` and in receipts; never enforces one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One layer of isolation that is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// User namespace: its own user ids, a user that is not root.
    User,
    /// PID namespace: sees and signals its own processes only.
    Pid,
    /// Mount namespace.
    Mount,
    /// Network namespace without any interface that is up.
    Net,
    /// System V IPC and POSIX message queues of its own.
    Ipc,
    /// Host name of its own.
    Uts,
    /// Control group namespace.
    Cgroup,
    /// Root file system of its own on a tmpfs; the host's is not mounted anywhere in it.
    PivotRoot,
    /// No capability, in no set.
    NoCapabilities,
    /// Set-user-id programs give nothing.
    NoNewPrivileges,
    /// System call filter.
    Seccomp,
    /// Second wall round the file system, abstract sockets and signals.
    Landlock,
    /// Resource limits of each process.
    Rlimits,
}

impl Layer {
    /// Every layer, in the order in which they are shown.
    pub const ALL: [Self; 13] = [
        Self::User,
        Self::Pid,
        Self::Mount,
        Self::Net,
        Self::Ipc,
        Self::Uts,
        Self::Cgroup,
        Self::PivotRoot,
        Self::NoCapabilities,
        Self::NoNewPrivileges,
        Self::Seccomp,
        Self::Landlock,
        Self::Rlimits,
    ];

    /// Whether no job runs without it. All but Landlock, which older kernels lack.
    #[must_use]
    pub const fn is_required(self) -> bool {
        !matches!(self, Self::Landlock)
    }

    /// The name in `/health` and receipts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Pid => "pid",
            Self::Mount => "mount",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::PivotRoot => "pivot_root",
            Self::NoCapabilities => "no_capabilities",
            Self::NoNewPrivileges => "no_new_privileges",
            Self::Seccomp => "seccomp",
            Self::Landlock => "landlock",
            Self::Rlimits => "rlimits",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What bounds a job's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryControl {
    /// Memory controller of control groups, version 2.
    CgroupV2,
    /// Memory controller of control groups, version 1.
    CgroupV1,
    /// A resource limit for each process, and the supervisor adds up what all of them hold.
    Rlimit,
}

/// What bounds a job's number of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessControl {
    /// Pids controller of control groups, version 2, and the resource limit.
    CgroupV2,
    /// Pids controller of control groups, version 1, and the resource limit.
    CgroupV1,
    /// The resource limit of the job's user.
    Rlimit,
}

/// The layers that are on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// Those that are on or off, in the order of [`Layer::ALL`].
    pub on: Vec<Layer>,
    /// Memory.
    pub memory: MemoryControl,
    /// Processes.
    pub processes: ProcessControl,
}

impl Layers {
    /// Whether this layer is on.
    #[must_use]
    pub fn has(&self, layer: Layer) -> bool {
        self.on.contains(&layer)
    }

    /// Names for `/health` and receipts: the layers, then `memory:cgroup_v1` and `processes:cgroup_v1` (or
    /// `cgroup_v2`, or `rlimit`).
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let memory = match self.memory {
            MemoryControl::CgroupV2 => "memory:cgroup_v2",
            MemoryControl::CgroupV1 => "memory:cgroup_v1",
            MemoryControl::Rlimit => "memory:rlimit",
        };
        let processes = match self.processes {
            ProcessControl::CgroupV2 => "processes:cgroup_v2",
            ProcessControl::CgroupV1 => "processes:cgroup_v1",
            ProcessControl::Rlimit => "processes:rlimit",
        };
        let layers = self.on.iter().map(|layer| layer.name());
        layers.chain([memory, processes]).map(str::to_owned).collect()
    }
}
