//! What `stat` and its kin say of a file, the same on every kernel and file system.
//!
//! Owns the kernel's structures as bytes and what is put in each field. Never makes a call.

use super::inodes::{FileTime, Inode, Inodes, Stamp, Times};
use super::named::Named;
use crate::supervisor::identity::INSIDE;

/// Bytes of `struct stat` on x86-64.
pub(in super::super) const STAT_BYTES: usize = 144;
/// Bytes of `struct statx`.
pub(in super::super) const STATX_BYTES: usize = 256;
/// Bytes of `struct statfs` on x86-64.
pub(in super::super) const STATFS_BYTES: usize = 120;
/// All fields that `struct stat` has (`STATX_BASIC_STATS`).
const BASIC: u32 = 0x7ff;
/// The block size that every file system is said to have.
const BLOCK: u64 = 4096;

/// What the kernel said of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Real {
    /// Device and number.
    pub(in super::super) inode: Inode,
    /// Type and permissions.
    pub(in super::super) mode: u32,
    /// Names.
    pub(in super::super) links: u64,
    /// Length.
    pub(in super::super) size: u64,
    /// Of a device file.
    pub(in super::super) device_file: u64,
    /// Time of change.
    pub(in super::super) modified: FileTime,
}

/// Where a file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Place {
    /// On the job's own file system: work directory, `/tmp`, `/dev/shm`.
    Job,
    /// In the job's `/proc`.
    Proc,
    /// In memory, without a name.
    Memory,
    /// Nowhere: a pipe, a socket, an event.
    Nowhere,
    /// In a read-only directory of the system or of an environment's image.
    System,
}

/// Real devices of the places that a job has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Places {
    /// The job's own file system.
    pub(in super::super) job: u64,
    /// Its `/proc`.
    pub(in super::super) proc: u64,
    /// Where the kernel keeps files without a name.
    pub(in super::super) memory: u64,
}

impl Places {
    /// Where a file lies.
    pub(in super::super) const fn of(&self, real: &Real) -> Place {
        let kind = real.mode & libc::S_IFMT;
        let device = real.inode.device;
        if device == self.job {
            Place::Job
        } else if device == self.proc {
            Place::Proc
        } else if kind == 0 || kind == libc::S_IFIFO || kind == libc::S_IFSOCK {
            Place::Nowhere
        } else if device == self.memory {
            Place::Memory
        } else {
            Place::System
        }
    }
}

/// What a job is told of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Told {
    device: u64,
    number: u64,
    links: u64,
    mode: u32,
    owner: u32,
    device_file: u64,
    size: u64,
    blocks: u64,
    times: Times,
}

/// How a file is looked at, and what its name says if it is one of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Seen {
    /// Through an open file.
    Open(Named),
    /// By a name.
    ByName(Named),
}

