//! Conditions that a deterministic job must not notice: what differs between two runs on one machine, as it differs
//! between two machines.
//!
//! Owns what is changed, how much in which run, and the words for it. Never runs a job, never judges one.

mod apply;
mod load;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use apply::{COMMAND, apply_and_execute};
pub(crate) use load::Load;

/// Something that two runs may differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// The host's name.
    HostName,
    /// Where the job's files lie, and in which order they were made.
    Directory,
    /// The user that the sandbox is.
    User,
    /// The clocks that count from the machine's start.
    Clocks,
    /// The dates of the job's files.
    FileDates,
    /// What else the processors do.
    Load,
    /// The processors that may be used.
    Cpu,
    /// Files that are open in the process that starts the sandbox.
    OpenFiles,
    /// Its environment variables, their number and order.
    Environment,
    /// Whether addresses are random.
    Addresses,
    /// The limit of the stack, on which the layout of the memory depends.
    Stack,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostName => "host name",
            Self::Directory => "directory",
            Self::User => "uid",
            Self::Clocks => "clocks",
            Self::FileDates => "file dates",
            Self::Load => "load",
            Self::Cpu => "CPU",
            Self::OpenFiles => "open files",
            Self::Environment => "environment",
            Self::Addresses => "addresses",
            Self::Stack => "stack",
        })
    }
}

/// One change, as it came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    /// What was to be changed.
    pub(crate) kind: Kind,
    /// To what.
    pub(crate) to: String,
    /// Why it was not; empty where it was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) failed: String,
}

impl Change {
    /// A change and how it went.
    pub(crate) fn new(kind: Kind, to: impl Into<String>, result: Result<(), String>) -> Self {
        Self {
            kind,
            to: to.into(),
            failed: result.err().unwrap_or_default(),
        }
    }

    /// Whether the run had it.
    pub(crate) const fn is_in_force(&self) -> bool {
        self.failed.is_empty()
    }
}

/// What is other in one run than on the machine as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Conditions {
    /// The host's name.
    pub(crate) host_name: String,
    /// The last name of the directory with the job's files.
    pub(crate) directory: String,
    /// Whether the job's files are made in the reverse order.
    pub(crate) is_reversed: bool,
    /// User and group id of the sandbox's launcher.
    pub(crate) uid: u32,
    /// Days that the clocks since the machine's start are ahead.
    pub(crate) clock_days: u32,
    /// Days since 1970 that the job's files are dated.
    pub(crate) file_days: u32,
    /// Threads that do nothing but compute.
    pub(crate) load: u32,
    /// The only processor, counted among those that are allowed.
    pub(crate) cpu: u32,
    /// Further open files in the launcher.
    pub(crate) open_files: u32,
    /// Further environment variables of the launcher; its others in the reverse order.
    pub(crate) variables: u32,
    /// Whether addresses are fixed in the launcher.
    pub(crate) fixed_addresses: bool,
    /// Soft limit of the launcher's stack in MiB.
    pub(crate) stack_mib: u32,
}

impl Conditions {
    /// Those of run number `number`, counted from 0; `None` for run 0, which has the machine as it is. `processors` is
    /// how many there are. The same number gives the same conditions.
    pub(crate) fn of_run(number: u32, processors: u32) -> Option<Self> {
        let seed = number.checked_sub(1)?;
        let mut chance = Mixer(u64::from(seed));
        let mut below = |bound: u32| chance.below(bound.max(1));
        let name = |length: u32, letter: u32| -> String {
            let letters = ('a'..='z').cycle().skip(usize::try_from(letter).unwrap_or(0));
            letters.take(usize::try_from(length).unwrap_or(0)).collect()
        };
        Some(Self {
            host_name: format!("{}-{number}", name(1 + below(40), below(26))),
            directory: name(1 + below(60), below(26)),
            is_reversed: below(2) == 0 || number == 1,
            uid: 100_000 + below(60_000),
            clock_days: 1 + below(4_000),
            file_days: 1 + below(20_000),
            load: if number == 1 {
                2 * processors
            } else {
                below(2 * processors)
            },
            cpu: processors - 1 - seed % processors.max(1),
            open_files: 1 + below(100),
            variables: 1 + below(50),
            fixed_addresses: seed.is_multiple_of(2),
            stack_mib: 8 << (1 + below(4)),
        })
    }
}

/// Numbers that look random and are the same for the same seed: the finaliser of MurmurHash3 over a Weyl sequence
/// (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
struct Mixer(u64);

impl Mixer {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        u32::try_from(mixed % u64::from(bound)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_first_run_has_the_machine_as_it_is_and_all_others_differ() {
        assert_eq!(Conditions::of_run(0, 4), None);
        let all: Vec<Conditions> = (1..50).filter_map(|run| Conditions::of_run(run, 4)).collect();
        let distinct = |of: fn(&Conditions) -> String| all.iter().map(of).collect::<BTreeSet<_>>().len();
        assert_eq!(distinct(|it| it.host_name.clone()), 49);
        assert_eq!(distinct(|it| it.uid.to_string()), 49);
        assert_eq!(distinct(|it| it.cpu.to_string()), 4);
        assert_eq!(distinct(|it| it.fixed_addresses.to_string()), 2);
        assert_eq!((all[0].load, distinct(|it| it.load.to_string())), (8, 9));
        assert!(all.iter().all(|it| it.load <= 8 && it.host_name.len() <= 64));
        assert_eq!(Conditions::of_run(7, 4), Conditions::of_run(7, 4));
    }

    #[test]
    fn one_processor_is_enough() {
        let one = Conditions::of_run(3, 1).unwrap();
        assert_eq!((one.cpu, one.load < 2), (0, true));
    }
}
