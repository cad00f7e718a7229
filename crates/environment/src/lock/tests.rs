use super::*;

const HASH: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn wheel(name: &str, version: &str, url: &str) -> String {
    format!(
        r#"{{"format":"sandrun-python-lock-v1","python":"3.11","packages":
            [{{"name":"{name}","version":"{version}","url":"{url}","hash":"{HASH}"}}]}}"#
    )
}

fn node(path: &str) -> String {
    format!(
        r#"{{"format":"sandrun-node-lock-v1","packages":
            [{{"path":"{path}","name":"a","version":"1.0.0","hash":"{HASH}"}}]}}"#
    )
}

#[test]
fn a_lock_is_read_as_it_was_written() {
    for text in [
        wheel("numpy", "2.4.6", "https://files.example/numpy.whl"),
        node("node_modules/a"),
    ] {
        let lock = Lock::parse(text.as_bytes()).unwrap();
        assert_eq!(Lock::parse(lock.to_text().as_bytes()).unwrap(), lock);
    }
}

#[test]
fn what_a_package_manager_could_take_for_something_else_is_refused() {
    let good = "https://files.example/a.whl";
    for (name, version, url) in [
        ("--index-url=http://evil", "1", good),
        ("a b", "1", good),
        ("../a", "1", good),
        ("a", "1 --pre", good),
        ("a", "", good),
        ("a", "1", "http://plain.example/a.whl"),
        ("a", "1", "https://x/a.whl --pre"),
        ("a", "1", "file:///etc/passwd"),
    ] {
        assert!(
            Lock::parse(wheel(name, version, url).as_bytes()).is_err(),
            "{name} {version} {url}"
        );
    }
}

#[test]
fn packages_stand_in_node_modules_alone() {
    for good in [
        "node_modules/a",
        "node_modules/@s/a",
        "node_modules/@s/a/node_modules/b",
    ] {
        assert!(Lock::parse(node(good).as_bytes()).is_ok(), "{good}");
    }
    for bad in [
        "a",
        "node_modules",
        "node_modules/@s",
        "node_modules/a/b",
        "node_modules/../a",
        "node_modules/.bin",
    ] {
        assert!(Lock::parse(node(bad).as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn nothing_stands_in_it_twice_and_nothing_unknown() {
    let twice = wheel("A.b", "1", "https://x/a").replace(
        "]}",
        &format!(r#",{{"name":"a_B","version":"2","hash":"{HASH}"}}]}}"#),
    );
    assert!(matches!(Lock::parse(twice.as_bytes()), Err(LockError::Twice(_))));
    let unknown = wheel("a", "1", "https://x/a").replace("\"python\"", "\"pyhton\"");
    assert!(matches!(
        Lock::parse(unknown.as_bytes()),
        Err(LockError::Malformed(_))
    ));
    assert!(Lock::parse(b"numpy==2\n").is_err());
    assert!(Lock::parse(wheel("a", "1", "https://x/a").replace("3.11", "../..").as_bytes()).is_err());
}
