//! Which events a traced program's doings leave in its trace.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use common::{Done, Job};
use sandrun_sandbox::Class;
use sandrun_types::{
    EntropySource, FileHash, Interpreter, NodeKind, TaskEvent, TaskKind, TraceEvent, TraceLeaf, TracePath,
    TreeChange,
};

/// What one run's tasks did: task and event.
fn events(done: &Done) -> Vec<(u32, TaskEvent)> {
    done.trace()
        .into_iter()
        .filter_map(|leaf| {
            let TraceLeaf::Event(TraceEvent::Task { task, event }) = leaf else {
                return None;
            };
            Some((task.0, event))
        })
        .collect()
}

fn run(job: Job) -> (Done, Vec<(u32, TaskEvent)>) {
    let done = job.class(Class::Det).run();
    let events = events(&done);
    (done, events)
}

fn path(text: &str) -> TracePath {
    TracePath::of(text.as_bytes())
}

fn written(text: &str, content: &[u8]) -> TaskEvent {
    TaskEvent::FileWritten {
        path: path(text),
        content: FileHash::of(content),
    }
}

fn read(text: &str, content: &[u8]) -> TaskEvent {
    TaskEvent::FileRead {
        path: path(text),
        content: FileHash::of(content),
    }
}

/// Where an event stands; a test fails that does not find it.
#[track_caller]
fn place(events: &[(u32, TaskEvent)], event: &TaskEvent) -> usize {
    let found = events.iter().position(|(_, other)| other == event);
    found.unwrap_or_else(|| panic!("no {event:?} in {events:#?}"))
}

fn count(events: &[(u32, TaskEvent)], event: &TaskEvent) -> usize {
    events.iter().filter(|(_, other)| other == event).count()
}

#[test]
fn a_file_that_was_written_and_deleted_leaves_its_event() {
    let script = |text: &str| {
        Job::python(&format!(
            "import os\nf = open('secret', 'w'); f.write('{text}')\nf.close(); os.unlink('secret')\n"
        ))
    };
    let (one, events) = run(script("a"));
    let content = place(&events, &written("/work/secret", b"a"));
    let removed = TaskEvent::Tree(TreeChange::Removed {
        path: path("/work/secret"),
    });
    assert!(content < place(&events, &removed));
    let (other, _) = run(script("b"));
    assert_eq!(one.report.output_root, other.report.output_root);
    assert_ne!(one.report.trace_root, other.report.trace_root);
}

#[test]
fn a_file_that_is_lost_while_it_is_open_is_told_before() {
    let (_, events) = run(Job::python(
        "import os\nf = open('x', 'w'); f.write('1'); f.flush(); os.unlink('x'); f.write('2'); f.close()\n\
         g = open('y', 'w'); g.write('3'); g.flush(); open('z', 'w').close(); os.rename('z', 'y')\n\
         os._exit(0)\n",
    ));
    place(&events, &written("/work/x", b"1"));
    place(&events, &written("/work/x (deleted)", b"12"));
    let lost = place(&events, &written("/work/y", b"3"));
    let renamed = TaskEvent::Tree(TreeChange::Renamed {
        from: path("/work/z"),
        path: path("/work/y"),
    });
    assert!(lost < place(&events, &renamed));
}

#[test]
fn what_a_shell_redirects_is_seen_whole() {
    let (_, events) = run(Job::bash(
        "echo one > a\n/bin/echo two >> a\ncat < a > b\n{ echo x; echo y; } > c\n",
    ));
    place(&events, &written("/work/a", b"one\n"));
    place(&events, &written("/work/a", b"one\ntwo\n"));
    place(&events, &read("/work/a", b"one\ntwo\n"));
    place(&events, &written("/work/b", b"one\ntwo\n"));
    place(&events, &written("/work/c", b"x\ny\n"));
}

#[test]
fn mappings_and_open_files_at_the_end_are_seen() {
    let (_, events) = run(Job::python(
        "import mmap, os\n\
         f = open('m', 'w+b'); f.write(bytes(4096)); f.flush()\n\
         m = mmap.mmap(f.fileno(), 4096); m[0:3] = b'abc'; m.flush(); del m; f.close()\n\
         f = open('n', 'w+b'); f.write(bytes(4096)); f.close()\n\
         f = open('n', 'r+b'); m = mmap.mmap(f.fileno(), 4096); assert m[0] == 0\n\
         m[0:3] = b'abc'; del m; f.close(); os.unlink('n')\n\
         g = open('end', 'w'); g.write('z'); g.flush()\n\
         open('main.py').read(3)\n\
         os._exit(0)\n",
    ));
    let mut content = vec![0; 4096];
    content[..3].copy_from_slice(b"abc");
    place(&events, &written("/work/m", &content));
    // Written through a page that was read before, which the kernel does not tell.
    place(&events, &written("/work/n", &content));
    place(&events, &written("/work/end", b"z"));
    assert_eq!(count(&events, &written("/work/end", b"z")), 1);
}

