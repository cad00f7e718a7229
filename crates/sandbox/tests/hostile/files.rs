//! Reading and writing what is not the job's.

use sandrun_sandbox::{Class, Layer};

use crate::common::{Job, SANDBOX};
use crate::hostile;

pub fn host_files_are_not_there(class: Class) {
    let text = "import os\nfor p in ['/etc/shadow', '/root', '/home', '/proc/1/root//etc', '/proc/1/environ', '/sys', '/proc/kcore', '/var/lib', '/.sandrun/job', '/host']:\n\
        \x20 try: print(p, os.listdir(p) or 'empty') if os.path.isdir(p) else print(p, repr(open(p, 'rb').read(9)))\n  except OSError: pass\n";
    let done = hostile(class, &Job::python(text));
    assert_eq!(done.stdout(), "", "{}", done.stderr());
    let secret = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "cat {0} /proc/1/root{0} /proc/self/root{0} /proc/self/cwd/../../..{0}",
        secret.path().display()
    );
    assert_eq!(hostile(class, &Job::bash(&text)).report.exit_code, 1);
}

pub fn system_is_read_only_and_kernel_knobs_are_hidden(class: Class) {
    let text = "for f in /usr/x /etc/x /x /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/self/oom_score_adj_ /dev/x /bin/true; do\n\
        (echo x > $f) 2>/dev/null && echo \"wrote $f\"; done; rm -rf /usr/bin /bin /etc 2>/dev/null; ls /bin/true; cat /proc/cmdline\n";
    assert_eq!(hostile(class, &Job::bash(text)).stdout(), "/bin/true\n\n");
}

pub fn landlock_is_a_second_wall(class: Class) {
    if SANDBOX.layers().has(Layer::Landlock) {
        assert_eq!(hostile(class, &Job::bash("cat /.canary")).report.exit_code, 1);
    }
}

pub fn a_job_does_not_learn_where_the_launcher_lies(class: Class) {
    let text = "print(open('/proc/1/cmdline').read().replace('\\0', ' '))";
    let done = hostile(class, &Job::python(text));
    assert!(!done.stdout().contains('/'), "{}", done.stdout());
}

pub fn deep_directories_and_odd_names(class: Class) {
    let text = r"
import os
names = ['a\nb', '\x01\x7f', ' ', '..x', '-rf', 'x' * 255, '\udcff\udcfe', '$(touch pwned)', '\u202e']
for name in names: open(name, 'w').write(name.encode('utf-8', 'surrogateescape').hex())
print(sorted(os.listdir('.')) == sorted(names + ['main.py']))
depth = 0
try:
    while depth < 60:
        os.mkdir('d' * 200); os.chdir('d' * 200); depth += 1
        os.close(os.open('leaf', os.O_CREAT | os.O_RDWR))
except OSError as e: print(e)
print(depth)
try: print(len(os.getcwd()))
except OSError as e: print(e.errno)
";
    let job = Job::python(text).outputs(r#"["**"]"#);
    let done = hostile(class, &job);
    assert!(
        done.stdout().starts_with("True\n60\n"),
        "{} {}",
        done.stdout(),
        done.stderr()
    );
}

pub fn links_to_the_outside(class: Class) {
    let text = r"
import os
canary = os.environ['CANARY']
ways = [canary, '/proc/1/root' + canary, '/proc/2/root' + canary, '/proc/self/cwd/../../..' + canary]
os.symlink(canary, 'link'); os.symlink('/proc/1/root', 'root'); os.symlink('..', 'up')
ways += ['link', 'root' + canary, 'up/up/up' + canary]
for way in ways:
    for flags in [os.O_RDONLY, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND, os.O_CREAT | os.O_RDWR]:
        try: fd = os.open(way, flags)
        except OSError: continue
        print('opened', way, os.pread(fd, 99, 0) if flags != os.O_WRONLY else '')
    for call in [os.unlink, os.rmdir, os.readlink, lambda p: os.link(p, 'hard'), lambda p: os.rename(p, 'moved'), lambda p: os.chmod(p, 0o777), lambda p: os.truncate(p, 0), lambda p: os.utime(p)]:
        if way == 'link': continue
        try: print('did', way, call(way))
        except OSError: pass
for name in ['/etc/passwd', '/bin/sh', '/proc/self/exe', '/dev/null', '/usr/bin/python3']:
    try: os.link(name, 'hard'); print('linked', name)
    except OSError: pass
";
    let done = hostile(class, &Job::python(text).outputs(r#"["**"]"#));
    assert_eq!(done.stdout(), "", "{}", done.stderr());
    assert_eq!(done.report.exit_code, 0, "{}", done.stderr());
}
