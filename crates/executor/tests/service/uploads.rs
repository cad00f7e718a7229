//! How files come in, and what is refused.

use std::io::Write as _;

use reqwest::multipart::{Form, Part};
use sandrun_executor::wire::JobState;

use crate::support::{Service, eventually, form, upload};

fn tar_gz(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        // set_path refuses `..`, which is just what a hostile client sends
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        let body = if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name(content).unwrap();
            ""
        } else {
            content
        };
        header.set_size(body.len() as u64);
        header.set_cksum();
        archive.append(&header, body.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

fn zip(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer
            .start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[tokio::test]
async fn archives_run_like_loose_files() {
    use tar::EntryType::{Directory, Regular};
    let service = Service::start().await;
    let archive = tar_gz(&[
        ("./", Directory, ""),
        (
            "./job.json",
            Regular,
            r#"{"entrypoint":"src/go.py","args":["7"]}"#,
        ),
        (
            "./src/go.py",
            Regular,
            "import sys; print(sys.argv[1], open('src/go.py').read()[:6])",
        ),
    ]);
    for (name, bytes) in [
        ("job.tar.gz", archive.clone()),
        ("JOB.TGZ", archive),
        (
            "job.zip",
            zip(&[("main.py", "import os; print(7, 'import')"), ("a/b.txt", "x")]),
        ),
        (
            "job.tar.gz",
            b"----Tar\nPath: main.py\nSize: 3\n\nprint(7, 'import')  # \xc3\xbc".to_vec(),
        ),
    ] {
        let (status, body) = service.post(upload(name, bytes)).await;
        assert_eq!(status, 200, "{name}: {body}");
        let job = service.ended(body["job_id"].as_str().unwrap()).await;
        assert_eq!(
            (job.status, service.stdout(&job.job_id).await.as_str()),
            (JobState::Completed, "7 import\n"),
            "{name}"
        );
    }
}

#[tokio::test]
async fn hostile_uploads_are_refused_and_leave_nothing() {
    use tar::EntryType::{Char, Fifo, Link, Regular, Symlink};
    let service = Service::start().await;
    let bomb = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let mut header = tar::Header::new_ustar();
        header.set_path("main.py").unwrap();
        header.set_size(1 << 30);
        header.set_cksum();
        encoder.write_all(header.as_bytes()).unwrap();
        for _ in 0..300 {
            encoder.write_all(&vec![0; 1 << 20]).unwrap();
        }
        encoder.finish().unwrap()
    };
    for (what, form, expected) in [
        (
            "dots",
            upload("a.tar.gz", tar_gz(&[("../../evil", Regular, "x")])),
            400,
        ),
        (
            "absolute",
            upload("a.tar.gz", tar_gz(&[("/tmp/evil", Regular, "x")])),
            400,
        ),
        (
            "symlink",
            upload(
                "a.tgz",
                tar_gz(&[("l", Symlink, "/tmp"), ("l/evil", Regular, "x")]),
            ),
            400,
        ),
        (
            "hard link",
            upload("a.tgz", tar_gz(&[("l", Link, "/etc/passwd")])),
            400,
        ),
        ("device", upload("a.tgz", tar_gz(&[("d", Char, "")])), 400),
        ("FIFO", upload("a.tgz", tar_gz(&[("f", Fifo, "")])), 400),
        ("zip dots", upload("a.zip", zip(&[("../evil", "x")])), 400),
        ("bomb", upload("a.tar.gz", bomb), 413),
        ("no archive", upload("a.tar.gz", b"hello".to_vec()), 400),
        (
            "quirk dots",
            upload("job.tar.gz", b"----Tar\nPath: ../evil\nSize: 1\n\nx".to_vec()),
            400,
        ),
        ("name dots", upload("../main.py", b"x".to_vec()), 400),
        ("name absolute", upload("/etc/main.py", b"x".to_vec()), 400),
        ("no name", Form::new().part("files", Part::text("x")), 400),
        ("no files", Form::new().text("manifest", "{}"), 400),
        (
            "unknown part",
            form("", &[("run.sh", "")]).text("mainfest", "{}"),
            400,
        ),
        (
            "two manifests",
            form("{}", &[("run.sh", "")]).text("manifest", "{}"),
            400,
        ),
        ("twice", form("", &[("run.sh", "1"), ("./run.sh", "2")]), 400),
    ] {
        let (status, body) = service.post(form).await;
        assert_eq!(status, expected, "{what}: {body}");
        assert!(
            body["error"]
                .as_str()
                .is_some_and(|words| !words.contains("job-")),
            "{what}: {body}"
        );
    }
    eventually("drafts go", async || service.job_folders().is_empty()).await;
    let plain = service
        .http
        .post(service.url("/submit"))
        .body("hello")
        .send()
        .await
        .unwrap();
    assert_eq!(plain.status(), 400);
}

#[tokio::test]
async fn bad_manifests_are_refused_with_their_field() {
    let service = Service::start().await;
    for (manifest, words) in [
        ("{", "not JSON"),
        ("[1]", "array"),
        (r#"{"entrypoin":"run.sh"}"#, "\"entrypoin\""),
        (r#"{"entrypoint":"../../bin/sh"}"#, "leaves the bundle"),
        (r#"{"entrypoint":"/bin/sh"}"#, "absolute"),
        (r#"{"entrypoint":"other.sh"}"#, "other.sh"),
        (r#"{"environment":"no such"}"#, "no such"),
        (r#"{"class":"x86"}"#, "class"),
        (r#"{"gpu":{"required":true}}"#, "GPU"),
        (r#"{"memory_mb":999999}"#, "memory_mb"),
        (r#"{"timeout":99999}"#, "timeout"),
        (r#"{"requirements":"requirements.txt"}"#, "requirements.txt"),
        (r#"{"env":{"LD_PRELOAD":"x"}}"#, "LD_PRELOAD"),
        (r#"{"interpreter":"perl6"}"#, "perl6"),
        (r#"{"outputs":["../*"]}"#, "outputs"),
    ] {
        let (status, body) = service.post(form(manifest, &[("run.sh", "true")])).await;
        assert_eq!(status, 400, "{manifest}: {body}");
        assert!(
            body["error"].as_str().unwrap().contains(words),
            "{manifest}: {body}"
        );
    }
    let (status, body) = service.post(form("", &[("other.txt", "")])).await;
    assert!(
        status == 400 && body["error"].as_str().unwrap().contains("main.py"),
        "{body}"
    );
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() {
    use tokio::io::AsyncWriteExt as _;
    let service = Service::start().await;
    let address = service.base.trim_start_matches("http://");
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = "POST /submit HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n\
                Content-Length: 100000\r\n\r\n--b\r\n\
                Content-Disposition: form-data; name=\"files\"; filename=\"main.py\"\r\n\r\nprint(";
    connection.write_all(head.as_bytes()).await.unwrap();
    // more than is kept in memory
    connection.write_all(&[b'x'; 70_000]).await.unwrap();
    eventually("the upload begins", async || service.job_folders().len() == 1).await;
    drop(connection);
    eventually("the draft goes", async || service.job_folders().is_empty()).await;
    assert_eq!(service.client.stats().await.unwrap().your_quota.active_jobs, 0);
}

#[tokio::test]
async fn names_are_kept_as_they_were_sent() {
    let service = Service::start().await;
    let code =
        "import os\nfor d, _, fs in sorted(os.walk('.')):\n  for f in sorted(fs): print(os.path.join(d, f))";
    let job = service
        .run("", &[("main.py", code), ("a b/ü.txt", ""), ("d/e/f.txt", "")])
        .await;
    assert_eq!(
        service.stdout(&job.job_id).await,
        "./main.py\n./a b/ü.txt\n./d/e/f.txt\n",
        "{job:?}"
    );
}

#[tokio::test]
async fn what_is_sent_twice_under_one_key_runs_once() {
    let service = Service::start().await;
    let send = async |key: &str| {
        let request = service.http.post(service.url("/submit"));
        let form = form(r#"{"entrypoint":"run.sh"}"#, &[("run.sh", "echo once")]);
        let answer = request
            .header("Idempotency-Key", key)
            .multipart(form)
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<serde_json::Value>().await.unwrap())
    };
    let (one, other) = ("a".repeat(32), "b".repeat(128));
    // at the same time: the one that comes second is told to wait, or gets the run
    let (first, second) = tokio::join!(send(&one), send(&one));
    let (first, second) = if first.0 == 200 {
        (first, second)
    } else {
        (second, first)
    };
    assert_eq!(first.0, 200, "{first:?}");
    assert!(
        second.0 == 409 || second == first || second.1["job_id"] == first.1["job_id"],
        "{second:?}"
    );
    let run = first.1["job_id"].as_str().unwrap().to_owned();
    assert_eq!(service.ended(&run).await.status, JobState::Completed);
    let (status, again) = send(&one).await;
    assert_eq!((status, again["job_id"].as_str()), (200, Some(run.as_str())));
    let (_, different) = send(&other).await;
    assert_ne!(different["job_id"].as_str(), Some(run.as_str()));
    assert_eq!(service.job_folders().len(), 2);
    for bad in ["", "short", &"a".repeat(129), &format!("{}/", "a".repeat(40))] {
        let (status, words) = send(bad).await;
        assert_eq!(status, 400, "{bad}: {words}");
    }
}