#[test]
fn every_change_of_the_tree_has_its_event() {
    let (done, events) = run(Job::python(
        "import os, socket\n\
         os.mkdir('d'); os.mkfifo('d/f'); os.symlink('nowhere', 'l'); open('a', 'w').write('12345')\n\
         os.link('a', 'b'); os.rename('b', 'd/c'); os.chmod('a', 0o600); os.truncate('a', 2)\n\
         s = socket.socket(socket.AF_UNIX); s.bind('sock')\n\
         os.remove('d/f'); os.remove('d/c'); os.rmdir('d')\n\
         try: os.rmdir('missing')\n\
         except OSError: pass\n\
         try: os.mkdir('/usr/x')\n\
         except OSError: pass\n",
    ));
    assert_eq!(done.report.exit_code, 0, "{}", done.stderr());
    let changes: Vec<TreeChange> = events
        .into_iter()
        .filter_map(|(_, event)| {
            let TaskEvent::Tree(change) = event else {
                return None;
            };
            Some(change)
        })
        .collect();
    let made = |kind, text| TreeChange::Made {
        kind,
        path: path(text),
    };
    let removed = |text| TreeChange::Removed { path: path(text) };
    assert_eq!(
        changes,
        [
            made(NodeKind::Directory, "/work/d"),
            made(NodeKind::Fifo, "/work/d/f"),
            TreeChange::Symlinked {
                target: path("nowhere"),
                path: path("/work/l")
            },
            TreeChange::Linked {
                from: path("/work/a"),
                path: path("/work/b")
            },
            TreeChange::Renamed {
                from: path("/work/b"),
                path: path("/work/d/c")
            },
            TreeChange::Mode {
                mode: 0o600,
                path: path("/work/a")
            },
            TreeChange::Resized {
                length: 2,
                path: path("/work/a")
            },
            made(NodeKind::Socket, "/work/sock"),
            removed("/work/d/f"),
            removed("/work/d/c"),
            TreeChange::RemovedDirectory {
                path: path("/work/d")
            },
        ]
    );
}

#[test]
fn programs_tasks_and_entropy_are_told_by_virtual_numbers() {
    let mut job = Job::bash(
        "/bin/true one two\n./own\npython3 -c 'import os, threading; os.urandom(5); \
                             t = threading.Thread(target=print); t.start(); t.join()'\n",
    );
    let own = b"#!/bin/sh\nexit 3\n".to_vec();
    job.files.push(("own".to_owned(), own));
    let (_, events) = run(job);
    let programs: Vec<String> = events
        .iter()
        .filter_map(|(_, event)| {
            let TaskEvent::Exec { path, .. } = event else {
                return None;
            };
            Some(path.to_string())
        })
        .collect();
    assert_eq!(programs.len(), 4, "{programs:?}");
    assert!(
        programs[0].ends_with("bash") && programs[1].ends_with("true"),
        "{programs:?}"
    );
    let drawn = |source, bytes| TaskEvent::Entropy { source, bytes };
    assert_eq!(count(&events, &drawn(EntropySource::Auxiliary, 16)), 4);
    // Draws that follow one another are one event.
    let called = |event: &TaskEvent| {
        matches!(
            event,
            TaskEvent::Entropy {
                source: EntropySource::Call,
                bytes: 5..
            }
        )
    };
    assert!(events.iter().any(|(_, event)| called(event)));
    let started = |kind: TaskKind| {
        let of_kind =
            |event: &TaskEvent| matches!(event, TaskEvent::Started { kind: other, .. } if *other == kind);
        events.iter().filter(|(_, event)| of_kind(event)).count()
    };
    assert_eq!((started(TaskKind::Process), started(TaskKind::Thread)), (3, 1));
    let ended = events
        .iter()
        .filter(|(_, event)| matches!(event, TaskEvent::Ended { .. }));
    assert!(ended.count() >= 4);
    assert!(
        events.iter().all(|(task, _)| *task < 100),
        "numbers of the job, not of the machine"
    );
}

#[test]
fn calls_that_the_tracer_refuses_are_told() {
    let (_, events) = run(Job::python(
        "import ctypes\nlibc = ctypes.CDLL(None)\nassert libc.prctl(26, 1, 0, 0, 0) == -1\n",
    ));
    let denied = TaskEvent::Denied {
        call: u32::try_from(libc::SYS_prctl).expect("a number"),
        errno: u16::try_from(libc::EINVAL).expect("a number"),
    };
    place(&events, &denied);
}

