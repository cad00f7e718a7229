//! Names of files side by side.

use std::collections::BTreeSet;

use sandrun_types::BundlePath;

/// The first of `names` that is a file, and a folder of another one: no disk can hold both.
pub(super) fn file_and_folder(names: &BTreeSet<BundlePath>) -> Option<&str> {
    let files: BTreeSet<&str> = names.iter().map(BundlePath::as_str).collect();
    let mut folders = names.iter().flat_map(BundlePath::folders);
    folders.find(|folder| files.contains(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_no_folder_of_another() {
        let found = |names: &[&str]| {
            let names = names.iter().map(|it| BundlePath::parse(it).unwrap()).collect();
            file_and_folder(&names).map(str::to_owned)
        };
        assert_eq!(found(&["a", "ab/c", "a.b/c", "b/a/c", "b/a/d"]), None);
        assert_eq!(found(&["a", "a/b"]).as_deref(), Some("a"));
        assert_eq!(found(&["x/y/z/1", "x/y", "x/a"]).as_deref(), Some("x/y"));
    }
}
