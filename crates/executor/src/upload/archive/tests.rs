use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::upload::bundle::BundleLimits;

const LIMITS: BundleLimits = BundleLimits {
    bytes: 100_000,
    entries: 50,
};

/// One tar entry as a hostile client would write it: any name bytes, any type.
#[derive(Clone, Debug)]
struct RawEntry {
    name: Vec<u8>,
    kind: u8,
    link: Vec<u8>,
    content: Vec<u8>,
}

fn file(name: &str, content: &str) -> RawEntry {
    RawEntry {
        name: name.into(),
        kind: b'0',
        link: Vec::new(),
        content: content.into(),
    }
}

fn special(name: &str, kind: u8, link: &str) -> RawEntry {
    RawEntry {
        name: name.into(),
        kind,
        link: link.into(),
        content: Vec::new(),
    }
}

fn tar_gz(entries: &[RawEntry]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for entry in entries {
        let mut header = [0u8; 512];
        header[..entry.name.len().min(100)].copy_from_slice(&entry.name[..entry.name.len().min(100)]);
        header[100..108].copy_from_slice(b"0000777\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", entry.content.len()).as_bytes());
        header[136..148].copy_from_slice(b"00000000000\0");
        header[148..156].copy_from_slice(b"        ");
        header[156] = entry.kind;
        header[157..157 + entry.link.len().min(100)]
            .copy_from_slice(&entry.link[..entry.link.len().min(100)]);
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        encoder.write_all(&header).unwrap();
        encoder.write_all(&entry.content).unwrap();
        encoder
            .write_all(&vec![
                0;
                entry.content.len().next_multiple_of(512)
                    - entry.content.len()
            ])
            .unwrap();
    }
    encoder.write_all(&[0; 1024]).unwrap();
    encoder.finish().unwrap()
}

fn zip(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut writer = ::zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    for (name, mode, content) in entries {
        // unix_permissions masks the file type away: symbolic links have a call of their own
        let options = ::zip::write::SimpleFileOptions::default().unix_permissions(*mode);
        if *mode == 0o120_777 {
            writer
                .add_symlink(*name, String::from_utf8_lossy(content), options)
                .unwrap();
        } else {
            writer.start_file(*name, options).unwrap();
            writer.write_all(content).unwrap();
        }
    }
    writer.finish().unwrap().into_inner()
}

/// Unpacks below a fresh folder with a canary beside it; fails if anything but the bundle changed.
fn unpack_with(
    limits: BundleLimits,
    bytes: &[u8],
    unpack: fn(&str, File, &mut BundleWriter) -> Result<(), ArchiveError>,
) -> Result<Vec<String>, ArchiveError> {
    let outside = tempfile::tempdir().unwrap();
    let root = outside.path().join("bundle");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(outside.path().join("canary"), "alive").unwrap();
    let spool = outside.path().join("spool");
    std::fs::write(&spool, bytes).unwrap();
    let mut bundle = BundleWriter::new(&root, limits);
    let result = unpack("job", File::open(&spool).unwrap(), &mut bundle);
    let mut names: Vec<_> = std::fs::read_dir(outside.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["bundle", "canary", "spool"]);
    assert_eq!(std::fs::read(outside.path().join("canary")).unwrap(), b"alive");
    only_files_and_folders(&root);
    result?;
    let files = bundle.into_files();
    for (path, file) in &files {
        let bytes = std::fs::read(root.join(path.as_str())).unwrap();
        assert_eq!(
            (file.size_bytes, file.sha256),
            (bytes.len() as u64, sandrun_types::Sha256Hex::of(&bytes))
        );
    }
    Ok(files.into_keys().map(String::from).collect())
}

fn only_files_and_folders(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let kind = entry.as_ref().unwrap().file_type().unwrap();
        assert!(kind.is_file() || kind.is_dir());
        if kind.is_dir() {
            only_files_and_folders(&entry.unwrap().path());
        }
    }
}

fn untar(entries: &[RawEntry]) -> Result<Vec<String>, ArchiveError> {
    unpack_with(LIMITS, &tar_gz(entries), unpack_tar_gz)
}

fn unzip(entries: &[(&str, u32, &[u8])]) -> Result<Vec<String>, ArchiveError> {
    unpack_with(LIMITS, &zip(entries), unpack_zip)
}

