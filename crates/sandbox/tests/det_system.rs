//! What of the machine's own files a job of class `det` sees: what its class id covers, and nothing else.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::print_stdout
)]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Job, LAUNCHER, SANDBOX, here};
use sandrun_sandbox::{Class, RunError, Sandbox, SandboxConfig};

/// A sandbox whose jobs see one directory more; the class ids of the user's other sandboxes are none of its business.
fn with(dir: &Path, cache: &Path) -> Sandbox {
    let mut config = SandboxConfig::new(vec![LAUNCHER.into()]);
    config.extra_dirs = vec![dir.to_owned()];
    config.cache_dir = Some(cache.to_owned());
    Sandbox::start(config).expect("the sandbox starts")
}

#[test]
fn a_machine_with_another_library_has_another_class() {
    let folder = tempfile::tempdir().unwrap();
    // what is known of the machine's own files need not be read again, where it is kept
    let _ = SANDBOX.classes();
    let cache = folder.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    if let Some(known) = SandboxConfig::new(Vec::new()).cache_dir {
        let _ = std::fs::copy(known.join("system-files"), cache.join("system-files"));
    }
    let dir = folder.path().join("lib");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("libm.so"), "one").unwrap();
    let one = with(&dir, &cache);
    assert_eq!(
        one.class_of(here(Class::Det)),
        with(&dir, &cache).class_of(here(Class::Det))
    );
    std::fs::write(dir.join("libm.so"), "two").unwrap();
    let two = with(&dir, &cache);
    for class in [here(Class::Det), Class::DetSoft] {
        assert_ne!(one.class_of(class), two.class_of(class), "{class}");
    }
    assert_eq!(one.class(), two.class());
}

#[test]
fn a_machine_that_is_changed_meanwhile_runs_no_job_of_its_former_class() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libm.so");
    std::fs::write(&library, "one").unwrap();
    let mut config = SandboxConfig::new(vec![LAUNCHER.into()]);
    // what is read is remembered beside what others know
    let _ = SANDBOX.classes();
    let cache = tempfile::tempdir().unwrap();
    if let Some(known) = config.cache_dir.take() {
        let _ = std::fs::copy(known.join("system-files"), cache.path().join("system-files"));
    }
    config.cache_dir = Some(cache.path().to_owned());
    config.extra_dirs = vec![folder.path().to_owned()];
    config.system_check = Duration::ZERO;
    let sandbox = Sandbox::start(config).expect("the sandbox starts");
    let native = Job::bash("echo ran");
    let job = Job::bash("echo ran").class(Class::Det);
    let runs = || job.run_in(&sandbox).map(|done| done.stdout());
    assert_eq!(runs().unwrap(), "ran\n");
    // touched, and the same
    std::fs::write(&library, "one").unwrap();
    assert_eq!(runs().unwrap(), "ran\n");
    std::fs::write(&library, "two").unwrap();
    assert_eq!(sandbox.offered(), sandbox.classes());
    for _ in 0..2 {
        assert!(matches!(runs(), Err(RunError::Changed(class)) if class == job.class));
        assert_eq!(sandbox.offered(), [(Class::Native, sandbox.class())]);
    }
    assert_eq!(native.run_in(&sandbox).unwrap().stdout(), "ran\n");
    std::fs::write(&library, "one").unwrap();
    sandbox.look_again();
    assert_eq!(sandbox.offered(), sandbox.classes());
    assert_eq!(runs().unwrap(), "ran\n");
}

#[test]
fn which_files_of_the_system_are_links_of_each_other_is_not_told() {
    // not where a job has files of its own
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let _ = SANDBOX.classes();
    let cache = tempfile::tempdir().unwrap();
    if let Some(known) = SandboxConfig::new(Vec::new()).cache_dir {
        let _ = std::fs::copy(known.join("system-files"), cache.path().join("system-files"));
    }
    let dir = folder.path().canonicalize().unwrap().join("lib");
    std::fs::create_dir(&dir).unwrap();
    for name in ["a", "c"] {
        std::fs::write(dir.join(name), vec![b'x'; 5000]).unwrap();
    }
    std::fs::hard_link(dir.join("a"), dir.join("b")).unwrap();
    let text = "import mmap, os, sys\nos.chdir(sys.argv[1])\n\
                print(*[os.stat(name).st_ino for name in 'abcab'])\nfiles = [open(name) for name in 'cba']\n\
                print(*[os.fstat(f.fileno()).st_ino for f in files])\n\
                kept = [mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) for f in files]\n\
                print(*[line for line in open('/proc/self/maps') if sys.argv[1] in line], os.listdir())\n\
                print(os.stat('/work').st_ino)\n";
    let mut job = Job::python(text).class(Class::Det);
    job.args = vec![dir.to_str().unwrap().to_owned()];
    let run = || {
        let sandbox = with(&dir, cache.path());
        let done = job.run_in(&sandbox).unwrap();
        let output = format!("{}{}", done.stdout(), done.stderr());
        (sandbox.class_of(job.class), output, done.report.trace_root)
    };
    let linked = run();
    std::fs::remove_file(dir.join("b")).unwrap();
    std::fs::copy(dir.join("a"), dir.join("b")).unwrap();
    assert_eq!(run(), linked);
    let lines: Vec<&str> = linked.1.lines().collect();
    let numbers: Vec<&str> = lines[0].split(' ').collect();
    assert_eq!((numbers[0], numbers[1]), (numbers[3], numbers[4]), "{}", linked.1);
    assert!(numbers[0] != numbers[1] && lines[1] == format!("{} {} {}", numbers[2], numbers[1], numbers[0]));
    assert_eq!(linked.1.matches(" 08:01 ").count(), 3, "{}", linked.1);
}

#[test]
fn documentation_and_other_machines_packages_are_not_seen() {
    let text = "ls /usr /usr/share /usr/local\nls /usr/share/doc /usr/src\ntouch /usr/new /usr/lib/new /usr/bin/new\n";
    let job = Job::bash(text);
    let native = job.run();
    let seen = job.class(Class::Det).run();
    let host = |name: &str| Path::new("/usr/share").join(name).exists();
    assert_eq!(native.stdout().lines().any(|line| line == "man"), host("man"));
    for hidden in ["doc", "man", "icons", "src", "games"] {
        assert!(
            !seen.stdout().lines().any(|line| line == hidden),
            "{}",
            seen.stdout()
        );
    }
    let denied = seen.stderr().matches("Read-only file system").count();
    assert_eq!(denied, 3, "{}", seen.stderr());
}

#[test]
fn programs_and_their_libraries_are_seen() {
    let text = "awk 'BEGIN { print 1 + 1 }' && python3 -c 'import json, ssl, sqlite3, zoneinfo; \
                print(zoneinfo.ZoneInfo(\"Europe/Berlin\"))' && perl -MList::Util=sum -e 'print sum(1, 2), \"\\n\"' && \
                sort --version > /dev/null && tar --version > /dev/null && echo done\n";
    let done = Job::bash(text).class(Class::Det).run();
    assert_eq!(done.stdout(), "2\nEurope/Berlin\n3\ndone\n", "{}", done.stderr());
}
