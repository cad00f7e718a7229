use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use proptest::prelude::*;
use tempfile::tempdir;

use super::*;
use crate::store::ContentStore;
use crate::tests::{pattern, read_tree, store, write_tree};

fn pack(dir: &Path) -> Result<PackedTree, PackError> {
    pack_directory(dir, &Limits::default())
}

/// The ids that Kubo 0.39 gives: `ipfs add -r --cid-version=1`.
#[test]
fn ids_are_those_of_kubo() {
    let dir = tempdir().unwrap();
    let (exact, large, huge) = (
        pattern(262_144),
        pattern(3 * 1024 * 1024 + 5),
        pattern(175 * 262_144 + 1),
    );
    write_tree(
        dir.path(),
        &[
            ("hello.txt", b"hello\n", false),
            ("empty", b"", false),
            ("exact", &exact, false),
            ("large", &large, false),
            ("huge", &huge, false),
            ("dir/a", b"1", false),
            ("dir/a.b", b"2", false),
            ("dir/B", b"3", false),
            ("dir/sub/ä ö", b"4", false),
        ],
    );
    std::fs::create_dir(dir.path().join("void")).unwrap();
    let root = |path: &str| {
        root_of(&dir.path().join(path), &Limits::default())
            .unwrap()
            .to_string()
    };
    assert_eq!(
        root("void"),
        "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
    );
    assert_eq!(
        root("dir"),
        "bafybeifmucolf6govl7c5z2plhkomf4axsa633sijqaq7izxjwibt6ojii"
    );
    assert_eq!(
        root(""),
        "bafybeiefod544dv5rda4ewwvjlxrf47l76vdm43z2w7mfxhzto7oakrggq"
    );
}

/// The id that Kubo 0.39 gives a directory of 5,000 files, which it shards.
#[test]
fn a_sharded_directory_has_the_id_of_kubo() {
    let dir = tempdir().unwrap();
    for i in 0..5000 {
        std::fs::write(dir.path().join(format!("file-number-{i:06}")), i.to_string()).unwrap();
    }
    let root = root_of(dir.path(), &Limits::default()).unwrap().to_string();
    assert_eq!(
        root,
        "bafybeif5mymrux66dy7rtgwdyshrukaju2pxuscv76saikccgu6hyxpmym"
    );
}

#[tokio::test]
async fn a_sharded_directory_comes_back() {
    let (dir, store) = store().await;
    let tree = dir.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    for i in 0..5000 {
        std::fs::write(tree.join(format!("file-number-{i:06}")), i.to_string()).unwrap();
    }
    let packed = pack(&tree).unwrap();
    store.add(&packed).await.unwrap();
    let back = dir.path().join("back");
    let fetched = store
        .fetch(packed.root(), &back, &Limits::default())
        .await
        .unwrap();
    assert_eq!(fetched.files, 5000);
    assert_eq!(read_tree(&back), read_tree(&tree));
    assert_eq!(
        store
            .list(packed.root(), "", &Limits::default())
            .await
            .unwrap()
            .len(),
        5000
    );
}

#[test]
fn a_bundle_of_a_file_and_of_its_directory_are_one() {
    let dir = tempdir().unwrap();
    write_tree(dir.path(), &[("main.py", b"print(1)\n", false)]);
    let limits = Limits::default();
    let single = pack_bundle(&dir.path().join("main.py"), b"{}", &limits).unwrap();
    let whole = pack_bundle(dir.path(), b"{}", &limits).unwrap();
    assert_eq!(single.root(), whole.root());
    assert_eq!((single.files(), single.bytes()), (2, 11));
    // a manifest that lies there already makes no difference
    write_tree(dir.path(), &[("job.json", b"something else", true)]);
    assert_eq!(
        pack_bundle(dir.path(), b"{}", &limits).unwrap().root(),
        single.root()
    );
    assert_ne!(
        pack_bundle(dir.path(), b"{ }", &limits).unwrap().root(),
        single.root()
    );
}

#[test]
fn a_directory_in_the_manifests_place_is_refused() {
    let dir = tempdir().unwrap();
    std::fs::create_dir(dir.path().join("job.json")).unwrap();
    let error = pack_bundle(dir.path(), b"{}", &Limits::default()).unwrap_err();
    assert!(
        matches!(&error, PackError::Reserved { path } if path.ends_with("job.json")),
        "{error}"
    );
}

