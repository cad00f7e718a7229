//! Which files of a directory make a bundle. Owns what is left out (`.git`, results that were downloaded here, what
//! `.sandrunignore` names) and the copy that is packed where something is; never changes the directory.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};
use sandrun_content::{OUTPUTS_NAME, STDERR_NAME, STDOUT_NAME};
use sandrun_types::BundlePath;

use crate::prepare::PrepareError;

/// The file that names what does not belong into a bundle.
const IGNORE_NAME: &str = ".sandrunignore";
/// Most bytes that it may have.
const IGNORE_BYTES: u64 = 64 * 1024;
/// Where `submit` puts results when it is not told.
const RESULTS_NAME: &str = "results";

/// The files of a bundle.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// By their names in the bundle, with their sizes, sorted.
    pub(crate) files: Vec<(BundlePath, u64)>,
    empty: Vec<String>,
    /// How many files and directories are left out.
    pub(crate) left_out: u64,
}

/// What is to be packed: the directory itself, or a copy without what is left out.
#[derive(Debug, Clone)]
pub(crate) enum Packing {
    /// As it is.
    Whole,
    /// The copy; it goes when the last user is gone.
    Copy(Arc<tempfile::TempDir>),
}

/// Every regular file below `root` that belongs into the bundle.
pub(crate) fn gather(root: &Path) -> Result<Gathered, PrepareError> {
    let rules = Rules::read(root)?;
    let mut gathered = Gathered::default();
    walk(root, "", &rules, &mut gathered)?;
    gathered.files.sort();
    Ok(gathered)
}

impl Gathered {
    /// A single file.
    pub(crate) fn single(file: BundlePath, size: u64) -> Self {
        Self {
            files: vec![(file, size)],
            ..Self::default()
        }
    }

    /// The directory to pack; a copy is made only where something is left out.
    pub(crate) fn packing(&self, root: &Path) -> Result<Packing, PrepareError> {
        if self.left_out == 0 {
            return Ok(Packing::Whole);
        }
        let copy = tempfile::tempdir().map_err(|source| unreadable(&std::env::temp_dir(), source))?;
        for directory in &self.empty {
            let to = copy.path().join(directory);
            std::fs::create_dir_all(&to).map_err(|source| unreadable(&to, source))?;
        }
        for (file, _) in &self.files {
            let (from, to) = (root.join(file.as_str()), copy.path().join(file.as_str()));
            let made = to.parent().map_or(Ok(()), std::fs::create_dir_all);
            made.and_then(|()| {
                std::fs::hard_link(&from, &to).or_else(|_| std::fs::copy(&from, &to).map(|_| ()))
            })
            .map_err(|source| unreadable(&from, source))?;
        }
        Ok(Packing::Copy(Arc::new(copy)))
    }
}

/// Walks one directory; says whether anything of it belongs into the bundle.
fn walk(root: &Path, below: &str, rules: &Rules, gathered: &mut Gathered) -> Result<bool, PrepareError> {
    let directory = root.join(below);
    let failed = |source| unreadable(&directory, source);
    let (mut kept, mut seen) = (false, false);
    for item in std::fs::read_dir(&directory).map_err(failed)? {
        let item = item.map_err(failed)?;
        let (path, kind) = (item.path(), item.file_type().map_err(failed)?);
        let relative = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .to_string_lossy()
            .into_owned();
        seen = true;
        if rules.leave_out(&relative, kind.is_dir(), &path) {
            gathered.left_out += 1;
        } else if kind.is_dir() {
            kept |= walk(root, &relative, rules, gathered)?;
        } else {
            let size = item.metadata().map_err(failed)?.len();
            let name = BundlePath::parse(&relative).map_err(|source| PrepareError::Name { path, source })?;
            gathered.files.push((name, size));
            kept = true;
        }
    }
    if !seen && !below.is_empty() {
        gathered.empty.push(below.to_owned());
    }
    Ok(kept || !seen)
}

fn unreadable(path: &Path, source: std::io::Error) -> PrepareError {
    PrepareError::Unreadable {
        what: "the directory",
        path: path.to_owned(),
        source,
    }
}

/// What is left out.
#[derive(Debug, Default)]
struct Rules(Vec<Rule>);

/// One line of the file.
#[derive(Debug)]
struct Rule {
    glob: GlobMatcher,
    /// `!`: what was left out by an earlier line belongs into the bundle after all.
    keep: bool,
    /// A `/` at the end.
    only_directories: bool,
}

impl Rules {
    fn read(root: &Path) -> Result<Self, PrepareError> {
        let path = root.join(IGNORE_NAME);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = read_bounded(&path, IGNORE_BYTES, "the list")?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut rules = Vec::new();
        for line in text.lines().map(str::trim) {
            if !line.is_empty() && !line.starts_with('#') {
                rules.push(Rule::parse(line, &path)?);
            }
        }
        Ok(Self(rules))
    }

