//! Which of the machine's own files a job sees. Owns the choice, for the root file system that is built and for the id
//! of a class alike, so that nothing can be seen that an id does not cover. Never mounts, never reads a file.
//!
//! A job of class `native` sees all of `/usr`. One of a class with a tracer sees the parts in which programs,
//! interpreters and their libraries lie: documentation, icons and what else a machine has differ from one to the next
//! and are nobody's input.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Top-level system directories: symbolic links on merged systems, directories on others.
pub(crate) const SYSTEM_DIRS: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Files of the host's `/etc` that programs read and that tell nothing about the host's users.
pub(crate) const ETC_COPIES: [&str; 9] = [
    "ld.so.cache",
    "ld.so.conf",
    "os-release",
    "debian_version",
    "mime.types",
    "protocols",
    "services",
    "ssl/openssl.cnf",
    "bash.bashrc",
];

/// Directories of `/usr` that are seen whole.
const WHOLE: [&str; 7] = ["bin", "sbin", "lib32", "lib64", "libx32", "libexec", "include"];
/// Those of `/usr/local`.
const LOCAL: [&str; 6] = ["bin", "lib", "lib64", "libexec", "include", "share"];
/// Directories of libraries by the name of their architecture. Where there is none, `/usr/lib` holds the libraries
/// themselves.
const MULTIARCH: [&str; 2] = ["x86_64-linux-gnu", "aarch64-linux-gnu"];
/// What is seen of `/usr/lib`, `python3.11` and `gcc-cross` included.
const LIB: [&str; 25] = [
    "bash", "file", "gawk", "gcc", "ghc", "git-core", "go", "jvm", "llvm", "locale", "lua", "node", "nodejs",
    "ocaml", "perl", "php", "python", "R", "ruby", "rustlib", "ssl", "tcl", "tcltk", "terminfo", "tk",
];
/// What is seen of `/usr/share`.
const SHARE: [&str; 24] = [
    "aclocal",
    "autoconf",
    "automake",
    "awk",
    "bison",
    "cmake",
    "dict",
    "file",
    "gcc",
    "go",
    "java",
    "lua",
    "mime",
    "misc",
    "node",
    "nodejs",
    "perl",
    "php",
    "pkgconfig",
    "python",
    "R",
    "ruby",
    "tcltk",
    "zoneinfo",
];

/// A part of a directory, by its path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// A directory with all that is in it.
    Tree(PathBuf),
    /// A symbolic link as it is, and what it says.
    Link(PathBuf, PathBuf),
}

/// What a job of a class with a tracer sees of `usr`, in the order of names. `dirs` are directories that it sees
/// wherever they lie.
pub(crate) fn parts_of_usr(usr: &Path, dirs: &[PathBuf]) -> io::Result<Vec<Part>> {
    let mut parts = Vec::new();
    let known = |names: &'static [&'static str]| move |name: &str| names.contains(&name);
    let family = |names: &'static [&'static str]| move |name: &str| names.iter().any(|it| is_of(name, it));
    pick(usr, "", known(&WHOLE), &mut parts)?;
    pick(usr, "local", known(&LOCAL), &mut parts)?;
    pick(usr, "share", family(&SHARE), &mut parts)?;
    if MULTIARCH.iter().any(|name| usr.join("lib").join(name).is_dir()) {
        let libraries = |name: &str| MULTIARCH.contains(&name) || family(&LIB)(name);
        pick(usr, "lib", libraries, &mut parts)?;
    } else {
        pick(usr, "", |name| name == "lib", &mut parts)?;
    }
    for dir in dirs {
        let Ok(inner) = dir.strip_prefix(usr) else {
            continue;
        };
        let is_seen = |part: &Part| matches!(part, Part::Tree(tree) if inner.starts_with(tree));
        if dir.is_dir() && !parts.iter().any(is_seen) {
            parts.push(Part::Tree(inner.to_owned()));
        }
    }
    parts.sort_by(|one, other| one.path().cmp(other.path()));
    Ok(parts)
}

impl Part {
    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Tree(path) | Self::Link(path, _) => path,
        }
    }
}

/// `python3.11` is of `python`; `google` is not of `go`.
fn is_of(name: &str, family: &str) -> bool {
    let rest = name.strip_prefix(family);
    rest.is_some_and(|rest| !rest.starts_with(|letter: char| letter.is_ascii_alphabetic()))
}

/// Directories that are wanted, and symbolic links that are, or that lead to one.
fn pick(usr: &Path, inner: &str, is_wanted: impl Fn(&str) -> bool, parts: &mut Vec<Part>) -> io::Result<()> {
    let entries = match fs::read_dir(usr.join(inner)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_str().is_some_and(&is_wanted) {
            continue;
        }
        let path = Path::new(inner).join(&name);
        let kind = entry.file_type()?;
        if kind.is_dir() {
            parts.push(Part::Tree(path));
        } else if kind.is_symlink() {
            parts.push(Part::Link(path, fs::read_link(entry.path())?));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn machine(dirs: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for dir in dirs {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        root
    }

    fn paths(usr: &Path, dirs: &[PathBuf]) -> Vec<String> {
        let parts = parts_of_usr(usr, dirs).unwrap();
        parts
            .iter()
            .map(|part| part.path().display().to_string())
            .collect()
    }

    #[test]
    fn programs_and_libraries_are_seen_and_nothing_else() {
        let usr = machine(&[
            "bin",
            "games",
            "lib/x86_64-linux-gnu",
            "lib/python3.11",
            "lib/google-sdk",
            "lib/go-1.19",
            "share/doc",
            "share/zoneinfo",
            "local/bin",
            "local/go",
            "src",
        ]);
        symlink("gcc-12", usr.path().join("lib/gcc")).unwrap();
        let seen = [
            "bin",
            "lib/gcc",
            "lib/go-1.19",
            "lib/python3.11",
            "lib/x86_64-linux-gnu",
        ];
        assert_eq!(
            paths(usr.path(), &[]),
            [&seen[..], &["local/bin", "share/zoneinfo"]].concat()
        );
        let own = [
            usr.path().join("local/go"),
            usr.path().join("local/bin/x"),
            "/opt/x".into(),
        ];
        assert_eq!(
            paths(usr.path(), &own)[5..],
            ["local/bin", "local/go", "share/zoneinfo"]
        );
    }

    #[test]
    fn a_system_without_directories_by_architecture_shows_all_its_libraries() {
        let usr = machine(&["bin", "lib/python3.13"]);
        assert_eq!(paths(usr.path(), &[]), ["bin", "lib"]);
    }
}
