//! Folders that are emptied before they are used: only ours, and only one process at a time.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::Context as _;
use sandrun_store::LockFile;

/// The file that marks a folder as one that may be emptied; it is locked while the folder is in use.
const MARKER: &str = ".sandrun-pool";

/// Takes a folder for as long as the answer is held: makes it (closed to others: keys may lie in it) or empties it.
///
/// # Errors
/// A folder that holds something and was not made here, one that another process uses, one that can't be emptied.
pub(crate) fn take(directory: &Path) -> anyhow::Result<LockFile> {
    let place = directory.display();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("creating {place}"))?;
    let marker = directory.join(MARKER);
    let mut entries = std::fs::read_dir(directory).with_context(|| format!("reading {place}"))?;
    anyhow::ensure!(
        marker.is_file() || entries.next().is_none(),
        "{place} holds files that are not of an earlier run, and it would be emptied: choose another folder, or empty it yourself"
    );
    let lock = LockFile::take(&marker)
        .with_context(|| format!("locking {}", marker.display()))?
        .with_context(|| {
            format!("{place} is in use by another run: end that one first, or choose another folder with --data-dir")
        })?;
    for entry in std::fs::read_dir(directory).with_context(|| format!("reading {place}"))? {
        let path = entry?.path();
        if path == marker {
            continue;
        }
        let is_folder = path.symlink_metadata().is_ok_and(|it| it.is_dir());
        let removed = if is_folder {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        removed.with_context(|| format!("emptying {place}"))?;
    }
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_earlier_run_s_files_are_removed() -> anyhow::Result<()> {
        let parent = tempfile::tempdir()?;
        let foreign = parent.path().join("thesis");
        std::fs::create_dir(&foreign)?;
        std::fs::write(foreign.join("thesis.txt"), "years")?;
        let error = take(&foreign).unwrap_err().to_string();
        assert!(error.contains("choose another folder"), "{error}");
        assert_eq!(std::fs::read_to_string(foreign.join("thesis.txt"))?, "years");

        let ours = parent.path().join("new/market");
        let held = take(&ours)?;
        std::fs::create_dir(ours.join("logs"))?;
        std::fs::write(ours.join("client.key"), "key")?;
        let error = take(&ours).unwrap_err().to_string();
        assert!(error.contains("another run"), "{error}");
        assert!(
            ours.join("client.key").exists(),
            "a running market keeps its files"
        );
        drop(held);
        let _held = take(&ours)?;
        assert_eq!(std::fs::read_dir(&ours)?.count(), 1, "the marker alone");
        Ok(())
    }
}
