//! npm: chooses versions for a package.json, and fetches packages. Never runs a package's scripts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use sandrun_types::BundlePath;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ResolveError, public_address};
use crate::hash::PackageHash;
use crate::interrupt::Interrupt;
use crate::lock::{Lock, NodeLock, NodePackage};
use crate::tool::Tool;

const ADVICE: &str = "install Node.js with npm";
/// Packages on one command line.
const AT_ONCE: usize = 50;

/// What is read of a package-lock.json (lockfileVersion 2 and 3).
#[derive(Debug, Deserialize)]
struct PackageLock {
    packages: BTreeMap<String, Locked>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Locked {
    /// Where it is installed under another name.
    name: Option<String>,
    version: Option<String>,
    resolved: Option<String>,
    integrity: Option<String>,
    link: bool,
    dev: bool,
    /// Shipped within the package above it.
    in_bundle: bool,
    os: Option<Vec<String>>,
    cpu: Option<Vec<String>>,
    libc: Option<Vec<String>>,
}

fn npm(interrupt: &Interrupt) -> Tool {
    Tool::new("npm", &["npm"], ADVICE).until(interrupt)
}

/// Asks npm which packages the `dependencies` of a package.json need on Linux, x86-64, and writes their versions and
/// hashes down. Blocking, until `interrupt`; talks to the registry.
///
/// # Errors
/// [`ResolveError`], npm's own words among them.
pub fn lock_node(package_json: &Path, interrupt: &Interrupt) -> Result<Lock, ResolveError> {
    let bytes = fs::read(package_json).map_err(|source| ResolveError::Read {
        path: package_json.to_owned(),
        source,
    })?;
    let package: Value = serde_json::from_slice(&bytes).map_err(|error| ResolveError::Read {
        path: package_json.to_owned(),
        source: error.into(),
    })?;
    let dependencies = package.get("dependencies").cloned().unwrap_or_else(|| json!({}));
    let optional = package
        .get("optionalDependencies")
        .cloned()
        .unwrap_or_else(|| json!({}));
    let scratch = tempfile::tempdir().map_err(ResolveError::Scratch)?;
    let asked = json!({"name": "environment", "private": true, "dependencies": dependencies,
        "optionalDependencies": optional});
    fs::write(scratch.path().join("package.json"), asked.to_string()).map_err(ResolveError::Scratch)?;
    npm(interrupt).run("choose versions", |command| {
        command.args(["install", "--package-lock-only", "--lockfile-version", "3"]);
        quiet(command);
        command.current_dir(scratch.path());
    })?;
    let answer = |error: &dyn std::error::Error| ResolveError::Answer {
        tool: "npm",
        problem: error.to_string(),
    };
    let bytes = fs::read(scratch.path().join("package-lock.json")).map_err(|error| answer(&error))?;
    let lock: PackageLock = serde_json::from_slice(&bytes).map_err(|error| answer(&error))?;
    let packages = packages(&lock)?;
    if packages.is_empty() {
        return Err(ResolveError::Empty(package_json.to_owned()));
    }
    let lock = Lock::Node(NodeLock { packages });
    // what is written must be what is read
    Ok(Lock::parse(lock.to_text().as_bytes())?)
}

/// Fetches packages into the folder `into`, whatever their names there. Blocking.
pub(crate) fn download_packages(
    packages: &[&NodePackage],
    into: &Path,
    interrupt: &Interrupt,
) -> Result<(), ResolveError> {
    let wanted: BTreeSet<String> = packages
        .iter()
        .map(|package| format!("{}@{}", package.name, package.version))
        .collect();
    let wanted: Vec<String> = wanted.into_iter().collect();
    for some in wanted.chunks(AT_ONCE) {
        npm(interrupt).run("fetch packages", |command| {
            command.arg("pack").args(some).arg("--pack-destination").arg(into);
            quiet(command);
            command.current_dir(into);
        })?;
    }
    Ok(())
}

fn quiet(command: &mut Command) {
    command.args(["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
}

fn packages(lock: &PackageLock) -> Result<Vec<NodePackage>, ResolveError> {
    let mut packages = Vec::new();
    for (path, locked) in &lock.packages {
        // the first is what was asked for itself
        if path.is_empty() || locked.dev || locked.in_bundle || !fits(locked) {
            continue;
        }
        packages.push(package(path, locked)?);
    }
    packages.sort();
    Ok(packages)
}

fn package(path: &str, locked: &Locked) -> Result<NodePackage, ResolveError> {
    let problem = |problem| ResolveError::Package {
        package: path.to_owned(),
        problem,
    };
    let named = path.rsplit_once("node_modules/").map(|(_, name)| name.to_owned());
    let (Some(name), Some(version), false) = (locked.name.clone().or(named), &locked.version, locked.link)
    else {
        return Err(problem(
            "it is no package of a registry; name a published version instead",
        ));
    };
    // npm can be told to leave the addresses of a registry's packages out
    let is_published = locked.resolved.as_ref().is_none_or(|url| url.starts_with("http"));
    let integrity = locked.integrity.as_deref().filter(|_| is_published);
    let hashes = integrity
        .ok_or_else(|| problem("it is no package of a registry; name a published version instead"))?;
    let mut hashes = hashes
        .split_whitespace()
        .filter_map(|text| PackageHash::from_integrity(text).ok());
    Ok(NodePackage {
        path: BundlePath::parse(path).map_err(|_| problem("it lies outside of node_modules"))?,
        name,
        version: version.clone(),
        url: locked.resolved.as_deref().and_then(public_address),
        hash: hashes
            .next()
            .ok_or_else(|| problem("its registry gives no SHA-512"))?,
    })
}

/// Whether a package is for the sandbox's platform; npm locks those of all platforms.
fn fits(locked: &Locked) -> bool {
    let allows = |list: &Option<Vec<String>>, ours: &str| {
        let Some(list) = list else { return true };
        let excluded = list.iter().any(|it| it.strip_prefix('!') == Some(ours));
        let positive = list.iter().any(|it| !it.starts_with('!'));
        !excluded && (!positive || list.iter().any(|it| it == ours || it == "any"))
    };
    allows(&locked.os, "linux") && allows(&locked.cpu, "x64") && allows(&locked.libc, "glibc")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(packages_json: &str) -> Result<Vec<NodePackage>, ResolveError> {
        packages(&serde_json::from_str(&format!(r#"{{"packages":{packages_json}}}"#)).unwrap())
    }

    fn locked(more: &str) -> String {
        let integrity = "sha512-".to_owned() + &"A".repeat(86) + "==";
        format!(r#"{{"version":"1.0.0","resolved":"https://r/a.tgz","integrity":"{integrity}"{more}}}"#)
    }

    #[test]
    fn other_platforms_and_developers_tools_are_left_out() {
        let list = format!(
            r#"{{"": {{}}, "node_modules/a": {}, "node_modules/b": {}, "node_modules/c": {}, "node_modules/d": {},
                "node_modules/e": {}, "node_modules/@s/f": {}, "node_modules/g": {}}}"#,
            locked(""),
            locked(r#","dev":true"#),
            locked(r#","os":["darwin"]"#),
            locked(r#","cpu":["arm64"]"#),
            locked(r#","libc":["musl"]"#),
            locked(r#","os":["!win32"],"cpu":["x64"]"#),
            locked(r#","name":"real""#),
        );
        let found = read(&list).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|it| (it.path.as_str(), it.name.as_str()))
            .collect();
        let expected = [
            ("node_modules/@s/f", "@s/f"),
            ("node_modules/a", "a"),
            ("node_modules/g", "real"),
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn an_address_may_be_left_out() {
        let without = locked("").replace(r#""resolved":"https://r/a.tgz","#, "");
        let found = read(&format!(r#"{{"node_modules/a": {without}}}"#)).unwrap();
        assert_eq!((found.len(), found[0].url.as_deref()), (1, None));
    }

    #[test]
    fn what_is_not_published_is_not_locked() {
        for entry in [
            r#"{"version":"1.0.0","resolved":"git+ssh://git@host/a.git#1"}"#,
            r#"{"resolved":"../a","link":true}"#,
            r#"{"version":"1.0.0","resolved":"https://r/a.tgz","integrity":"sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="}"#,
        ] {
            assert!(
                read(&format!(r#"{{"node_modules/a": {entry}}}"#)).is_err(),
                "{entry}"
            );
        }
    }
}
