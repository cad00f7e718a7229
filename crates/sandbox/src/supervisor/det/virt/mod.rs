//! What a job of class `det` is told instead of what the machine would say.
//!
//! Owns the answers and the state behind them: entropy, directories, files' numbers and times, `/proc`, and the
//! machine itself. Which calls are traced is the table's matter; what happened is told by [`super::observe`].

mod attributes;
mod auxiliary;
mod constants;
pub(super) mod cpuid;
mod directories;
mod entropy;
mod file_times;
pub(super) mod inodes;
mod links;
mod listing;
mod machine;
mod machine_calls;
mod made;
pub(super) mod mappings;
mod named;
mod names;
mod opens;
pub(super) mod paths;
mod positions;
mod process_files;
mod programs;
mod random;
mod stat;
mod state;
mod walk;

pub(super) use machine::rusage;
pub(super) use opens::is_plain as is_plain_open;
pub(super) use random::executed;
pub(super) use stat::{Place, Real};
pub(in crate::supervisor) use state::{State, set_untouched};

use super::table::{Rule, When};

/// The lines of the table that are answered here.
pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_getrandom, When::Always, random::getrandom),
    Rule(libc::SYS_read, When::Blocking, random::read),
    Rule(libc::SYS_pread64, When::Blocking, random::read),
    Rule(libc::SYS_readv, When::Blocking, random::readv),
    Rule(libc::SYS_preadv, When::Blocking, random::readv),
    Rule(libc::SYS_sendfile, When::Blocking, random::second_is_not_entropy),
    Rule(libc::SYS_open, When::Always, opens::open),
    Rule(libc::SYS_openat, When::Always, opens::open),
    Rule(libc::SYS_openat2, When::Always, opens::open),
    Rule(libc::SYS_creat, When::Always, opens::open),
    // SEEK_SET and SEEK_CUR need no look
    Rule(libc::SYS_lseek, When::Unless(2, !1, 0), positions::lseek),
    Rule(
        libc::SYS_mmap,
        When::Unless(3, mappings::LOOKED_AT, 0),
        mappings::map,
    ),
    Rule(libc::SYS_execve, When::Always, programs::execute),
    Rule(libc::SYS_execveat, When::Always, programs::execute),
    Rule(libc::SYS_access, When::Always, names::access),
    Rule(libc::SYS_faccessat, When::Always, names::access),
    Rule(libc::SYS_faccessat2, When::Always, names::access),
    Rule(libc::SYS_chmod, When::Always, names::change),
    Rule(libc::SYS_fchmodat, When::Always, names::change),
    Rule(libc::SYS_fchmodat2, When::Always, names::change),
    Rule(libc::SYS_chown, When::Always, names::change),
    Rule(libc::SYS_lchown, When::Always, names::change),
    Rule(libc::SYS_fchownat, When::Always, names::change),
    Rule(libc::SYS_link, When::Always, names::change),
    Rule(libc::SYS_linkat, When::Always, names::change),
    Rule(libc::SYS_rename, When::Always, names::change),
    Rule(libc::SYS_renameat, When::Always, names::change),
    Rule(libc::SYS_renameat2, When::Always, names::change),
    Rule(libc::SYS_unlink, When::Always, names::change),
    Rule(libc::SYS_unlinkat, When::Always, names::change),
    Rule(libc::SYS_mkdir, When::Always, names::change),
    Rule(libc::SYS_mkdirat, When::Always, names::change),
    Rule(libc::SYS_rmdir, When::Always, names::change),
    Rule(libc::SYS_mknod, When::Always, names::change),
    Rule(libc::SYS_mknodat, When::Always, names::change),
    Rule(libc::SYS_truncate, When::Always, names::change),
    Rule(libc::SYS_bind, When::Always, names::address),
    Rule(libc::SYS_connect, When::Always, names::address),
    Rule(libc::SYS_sendto, When::Always, names::address),
    Rule(libc::SYS_sendmsg, When::Always, names::address),
    Rule(libc::SYS_chdir, When::Always, links::chdir),
    Rule(libc::SYS_fchdir, When::Always, links::fchdir),
    Rule(libc::SYS_readlink, When::Always, links::readlink),
    Rule(libc::SYS_readlinkat, When::Always, links::readlink),
    Rule(libc::SYS_symlink, When::Always, links::symlink),
    Rule(libc::SYS_symlinkat, When::Always, links::symlink),
    Rule(libc::SYS_getdents64, When::Always, directories::getdents64),
    Rule(libc::SYS_getdents, When::Always, directories::getdents),
    Rule(libc::SYS_stat, When::Always, attributes::stat),
    Rule(libc::SYS_lstat, When::Always, attributes::stat),
    Rule(libc::SYS_fstat, When::Always, attributes::fstat),
    Rule(libc::SYS_newfstatat, When::Always, attributes::newfstatat),
    Rule(libc::SYS_statx, When::Always, attributes::statx),
    Rule(libc::SYS_statfs, When::Always, attributes::statfs),
    Rule(libc::SYS_fstatfs, When::Always, attributes::statfs),
    Rule(libc::SYS_utimensat, When::Always, file_times::utimensat),
    Rule(libc::SYS_futimesat, When::Always, file_times::futimesat),
    Rule(libc::SYS_utimes, When::Always, file_times::utimes),
    Rule(libc::SYS_utime, When::Always, file_times::utime),
    Rule(libc::SYS_uname, When::Always, machine_calls::uname),
    Rule(libc::SYS_sysinfo, When::Always, machine_calls::sysinfo),
    Rule(libc::SYS_getrusage, When::Always, machine_calls::getrusage),
    Rule(libc::SYS_times, When::Always, machine_calls::times),
    Rule(libc::SYS_getcpu, When::Always, machine_calls::getcpu),
    Rule(
        libc::SYS_sched_getaffinity,
        When::Always,
        machine_calls::sched_getaffinity,
    ),
    Rule(
        libc::SYS_sched_setaffinity,
        When::Always,
        machine_calls::sched_setaffinity,
    ),
    Rule(libc::SYS_prlimit64, When::Always, machine_calls::prlimit),
    Rule(libc::SYS_getrlimit, When::Always, machine_calls::getrlimit),
    Rule(libc::SYS_setrlimit, When::Always, machine_calls::setrlimit),
    Rule(libc::SYS_getpriority, When::Always, machine_calls::getpriority),
    Rule(libc::SYS_setpriority, When::Always, machine_calls::setpriority),
];