    fn leave_out(&self, relative: &str, directory: bool, path: &Path) -> bool {
        let name = relative.rsplit('/').next().unwrap_or(relative);
        if name == ".git" || relative == IGNORE_NAME || (directory && is_result(relative, path)) {
            return true;
        }
        let mut matching = self
            .0
            .iter()
            .rev()
            .filter(|rule| (directory || !rule.only_directories) && rule.glob.is_match(relative));
        matching.next().is_some_and(|rule| !rule.keep)
    }
}

impl Rule {
    fn parse(line: &str, file: &Path) -> Result<Self, PrepareError> {
        let (keep, rest) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
        let (only_directories, rest) = rest.strip_suffix('/').map_or((false, rest), |rest| (true, rest));
        // a pattern with a slash belongs to the root, another one to every directory
        let pattern = match rest.strip_prefix('/') {
            Some(rooted) => rooted.to_owned(),
            None if rest.contains('/') => rest.to_owned(),
            None => format!("**/{rest}"),
        };
        let glob = GlobBuilder::new(&pattern).literal_separator(true).build();
        Ok(Self {
            glob: glob
                .map_err(|source| PrepareError::Ignore {
                    path: file.to_owned(),
                    line: line.to_owned(),
                    reason: source.kind().to_string(),
                })?
                .compile_matcher(),
            keep,
            only_directories,
        })
    }
}

/// A result that `submit` or `fetch` has put here: `results/JOB` with the streams in it, and nothing else.
fn is_result(relative: &str, path: &Path) -> bool {
    let job = relative
        .strip_prefix(RESULTS_NAME)
        .and_then(|rest| rest.strip_prefix('/'));
    // of the market, of a coordinator, of a broker, of a broker of others
    let digits = job.map(|job| {
        ["0x", "pool-"]
            .iter()
            .find_map(|it| job.strip_prefix(it))
            .unwrap_or(job)
    });
    let is_digit = |it: u8| it.is_ascii_hexdigit() || it == b'-';
    digits.is_some_and(|digits| digits.len() >= 8 && digits.bytes().all(is_digit))
        && path.join(STDOUT_NAME).is_file()
        && path.join(STDERR_NAME).is_file()
        && std::fs::read_dir(path).is_ok_and(|items| {
            items.flatten().all(|item| {
                let name = item.file_name();
                [STDOUT_NAME, STDERR_NAME, OUTPUTS_NAME]
                    .iter()
                    .any(|it| name == *it)
            })
        })
}

/// A regular file of at most `most` bytes.
pub(crate) fn read_bounded(path: &Path, most: u64, what: &'static str) -> Result<Vec<u8>, PrepareError> {
    let failed = |source| PrepareError::Unreadable {
        what,
        path: path.to_owned(),
        source,
    };
    // a device or a pipe is never opened: it may have no end
    let kind = std::fs::metadata(path).map_err(failed)?;
    if !kind.is_file() {
        return Err(PrepareError::NoFile {
            what,
            path: path.to_owned(),
        });
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(PrepareError::Large {
            what,
            path: path.to_owned(),
            most,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[(&str, &str)]) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let gathered = gather(directory.path()).unwrap();
        gathered
            .files
            .iter()
            .map(|(file, _)| file.as_str().to_owned())
            .collect()
    }

    #[test]
    fn git_and_downloaded_results_are_left_out() {
        let files = [
            ("main.py", ""),
            (".git/config", ""),
            ("results/0x01234567/stdout", ""),
            ("results/0x01234567/stderr", ""),
            ("results/0x01234567/outputs/a.csv", ""),
            ("results/pool-00112233445566aa/stdout", ""),
            ("results/pool-00112233445566aa/stderr", ""),
            ("results/00112233445566aa/stdout", ""),
            ("results/00112233445566aa/stderr", ""),
            ("results/0x89abcdef/data.csv", "it is the user's own"),
            ("results/baseline/stdout", "so is this"),
            ("results/baseline/stderr", ""),
            ("results/table.csv", ""),
        ];
        let own = [
            "main.py",
            "results/0x89abcdef/data.csv",
            "results/baseline/stderr",
        ];
        let all = [&own[..], &["results/baseline/stdout", "results/table.csv"]].concat();
        assert_eq!(names(&files), all);
    }

    #[test]
    fn the_list_names_what_is_left_out() {
        let list = "# data\n*.log\n/raw/\nlib/*.c\n!keep.log\n";
        let files = [
            (".sandrunignore", list),
            ("main.py", ""),
            ("a.log", ""),
            ("deep/b.log", ""),
            ("deep/keep.log", ""),
            ("raw/x.csv", ""),
            ("deep/raw/y.csv", ""),
            ("lib/x.c", ""),
            ("lib/x.h", ""),
        ];
        assert_eq!(
            names(&files),
            ["deep/keep.log", "deep/raw/y.csv", "lib/x.h", "main.py"]
        );
    }
}