#[test]
fn ordinary_archives_unpack() {
    let entries = [
        special("./", b'5', ""),
        file("./main.py", "x"),
        file("src/a/b.txt", "y"),
        special("empty/", b'5', ""),
    ];
    assert_eq!(untar(&entries).unwrap(), ["main.py", "src/a/b.txt"]);
    assert_eq!(
        unzip(&[("main.py", 0o644, b"x"), ("src/b", 0o755, b"y")]).unwrap(),
        ["main.py", "src/b"]
    );
}

#[test]
fn names_that_leave_the_bundle_are_refused() {
    for name in ["../evil", "a/../../evil", "/etc/evil", "/../evil"] {
        assert!(
            matches!(untar(&[file(name, "x")]), Err(ArchiveError::Name { .. })),
            "{name}"
        );
        assert!(
            matches!(unzip(&[(name, 0o644, b"x")]), Err(ArchiveError::Name { .. })),
            "{name}"
        );
    }
}

#[test]
fn links_devices_and_fifos_are_refused_before_anything_goes_through_them() {
    for (kind, word) in [
        (b'1', "hard link"),
        (b'2', "symbolic link"),
        (b'3', "device"),
        (b'4', "device"),
        (b'6', "FIFO"),
        (b'Z', "kind"),
    ] {
        let refusal = untar(&[special("evil", kind, "../canary"), file("evil", "x")]).unwrap_err();
        assert!(
            matches!(refusal, ArchiveError::NotAFile { .. }) && refusal.to_string().contains(word),
            "{refusal}"
        );
    }
    let refusal = unzip(&[("evil", 0o120_777, b"../canary"), ("evil/x", 0o644, b"x")]).unwrap_err();
    assert!(
        matches!(
            refusal,
            ArchiveError::NotAFile {
                what: "a symbolic link",
                ..
            }
        ),
        "{refusal}"
    );
}

#[test]
fn an_existing_link_is_not_written_through() {
    let outside = tempfile::tempdir().unwrap();
    let root = outside.path().join("bundle");
    std::fs::create_dir(&root).unwrap();
    symlink("../canary", root.join("link")).unwrap();
    symlink("..", root.join("folder")).unwrap();
    let mut bundle = BundleWriter::new(&root, LIMITS);
    for name in ["link", "folder/canary"] {
        let path = BundlePath::parse(name).unwrap();
        assert!(bundle.add_file(path, &mut "x".as_bytes()).is_err());
    }
    assert!(!outside.path().join("canary").exists());
}

#[test]
fn a_name_is_one_thing_only() {
    let twice = untar(&[file("a", "1"), file("./a", "2")]).unwrap_err();
    assert!(matches!(twice, ArchiveError::Bundle(BundleError::Twice(_))));
    let both = untar(&[file("a", "1"), file("a/b", "2")]).unwrap_err();
    assert!(matches!(
        both,
        ArchiveError::Bundle(BundleError::FileAndFolder(_))
    ));
    let both = untar(&[file("a/b", "1"), file("a", "2")]).unwrap_err();
    assert!(matches!(
        both,
        ArchiveError::Bundle(BundleError::FileAndFolder(_))
    ));
}

#[test]
fn bombs_end_at_the_limit() {
    let large = "0".repeat(200_000);
    let bomb = untar(&[file("a", &large)]).unwrap_err();
    assert!(
        matches!(bomb, ArchiveError::Bundle(BundleError::TooLarge(100_000))),
        "{bomb}"
    );
    let bomb = unzip(&[("a", 0o644, large.as_bytes())]).unwrap_err();
    assert!(
        matches!(bomb, ArchiveError::Bundle(BundleError::TooLarge(100_000))),
        "{bomb}"
    );
    let many: Vec<_> = (0..60).map(|n| file(&n.to_string(), "")).collect();
    assert!(matches!(
        untar(&many),
        Err(ArchiveError::Bundle(BundleError::TooMany(50)))
    ));
    let names: Vec<_> = (0..60).map(|n| n.to_string()).collect();
    let many: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), 0o644, b"".as_slice()))
        .collect();
    assert!(matches!(
        unzip(&many),
        Err(ArchiveError::Bundle(BundleError::TooMany(50)))
    ));
    let folders: Vec<_> = (0..60).map(|n| special(&format!("{n}/"), b'5', "")).collect();
    assert!(matches!(
        untar(&folders),
        Err(ArchiveError::Bundle(BundleError::TooMany(50)))
    ));
}

