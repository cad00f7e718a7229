//! Everything at once, as much as there is: memory, processes, files, output, time.

use std::time::Duration;

use sandrun_sandbox::Class;
use sandrun_types::{ExitStatus, RunOutcome};

use crate::common::{Job, SANDBOX};
use crate::hostile;

pub fn fork_bomb(class: Class) {
    let done = hostile(
        class,
        &Job::bash(":(){ :|:& };: ; echo survived; wait").limits(|l| l.wall = Duration::from_secs(2)),
    );
    assert!(
        matches!(done.report.outcome, RunOutcome::Timeout | RunOutcome::Exited),
        "{:?}",
        done.report.outcome
    );
}

pub fn processes_are_counted(class: Class) {
    let text = "import os, signal\nn = 0\ntry:\n  while n < 1000:\n    if os.fork() == 0: signal.pause()\n    n += 1\n\
        except BlockingIOError: print(n)\n";
    assert_eq!(
        hostile(class, &Job::python(text).limits(|l| l.processes = 10)).stdout(),
        "9\n"
    );
}

/// Whether a process is refused memory beyond the limit, instead of killed for it.
fn is_refused(class: Class) -> bool {
    class != Class::Native || SANDBOX.layers().memory == sandrun_sandbox::MemoryControl::Rlimit
}

pub fn memory_bomb_has_no_outputs(class: Class) {
    let text = "open('before', 'w').write('x')\nprint('before', flush=True)\nb = []\nwhile True: b.append(b'x' * (1 << 20))\n";
    let done = hostile(class, &Job::python(text).limits(|l| l.memory_bytes = 64 << 20));
    if is_refused(class) {
        assert_eq!(done.report.exit_code, 1, "MemoryError");
    } else {
        assert_eq!(done.report.outcome, RunOutcome::Memory);
        assert_eq!(done.report.exit, Some(ExitStatus::Memory));
        assert!(done.report.outputs.is_empty());
        assert!(done.report.explanation.contains("67108864 bytes of memory"));
    }
}

