//! Where a result goes. Owns the check that it can be put there, made before a job costs anything.

use std::path::{Path, PathBuf};

use crate::exit::{Failure, Status};

/// The directory of results where none is given.
const RESULTS: &str = "results";

/// Where the result of a job goes: `out`, else `./results/JOB`.
pub(super) fn of(out: Option<PathBuf>, job: sandrun_types::JobId) -> PathBuf {
    out.unwrap_or_else(|| Path::new(RESULTS).join(job.short()))
}

/// Checks that a result can be put into `out`, or into the directory of results; leaves nothing behind.
pub(super) fn check(out: Option<&Path>) -> anyhow::Result<()> {
    let place = out.map_or_else(|| Path::new(RESULTS).join("0x"), Path::to_owned);
    let bad = |why: &str| {
        let named = out.map_or_else(
            || format!("./{RESULTS}, where the result goes without --out,"),
            |out| format!("--out {}", out.display()),
        );
        Failure::new(
            Status::BadInput,
            format!("{named} {why}: give a new or empty directory with --out"),
        )
    };
    match std::fs::metadata(&place) {
        Ok(found) if !found.is_dir() => return Err(bad("is no directory")),
        Ok(_) => {
            let mut items =
                std::fs::read_dir(&place).map_err(|error| bad(&format!("can't be read ({error})")))?;
            if items.next().is_some() && out.is_some() {
                return Err(bad("is not empty"));
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(bad(&format!("can't be used ({error})"))),
    }
    can_be_made(&place).map_err(|error| bad(&format!("can't be written ({error})")))
}

/// Checks that nothing was put where a job's result goes without --out.
pub(crate) fn check_usual(place: &Path) -> anyhow::Result<()> {
    let is_there = std::fs::read_dir(place).is_ok_and(|mut items| items.next().is_some());
    if !is_there {
        return Ok(());
    }
    let text = format!(
        "./{} is there already, and may be this result: look there, or name a new or empty directory with --out",
        place.display()
    );
    Err(Failure::new(Status::BadInput, text))
}

/// Checks that a file can be put at `to`, which `option` names, in the place of a file that may be there: what is no file
/// would not be written to but replaced. Leaves nothing behind.
pub(super) fn check_file(option: &str, to: &Path) -> anyhow::Result<()> {
    let bad = |why: &str| {
        let text = format!(
            "{option} {} {why}: give a new file, or one to replace",
            to.display()
        );
        Failure::new(Status::BadInput, text)
    };
    match std::fs::metadata(to) {
        Ok(found) if found.is_file() => {}
        Ok(found) if found.is_dir() => return Err(bad("is a directory")),
        Ok(_) => return Err(bad("is no regular file")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(bad(&format!("can't be used ({error})"))),
    }
    let folder = to.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(bad(&format!(
            "can't be written ({} is no directory)",
            folder.display()
        )));
    }
    can_be_made(to).map_err(|error| bad(&format!("can't be written ({error})")))
}

/// Makes a directory in what there is above `place`, and takes it away again. What is missing in between is not made:
/// somebody else's check beside this one would see it come and go.
fn can_be_made(place: &Path) -> std::io::Result<()> {
    let is_there = |it: &&Path| !it.as_os_str().is_empty() && it.exists();
    let above = place.ancestors().skip(1).find(is_there).unwrap_or(Path::new("."));
    let probe = above.join(format!(".sandrun-pool-{}", std::process::id()));
    std::fs::create_dir(&probe)?;
    std::fs::remove_dir(&probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_checked_and_left_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        check(Some(&at("new/deep/out"))).unwrap();
        assert!(!at("new").exists());
        std::fs::create_dir(at("empty")).unwrap();
        check(Some(&at("empty"))).unwrap();
        std::fs::write(at("file"), "").unwrap();
        for (place, says) in [
            (at("file"), "is no directory"),
            (at("file/below"), "can't be used"),
            (directory.path().to_owned(), "is not empty"),
            (PathBuf::from("/proc/x/out"), "can't be written"),
        ] {
            let words = check(Some(&place)).unwrap_err().to_string();
            assert!(words.contains(says), "{words}");
        }
        let words = check_usual(directory.path()).unwrap_err().to_string();
        assert!(words.contains("--out"), "{words}");
        check_usual(&at("empty")).unwrap();
        check_file("--trace", &at("file")).unwrap();
        check_file("--trace", &at("new")).unwrap();
        for (place, says) in [
            (at("empty"), "is a directory"),
            (at("new/file"), "is no directory"),
            (at("file/below"), "can't be used"),
            (PathBuf::from("/dev/null"), "is no regular file"),
        ] {
            let words = check_file("--trace", &place).unwrap_err().to_string();
            assert!(words.contains(says), "{words}");
        }
        assert!(!at("new").exists());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