/// What a job is told of a file, and what is to be done to it.
pub(in super::super) fn tell(
    real: &Real,
    places: &Places,
    inodes: &mut Inodes,
    now: impl FnOnce() -> FileTime,
    seen: Seen,
) -> (Told, Stamp) {
    let (Seen::Open(named) | Seen::ByName(named)) = seen;
    let place = places.of(real);
    let kind = real.mode & libc::S_IFMT;
    let key = match place {
        // Their numbers are unique together, and a link in /proc names them without a device.
        Place::Nowhere => Inode {
            device: 0,
            number: real.inode.number,
        },
        Place::System => named.key.unwrap_or(real.inode),
        Place::Job | Place::Proc | Place::Memory => real.inode,
    };
    let (times, stamp) = match place {
        Place::Job => {
            let state = (real.modified, real.is_empty());
            match seen {
                Seen::Open(_) => inodes.look_open(key, state, now),
                Seen::ByName(_) => inodes.look(key, state, now),
            }
        }
        Place::System if named.keeps_time && kind == libc::S_IFREG => {
            (fixed(whole(real.modified)), Stamp::Keep)
        }
        Place::Proc | Place::Memory | Place::Nowhere | Place::System => (fixed(inodes.start()), Stamp::Keep),
    };
    let size = match kind {
        libc::S_IFREG => real.size,
        libc::S_IFDIR => BLOCK,
        libc::S_IFLNK if place != Place::Proc => real.size,
        _ => 0,
    };
    let told = Told {
        device: match place {
            Place::Memory => 1,
            Place::Nowhere => 13,
            Place::Job => 21,
            Place::Proc => 22,
            Place::System => 0x801,
        },
        number: inodes.number(key),
        links: match kind {
            // One means "not counted", as other file systems say it; a removed one has none.
            libc::S_IFDIR => real.links.min(1),
            // a node's copy of the system may have made links of its files, or broken them
            _ if place != Place::Job => 1,
            _ => real.links,
        },
        mode: match place {
            // made here in place of a file of /proc; the machine may have given it other rights
            Place::Memory => libc::S_IFREG | 0o444,
            // kernels differ about files that they make for a process or an event
            Place::Nowhere => match kind {
                libc::S_IFIFO => libc::S_IFIFO | 0o600,
                libc::S_IFSOCK => libc::S_IFSOCK | 0o777,
                _ => 0o600,
            },
            Place::Job | Place::Proc | Place::System => real.mode,
        },
        owner: match place {
            Place::System => 0,
            Place::Job | Place::Proc | Place::Memory | Place::Nowhere => INSIDE,
        },
        device_file: real.device_file,
        size,
        blocks: match kind {
            libc::S_IFREG | libc::S_IFDIR => size.div_ceil(BLOCK).saturating_mul(BLOCK / 512),
            _ => 0,
        },
        times,
    };
    (told, stamp)
}

const fn fixed(time: FileTime) -> Times {
    Times {
        modified: time,
        accessed: time,
    }
}

const fn whole(time: FileTime) -> FileTime {
    FileTime {
        seconds: time.seconds,
        nanos: 0,
    }
}

/// Whether a file of the system by this path, which no link is part of, keeps its own time of change. One of an image
/// has the time at which the machine fetched it.
pub(in super::super) fn keeps_time(path: &[u8]) -> bool {
    may_keep_time(path) && !path.starts_with(crate::environment::IMAGE.as_bytes())
}

