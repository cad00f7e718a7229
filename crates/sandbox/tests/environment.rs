//! What a job sees of an image.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{Job, LAUNCHER};
use sandrun_sandbox::{Class, Sandbox, SandboxConfig};
use sandrun_types::{ContentDigest, Interpreter};

const IMAGE: ContentDigest = ContentDigest([7; 32]);
const OTHER: ContentDigest = ContentDigest([8; 32]);
const SITE: &str = "lib/python3.11/site-packages";
const MODULES: &str = "lib/node_modules";

fn write(image: &Path, name: &str, text: &str) {
    let path = image.join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    std::fs::write(path, text).expect("a file");
}

/// A sandbox with two images, and the folder that they lie in.
fn sandbox() -> (Sandbox, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a directory");
    let image = folder.path().join(IMAGE.cid());
    write(&image, &format!("{SITE}/shapes/__init__.py"), "SIDES = 4\n");
    write(&image, &format!("{SITE}/more.pth"), "extra\n");
    write(&image, &format!("{SITE}/extra/colours.py"), "RED = 'red'\n");
    write(
        &image,
        &format!("{MODULES}/shapes/index.js"),
        "module.exports = {sides: 4};\n",
    );
    write(&folder.path().join(OTHER.cid()), "secret", "other\n");
    let config = SandboxConfig {
        environments_dir: Some(folder.path().to_path_buf()),
        ..SandboxConfig::new(vec![LAUNCHER.into()])
    };
    (Sandbox::start(config).expect("the sandbox starts"), folder)
}

fn run(sandbox: &Sandbox, mut job: Job, image: Option<ContentDigest>) -> (String, String) {
    job.environment = image;
    let done = job.run_in(sandbox).expect("the job runs");
    (done.stdout(), done.stderr())
}

#[test]
fn python_has_the_packages_and_what_pth_files_add() {
    let (sandbox, _folder) = sandbox();
    let code =
        "import os, shapes, colours\nprint(shapes.SIDES, colours.RED, os.environ['SANDRUN_ENVIRONMENT'])";
    let (stdout, stderr) = run(&sandbox, Job::python(code), Some(IMAGE));
    assert_eq!(stdout, format!("4 red {}\n", IMAGE.cid()), "{stderr}");
    let (stdout, stderr) = run(&sandbox, Job::python(code), None);
    assert!(
        stdout.is_empty() && stderr.contains("No module named 'shapes'"),
        "{stderr}"
    );
}

#[test]
fn node_finds_modules_by_require_and_by_import() {
    let (sandbox, _folder) = sandbox();
    let require = Job::new(
        Interpreter::Node,
        "main.js",
        "console.log(require('shapes').sides)",
    );
    assert_eq!(run(&sandbox, require, Some(IMAGE)).0, "4\n");
    let import = "import shapes from 'shapes';\nconsole.log(shapes.sides);";
    let import = Job::new(Interpreter::Node, "main.mjs", import);
    assert_eq!(run(&sandbox, import, Some(IMAGE)).0, "4\n");
}

#[test]
fn nobody_writes_to_an_image_or_sees_another() {
    let (sandbox, folder) = sandbox();
    let code = "echo mine >/env/new 2>/dev/null || echo kept
        rm -rf /env/lib 2>/dev/null || echo kept
        find / -name secret 2>/dev/null
        ls /.sandrun/images 2>/dev/null || echo hidden
        ls /env";
    let (stdout, _) = run(&sandbox, Job::bash(code), Some(IMAGE));
    assert_eq!(stdout, "kept\nkept\nhidden\nlib\n");
    assert!(
        folder
            .path()
            .join(IMAGE.cid())
            .join(SITE)
            .join("more.pth")
            .is_file()
    );
    assert_eq!(run(&sandbox, Job::bash("ls /env"), None).0, "");
}