#[test]
fn headers_are_never_held_whole_in_memory() {
    let header = |kind, length| RawEntry {
        kind,
        content: vec![b'a'; length],
        ..file("././@LongLink", "")
    };
    // such bodies are read into memory by the library: the decompressor must stop before
    for kind in *b"LKx" {
        let long = untar(&[header(kind, 70_000), file("main.py", "x")]);
        assert!(
            matches!(long, Err(ArchiveError::LongHeader(_))),
            "{kind} {long:?}"
        );
    }
    // ones that are read past count as the archive's bytes alone
    let folder = RawEntry {
        kind: b'5',
        ..file("d", "")
    };
    let fine = untar(&[
        folder,
        header(b'g', 70_000),
        header(b'L', 200),
        file("main.py", "x"),
    ]);
    let name = "a".repeat(200);
    assert_eq!(fine.unwrap(), [name]);
    let global = untar(&[header(b'g', 600_000), file("main.py", "x")]);
    assert!(matches!(
        global,
        Err(ArchiveError::Bundle(BundleError::TooLarge(_)))
    ));
}

#[test]
fn a_name_that_a_zip_archive_holds_twice_is_refused() {
    let entries = |second| zip(&[("main.py", 0o644, b"1"), (second, 0o644, b"2")]);
    let mut bytes = entries("main.pz");
    while let Some(at) = bytes.windows(7).position(|it| it == b"main.pz") {
        bytes[at + 6] = b'y';
    }
    let twice = unpack_with(LIMITS, &bytes, unpack_zip);
    assert!(matches!(twice, Err(ArchiveError::Twice { .. })), "{twice:?}");
    assert_eq!(
        unpack_with(LIMITS, &entries("b.py"), unpack_zip).unwrap().len(),
        2
    );
}

#[test]
fn what_is_no_archive_is_refused() {
    for bytes in [
        b"".as_slice(),
        b"hello",
        b"\x1f\x8b\x08\x00garbage",
        b"PK\x03\x04garbage",
    ] {
        assert!(matches!(
            unpack_with(LIMITS, bytes, unpack_zip),
            Err(ArchiveError::Broken { .. })
        ));
        if !bytes.is_empty() {
            assert!(matches!(
                unpack_with(LIMITS, bytes, unpack_tar_gz),
                Err(ArchiveError::Broken { .. })
            ));
        }
    }
    let mut cut = tar_gz(&[file("a", "hello")]);
    cut.truncate(cut.len() / 2);
    assert!(unpack_with(LIMITS, &cut, unpack_tar_gz).is_err());
}

fn hostile_entries() -> impl Strategy<Value = RawEntry> {
    let name = prop_oneof![
        "(\\.\\./|/|\\./|a|b|c/|canary|\\.\\.|\\\\){1,6}".prop_map(String::into_bytes),
        prop::collection::vec(1..=255u8, 1..20),
    ];
    let kind = prop::sample::select(b"0000012345671LKxgSZ".to_vec());
    let link = prop::sample::select(vec!["..", "/", "../canary", "a", ""]);
    (name, kind, link, prop::collection::vec(any::<u8>(), 0..600)).prop_map(|(name, kind, link, content)| {
        RawEntry {
            name,
            kind,
            link: link.into(),
            content,
        }
    })
}

proptest! {
    #[test]
    fn no_tar_archive_writes_outside(entries in prop::collection::vec(hostile_entries(), 1..8)) {
        let _ = untar(&entries);
    }

    #[test]
    fn no_zip_archive_writes_outside(
        entries in prop::collection::vec(("(\\.\\./|/|a|b|c/|canary){1,5}", any::<bool>()), 1..6),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut names = std::collections::BTreeSet::new();
        let entries: Vec<_> = entries
            .iter()
            .filter(|(name, _)| names.insert(name.clone()))
            .map(|(name, link)| (name.as_str(), if *link { 0o120_777 } else { 0o644 }, b"../canary".as_slice()))
            .collect();
        let mut bytes = zip(&entries);
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = unpack_with(LIMITS, &bytes, unpack_zip);
    }
}
