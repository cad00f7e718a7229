//! The probe: with every layer on, tries to get past each, and says on stdout what it could do.
//!
//! Runs in the place of a job's program, after the system call filter is in force. Never harms: what it tries would be
//! harmless if it worked.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};
use serde::{Deserialize, Serialize};

use super::identity::INSIDE;
use super::template::LANDLOCK_CANARY;
use crate::sys::{self, Forked};
use crate::wire::ProbePlan;
use crate::{Layer, Limits};

/// What the probe found about one layer: nothing that got past it, or what did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// The layer.
    pub(crate) layer: Layer,
    /// How it was got past; empty if it held.
    pub(crate) breach: String,
}

/// Carries out a plan and ends this process.
pub(super) fn run(plan: &ProbePlan) -> ! {
    match plan {
        ProbePlan::Layers {
            canary,
            abstract_socket,
            namespaces,
            limits,
        } => {
            let findings = layers(canary, abstract_socket, namespaces, limits);
            let text = serde_json::to_string(&findings).unwrap_or_default();
            say(&text);
            sys::exit_now(0)
        }
        ProbePlan::Memory => take_memory(),
        ProbePlan::Processes => count_processes(),
    }
}

/// Writes to stdout at once: this process ends without flushing anything.
fn say(text: &str) {
    // A report that is cut short is no report, and the reader notices.
    let _ = rustix::io::write(rustix::stdio::stdout(), text.as_bytes());
}

fn layers(canary: &str, abstract_socket: &str, host: &[(String, String)], limits: &Limits) -> Vec<Finding> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let status: BTreeMap<&str, &str> = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name, value.trim()))
        .collect();
    let field = |name: &str| status.get(name).copied().unwrap_or_default();
    let find = |layer: Layer| {
        let breach = match layer {
            Layer::User => user(host),
            Layer::Pid => same_namespace(host, "pid").or_else(others_visible),
            Layer::Mount => same_namespace(host, "mnt").or_else(mounts),
            Layer::Net => same_namespace(host, "net").or_else(|| network(abstract_socket)),
            Layer::Ipc => same_namespace(host, "ipc"),
            Layer::Uts => same_namespace(host, "uts").or_else(host_name),
            Layer::Cgroup => same_namespace(host, "cgroup"),
            Layer::PivotRoot => host_files(canary),
            Layer::NoCapabilities => capabilities(field),
            Layer::NoNewPrivileges => {
                (field("NoNewPrivs") != "1").then(|| "no_new_privs is not set".to_owned())
            }
            Layer::Seccomp => filter(field("Seccomp")),
            Layer::Landlock => fs::read(LANDLOCK_CANARY)
                .is_ok()
                .then(|| format!("{LANDLOCK_CANARY} is readable")),
            Layer::Rlimits => resource_limits(limits),
        };
        Finding {
            layer,
            breach: breach.unwrap_or_default(),
        }
    };
    Layer::ALL.into_iter().map(find).collect()
}

fn same_namespace(host: &[(String, String)], name: &str) -> Option<String> {
    let own = fs::read_link(Path::new("/proc/self/ns").join(name)).unwrap_or_default();
    let Some((_, theirs)) = host.iter().find(|(known, _)| known == name) else {
        return Some(format!("the host's {name} namespace is unknown"));
    };
    let own = own.to_string_lossy();
    (own.is_empty() || own == theirs.as_str()).then(|| format!("the {name} namespace is the host's"))
}

fn user(host: &[(String, String)]) -> Option<String> {
    let uid = rustix::process::getuid().as_raw();
    if uid != INSIDE {
        return Some(format!("the user id is {uid}"));
    }
    if sys::try_call(libc::SYS_setuid, [0; 5]).is_ok() {
        return Some("it could become root".to_owned());
    }
    same_namespace(host, "user")
}

fn others_visible() -> Option<String> {
    let own = [1, std::process::id()];
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut others = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    others
        .find(|pid| !own.contains(pid))
        .map(|pid| format!("process {pid} is visible"))
}

fn mounts() -> Option<String> {
    let path = |text: &std::ffi::CStr| text.as_ptr() as usize;
    let bind = [
        path(c"/usr"),
        path(c"/tmp"),
        0,
        usize::try_from(libc::MS_BIND).unwrap_or(0),
        0,
    ];
    if sys::try_call(libc::SYS_mount, bind).is_ok() {
        return Some("it could mount".to_owned());
    }
    if sys::try_call(libc::SYS_umount2, [path(c"/proc/meminfo"), 0, 0, 0, 0]).is_ok() {
        return Some("it could unmount".to_owned());
    }
    fs::write("/usr/.sandrun", "")
        .is_ok()
        .then(|| "/usr is writable".to_owned())
}