pub fn memory_bomb_in_a_child_counts_for_the_job(class: Class) {
    let text = "python3 -c \"b = 'x' * (200 << 20)\" 2>&1 | grep -c MemoryError; echo went on; echo x > file";
    let job = Job::bash(text)
        .limits(|l| l.memory_bytes = 64 << 20)
        .outputs(r#"["file"]"#);
    let done = hostile(class, &job);
    if is_refused(class) {
        assert_eq!(done.stdout(), "1\nwent on\n", "{}", done.stderr());
        assert_eq!(done.output_names(), ["file"]);
    } else {
        assert_eq!(done.report.outcome, RunOutcome::Memory);
        assert!(done.report.outputs.is_empty());
    }
}

pub fn memory_files_are_bounded(class: Class) {
    let text = "import os\nf = os.memfd_create('x')\nwhile True: os.write(f, b'x' * (1 << 20))\n";
    let done = hostile(class, &Job::python(text).limits(|l| l.memory_bytes = 64 << 20));
    assert_ne!(done.report.exit_code, 0);
}

pub fn file_systems_fill_up(class: Class) {
    let text = "for d in /work /tmp /dev/shm; do dd if=/dev/zero of=$d/x bs=1M count=300 2>/dev/null; done; du -sm --total /work /tmp /dev/shm | tail -1 | cut -f1\n";
    let done = hostile(
        class,
        &Job::bash(text)
            .limits(|l| l.tmpfs_bytes = 20 << 20)
            .outputs(r#"["none"]"#),
    );
    assert!(
        (19..=21).contains(&done.stdout().trim().parse::<u32>().unwrap()),
        "{}",
        done.stdout()
    );
}

pub fn inodes_run_out(class: Class) {
    let text = "n = 0\ntry:\n  while n < 10000:\n    open(f'/tmp/{n}', 'w').close()\n    n += 1\nexcept OSError as e: print(n, e.errno)\n";
    let done = hostile(class, &Job::python(text).limits(|l| l.inodes = 100));
    assert!(done.stdout().ends_with(" 28\n"), "{}", done.stdout());
}

pub fn sparse_file_of_a_tebibyte(class: Class) {
    let done = hostile(
        class,
        &Job::python(
            "import os, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nos.truncate(os.open('x', os.O_CREAT | os.O_RDWR), 1 << 40)\n",
        ),
    );
    assert_eq!(done.report.exit_code, 1);
    assert!(done.stderr().contains("File too large"), "{}", done.stderr());
    // Many that are allowed, each within the limit: together they are not.
    let done = hostile(
        class,
        &Job::bash("for i in 1 2 3; do truncate -s 15M $i; done").limits(|l| l.tmpfs_bytes = 20 << 20),
    );
    assert_eq!(done.report.outcome, RunOutcome::OutputLimit);
    assert!(done.report.outputs.is_empty());
}

pub fn endless_output(class: Class) {
    let job = Job::bash("yes & yes >&2").limits(|l| l.output_bytes = 100_000);
    hostile(class, &job);
    let job = job.class(class);
    let (one, two) = (job.run(), job.run());
    assert_eq!(one.report.outcome, RunOutcome::OutputLimit);
    assert_eq!(one.report.stdout.len() + one.report.stderr.len(), 100_000);
    assert_eq!(one.report.trace_root, two.report.trace_root);
}

pub fn exactly_the_output_limit_is_allowed(class: Class) {
    let job = Job::bash("printf 12345; printf 12345 >&2").limits(|l| l.output_bytes = 10);
    assert_eq!(job.class(class).run().report.outcome, RunOutcome::Exited);
}

pub fn cpu_spin_and_endless_sleep(class: Class) {
    let spin = hostile(
        class,
        &Job::python("while True: pass\n").limits(|l| l.cpu = Duration::from_millis(300)),
    );
    assert_eq!(spin.report.outcome, RunOutcome::Timeout);
    assert!(
        spin.report.explanation.contains("CPU"),
        "{}",
        spin.report.explanation
    );
    // a job that waits in virtual time ends at once, when it has got there
    let wall = match class {
        Class::Native => Duration::from_millis(300),
        Class::Det | Class::DetSoft => Duration::from_secs(100),
    };
    let sleep = hostile(
        class,
        &Job::bash("kill -STOP $$; sleep infinity").limits(|l| l.wall = wall),
    );
    assert_eq!(
        (sleep.report.outcome, sleep.report.exit),
        match class {
            Class::Native => (RunOutcome::Timeout, None),
            Class::Det | Class::DetSoft => (RunOutcome::Budget, Some(ExitStatus::Budget)),
        }
    );
}

pub fn descriptors_run_out(class: Class) {
    let text = "import os\nn = 0\ntry:\n  while n < 100_000:\n    os.dup(1); n += 1\nexcept OSError as e: print(n < 256, e.errno)\n\
        os.closerange(3, 1 << 30)\npipes = 0\ntry:\n  while True:\n    os.pipe(); pipes += 1\nexcept OSError as e: print(pipes < 128, e.errno)\n";
    assert_eq!(hostile(class, &Job::python(text)).stdout(), "True 24\nTrue 24\n");
}

/// Sockets that hold sockets that hold sockets: descriptors that no process has open.
pub fn descriptors_in_flight(class: Class) {
    let text = "import os, socket, array\nopened = 0\ntry:\n  while opened < 3000:\n\
        \x20   a, b = socket.socketpair(); a.setblocking(False)\n\
        \x20   for _ in range(3):\n      a.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [a.fileno(), b.fileno()] * 100))])\n\
        \x20   a.close(); b.close(); opened += 1\nexcept OSError as e: print('refused', e.errno)\nprint('over')\n";
    let done = hostile(class, &Job::python(text));
    assert!(
        done.stdout().ends_with("over\n"),
        "{} {}",
        done.stdout(),
        done.stderr()
    );
}

pub fn pipes_and_sockets_full_of_bytes(class: Class) {
    let text = "import os, socket\nkept = []\ntotal = 0\ntry:\n  while True:\n    r, w = os.pipe2(os.O_NONBLOCK); kept.append((r, w))\n\
        \x20   try:\n      while True: total += os.write(w, b'x' * 65536)\n    except BlockingIOError: pass\nexcept OSError: pass\n\
        for r, w in kept[:50]: os.close(r); os.close(w)\n\
        try:\n  while True:\n    a, b = socket.socketpair(); a.setblocking(False); kept.append((a, b))\n\
        \x20   try:\n      while True: total += a.send(b'x' * 65536)\n    except BlockingIOError: pass\nexcept OSError: pass\n\
        print(total < 256 << 20)\n";
    let done = hostile(class, &Job::python(text).limits(|l| l.memory_bytes = 256 << 20));
    assert_eq!(done.stdout(), "True\n", "{}", done.stderr());
}

pub fn threads_are_counted(class: Class) {
    let text = "import threading\nstop = threading.Event()\nn = 0\nthreading.stack_size(65536)\ntry:\n  while n < 5000:\n    threading.Thread(target=stop.wait, daemon=True).start(); n += 1\n\
        except RuntimeError: print(n, flush=True)\nimport os; os._exit(0)\n";
    assert_eq!(
        hostile(class, &Job::python(text).limits(|l| l.processes = 20)).stdout(),
        "19\n"
    );
}

/// What a supervisor remembers of files is bounded, and its answers stay right.
pub fn many_files_and_renames(class: Class) {
    let text = "import os\nos.mkdir('d')\nfor n in range(6000): os.close(os.open(f'd/{n}', os.O_CREAT | os.O_WRONLY))\n\
        for n in range(6000): os.rename(f'd/{n}', f'd/{n}-{\"y\" * 200}')\n\
        print(len(os.listdir('d')), len({e.inode() for e in os.scandir('d')}))\n\
        for _ in range(20): os.listdir('d')\nfor n in range(6000): os.unlink(f'd/{n}-{\"y\" * 200}')\nprint(os.listdir('d'))\n";
    let done = hostile(class, &Job::python(text));
    assert_eq!(done.stdout(), "6000 6000\n[]\n", "{}", done.stderr());
}