#[test]
fn a_result_has_neither_modes_nor_empty_directories() {
    let limits = Limits::default();
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    write_tree(
        one.path(),
        &[("plots/a.svg", b"<svg/>", true), ("t.csv", b"1", false)],
    );
    std::fs::create_dir_all(one.path().join("tmp/cache")).unwrap();
    write_tree(
        two.path(),
        &[("t.csv", b"1", true), ("plots/a.svg", b"<svg/>", false)],
    );
    let result = |dir: &Path| {
        let (out, err) = (Data::from(b"out".to_vec()), Data::from(Vec::new()));
        pack_result(out, err, Some(dir), &limits).unwrap()
    };
    assert_eq!(result(one.path()).root(), result(two.path()).root());
    assert_eq!(result(one.path()).files(), 4);
}

#[tokio::test]
async fn a_result_without_outputs_has_the_same_layout() {
    let (dir, store) = store().await;
    let stderr = dir.path().join("err");
    std::fs::write(&stderr, "oops").unwrap();
    let data = Data::from_file(&stderr).unwrap();
    let packed = pack_result(Data::from(Vec::new()), data, None, &Limits::default()).unwrap();
    store.add(&packed).await.unwrap();
    let back = dir.path().join("back");
    store
        .fetch(packed.root(), &back, &Limits::default())
        .await
        .unwrap();
    let expected = [
        ("outputs".to_owned(), None),
        ("stderr".to_owned(), Some((b"oops".to_vec(), false))),
        ("stdout".to_owned(), Some((Vec::new(), false))),
    ];
    assert_eq!(read_tree(&back), BTreeMap::from(expected));
}

#[tokio::test]
async fn executables_of_every_size_come_back_executable() {
    let (dir, store) = store().await;
    let tree = dir.path().join("tree");
    let contents: Vec<Vec<u8>> = [0, 1, 262_143, 262_144, 262_145, 3 << 20].map(pattern).into();
    let names: Vec<String> = (0..contents.len()).map(|n| format!("bin{n}")).collect();
    for (name, content) in names.iter().zip(&contents) {
        write_tree(
            &tree,
            &[(name, content, true), (&format!("{name}.txt"), content, false)],
        );
    }
    let packed = pack(&tree).unwrap();
    store.add(&packed).await.unwrap();
    let back = dir.path().join("back");
    store
        .fetch(packed.root(), &back, &Limits::default())
        .await
        .unwrap();
    assert_eq!(read_tree(&back), read_tree(&tree));
}

#[test]
fn what_can_not_be_packed_is_named() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let missing = pack(&at("nothing")).unwrap_err();
    assert!(
        matches!(&missing, PackError::Missing { path } if *path == at("nothing")),
        "{missing}"
    );

    std::fs::create_dir(at("links")).unwrap();
    symlink("/etc/passwd", at("links/secret")).unwrap();
    let error = pack(&at("links")).unwrap_err();
    assert!(
        matches!(&error, PackError::Symlink { path } if path.ends_with("links/secret")),
        "{error}"
    );

    std::fs::create_dir(at("pipes")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("pipes/p"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    let error = pack(&at("pipes")).unwrap_err();
    assert!(
        matches!(&error, PackError::Special { path } if path.ends_with("pipes/p")),
        "{error}"
    );

    std::fs::create_dir(at("names")).unwrap();
    std::fs::write(at("names").join(OsStr::from_bytes(b"\xff")), "x").unwrap();
    assert!(matches!(
        pack(&at("names")).unwrap_err(),
        PackError::NotUtf8 { .. }
    ));

    std::fs::write(at("file"), "x").unwrap();
    assert!(matches!(
        pack(&at("file")).unwrap_err(),
        PackError::NotADirectory { .. }
    ));
    assert!(matches!(
        pack_bundle(&at("pipes/p"), b"", &Limits::default()),
        Err(PackError::Special { .. })
    ));
}

#[test]
fn limits_are_kept_and_reached() {
    let dir = tempdir().unwrap();
    write_tree(dir.path(), &[("a", b"12345", false), ("b/c/d", b"123", false)]);
    let fits = Limits {
        max_bytes: 8,
        max_file_bytes: 5,
        max_entries: 4,
        max_depth: 3,
    };
    assert!(pack_directory(dir.path(), &fits).is_ok());
    let too_small = [
        (Limits { max_bytes: 7, ..fits }, "bytes in all"),
        (
            Limits {
                max_file_bytes: 4,
                ..fits
            },
            "bytes in a file",
        ),
        (
            Limits {
                max_entries: 3,
                ..fits
            },
            "files and directories",
        ),
        (Limits { max_depth: 2, ..fits }, "levels"),
    ];
    for (limits, expected) in too_small {
        let error = pack_directory(dir.path(), &limits).unwrap_err();
        assert!(
            matches!(&error, PackError::Limit { what, .. } if *what == expected),
            "{error}"
        );
    }
    // the manifest counts as well
    assert!(matches!(
        pack_bundle(dir.path(), b"{}", &fits),
        Err(PackError::Limit { .. })
    ));
}

#[test]
fn a_file_that_changes_under_way_is_no_other_tree() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("a");
    let blocks = |tree: &PackedTree| tree.each_block(|_| Ok::<(), PackError>(()));
    std::fs::write(&file, "hello").unwrap();
    let packed = pack(dir.path()).unwrap();
    assert!(blocks(&packed).is_ok());
    for change in ["hellp", "hell", "hello!"] {
        std::fs::write(&file, change).unwrap();
        assert!(
            matches!(blocks(&packed), Err(PackError::Changed { .. })),
            "{change}"
        );
    }
    std::fs::remove_file(&file).unwrap();
    symlink("/etc/hostname", &file).unwrap();
    assert!(blocks(&packed).is_err());
}