fn network(abstract_socket: &str) -> Option<String> {
    let devices = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let mut names = devices
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next())
        .map(str::trim);
    if let Some(name) = names.find(|name| *name != "lo") {
        return Some(format!("network device {name} is there"));
    }
    for family in [
        AddressFamily::INET,
        AddressFamily::INET6,
        AddressFamily::NETLINK,
        AddressFamily::PACKET,
    ] {
        if socket(family, SocketType::DGRAM, None).is_ok() {
            return Some(format!("a socket of family {} could be made", family.as_raw()));
        }
    }
    let address = SocketAddrUnix::new_abstract_name(abstract_socket.as_bytes()).ok()?;
    let stream = socket(AddressFamily::UNIX, SocketType::STREAM, None).ok()?;
    connect(&stream, &address)
        .is_ok()
        .then(|| "an abstract socket of the host could be reached".to_owned())
}

fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    (name != "sandbox").then(|| format!("the host name is {name}"))
}

fn host_files(canary: &str) -> Option<String> {
    [
        canary,
        "/etc/shadow",
        "/root",
        "/home",
        "/sys",
        "/boot",
        "/proc/1/root//etc",
    ]
    .into_iter()
    .find(|path| fs::symlink_metadata(path).is_ok())
    .map(|path| format!("{path} is reachable"))
}

fn capabilities<'a>(field: impl Fn(&str) -> &'a str) -> Option<String> {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
        .into_iter()
        .find(|set| field(set).is_empty() || field(set).bytes().any(|digit| digit != b'0'))
        .map(|set| format!("{set} is {}", field(set)))
}

fn filter(mode: &str) -> Option<String> {
    if mode != "2" {
        return Some("no filter is installed".to_owned());
    }
    let expected = [
        ("ptrace", libc::SYS_ptrace, libc::EPERM),
        ("unshare", libc::SYS_unshare, libc::EPERM),
        ("bpf", libc::SYS_bpf, libc::EPERM),
        ("clone3", libc::SYS_clone3, libc::ENOSYS),
        ("io_uring_setup", libc::SYS_io_uring_setup, libc::ENOSYS),
        ("rseq", libc::SYS_rseq, libc::ENOSYS),
        // getpid of the x32 table
        ("x32 calls", 0x4000_0000 + 39, libc::ENOSYS),
    ];
    for (name, number, error) in expected {
        if sys::try_call(number, [0; 5]) != Err(error) {
            return Some(format!("{name} is not refused with error {error}"));
        }
    }
    #[cfg(target_arch = "x86_64")]
    if sys::try_i386_call() != libc::EPERM {
        return Some("i386 calls are not refused".to_owned());
    }
    None
}

fn resource_limits(limits: &Limits) -> Option<String> {
    let expected = [
        ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE, u64::from(limits.open_files)),
        ("RLIMIT_NPROC", libc::RLIMIT_NPROC, u64::from(limits.processes)),
        ("RLIMIT_CORE", libc::RLIMIT_CORE, 0),
    ];
    for (name, resource, value) in expected {
        if sys::get_hard_rlimit(resource).ok() != Some(value) {
            return Some(format!("{name} is not {value}"));
        }
    }
    let files: Vec<_> = (0..=limits.open_files)
        .map_while(|_| fs::File::open("/dev/null").ok())
        .collect();
    (files.len() > usize::try_from(limits.open_files).unwrap_or(0))
        .then(|| "it can open more files".to_owned())
}

/// Fills memory until somebody stops it: a signal, or an allocation that fails (exit code 3).
fn take_memory() -> ! {
    const PIECE: usize = 1 << 20;
    let mut held: Vec<Vec<u8>> = Vec::new();
    for _ in 0..4096 {
        let mut piece = Vec::new();
        if piece.try_reserve_exact(PIECE).is_err() {
            sys::exit_now(3);
        }
        piece.resize(PIECE, 0xa5);
        held.push(piece);
    }
    std::hint::black_box(&held);
    sys::exit_now(0)
}

/// Starts processes that wait for ever until no more can be had, and prints their number.
fn count_processes() -> ! {
    let mut count = 0_u32;
    while count < 4096 {
        match sys::fork(0) {
            Ok(Forked::Parent(_)) => count += 1,
            Ok(Forked::Child) => loop {
                std::thread::park();
            },
            Err(_) => break,
        }
    }
    say(&count.to_string());
    sys::exit_now(0)
}
