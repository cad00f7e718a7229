//! Outputs that are none.

use std::time::Duration;

use sandrun_sandbox::Class;

use crate::common::{Done, Job};
use crate::{SONG, hostile};

/// No output is a link, and none holds what the job could not read.
fn assert_harmless(done: &Done) {
    for name in done.output_names() {
        let path = done.outputs.path().join(&name);
        let kind = std::fs::symlink_metadata(&path).expect("it is there").file_type();
        assert!(kind.is_file(), "{name}");
        assert_ne!(
            std::fs::read(&path).expect("it can be read"),
            SONG.as_bytes(),
            "{name}"
        );
    }
}

pub fn names_that_are_no_files(class: Class) {
    let text = r"
import os, socket
os.mkfifo('fifo'); socket.socket(1).bind('socket'); os.symlink(os.environ['CANARY'], 'canary'); os.symlink('/etc/shadow', 'shadow')
os.symlink('loop', 'loop'); os.symlink('/proc/self/environ', 'environ'); os.symlink('/dev/zero', 'zero'); os.symlink('.', 'here')
os.mkdir('dir'); os.symlink(os.path.dirname(os.environ['CANARY']), 'dir/out')
open('real', 'w').write('x'); os.link('real', 'hard'); open('locked', 'w').write('y'); os.chmod('locked', 0)
open('program', 'w').write('#!/bin/sh'); os.chmod('program', 0o6777)
for mode, device in [(0o60666, 0x801), (0o20666, 0x108), (0o20666, 0)]:
    try: os.mknod('device', mode, device); print('made a device')
    except OSError: pass
os.mkdir('closed'); open('closed/x', 'w').write('z'); os.chmod('closed', 0)
";
    let job = Job::python(text).outputs(r#"["**"]"#);
    let done = hostile(class, &job);
    assert_harmless(&done);
    let names = done.output_names();
    assert!(
        names.contains(&"real".to_owned()) && names.contains(&"program".to_owned()),
        "{names:?}"
    );
    for name in [
        "fifo",
        "socket",
        "canary",
        "shadow",
        "loop",
        "environ",
        "zero",
        "dir/out/canary",
        "device",
    ] {
        assert!(!names.contains(&name.to_owned()), "{names:?}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(done.outputs.path().join("program")).expect("it is there");
    assert_eq!(mode.permissions().mode() & 0o6000, 0);
}

/// A process that outlives the main one writes no output any more.
pub fn are_taken_after_everybodys_death(class: Class) {
    let text = r"
import os, time
r, w = os.pipe()
if os.fork() == 0:
    os.setsid(); os.write(w, b'x')
    while True:
        f = os.open('late', os.O_CREAT | os.O_WRONLY | os.O_TRUNC); os.write(f, b'whole'); os.close(f)
        if os.stat('late').st_size != 5: os._exit(1)
os.read(r, 1)
while not os.path.exists('late'): time.sleep(0.001)
";
    let job = Job::python(text).outputs(r#"["late"]"#);
    let done = hostile(class, &job);
    assert_eq!(done.report.exit_code, 0, "{}", done.stderr());
    assert_harmless(&done);
}

pub fn swapped_until_the_end(class: Class) {
    let text = r"
import os, threading, time
canary = os.environ['CANARY']
os.mkdir('d'); open('d/f', 'w').write('mine')
def swap():
    n = 0
    while True:
        n += 1
        try:
            os.symlink(canary, f't{n}'); os.rename(f't{n}', 'out')
            open(f'u{n}', 'w').write('mine'); os.rename(f'u{n}', 'out')
            os.rename('d', 'e'); os.symlink(os.path.dirname(canary), 'd'); os.unlink('d'); os.rename('e', 'd')
            os.link('out', f'v{n}'); os.unlink(f'v{n}')
        except OSError: pass
for _ in range(2):
    if os.fork() == 0: swap()
threading.Thread(target=swap, daemon=True).start()
time.sleep(0.2)
os._exit(0)
";
    let job = Job::python(text)
        .outputs(r#"["**"]"#)
        .limits(|l| l.wall = Duration::from_secs(10));
    let done = hostile(class, &job);
    assert_harmless(&done);
}
