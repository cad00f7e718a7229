use std::path::PathBuf;

use sandrun_types::Interpreter;

use super::super::receive::is_archive;
use super::*;

const LIMITS: BundleLimits = BundleLimits {
    bytes: 1_000_000,
    entries: 100,
};

fn assembled(manifest: Option<&str>, parts: &[(&str, &[u8])]) -> Result<Assembled, AssembleError> {
    let folder = tempfile::tempdir().unwrap();
    let spooled = |(at, (name, bytes)): (usize, &(&str, &[u8]))| {
        let spool: PathBuf = folder.path().join(at.to_string());
        fs::write(&spool, bytes).unwrap();
        let content = if at % 2 == 0 || is_archive(name) {
            Content::Spooled(spool)
        } else {
            Content::Memory(bytes.to_vec())
        };
        Part {
            name: (*name).to_owned(),
            content,
        }
    };
    let received = Received {
        parts: parts.iter().enumerate().map(spooled).collect(),
        manifest: manifest.map(|text| text.as_bytes().to_vec()),
    };
    assemble(received, &folder.path().join("bundle"), LIMITS)
}

fn names(assembled: &Assembled) -> Vec<&str> {
    assembled.files.keys().map(BundlePath::as_str).collect()
}

#[test]
fn loose_files_keep_their_folders() {
    let job = assembled(None, &[("src/util.py", b"1"), ("main.py", b"2")]).unwrap();
    assert_eq!(names(&job), ["main.py", "src/util.py"]);
    assert_eq!(job.entry.interpreter, Interpreter::Python3);
    assert_eq!(job.manifest, Manifest::default());
}

#[test]
fn the_text_form_of_existing_clients_is_one_file() {
    let text = b"----Tar\nPath: main.js\nSize: 3\n\nabc";
    let job = assembled(
        Some(r#"{"entrypoint":"main.js","interpreter":"node"}"#),
        &[("job.tar.gz", text)],
    )
    .unwrap();
    assert_eq!(names(&job), ["main.js"]);
    let evil = b"----Tar\nPath: ../main.js\nSize: 3\n\nabc";
    assert!(matches!(
        assembled(None, &[("job.tar.gz", evil)]),
        Err(AssembleError::Quirk(_))
    ));
}

#[test]
fn job_json_is_the_manifest_unless_one_was_sent() {
    let files: [(&str, &[u8]); 2] = [
        ("job.json", br#"{"entrypoint":"a.sh","args":["1"]}"#),
        ("a.sh", b""),
    ];
    assert_eq!(assembled(None, &files).unwrap().manifest.args, ["1"]);
    assert!(
        assembled(Some(r#"{"entrypoint":"a.sh"}"#), &files)
            .unwrap()
            .manifest
            .args
            .is_empty()
    );
    let bad: [(&str, &[u8]); 2] = [("job.json", b"{\"x\":1}"), ("main.py", b"")];
    assert!(matches!(
        assembled(None, &bad),
        Err(AssembleError::Manifest(ManifestError::UnknownField { .. }))
    ));
}

#[test]
fn bad_uploads_are_refused() {
    assert!(matches!(assembled(None, &[]), Err(AssembleError::NoFiles)));
    assert!(matches!(
        assembled(Some("{"), &[("main.py", b"")]),
        Err(AssembleError::Manifest(_))
    ));
    let nothing = assembled(None, &[("a.txt", b"")]);
    assert!(matches!(
        nothing,
        Err(AssembleError::Manifest(ManifestError::NoEntrypoint))
    ));
    assert!(matches!(
        assembled(None, &[("../main.py", b"")]),
        Err(AssembleError::Bundle(_))
    ));
    assert!(matches!(
        assembled(None, &[("job.zip", b"PK")]),
        Err(AssembleError::Archive(_))
    ));
}

#[test]
fn how_files_were_sent_does_not_change_the_commitment() {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    for (name, content) in [("./b/x.txt", "1"), ("./main.py", "2")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    let archive = tar.into_inner().unwrap().finish().unwrap();
    let packed = assembled(Some("{\"args\": []}"), &[("job.tgz", &archive)]).unwrap();
    let loose = assembled(None, &[("main.py", b"2"), ("b/x.txt", b"1")]).unwrap();
    assert_eq!(packed.job_hash, loose.job_hash);
    let other = assembled(None, &[("main.py", b"2"), ("b/x.txt", b"2")]).unwrap();
    assert_ne!(other.job_hash, loose.job_hash);
}