#[test]
fn a_growing_file_is_hashed_at_growing_intervals() {
    // 400 MiB would have to be hashed if every close did it; each piece is read back once at most.
    let (done, events) = run(Job::python(
        "for i in range(400):\n\
         \x20   with open('log', 'a') as f: f.write('x' * 5000)\n\
         import os; os.unlink('log')\n",
    ));
    assert_eq!(done.report.exit_code, 0, "{}", done.stderr());
    let last = b"x".repeat(2_000_000);
    place(&events, &written("/work/log", &last));
    let told = events
        .iter()
        .filter(|(_, event)| matches!(event, TaskEvent::FileWritten { .. }))
        .count();
    assert!((5..400).contains(&told), "{told} times");
}

#[test]
fn a_program_of_the_job_is_told_by_its_bytes() {
    let bytes = std::fs::read("/bin/true").expect("a program");
    let (_, events) = run(Job::new(Interpreter::Itself, "prog", &bytes));
    let program = events.iter().find_map(|(_, event)| {
        let TaskEvent::Exec { path, program, .. } = event else {
            return None;
        };
        Some((path.to_string(), *program))
    });
    assert_eq!(program, Some(("/work/prog".to_owned(), FileHash::of(&bytes))));
}

#[test]
fn files_are_named_by_where_they_are() {
    let (done, events) = run(Job::python(
        "import os\n\
         def put(name, text):\n\
         \x20   with open(name, 'w') as f: f.write(text)\n\
         os.makedirs('a/b'); put('a/b/x', '1')\n\
         os.chdir('a'); put('b/x', '2')\n\
         os.rename('b', 'c'); put('c/../c/./y', '3')\n\
         os.symlink('c', 'l'); put('l/z', '4'); os.link('c/z', 'h'); put('h', '5')\n\
         for place in ['/work', '/tmp', '/work/a']:\n\
         \x20   os.chdir(place); put('u', place)\n\
         os.mkdir('/tmp/gone'); os.chdir('/tmp/gone'); put('v', '6')\n\
         os.rename('/tmp/gone', '/tmp/found'); put('w', '7')\n",
    ));
    assert_eq!(done.report.exit_code, 0, "{}", done.stderr());
    for (name, content) in [
        ("/work/a/b/x", "1"),
        ("/work/a/b/x", "2"),
        ("/work/a/c/y", "3"),
        ("/work/a/c/z", "4"),
        ("/work/a/h", "5"),
        ("/work/u", "/work"),
        ("/tmp/u", "/tmp"),
        ("/work/a/u", "/work/a"),
        ("/tmp/gone/v", "6"),
        ("/tmp/found/w", "7"),
    ] {
        place(&events, &written(name, content.as_bytes()));
    }
}

#[test]
fn a_number_stands_for_the_file_that_it_was_opened_for_last() {
    let (done, events) = run(Job::python(
        "import os\n\
         stat = lambda fd: (os.fstat(fd).st_ino, os.fstat(fd).st_size)\n\
         p = os.open('p', os.O_WRONLY | os.O_CREAT); first = stat(p)[0]\n\
         os.write(p, b'12'); assert stat(p) == (first, 2)\n\
         q = os.open('q', os.O_RDWR | os.O_CREAT); second = stat(q)[0]; assert second != first\n\
         os.dup2(q, p); assert stat(p) == (second, 0)\n\
         os.close(p); assert os.open('p', os.O_RDONLY) == p and stat(p) == (first, 2)\n\
         os.closerange(3, 100); assert os.open('q', os.O_RDONLY) == 3 and stat(3) == (second, 0)\n\
         child = os.fork()\n\
         if child == 0:\n\
         \x20   os.close(3); os.open('p', os.O_RDONLY); assert stat(3) == (first, 2); os._exit(7)\n\
         assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7 and stat(3) == (second, 0)\n\
         time = lambda fd: os.fstat(fd).st_mtime_ns\n\
         e = os.open('e', os.O_WRONLY | os.O_CREAT); began = time(e); assert time(e) == began\n\
         os.close(e); e = os.open('e', os.O_WRONLY | os.O_TRUNC); emptied = time(e); assert emptied > began\n\
         os.write(e, b'x'); assert time(e) > emptied\n",
    ));
    assert_eq!(done.report.exit_code, 0, "{}", done.stderr());
    place(&events, &written("/work/p", b"12"));
    place(&events, &read("/work/p", b"12"));
}
