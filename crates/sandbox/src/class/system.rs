//! The digest of everything of the machine's own that a job of a class with a tracer can see: names, modes, links and
//! contents. Two machines that differ in one byte of a library have two digests.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::contents::Contents;
use super::walk::{Found, What, walk};
use crate::system::{ETC_COPIES, Part, SYSTEM_DIRS, parts_of_usr};

/// SHA-256 over every name that is seen; `dirs` are those that the settings add. Contents that were read before are
/// taken from `cache`, where there is such a file.
pub(super) fn digest(dirs: &[PathBuf], cache: Option<&Path>) -> [u8; 32] {
    let mut found = Vec::new();
    for top in tops(dirs) {
        walk(&top, &mut found);
    }
    let mut hasher = Sha256::new();
    hasher.update(names(&found, cache));
    for name in ETC_COPIES {
        hasher.update(format!("\0{name}\0"));
        // One that is missing is another system than an empty one.
        let bytes = fs::read(Path::new("/etc").join(name));
        hasher.update(bytes.map_or([0; 32], |bytes| Sha256::digest(bytes).into()));
    }
    hasher.finalize().into()
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
        walk(dir, &mut found);
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
        walk(Path::new("/usr/sbin"), &mut found);
        let first = names(&found, Some(&cache));
        let length = fs::metadata(&cache).unwrap().len();
        assert!(length > 1000, "{length}");
        assert_eq!(names(&found, Some(&cache)), first);
        assert_eq!(names(&found, None), first);
    }
}
