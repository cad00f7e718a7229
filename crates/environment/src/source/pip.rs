//! pip: chooses versions for a requirements file, and fetches wheels.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use super::{ResolveError, public_address};
use crate::interrupt::Interrupt;
use crate::lock::{Lock, PythonLock, Wheel};
use crate::tool::{Tool, ToolError};

const ADVICE: &str =
    "install pip for that interpreter (Debian: apt install python3-pip), or give another with --python";

/// Newest glibc 2 that wheels may ask for: the hash says which one it is.
const GLIBC: u32 = 45;

/// What is read of pip's installation report (<https://pip.pypa.io/en/stable/reference/installation-report/>).
#[derive(Debug, Deserialize)]
struct Report {
    install: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    metadata: Metadata,
    download_info: Download,
    #[serde(default)]
    is_direct: bool,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
    version: String,
}

#[derive(Debug, Deserialize)]
struct Download {
    url: String,
    #[serde(default)]
    archive_info: Archive,
}

#[derive(Debug, Default, Deserialize)]
struct Archive {
    #[serde(default)]
    hashes: Hashes,
    /// What pip wrote before version 23: `sha256=HEX`.
    #[serde(default)]
    hash: String,
}

#[derive(Debug, Default, Deserialize)]
struct Hashes {
    #[serde(default)]
    sha256: String,
}

/// Asks pip, as `python` has it, which wheels a requirements file needs, and writes their versions and hashes down.
/// `python` is the interpreter that jobs run with: versions and wheels are chosen for it. Blocking, until `interrupt`; talks
/// to the index.
///
/// # Errors
/// [`ResolveError`], pip's own words among them.
pub fn lock_python(requirements: &Path, python: &Path, interrupt: &Interrupt) -> Result<Lock, ResolveError> {
    let read = |source| ResolveError::Read {
        path: requirements.to_owned(),
        source,
    };
    let requirements = fs::canonicalize(requirements).map_err(read)?;
    let opened = fs::File::open(&requirements).map_err(read)?;
    if !opened.metadata().map_err(read)?.is_file() {
        return Err(read(io::Error::other("it is no regular file")));
    }
    let version = version(python)?;
    let scratch = tempfile::tempdir().map_err(ResolveError::Scratch)?;
    let report = scratch.path().join("report.json");
    pip(python, interrupt)?.run("choose versions", |command| {
        quiet(command.arg("install"));
        // whatever is installed here already is not in the image
        command.args([
            "--dry-run",
            "--ignore-installed",
            "--only-binary=:all:",
            "--report",
        ]);
        command.arg(&report).arg("--requirement").arg(&requirements);
        command.current_dir(scratch.path());
    })?;
    let bytes = fs::read(&report).map_err(|error| answer(&error))?;
    let report: Report = serde_json::from_slice(&bytes).map_err(|error| answer(&error))?;
    let mut packages = report.install.iter().map(wheel).collect::<Result<Vec<_>, _>>()?;
    if packages.is_empty() {
        return Err(ResolveError::Empty(requirements));
    }
    packages.sort_by_key(|wheel| wheel.name.to_lowercase());
    let lock = Lock::Python(PythonLock {
        python: version,
        packages,
    });
    // what is written must be what is read
    Ok(Lock::parse(lock.to_text().as_bytes())?)
}

/// Fetches wheels of a lock into the folder `into`, whatever their names there: those for the lock's version of Python,
/// whichever `python` is. Blocking.
pub(crate) fn download_wheels(
    wheels: &[&Wheel],
    lock: &PythonLock,
    python: &Path,
    into: &Path,
    interrupt: &Interrupt,
) -> Result<(), ResolveError> {
    let list = into.join("requirements.txt");
    let lines: String = wheels
        .iter()
        .map(|wheel| format!("{}=={} --hash={}\n", wheel.name, wheel.version, wheel.hash))
        .collect();
    fs::write(&list, lines).map_err(ResolveError::Scratch)?;
    pip(python, interrupt)?.run("fetch wheels", |command| {
        quiet(command.arg("download"));
        command.args(["--no-deps", "--require-hashes", "--only-binary=:all:"]);
        command.args(target(&lock.python));
        command
            .arg("--dest")
            .arg(into)
            .arg("--requirement")
            .arg(&list)
            .current_dir(into);
    })?;
    Ok(())
}

