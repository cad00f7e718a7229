use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::image::ImageWriter;

struct Ground {
    folder: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("image")).unwrap();
        Self { folder }
    }

    fn archive(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn wheel(&self, entries: &[(&str, u32, &str)]) -> Result<(), UnpackError> {
        let mut archive = ZipWriter::new(std::fs::File::create(self.archive()).unwrap());
        for (name, mode, text) in entries {
            let options = SimpleFileOptions::default().unix_permissions(*mode);
            if mode & 0o170_000 == 0o120_000 {
                archive.add_symlink(*name, *text, options).unwrap();
            } else {
                archive.start_file(*name, options).unwrap();
                archive.write_all(text.as_bytes()).unwrap();
            }
        }
        archive.finish().unwrap();
        unpack_wheel(&self.archive(), "lib/site", &mut ImageWriter::new(&self.image()))
    }

    fn tarball(&self, entries: &[(&str, tar::EntryType)]) -> Result<(), UnpackError> {
        let file = std::fs::File::create(self.archive()).unwrap();
        let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
        for (name, kind) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_size(if kind.is_file() { 4 } else { 0 });
            if kind.is_symlink() {
                header.set_link_name("/etc").unwrap();
            }
            header.set_cksum();
            let content: &[u8] = if kind.is_file() { b"text" } else { b"" };
            archive.append(&header, content).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap();
        unpack_tarball(
            &self.archive(),
            "lib/node_modules/a",
            &mut ImageWriter::new(&self.image()),
        )
    }

    fn files(&self) -> BTreeMap<String, bool> {
        use std::os::unix::fs::PermissionsExt as _;
        let mut found = BTreeMap::new();
        let mut folders = vec![self.image()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let executable = path.metadata().unwrap().permissions().mode() & 0o100 != 0;
                let name = path.strip_prefix(self.image()).unwrap().display().to_string();
                found.insert(name, executable);
            }
        }
        found
    }
}

#[test]
fn a_wheels_parts_go_where_they_belong() {
    let ground = Ground::new();
    ground
        .wheel(&[
            ("a/__init__.py", 0o644, "1"),
            ("a/native.so", 0o755, "elf"),
            ("a/__pycache__/x.pyc", 0o644, "no"),
            ("a-1.data/purelib/b.py", 0o644, "2"),
            ("a-1.data/data/share/c.txt", 0o644, "3"),
            ("a-1.data/scripts/tool", 0o755, "#!python"),
            ("a-1.dist-info/METADATA", 0o644, "Name: a"),
        ])
        .unwrap();
    let expected = [
        ("lib/site/a-1.dist-info/METADATA", false),
        ("lib/site/a/__init__.py", false),
        ("lib/site/a/native.so", true),
        ("lib/site/b.py", false),
        ("share/c.txt", false),
    ];
    assert_eq!(
        ground.files(),
        expected.map(|(name, bit)| (name.to_owned(), bit)).into()
    );
}

#[test]
fn nothing_leaves_the_image() {
    for name in [
        "../evil",
        "a/../../../../../evil",
        "/evil",
        "a-1.data/data/../evil",
        "a-1.data/purelib/../../../evil",
    ] {
        let ground = Ground::new();
        let refused = ground.wheel(&[(name, 0o644, "x")]);
        assert!(
            matches!(refused, Err(UnpackError::Image(ImageError::Name(_)))),
            "{name}: {refused:?}"
        );
        assert!(ground.files().is_empty());
    }
    let ground = Ground::new();
    let refused = ground.tarball(&[("package/../../evil", tar::EntryType::Regular)]);
    assert!(
        matches!(refused, Err(UnpackError::Image(ImageError::Name(_)))),
        "{refused:?}"
    );
}

#[test]
fn links_and_devices_are_refused() {
    let refused = Ground::new().wheel(&[("a", 0o120_777, "/etc/passwd")]);
    assert!(
        matches!(refused, Err(UnpackError::Image(ImageError::Special(_)))),
        "{refused:?}"
    );
    for kind in [
        tar::EntryType::Symlink,
        tar::EntryType::Link,
        tar::EntryType::Fifo,
        tar::EntryType::Block,
        tar::EntryType::Char,
    ] {
        let refused = Ground::new().tarball(&[("package/a", kind)]);
        assert!(
            matches!(refused, Err(UnpackError::Image(ImageError::Special(_)))),
            "{kind:?}"
        );
    }
}

#[test]
fn an_npm_package_loses_its_first_folder_whatever_it_is_called() {
    let ground = Ground::new();
    let files = ["package/index.js", "other/lib/b.js", "./dotted/c.js"];
    ground
        .tarball(&files.map(|name| (name, tar::EntryType::Regular)))
        .unwrap();
    let names: Vec<String> = ground.files().into_keys().collect();
    assert_eq!(
        names,
        ["c.js", "index.js", "lib/b.js"].map(|name| format!("lib/node_modules/a/{name}"))
    );
}

#[test]
fn what_is_no_archive_is_said_to_be_none() {
    let ground = Ground::new();
    std::fs::write(ground.archive(), "not an archive").unwrap();
    let mut image = ImageWriter::new(&ground.image());
    let wheel = unpack_wheel(&ground.archive(), "lib", &mut image);
    assert!(
        matches!(wheel, Err(UnpackError::Broken { kind: "wheel", .. })),
        "{wheel:?}"
    );
    let package = unpack_tarball(&ground.archive(), "lib", &mut image);
    assert!(
        matches!(
            package,
            Err(UnpackError::Broken {
                kind: "npm package",
                ..
            })
        ),
        "{package:?}"
    );
}