#[test]
fn whoever_takes_the_blocks_may_stop() {
    let dir = tempdir().unwrap();
    write_tree(dir.path(), &[("a", b"1", false), ("b", b"2", false)]);
    let packed = pack(dir.path()).unwrap();
    let mut taken = 0;
    let stopped = packed.each_block(|_| {
        taken += 1;
        if taken == 2 {
            Err(ContentError::ShuttingDown)
        } else {
            Ok(())
        }
    });
    assert!(matches!(stopped, Err(ContentError::ShuttingDown)));
    assert_eq!((taken, packed.block_count()), (2, 3));
}

fn names() -> impl Strategy<Value = String> {
    "[a-cA-C. _ä-]{1,6}".prop_filter("dots are no names", |name| name != "." && name != "..")
}

/// A few files, some of more than a block.
fn trees() -> impl Strategy<Value = BTreeMap<String, (Vec<u8>, bool)>> {
    let path = proptest::collection::vec(names(), 1..4).prop_map(|names| names.join("/"));
    let content = prop_oneof![
        9 => proptest::collection::vec(any::<u8>(), 0..64),
        1 => (0_usize..700_000).prop_map(pattern),
    ];
    proptest::collection::btree_map(path, (content, any::<bool>()), 0..12).prop_map(|tree| {
        // a path that is a directory of another can't be a file
        let all: Vec<String> = tree.keys().cloned().collect();
        let is_parent = |path: &str| all.iter().any(|other| other.starts_with(&format!("{path}/")));
        tree.into_iter().filter(|(path, _)| !is_parent(path)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_packed_comes_back(tree in trees(), seed in any::<u64>()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (dir, store) = store().await;
            let (one, two) = (dir.path().join("one"), dir.path().join("two"));
            let mut files: Vec<(&str, &[u8], bool)> =
                tree.iter().map(|(path, (content, x))| (path.as_str(), content.as_slice(), *x)).collect();
            std::fs::create_dir(&one).unwrap();
            write_tree(&one, &files);
            // the same files in another order of creation
            files.sort_by_key(|(path, _, _)| path.bytes().fold(seed, |h, b| h.wrapping_mul(31).wrapping_add(b.into())));
            std::fs::create_dir(&two).unwrap();
            write_tree(&two, &files);
            let packed = pack(&one).unwrap();
            assert_eq!(packed.root(), pack(&two).unwrap().root());
            assert_eq!(store.add(&packed).await.unwrap(), packed.root());
            let back = dir.path().join("back");
            let fetched = store.fetch(packed.root(), &back, &Limits::default()).await.unwrap();
            assert_eq!(read_tree(&back), read_tree(&one));
            assert_eq!((fetched.files, fetched.bytes), (packed.files(), packed.bytes()));
            assert_eq!(root_of(&back, &Limits::default()).unwrap(), packed.root());
        });
    }
}

#[test]
fn packing_ends_when_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        std::fs::write(dir.path().join(name), name).unwrap();
    }
    let asked = std::cell::Cell::new(0);
    let stopped = pack_directory_while(dir.path(), &Limits::default(), || {
        asked.set(asked.get() + 1);
        asked.get() < 2
    });
    assert!(matches!(stopped, Err(PackError::Stopped)), "{stopped:?}");
    assert_eq!(asked.get(), 2);
}
