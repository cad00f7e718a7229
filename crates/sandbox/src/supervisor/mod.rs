//! The launcher process and what it forks: a supervisor for each job, the job's first process, the job itself.
//!
//! All of it is single-threaded. The launcher holds no file of the host but its sockets and control groups: its own
//! root is the read-only tree that every job gets a copy of.

mod bpf;
mod cgroup;
mod child;
mod det;
mod filter;
mod harden;
mod identity;
mod init;
mod job;
mod launcher;
mod probe;
mod proc_files;
mod stage;
mod template;
mod usr;
mod watch;

pub(crate) use det::cpuid_fingerprint;
pub use launcher::supervisor_main;
pub(crate) use probe::Finding;