/// The same by any name, which may lead elsewhere.
pub(in super::super) fn may_keep_time(path: &[u8]) -> bool {
    path.ends_with(b".py")
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let slice = bytes.get(at..at + 8).and_then(|slice| slice.try_into().ok());
    slice.map_or(0, u64::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let slice = bytes.get(at..at + 4).and_then(|slice| slice.try_into().ok());
    slice.map_or(0, u32::from_le_bytes)
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    u64_at(bytes, at).cast_signed()
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

impl Real {
    /// Whether it is a regular file without a byte.
    pub(in super::super) const fn is_empty(&self) -> bool {
        self.size == 0 && self.mode & libc::S_IFMT == libc::S_IFREG
    }

    /// Reads a `struct stat`.
    pub(in super::super) fn from_stat(bytes: &[u8; STAT_BYTES]) -> Self {
        Self {
            inode: Inode {
                device: u64_at(bytes, 0),
                number: u64_at(bytes, 8),
            },
            mode: u32_at(bytes, 24),
            links: u64_at(bytes, 16),
            size: u64_at(bytes, 48),
            device_file: u64_at(bytes, 40),
            modified: FileTime {
                seconds: i64_at(bytes, 88),
                nanos: u32_at(bytes, 96),
            },
        }
    }

    /// Reads a `struct statx`.
    pub(in super::super) fn from_statx(bytes: &[u8; STATX_BYTES]) -> Self {
        Self {
            inode: Inode {
                device: libc::makedev(u32_at(bytes, 136), u32_at(bytes, 140)),
                number: u64_at(bytes, 32),
            },
            mode: u32_at(bytes, 28) & 0xffff,
            links: u64::from(u32_at(bytes, 16)),
            size: u64_at(bytes, 40),
            device_file: libc::makedev(u32_at(bytes, 128), u32_at(bytes, 132)),
            modified: FileTime {
                seconds: i64_at(bytes, 112),
                nanos: u32_at(bytes, 120),
            },
        }
    }
}

impl Told {
    /// As a `struct stat`.
    pub(in super::super) fn to_stat(self) -> [u8; STAT_BYTES] {
        let mut bytes = [0; STAT_BYTES];
        put(&mut bytes, 0, self.device.to_le_bytes());
        put(&mut bytes, 8, self.number.to_le_bytes());
        put(&mut bytes, 16, self.links.to_le_bytes());
        put(&mut bytes, 24, self.mode.to_le_bytes());
        put(&mut bytes, 28, self.owner.to_le_bytes());
        put(&mut bytes, 32, self.owner.to_le_bytes());
        put(&mut bytes, 40, self.device_file.to_le_bytes());
        put(&mut bytes, 48, self.size.to_le_bytes());
        put(&mut bytes, 56, BLOCK.to_le_bytes());
        put(&mut bytes, 64, self.blocks.to_le_bytes());
        let Times { modified, accessed } = self.times;
        for (at, time) in [(72, accessed), (88, modified), (104, modified)] {
            put(&mut bytes, at, time.seconds.to_le_bytes());
            put(&mut bytes, at + 8, u64::from(time.nanos).to_le_bytes());
        }
        bytes
    }

    /// As a `struct statx`, with the fields that `struct stat` has and no others.
    pub(in super::super) fn to_statx(self) -> [u8; STATX_BYTES] {
        let mut bytes = [0; STATX_BYTES];
        let links = u32::try_from(self.links).unwrap_or(u32::MAX);
        put(&mut bytes, 0, BASIC.to_le_bytes());
        put(&mut bytes, 4, [0, 16, 0, 0]);
        put(&mut bytes, 16, links.to_le_bytes());
        put(&mut bytes, 20, self.owner.to_le_bytes());
        put(&mut bytes, 24, self.owner.to_le_bytes());
        // Sixteen bits wide here, with what follows them unused.
        put(&mut bytes, 28, (self.mode & 0xffff).to_le_bytes());
        put(&mut bytes, 32, self.number.to_le_bytes());
        put(&mut bytes, 40, self.size.to_le_bytes());
        put(&mut bytes, 48, self.blocks.to_le_bytes());
        let Times { modified, accessed } = self.times;
        for (at, time) in [(64, accessed), (96, modified), (112, modified)] {
            put(&mut bytes, at, time.seconds.to_le_bytes());
            put(&mut bytes, at + 8, time.nanos.to_le_bytes());
        }
        for (at, device) in [(128, self.device_file), (136, self.device)] {
            put(&mut bytes, at, libc::major(device).to_le_bytes());
            put(&mut bytes, at + 4, libc::minor(device).to_le_bytes());
        }
        bytes
    }
}

/// What `statfs` says: the job's own file systems are as large as its limits and always empty, the system's are full.
/// The devices' is as large as the machine's memory, and told as the system's.
pub(in super::super) fn statfs(real: &[u8; STATFS_BYTES], place: Place) -> [u8; STATFS_BYTES] {
    const TMPFS: u64 = 0x0102_1994;
    const PROC: u64 = 0x9fa0;
    const EXT4: u64 = 0xef53;
    // ST_VALID, ST_RELATIME, ST_NOSUID, ST_NODEV; and ST_RDONLY.
    const FLAGS: u64 = 0x1026;
    const READ_ONLY: u64 = FLAGS | 1;
    let (kind, blocks, free, files, flags) = match place {
        Place::Job => (TMPFS, u64_at(real, 16), u64_at(real, 16), u64_at(real, 40), FLAGS),
        Place::Proc | Place::Memory => (PROC, 0, 0, 0, FLAGS),
        Place::Nowhere | Place::System => (EXT4, 1 << 20, 0, 0, READ_ONLY),
    };
    let fields = [
        kind, BLOCK, blocks, free, free, files, files, 0, 255, BLOCK, flags,
    ];
    let mut bytes = [0; STATFS_BYTES];
    for (field, value) in fields.into_iter().enumerate() {
        put(&mut bytes, field * 8, value.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests;
