use std::io::Write as _;
use std::os::unix::fs::symlink;

use sandrun_content::pack_directory;
use sha2::{Digest as _, Sha256};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

/// A wheel whose zip's own dates are `year`'s.
fn wheel(year: u16, files: &[(&str, &str)]) -> Vec<u8> {
    let date = zip::DateTime::from_date_and_time(year, 1, 1, 0, 0, 0).unwrap();
    let options = SimpleFileOptions::default()
        .last_modified_time(date)
        .unix_permissions(0o664);
    let mut archive = ZipWriter::new(io::Cursor::new(Vec::new()));
    for (name, text) in files {
        archive.start_file(*name, options).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// A lock of wheels that are downloaded already.
fn lock(downloads: &Downloads, wheels: &[(&str, Vec<u8>)]) -> Lock {
    let packages: Vec<_> = wheels
        .iter()
        .map(|(name, bytes)| {
            let hash = format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
            fs::write(downloads.path(&hash.parse().unwrap()), bytes).unwrap();
            json!({"name": name, "version": "1", "hash": hash})
        })
        .collect();
    let lock = json!({"format": "sandrun-python-lock-v1", "python": "3.11", "packages": packages});
    Lock::parse(lock.to_string().as_bytes()).unwrap()
}

struct Ground(TempDir);

impl Ground {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn downloads(&self) -> Downloads {
        Downloads::new(&self.0.path().join("downloads"), Path::new("/nowhere/python3")).unwrap()
    }

    fn directory(&self, files: &[(&str, u32)]) -> PathBuf {
        let directory = self.0.path().join("directory");
        for (name, mode) in files {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, *name).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        directory
    }
}

#[test]
fn one_lock_is_one_id() {
    let files = [
        ("a/__init__.py", "A = 1\n"),
        ("a-1.dist-info/RECORD", "a/__init__.py,,\n"),
    ];
    let build = || {
        let ground = Ground::new();
        let downloads = ground.downloads();
        let lock = lock(
            &downloads,
            &[("a", wheel(2020, &files)), ("b", wheel(2021, &[("b.py", "")]))],
        );
        build_lock(&lock, &downloads, ground.0.path()).unwrap().id()
    };
    assert_eq!(build(), build());
    // pinned: another id for the same packages would be another environment on chain
    assert_eq!(
        build().to_string(),
        "bafybeihuwuesxdy2xsrrkwvl4hqq75ubjbim7w3aivqcxf5n6rqhbiijfe"
    );
}

#[test]
fn what_differs_by_who_built_a_directory_does_not_count() {
    let one = Ground::new();
    let two = Ground::new();
    let id = |ground: &Ground, files: &[(&str, u32)]| {
        let built =
            build_directory(&ground.directory(files), ground.0.path(), &Interrupt::default()).unwrap();
        assert_eq!(built.shape, Some(Shape::PythonPackages));
        built.id()
    };
    let first = id(&one, &[("a/__init__.py", 0o600), ("a/run", 0o700)]);
    let second = id(
        &two,
        &[
            ("a/run", 0o775),
            ("a/__init__.py", 0o664),
            ("a/__pycache__/x.pyc", 0o644),
        ],
    );
    assert_eq!(first, second);
    assert_ne!(
        first,
        id(&Ground::new(), &[("a/__init__.py", 0o755), ("a/run", 0o755)]),
        "who may run it counts"
    );
}

#[test]
fn a_directory_is_taken_for_what_it_looks_like() {
    for (files, shape, there) in [
        (&[("lib/x", 0o644)][..], Shape::Image, "lib/x"),
        (
            &[("node_modules/a/index.js", 0o644)][..],
            Shape::NodeModules,
            "lib/node_modules/a/index.js",
        ),
        (
            &[("a.py", 0o644)][..],
            Shape::PythonPackages,
            "lib/python3.11/site-packages/a.py",
        ),
    ] {
        let ground = Ground::new();
        let built =
            build_directory(&ground.directory(files), ground.0.path(), &Interrupt::default()).unwrap();
        assert_eq!(built.shape, Some(shape));
        let out = ground.0.path().join("out");
        let again = pack_directory(&built.folder.path().join("image"), &IMAGE_LIMITS)
            .unwrap()
            .root();
        assert_eq!(built.id(), again);
        built.keep(&out).unwrap();
        assert!(out.join(there).is_file(), "{there}");
    }
}

#[test]
fn links_in_a_directory_are_refused_but_npms_own() {
    let ground = Ground::new();
    let directory = ground.directory(&[
        ("node_modules/a/index.js", 0o644),
        ("node_modules/.bin/real", 0o755),
    ]);
    symlink("../a/index.js", directory.join("node_modules/.bin/a")).unwrap();
    build_directory(&directory, ground.0.path(), &Interrupt::default()).unwrap();
    symlink("/etc/passwd", directory.join("node_modules/a/evil")).unwrap();
    let refused = build_directory(&directory, ground.0.path(), &Interrupt::default())
        .unwrap_err()
        .to_string();
    assert!(refused.contains("evil") && refused.contains("link"), "{refused}");
    let left: Vec<_> = fs::read_dir(ground.0.path())
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    assert_eq!(left, ["directory"], "nothing is left behind");
}

#[test]
fn what_is_there_already_is_not_replaced() {
    let ground = Ground::new();
    let built = build_directory(
        &ground.directory(&[("a.py", 0o644)]),
        ground.0.path(),
        &Interrupt::default(),
    )
    .unwrap();
    let words = built
        .keep(&ground.0.path().join("directory"))
        .unwrap_err()
        .to_string();
    assert!(words.contains("directory"), "{words}");
}

#[test]
fn what_is_told_to_end_builds_nothing_and_leaves_nothing() {
    let ground = Ground::new();
    let directory = ground.directory(&[("a.py", 0o644)]);
    let scratch = ground.0.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let over = Interrupt::default();
    over.now();
    build_directory(&directory, &scratch, &over).unwrap_err();
    // at the last step
    let (folder, mut image) = begin(&scratch, &Interrupt::default()).unwrap();
    image.add("a.py", false, &mut &b""[..]).unwrap();
    let stopped = finish(folder, None, &over);
    assert!(
        matches!(stopped, Err(BuildError::Pack(PackError::Stopped))),
        "{stopped:?}"
    );
    // at the first, and while unpacking
    let downloads = ground.downloads();
    let lock = lock(&downloads, &[("a", wheel(2020, &[("a.py", "")]))]);
    build_lock(&lock, &downloads.clone().until(&over), &scratch).unwrap_err();
    let Lock::Python(python) = &lock else {
        panic!("a python lock")
    };
    let (folder, mut image) = begin(&scratch, &over).unwrap();
    unpack_wheel(&downloads.path(&python.packages[0].hash), "lib", &mut image).unwrap_err();
    drop(folder);
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
    build_lock(&lock, &downloads, &scratch).unwrap();
}