/// What makes pip choose wheels for this version of CPython on Linux, x86-64, whichever interpreter it runs with. It takes
/// each platform for itself alone, so that all have to be named.
fn target(python: &str) -> Vec<String> {
    let digits = python.replace('.', "");
    let mut arguments = vec![
        format!("--python-version={python}"),
        "--implementation=cp".to_owned(),
        format!("--abi=cp{digits}"),
        "--abi=abi3".to_owned(),
        "--abi=none".to_owned(),
    ];
    let glibc = (5..=GLIBC)
        .rev()
        .map(|minor| format!("manylinux_2_{minor}_x86_64"));
    let named = ["manylinux2014", "manylinux2010", "manylinux1", "linux"];
    let named = named.iter().map(|name| format!("{name}_x86_64"));
    arguments.extend(
        glibc
            .chain(named)
            .map(|platform| format!("--platform={platform}")),
    );
    arguments
}

fn quiet(command: &mut Command) {
    command.args(["--quiet", "--no-input", "--disable-pip-version-check"]);
}

/// pip as a module of the interpreter, else the one on PATH, which can speak for another interpreter.
fn pip(python: &Path, interrupt: &Interrupt) -> Result<Tool, ToolError> {
    let python = python.to_string_lossy();
    let own = Tool::new("pip", &[&python, "-m", "pip"], ADVICE).until(interrupt);
    let is_there = |tool: &Tool| {
        tool.run("say its version", |command| {
            command.arg("--version");
        })
    };
    let Err(error) = is_there(&own) else {
        return Ok(own);
    };
    let other = Tool::new("pip", &["pip", "--python", &python], ADVICE).until(interrupt);
    match is_there(&other) {
        Ok(_) => Ok(other),
        Err(_) => Err(ToolError::Missing {
            tool: format!("pip for {python}"),
            purpose: "choose and fetch wheels",
            advice: ADVICE,
            source: std::io::Error::other(error),
        }),
    }
}

/// The interpreter's version, such as `3.11`.
fn version(python: &Path) -> Result<String, ResolveError> {
    let name = python.to_string_lossy();
    let tool = Tool::new(&name, &[&name], "install it, or give another with --python");
    let code = "import sys; print('%d.%d' % sys.version_info[:2])";
    let said = tool.run("say its version", |command| {
        command.args(["-I", "-c", code]);
    })?;
    Ok(String::from_utf8_lossy(&said).trim().to_owned())
}

fn wheel(item: &Item) -> Result<Wheel, ResolveError> {
    let Metadata { name, version } = &item.metadata;
    let problem = |problem| ResolveError::Package {
        package: format!("{name} {version}"),
        problem,
    };
    if item.is_direct {
        return Err(problem(
            "it comes from an address of its own; name a version of an index instead",
        ));
    }
    let archive = &item.download_info.archive_info;
    let digits = match archive.hashes.sha256.as_str() {
        "" => archive.hash.strip_prefix("sha256=").unwrap_or_default(),
        digits => digits,
    };
    let hash = format!("sha256:{digits}").parse();
    Ok(Wheel {
        name: name.clone(),
        version: version.clone(),
        url: public_address(&item.download_info.url),
        hash: hash.map_err(|_| problem("its index gives no SHA-256"))?,
    })
}

fn answer(error: &dyn std::error::Error) -> ResolveError {
    ResolveError::Answer {
        tool: "pip",
        problem: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(url: &str, archive: &str, direct: bool) -> Item {
        let text = format!(
            r#"{{"metadata":{{"name":"a","version":"1"}},"is_direct":{direct},
                "download_info":{{"url":"{url}","archive_info":{archive}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn both_forms_of_pips_hash_are_read() {
        let digits = "ab".repeat(32);
        let new = format!(r#"{{"hashes":{{"sha256":"{digits}"}}}}"#);
        let old = format!(r#"{{"hash":"sha256={digits}"}}"#);
        for archive in [new, old] {
            let found = wheel(&item("https://u:p@host/a.whl", &archive, false)).unwrap();
            assert_eq!(found.hash.to_string(), format!("sha256:{digits}"));
            assert_eq!(found.url.as_deref(), Some("https://host/a.whl"));
        }
    }

    #[test]
    fn what_has_no_hash_or_no_index_is_not_locked() {
        let words = wheel(&item("https://host/a.whl", "{}", false))
            .unwrap_err()
            .to_string();
        assert!(words.contains("a 1") && words.contains("SHA-256"), "{words}");
        assert!(wheel(&item("https://host/a.whl", "{}", true)).is_err());
    }

    #[test]
    fn wheels_are_chosen_for_the_locks_python_and_not_for_pips() {
        let arguments = target("3.12");
        for wanted in [
            "--python-version=3.12",
            "--implementation=cp",
            "--abi=cp312",
            "--abi=abi3",
            "--platform=manylinux_2_17_x86_64",
            "--platform=manylinux_2_28_x86_64",
        ] {
            assert!(arguments.iter().any(|it| it == wanted), "{wanted}");
        }
    }
}
