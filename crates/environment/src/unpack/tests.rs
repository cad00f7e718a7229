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

impl Ground {
    /// An npm package of these bytes.
    fn raw(
        &self,
        write: impl FnOnce(&mut tar::Builder<GzEncoder<std::fs::File>>),
    ) -> Result<(), UnpackError> {
        let file = std::fs::File::create(self.archive()).unwrap();
        let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
        write(&mut archive);
        archive.into_inner().unwrap().finish().unwrap();
        unpack_tarball(
            &self.archive(),
            "lib/node_modules/a",
            &mut ImageWriter::new(&self.image()),
        )
    }
}

fn header(name: &str, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header
}

#[test]
fn long_names_and_attributes_are_read_and_bounded() {
    let long = format!("package/{}/x.js", "d".repeat(150));
    let ground = Ground::new();
    ground
        .raw(|archive| {
            let mut plain = header("", tar::EntryType::Regular, 4);
            archive.append_data(&mut plain, &long, &b"text"[..]).unwrap();
            archive
                .append_pax_extensions([("path", b"package/by-pax.js".as_slice())])
                .unwrap();
            archive
                .append(
                    &header("package/other.js", tar::EntryType::Regular, 4),
                    &b"text"[..],
                )
                .unwrap();
        })
        .unwrap();
    let names: Vec<String> = ground.files().into_keys().collect();
    let long = format!("lib/node_modules/a/{}/x.js", "d".repeat(150));
    assert_eq!(names, ["lib/node_modules/a/by-pax.js".to_owned(), long]);
    for kind in [
        tar::EntryType::GNULongName,
        tar::EntryType::GNULongLink,
        tar::EntryType::XHeader,
    ] {
        let ground = Ground::new();
        let size = 64 << 20;
        let refused = ground.raw(|archive| {
            let zeros = std::io::Read::take(std::io::repeat(b'a'), size);
            archive
                .append(&header("././@LongLink", kind, size), zeros)
                .unwrap();
            archive
                .append(&header("package/a", tar::EntryType::Regular, 4), &b"text"[..])
                .unwrap();
        });
        let words = refused.unwrap_err().to_string();
        assert!(words.contains("headers of more than"), "{kind:?}: {words}");
        assert!(ground.files().is_empty());
    }
}

#[test]
fn odd_entries_of_a_package_are_refused() {
    let sparse = Ground::new().raw(|archive| {
        archive
            .append_pax_extensions([("GNU.sparse.realsize", b"1099511627776".as_slice())])
            .unwrap();
        archive
            .append(&header("package/a", tar::EntryType::Regular, 4), &b"text"[..])
            .unwrap();
    });
    assert!(
        matches!(sparse, Err(UnpackError::Image(ImageError::Special(_)))),
        "{sparse:?}"
    );
    let sparse = Ground::new().tarball(&[("package/a", tar::EntryType::GNUSparse)]);
    assert!(sparse.is_err(), "{sparse:?}");
    for name in ["/etc/passwd", "../package/a", "package/../a"] {
        let refused = Ground::new().tarball(&[(name, tar::EntryType::Regular)]);
        assert!(
            matches!(refused, Err(UnpackError::Image(ImageError::Name(_)))),
            "{name}: {refused:?}"
        );
    }
    let huge = Ground::new().raw(|archive| {
        archive
            .append(
                &header("package/a", tar::EntryType::Regular, 1 << 40),
                &b"text"[..],
            )
            .unwrap();
    });
    assert!(
        matches!(huge, Err(UnpackError::Image(ImageError::Limit { .. }))),
        "{huge:?}"
    );
    let cut = Ground::new().raw(|archive| {
        archive
            .append(
                &header("package/a", tar::EntryType::Regular, 1 << 20),
                &b"text"[..],
            )
            .unwrap();
    });
    assert!(
        matches!(cut, Err(UnpackError::Image(ImageError::Source { .. }))),
        "{cut:?}"
    );
}

#[test]
fn a_wheel_that_says_it_is_huge_is_refused_before_it_is_written() {
    let ground = Ground::new();
    ground.wheel(&[("a.py", 0o644, "x")]).unwrap();
    // the size before compression, in the central directory and beside the file, says 2 GiB
    let mut bytes = std::fs::read(ground.archive()).unwrap();
    for (magic, at) in [(*b"PK\x01\x02", 24), (*b"PK\x03\x04", 22)] {
        let start = bytes.windows(4).position(|it| it == magic).unwrap() + at;
        bytes[start..start + 4].copy_from_slice(&0x8000_0000_u32.to_le_bytes());
    }
    std::fs::write(ground.archive(), bytes).unwrap();
    let ground_of_image = Ground::new();
    let mut image = ImageWriter::new(&ground_of_image.image());
    let refused = unpack_wheel(&ground.archive(), "lib", &mut image);
    assert!(
        matches!(refused, Err(UnpackError::Image(ImageError::Limit { .. }))),
        "{refused:?}"
    );
    assert!(ground_of_image.files().is_empty());
}
