//! Programs that mean harm, in every class. After each of them the sandbox serves, and nothing is left: see
//! [`hostile`].
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod escapes;
mod files;
mod kernel;
mod network;
mod outputs;
mod processes;
mod resources;
mod signals;

use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::{Done, Job, SANDBOX};
use sandrun_sandbox::Class;

/// A directory of the host that everybody may write to, with a file in it that must not change.
static CANARY: LazyLock<PathBuf> = LazyLock::new(|| {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("hostile-canary");
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = directory.join("canary");
    std::fs::write(&file, SONG).expect("a file");
    for (path, mode) in [(&directory, 0o777), (&file, 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("rights");
    }
    file
});

const SONG: &str = "the canary sings\n";

/// The canary would show it if a job could reach it.
#[test]
fn the_canary_can_be_written_by_everybody_but_jobs() {
    use std::os::unix::fs::FileExt as _;
    // in place: whoever looks meanwhile finds it whole
    let file = std::fs::File::options().write(true).open(&*CANARY);
    let file = file.expect("it is not write-protected");
    file.write_all_at(SONG.as_bytes(), 0).expect("it can be written");
}

/// Runs a job; then looks whether anything of it is left, and whether the next one is honest, gets what it needs, and
/// sees nothing of the one before.
fn hostile(class: Class, job: &Job) -> Done {
    static JOBS: AtomicU32 = AtomicU32::new(0);
    const MARK: &str = "SANDRUN_HOSTILE_MARK";
    let mark = format!("{}-{}", std::process::id(), JOBS.fetch_add(1, Ordering::Relaxed));
    let mut job = Job {
        files: job.files.clone(),
        args: job.args.clone(),
        env: job.env.clone(),
        ..*job
    };
    job.class = common::here(class);
    job.env.insert(MARK.to_owned(), mark.clone());
    job.env
        .insert("CANARY".to_owned(), CANARY.to_string_lossy().into_owned());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    // the first look at the system's files is none of a job's time
    let _ = SANDBOX.classes();
    let started = Instant::now();
    let done = job.run();
    assert!(
        started.elapsed() < job.limits.wall + Duration::from_secs(20),
        "it went on"
    );
    assert_eq!(std::fs::read_to_string(&*CANARY).expect("the canary lives"), SONG);
    let beside = CANARY.parent().expect("a directory");
    assert_eq!(std::fs::read_dir(beside).expect("it is there").count(), 1);
    assert_eq!(processes_with(&format!("{MARK}={mark}\0")), Vec::<String>::new());
    let after = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let new = after.lines().filter(|line| !mounts.contains(*line));
    assert_eq!(new.filter(|line| line.contains("sandrun")).count(), 0);
    assert_clean(class);
    done
}

/// Processes of the host whose environment holds these words.
fn processes_with(words: &str) -> Vec<String> {
    let holds = |bytes: &[u8]| {
        bytes
            .windows(words.len())
            .any(|window| window == words.as_bytes())
    };
    let names = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = names.filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|pid| std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|bytes| holds(&bytes)))
        .collect()
}

fn assert_clean(class: Class) {
    let text = "import os\npids = sorted(int(p) for p in os.listdir('/proc') if p.isdigit())\n\
        print(pids, os.listdir('/work'), os.listdir('/tmp'), os.listdir('/dev/shm'))\n";
    let done = Job::python(text).class(class).run();
    assert_eq!(done.stdout(), "[1, 2] ['main.py'] [] []\n", "{}", done.stderr());
}

/// Calls by number through libc, the error names one a line.
const CALLS: &str = "import ctypes, errno, os, struct\nlibc = ctypes.CDLL(None, use_errno=True)\n\
def call(name, *a):\n  ctypes.set_errno(0)\n  r = libc.syscall(*a)\n  print(name, errno.errorcode.get(ctypes.get_errno(), r) if r < 0 else 'DONE', flush=True)\n  return r\n";

/// Each function as a test of both classes.
macro_rules! both {
    ($($room:ident: $($name:ident)*;)*) => {
        mod native {
            $($(#[test] fn $name() { super::$room::$name(sandrun_sandbox::Class::Native); })*)*
        }
        mod det {
            $($(#[test] fn $name() { super::$room::$name(super::common::here(sandrun_sandbox::Class::Det)); })*)*
        }
    };
}

both! {
    resources: fork_bomb processes_are_counted memory_bomb_has_no_outputs memory_bomb_in_a_child_counts_for_the_job
        memory_files_are_bounded file_systems_fill_up inodes_run_out sparse_file_of_a_tebibyte endless_output
        exactly_the_output_limit_is_allowed cpu_spin_and_endless_sleep descriptors_run_out descriptors_in_flight
        pipes_and_sockets_full_of_bytes threads_are_counted many_files_and_renames;
    files: host_files_are_not_there system_is_read_only_and_kernel_knobs_are_hidden landlock_is_a_second_wall
        a_job_does_not_learn_where_the_launcher_lies deep_directories_and_odd_names links_to_the_outside;
    kernel: forbidden_calls_fail_and_kill_nobody every_call_with_empty_hands old_tables_lead_nowhere
        terminals_take_no_keys;
    escapes: roots_and_mounts_stay processes_of_the_sandbox_are_out_of_reach owners_of_namespaces
        programs_with_more_rights_have_none loader_and_argument_tricks;
    network: no_network_of_any_kind the_hosts_own_listeners_are_not_reached;
    outputs: names_that_are_no_files are_taken_after_everybodys_death swapped_until_the_end;
    processes: daemon_that_ignores_signals grandchild_that_holds_the_pipe descriptors_and_ids_tell_nothing
        odd_relations_between_tasks vfork_and_clone_oddities programs_executed_by_threads locks_of_the_dead
        hash_bang_loops;
    signals: signals_reach_the_job_only stops_do_not_stop_the_supervisor storms_of_signals_and_timers
        no_core_is_dumped;
}