/// A job of the service's own user, which an unprivileged service has, gets the same errors as another user's.
#[test]
fn an_image_is_closed_alike_to_its_owner_and_to_others() {
    let (sandbox, _folder) = sandbox();
    let code = r"
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
name = 'lib/python3.11/site-packages/more.pth'
os.symlink('/env', 'link'); os.symlink('/env/' + name, 'file'); directory = os.open('/env', os.O_RDONLY)
def say(do, *a, **k):
    try: do(*a, **k); print('DONE')
    except OSError as e: print(errno.errorcode[e.errno])
for path, more in [('/env/' + name, {}), ('/work/../env/' + name, {}), ('../env/' + name, {}), ('link/' + name, {}), ('file', {}), (name, {'dir_fd': directory})]:
    for flags in [os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_CREAT]: say(os.open, path, flags, **more)
    say(os.open, path, os.O_RDONLY | os.O_NOATIME, **more)
def here(): say(os.open, name, os.O_WRONLY); say(os.open, name, os.O_RDONLY | os.O_NOATIME); say(os.open, 'new', os.O_WRONLY | os.O_CREAT)
for move in [lambda: os.fchdir(directory), lambda: os.chdir('/env'), lambda: (os.chdir('/work'), os.chdir('link'))]: move(); here()
libc.access(name.encode(), 2); print(errno.errorcode[ctypes.get_errno()])
os.open('/work/own', os.O_WRONLY | os.O_CREAT | os.O_NOATIME)
";
    let mut job = Job::python(code).class(Class::Det);
    job.environment = Some(IMAGE);
    let done = job.run_in(&sandbox).expect("the job runs");
    let by_name = "EACCES\nEACCES\nEACCES\nEACCES\nEPERM\n".repeat(6);
    let here = "EACCES\nEPERM\nEACCES\n".repeat(3);
    assert_eq!(
        done.stdout(),
        format!("{by_name}{here}EACCES\n"),
        "{}",
        done.stderr()
    );
}

#[test]
fn the_trace_is_bound_to_the_image() {
    let (sandbox, _folder) = sandbox();
    let root = |image| {
        let mut job = Job::bash("echo same");
        job.environment = image;
        job.run_in(&sandbox).expect("the job runs").report.trace_root
    };
    assert_eq!(root(Some(IMAGE)), root(Some(IMAGE)));
    assert_ne!(root(Some(IMAGE)), root(Some(OTHER)));
    assert_ne!(root(Some(IMAGE)), root(None));
}

#[test]
fn an_image_that_is_not_there_is_refused() {
    let (sandbox, _folder) = sandbox();
    let mut job = Job::bash("echo ran");
    job.environment = Some(ContentDigest([9; 32]));
    let refused = job.run_in(&sandbox).err().expect("no run").to_string();
    assert!(refused.contains("environment"), "{refused}");
    let plain = common::start(sandrun_sandbox::CgroupPolicy::Auto);
    let refused = job.run_in(&plain).err().expect("no run").to_string();
    assert!(refused.contains("environments"), "{refused}");
}

/// Neither when the machine fetched an image, nor when a file of the system was made that a job has given another name.
#[test]
fn times_of_the_machine_are_told_under_no_name() {
    let (sandbox, folder) = sandbox();
    let module = folder
        .path()
        .join(IMAGE.cid())
        .join(SITE)
        .join("shapes/__init__.py");
    let code = "import os
os.symlink('/etc/passwd', 'x.py')
os.symlink('/usr/bin/env', 'y.py')
os.symlink('/env/lib/python3.11/site-packages/shapes/__init__.py', 'z.py')
import shapes
for name in ['x.py', 'y.py', 'z.py', shapes.__file__]:
    print(os.stat(name).st_mtime, os.fstat(os.open(name, 0)).st_mtime)
print(os.stat(os.__file__).st_mtime == os.fstat(os.open(os.__file__, 0)).st_mtime != os.stat('x.py').st_mtime)
";
    let told = |seconds| {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let file = std::fs::File::options().append(true).open(&module).unwrap();
        file.set_modified(time).unwrap();
        let job = Job::python(code).class(sandrun_sandbox::Class::Det);
        let (stdout, stderr) = run(&sandbox, job, Some(IMAGE));
        assert_eq!(stdout.lines().count(), 5, "{stderr}");
        assert!(stdout.ends_with("True\n"), "{stdout}");
        stdout
    };
    let first = told(1_000_000_000);
    assert_eq!(first, told(1_100_000_000));
    let times: std::collections::BTreeSet<&str> =
        first.lines().take(4).flat_map(str::split_whitespace).collect();
    assert_eq!(times.len(), 1, "{first}");
}
