//! The digest of everything of the machine's own that a job of a class with a tracer can see: names, modes, links and
//! contents. Two machines that differ in one byte of a library have two digests.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::contents::Contents;
use super::walk::{Found, Reader, What, walk};
use crate::system::{ETC_COPIES, Part, SYSTEM_DIRS, parts_of_usr};

/// Every name that is seen; `dirs` are those that the settings add.
pub(super) fn look(dirs: &[PathBuf], jobs: Reader) -> Vec<Found> {
    let mut found = Vec::new();
    for top in tops(dirs) {
        walk(&top, jobs, &mut found);
    }
    found
}

/// SHA-256 over what tells one state of these files from another without reading any but the few copied ones.
pub(super) fn stamps(found: &[Found]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for it in found {
        tell(&mut hasher, it, || None);
        if let What::File(stamp) = &it.what {
            hasher.update(format!("\0{stamp:?}"));
        }
    }
    copies(&mut hasher);
    hasher.finalize().into()
}

/// SHA-256 over every name that was found, and the content of what jobs read. Contents that were read before are taken
/// from `cache`, where there is such a file.
pub(super) fn digest(found: &[Found], cache: Option<&Path>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(names(found, cache));
    copies(&mut hasher);
    hasher.finalize().into()
}

fn copies(hasher: &mut Sha256) {
    for name in ETC_COPIES {
        hasher.update(format!("\0{name}\0"));
        // One that is missing is another system than an empty one.
        let bytes = fs::read(Path::new("/etc").join(name));
        hasher.update(bytes.map_or([0; 32], |bytes| Sha256::digest(bytes).into()));
    }
}

fn names(found: &[Found], cache: Option<&Path>) -> [u8; 32] {
    let files: Vec<_> = found
        .iter()
        .filter_map(|it| match &it.what {
            What::File(stamp) => Some((it.path.as_path(), *stamp)),
            What::Closed(_) | What::Directory | What::Link(_) | What::Other => None,
        })
        .collect();
    let mut contents = cache.map(Contents::load).unwrap_or_default();
    let (hashes, is_new) = contents.of(&files);
    if let Some(cache) = cache.filter(|_| is_new)
        && let Err(error) = contents.store(cache, &files)
    {
        tracing::warn!(path = %cache.display(), %error, "the system's files are read again at the next start");
    }
    let mut hasher = Sha256::new();
    let mut hashes = hashes.into_iter();
    for it in found {
        tell(&mut hasher, it, || hashes.next().flatten());
    }
    hasher.finalize().into()
}

/// Where a walk begins: what a job's root has of the machine, in one order.
fn tops(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let mut tops = Vec::new();
    for name in SYSTEM_DIRS {
        let path = Path::new("/").join(name);
        if name == "usr" {
            let parts = parts_of_usr(&path, dirs).unwrap_or_default();
            tops.extend(parts.iter().map(|part| path.join(Part::path(part))));
        } else {
            tops.push(path);
        }
    }
    tops.extend(dirs.iter().filter(|dir| !dir.starts_with("/usr")).cloned());
    tops
}

fn tell(hasher: &mut Sha256, found: &Found, hash: impl FnOnce() -> Option<[u8; 32]>) {
    let mut text = |bytes: &[u8]| {
        hasher.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(bytes);
    };
    text(found.path.as_os_str().as_bytes());
    text(&found.mode.to_be_bytes());
    match &found.what {
        What::File(stamp) => {
            text(b"file");
            text(&stamp.size.to_be_bytes());
            text(&hash().unwrap_or_default());
            if found.tells_its_time() {
                text(&stamp.modified.0.to_be_bytes());
            }
        }
        What::Closed(size) => {
            text(b"closed");
            text(&size.to_be_bytes());
        }
        What::Directory => text(b"directory"),
        What::Link(target) => {
            text(b"link");
            text(target.as_os_str().as_bytes());
        }
        What::Other => text(b"other"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn of(dir: &Path) -> [u8; 32] {
        let mut found = Vec::new();
        walk(dir, Reader::Anybody, &mut found);
        names(&found, None)
    }

    #[test]
    fn whatever_a_job_could_notice_makes_another_digest() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("lib")).unwrap();
        fs::write(at("lib/os.py"), "a").unwrap();
        fs::write(at("lib/libm.so"), vec![b'a'; 3 << 20]).unwrap();
        symlink("libm.so", at("lib/link")).unwrap();
        let mut seen = vec![of(folder.path())];
        assert_eq!(of(folder.path()), seen[0]);
        let mut library = vec![b'a'; 3 << 20];
        library[1_500_000] = b'b';
        let changes: [&dyn Fn(); 6] = [
            &|| fs::write(at("lib/libm.so"), &library).unwrap(),
            &|| fs::set_permissions(at("lib/libm.so"), fs::Permissions::from_mode(0o755)).unwrap(),
            &|| fs::write(at("lib/new"), "").unwrap(),
            &|| {
                fs::remove_file(at("lib/link")).unwrap();
                symlink("new", at("lib/link")).unwrap();
            },
            &|| fs::rename(at("lib/new"), at("lib/newer")).unwrap(),
            &|| {
                let source = fs::File::options().write(true).open(at("lib/os.py")).unwrap();
                source.set_modified(std::time::UNIX_EPOCH).unwrap();
            },
        ];
        for (number, change) in changes.iter().enumerate() {
            change();
            let now = of(folder.path());
            assert!(!seen.contains(&now), "change {number}");
            seen.push(now);
        }
    }

    #[test]
    fn the_services_user_reads_more_than_everybody() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let close =
            |name: &str, mode| fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        fs::create_dir(at("own")).unwrap();
        fs::write(at("own/file"), "a").unwrap();
        fs::write(at("closed"), "a").unwrap();
        close("own", 0o700);
        close("closed", 0o640);
        close(".", 0o755);
        let seen = |jobs| {
            let mut found = Vec::new();
            walk(folder.path(), jobs, &mut found);
            let is_file = |it: &&Found| matches!(it.what, What::File(_));
            (
                found.len(),
                found.iter().filter(is_file).count(),
                names(&found, None),
            )
        };
        let (one, two) = (seen(Reader::Anybody), seen(Reader::Service));
        assert_eq!(((one.0, one.1), (two.0, two.1)), ((3, 0), (4, 2)));
        for name in ["closed", "own/file"] {
            fs::write(at(name), "b").unwrap();
        }
        assert_eq!(seen(Reader::Anybody).2, one.2);
        assert_ne!(seen(Reader::Service).2, two.2);
    }

    #[test]
    fn what_is_seen_begins_where_the_root_file_system_does() {
        let dirs = ["/etc/alternatives", "/usr/bin/x"].map(PathBuf::from);
        let tops = tops(&dirs);
        assert!(tops.contains(&"/usr/bin".into()) && tops.contains(&"/lib64".into()));
        assert!(tops.contains(&dirs[0]) && !tops.contains(&dirs[1]));
        assert!(!tops.contains(&"/usr".into()) && !tops.contains(&"/usr/share".into()));
    }

    #[test]
    fn contents_that_were_read_before_give_the_same_digest() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("files");
        let mut found = Vec::new();
        walk(Path::new("/usr/sbin"), Reader::Anybody, &mut found);
        let first = names(&found, Some(&cache));
        let length = fs::metadata(&cache).unwrap().len();
        assert!(length > 1000, "{length}");
        assert_eq!(names(&found, Some(&cache)), first);
        assert_eq!(names(&found, None), first);
    }
}
