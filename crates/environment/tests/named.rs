//! The environments that come with the product: their locks build what the list says, twice the same. Needs pip and its
//! index for what is not downloaded yet, and says so where they cannot be had; `SANDRUN_ENVIRONMENTS=all` builds all.

use std::path::{Path, PathBuf};

use sandrun_environment::{BuildError, Downloads, EnvironmentList, Lock, build_lock};

const PYTHON: &str = "/usr/bin/python3";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../environments")
}

fn lock(name: &str) -> Lock {
    let path = folder().join(format!("{name}.lock.json"));
    Lock::parse(&std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .expect("a lock")
}

#[test]
fn every_name_has_a_lock_that_can_be_read() {
    let list = EnvironmentList::built_in();
    assert!(list.iter().count() >= 5);
    for (name, _) in list.iter() {
        assert!(!lock(name.as_str()).is_empty(), "{name}");
        assert!(folder().join(format!("{name}.txt")).is_file(), "{name}");
    }
}

#[test]
#[allow(clippy::print_stderr)]
fn the_locks_build_what_the_list_says() {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("environment-downloads");
    let downloads = Downloads::new(&kept, Path::new(PYTHON)).expect("a folder");
    let all = std::env::var_os("SANDRUN_ENVIRONMENTS").is_some_and(|which| which == "all");
    let mut wrong = Vec::new();
    for (name, expected) in EnvironmentList::built_in().iter() {
        if !all && name.as_str() != "ml-basic" {
            continue;
        }
        let lock = lock(name.as_str());
        let build = || {
            let scratch = tempfile::tempdir().expect("a directory");
            build_lock(&lock, &downloads, scratch.path()).map(|built| built.id())
        };
        let first = match build() {
            Ok(id) => id,
            Err(BuildError::Download(error)) => {
                eprintln!("skipped {name}, its packages cannot be had here: {error}");
                continue;
            }
            Err(error) => panic!("{name}: {error}"),
        };
        if !all {
            assert_eq!(build().expect("the same again"), first, "{name}");
        }
        if first != expected {
            wrong.push(format!("{name}: {first}"));
        }
    }
    assert!(wrong.is_empty(), "the list should say: {wrong:#?}");
}
