//! Environments from the command line: locked, built, stored, and used by jobs on an executor and on this machine.

mod support;

use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use support::BIN;
use support::process::Process;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::OpenOptions;
use tokio::process::Command;

/// What a job prints with numpy, and where it comes from.
const CODE: &str = "import numpy, os\nprint(numpy.arange(10).sum(), numpy.__file__.startswith('/env/'))\n";

/// A command in a directory of its own, without a market.
fn alone(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BIN);
    command
        .args(arguments)
        .current_dir(directory)
        .env("SANDRUN_HOME", directory.join("home"))
        .env("SANDRUN_ENVIRONMENT_DOWNLOADS", downloads())
        .env_remove("SANDRUN_CONFIG")
        .kill_on_drop(true);
    command
}

/// Shared by all tests that need packages.
fn downloads() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("environment-downloads")
}

async fn run(directory: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    Ok(alone(directory, arguments).output().await?)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The lock of `ml-basic` with numpy alone.
fn numpy_lock(directory: &Path) -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../environments/ml-basic.lock.json");
    let mut lock: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let packages = lock["packages"].as_array_mut().context("packages")?;
    packages.retain(|package| package["name"] == "numpy");
    ensure!(packages.len() == 1, "numpy is locked");
    std::fs::write(directory.join("numpy.lock.json"), lock.to_string())?;
    Ok(())
}

/// A bundle of code that has the wheel of numpy in it, unpacked.
async fn unpacked_wheel(at: &Path) -> anyhow::Result<String> {
    let bundle = at.join("with-wheel");
    std::fs::create_dir(&bundle)?;
    let lock: Value = serde_json::from_slice(&std::fs::read(at.join("numpy.lock.json"))?)?;
    let hash = lock["packages"][0]["hash"].as_str().context("a hash")?;
    let wheel = downloads().join(hash.replace(':', "-"));
    let unpack = "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])";
    let mut python = Command::new("/usr/bin/python3");
    let unpacked = python
        .args(["-c", unpack])
        .arg(wheel)
        .arg(&bundle)
        .output()
        .await?;
    ensure!(unpacked.status.success(), "{}", said(&unpacked));
    let code = "import numpy\nassert numpy.__file__.startswith('/work/'), numpy.__file__\n\
        print(numpy.random.default_rng().random(), numpy.linalg.norm(numpy.arange(100.0)))\n";
    std::fs::write(bundle.join("main.py"), code)?;
    Ok(bundle.to_string_lossy().into_owned())
}

#[tokio::test]
async fn who_is_told_to_end_leaves_nothing_behind() -> anyhow::Result<()> {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let directory = tempfile::tempdir()?;
    let at = directory.path();
    std::fs::write(at.join("requirements.txt"), "numpy\n")?;
    numpy_lock(at)?;
    // an interpreter whose pip says that it runs, and does so for ever
    let (python, began) = (at.join("python3"), at.join("began"));
    let pipe = std::process::Command::new("mkfifo").arg(&began).status()?;
    ensure!(pipe.success(), "a named pipe");
    // for writing as well: its reader never waits for a writer that does not come
    let mut begun = OpenOptions::new().read_write(true).open_receiver(&began)?;
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--version*) exit 0;; *-I*) echo 3.11; exit 0;; esac\necho > {}\nsleep 600\n",
        began.display()
    );
    std::fs::write(&python, script)?;
    std::fs::set_permissions(&python, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let temporary = at.join("tmp");
    std::fs::create_dir(&temporary)?;
    for (arguments, signal, code) in [
        (["lock", "requirements.txt"], Signal::SIGTERM, 143),
        (["build", "numpy.lock.json"], Signal::SIGINT, 130),
    ] {
        let mut command = alone(at, &["env"]);
        command.args(arguments).arg("--python").arg(&python);
        command
            .env("TMPDIR", &temporary)
            .env("SANDRUN_ENVIRONMENT_DOWNLOADS", at.join("downloads"));
        let mut running = command.spawn()?;
        let mut line = [0; 16];
        tokio::select! {
            read = begun.read(&mut line) => ensure!(read? > 0, "nothing was said"),
            ended = running.wait() => anyhow::bail!("{arguments:?} ended before pip ran: {ended:?}"),
        }
        let id = running.id().context("a process")?;
        kill(Pid::from_raw(i32::try_from(id)?), signal)?;
        let ended = tokio::time::timeout(std::time::Duration::from_secs(30), running.wait()).await??;
        assert_eq!(ended.code(), Some(code), "{arguments:?}");
        assert_eq!(std::fs::read_dir(&temporary)?.count(), 0, "{arguments:?}");
    }
    assert_eq!(std::fs::read_dir(at.join("downloads"))?.count(), 0);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_locked_or_built_is_said_with_what_to_do() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let at = directory.path();
    std::fs::write(at.join("requirements.txt"), "numpy\n")?;
    std::fs::write(at.join("bad.lock.json"), "numpy==2\n")?;
    std::fs::create_dir(at.join("there"))?;
    std::os::unix::fs::symlink("/etc/passwd", at.join("there/evil"))?;
    for (arguments, code, words) in [
        (&["env", "lock", "gone.txt"][..], 2, "gone.txt can't be read"),
        (
            &["env", "lock", "requirements.txt", "--python", "/nowhere/python3"],
            1,
            "not installed",
        ),
        (
            &["env", "build", "gone.lock.json"],
            2,
            "give a lock or a directory",
        ),
        (&["env", "build", "bad.lock.json"], 2, "no lock"),
        (&["env", "build", "there"], 2, "link"),
        (
            &["env", "build", "requirements.txt", "--out", "there"],
            2,
            "new directory",
        ),
    ] {
        let output = run(at, arguments).await?;
        let text = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_directory_becomes_the_same_image_whoever_has_it() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let at = directory.path();
    std::fs::create_dir_all(at.join("packages/shapes/__pycache__"))?;
    std::fs::write(at.join("packages/shapes/__init__.py"), "SIDES = 4\n")?;
    let first = run(at, &["env", "build", "packages", "--out", "image"]).await?;
    assert!(first.status.success(), "{}", said(&first));
    std::fs::write(at.join("packages/shapes/__pycache__/x.pyc"), "bytecode")?;
    let again = run(at, &["env", "build", "packages"]).await?;
    assert_eq!(first.stdout, again.stdout);
    assert!(
        at.join("image/lib/python3.11/site-packages/shapes/__init__.py")
            .is_file()
    );
    let image = run(at, &["env", "build", "image"]).await?;
    assert_eq!(first.stdout, image.stdout, "an image's image is the image");
    let list = run(at, &["env", "list"]).await?;
    assert!(
        String::from_utf8_lossy(&list.stdout).contains("ml-basic  "),
        "{list:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr)]
async fn a_job_imports_numpy_from_an_environment() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let at = directory.path();
    numpy_lock(at)?;
    let content = Process::start(alone(at, &["content", "--port", "0", "--data-dir", "content"])).await?;
    let store = content.ready.as_str();
    let built = run(at, &["env", "build", "numpy.lock.json", "--store", store]).await?;
    if built.status.code() == Some(1) {
        eprintln!("skipped, numpy cannot be had here: {}", said(&built));
        return Ok(());
    }
    ensure!(built.status.success(), "{}", said(&built));
    let id = String::from_utf8(built.stdout)?.trim().to_owned();
    std::fs::write(at.join("main.py"), CODE)?;
    std::fs::write(
        at.join("names.json"),
        format!(r#"{{"environments":{{"arrays":"{id}"}}}}"#),
    )?;
    std::fs::write(at.join("by-name.json"), r#"{"environment":"arrays"}"#)?;
    std::fs::write(at.join("by-id.json"), format!(r#"{{"environment":"{id}"}}"#))?;
    std::fs::write(at.join("unknown.json"), r#"{"environment":"tensors"}"#)?;

    let local = [
        "run",
        "main.py",
        "--ipfs-api",
        store,
        "--environments",
        "names.json",
        "--manifest",
    ];
    let here = run(at, &[&local[..], &["by-name.json"]].concat()).await?;
    assert_eq!(
        String::from_utf8_lossy(&here.stdout),
        "45 True\n",
        "{}",
        said(&here)
    );
    let exact = run(at, &[&local[..], &["by-id.json", "--verify", "--json"]].concat()).await?;
    let verified: Value = serde_json::from_slice(&exact.stdout).with_context(|| said(&exact))?;
    assert_eq!(verified["deterministic"], true, "{verified}");

    let wheel = unpacked_wheel(at).await?;
    let det = sandrun_sandbox::Class::deterministic_here().to_string();
    for arguments in [&["run", "--class", &det][..], &["run", "--verify"]] {
        let output = run(at, &[arguments, &[wheel.as_str()]].concat()).await?;
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    }

    let unknown = run(at, &[&local[..], &["unknown.json"]].concat()).await?;
    assert_eq!(unknown.status.code(), Some(2), "{}", said(&unknown));
    assert!(
        said(&unknown).contains("no environment `tensors`"),
        "{}",
        said(&unknown)
    );

    let names = ["--environments", "names.json"];
    let service = ["sandrun", "--port", "0", "--no-quota", "--ipfs-api", store];
    let executor = Process::start(alone(at, &[&service[..], &names].concat())).await?;
    for manifest in ["by-name.json", "by-id.json"] {
        let submit = [
            "submit",
            "--code",
            "main.py",
            "--to",
            &executor.ready,
            "--manifest",
            manifest,
        ];
        let output = run(at, &[&submit[..], &["--follow"]].concat()).await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &said(&output);
        assert!(
            output.status.success() && text.contains("45 True"),
            "{manifest}: {text}"
        );
    }
    Ok(())
}
