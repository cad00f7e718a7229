//! What a job may hand out, and how long.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;

use sandrun_executor::wire::JobState;
use sandrun_types::BundlePath;
use serde_json::json;

use crate::support::{Service, eventually};

const WRITES: &str = "mkdir -p plots/deep results; echo 1 > plots/deep/a.png; echo 22 > results/b.csv; echo 3 > c.txt; \
                      echo '<svg/>' > 'x y.svg'";

#[tokio::test]
async fn globs_choose_what_leaves() {
    let service = Service::start().await;
    for (outputs, expected) in [
        (
            "[]",
            vec!["c.txt", "plots/deep/a.png", "results/b.csv", "x y.svg"],
        ),
        (r#"["*.png"]"#, vec!["plots/deep/a.png"]),
        (r#"["results/","c.*"]"#, vec!["c.txt", "results/b.csv"]),
        (r#"["none/*"]"#, vec![]),
    ] {
        let manifest = format!(r#"{{"entrypoint":"run.sh","outputs":{outputs}}}"#);
        let job = service.run(&manifest, &[("run.sh", WRITES)]).await;
        let names: Vec<&str> = job.output_files.keys().map(BundlePath::as_str).collect();
        assert_eq!(names, expected, "{outputs}");
        let listed = service.client.outputs(&job.job_id).await.unwrap();
        assert_eq!(
            (listed.total_files, listed.status),
            (expected.len(), JobState::Completed)
        );
    }
}

#[tokio::test]
async fn one_file_has_its_type_and_nothing_else_can_be_had() {
    let service = Service::start().await;
    let job = service
        .run(r#"{"outputs":["results/","x*"]}"#, &[("run.sh", WRITES)])
        .await;
    let (_, listed) = service.get(&format!("/outputs/{}", job.job_id)).await;
    assert_eq!(
        listed["files"][0],
        json!({"name": "results/b.csv", "size": 3, "size_formatted": "3.0 B", "type": "data",
               "mime_type": "text/csv", "download_url": format!("/download/{}/results/b.csv", job.job_id)})
    );
    for call in ["outputs", "download"] {
        let url = service.url(&format!("/{call}/{}/results/b.csv", job.job_id));
        let response = service.http.get(url).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"text/csv".parse().unwrap())
        );
        assert_eq!(response.text().await.unwrap(), "22\n");
        // one `%2f` keeps clients from resolving the dots themselves
        for (path, expected) in [
            ("..%2f..%2f..%2fetc%2fpasswd", 403),
            ("results%2f..%2f..%2flog", 403),
            ("%2fetc%2fpasswd", 403),
            ("c.txt", 404),
            ("run.sh", 404),
            ("results", 404),
            ("a%00b", 404),
        ] {
            let (status, body) = service.get(&format!("/{call}/{}/{path}", job.job_id)).await;
            assert_eq!(status, expected, "{path}: {body}");
        }
    }
    let second = listed["files"][1]["download_url"].as_str().unwrap();
    assert_eq!(
        service
            .http
            .get(service.url(second))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap(),
        "<svg/>\n"
    );
}

#[tokio::test]
async fn links_and_special_files_are_not_collected() {
    let service = Service::start().await;
    let code = "ln -s /etc/passwd stolen; ln -s . loop; mkfifo pipe; echo ok > fine; ln fine again; mkdir d; ln -s /etc d/etc";
    let job = service.run("", &[("run.sh", code)]).await;
    let names: Vec<&str> = job.output_files.keys().map(BundlePath::as_str).collect();
    assert!(
        names.contains(&"fine") && !names.contains(&"stolen") && !names.contains(&"pipe"),
        "{names:?}"
    );
    assert!(
        names
            .iter()
            .all(|name| !name.starts_with("d/") && !name.starts_with("loop")),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_download_packs_all_outputs_and_deletes_the_data() {
    let service = Service::start().await;
    let job = service
        .run("", &[("run.sh", WRITES), ("input.txt", "not new")])
        .await
        .job_id;
    let package = service.folder.path().join("package.tar.gz");
    service.client.download(&job, &package, 1 << 20).await.unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(
        std::fs::File::open(&package).unwrap(),
    ));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(entry.path().unwrap().display().to_string(), text);
    }
    let expected = [
        ("c.txt", "3\n"),
        ("plots/deep/a.png", "1\n"),
        ("results/b.csv", "22\n"),
        ("x y.svg", "<svg/>\n"),
    ];
    assert_eq!(
        files,
        expected
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .into()
    );
    eventually("the job's folder goes", async || service.job_folders().is_empty()).await;
    for path in [
        format!("/download/{job}"),
        format!("/outputs/{job}"),
        format!("/logs/{job}"),
    ] {
        assert_eq!(service.get(&path).await.0, 404, "{path}");
    }
    assert_eq!(
        service.client.status(&job).await.unwrap().status,
        JobState::Completed
    );
    assert!(
        service
            .client
            .verified_receipt(&job, service.worker)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_broken_download_deletes_nothing() {
    let service = Service::start().await;
    let job = service
        .run(
            "",
            &[(
                "main.py",
                "import os; open('big','wb').write(os.urandom(20_000_000))",
            )],
        )
        .await
        .job_id;
    let response = service
        .http
        .get(service.url(&format!("/download/{job}")))
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], "application/gzip");
    drop(response);
    let head = service
        .http
        .head(service.url(&format!("/download/{job}")))
        .send()
        .await
        .unwrap();
    assert_eq!(head.status(), 200);
    let listed = service.client.outputs(&job).await.unwrap();
    assert_eq!(listed.total_files, 1);
    let package = service.folder.path().join("package.tar.gz");
    assert!(service.client.download(&job, &package, 1000).await.is_err());
    assert!(!package.exists());
    assert!(service.client.download(&job, &package, 1 << 30).await.unwrap() > 19_000_000);
}

#[tokio::test]
async fn outputs_wait_for_the_end_and_go_when_their_time_is_over() {
    let service = Service::start_with(|config| {
        config.retention.completed = Duration::from_secs(5);
        config.retention.failed = Duration::from_millis(100);
    })
    .await;
    let job = service
        .submit("", &[("run.sh", "sleep 1; echo x > x")])
        .await
        .job_id;
    assert_eq!(service.get(&format!("/download/{job}")).await.0, 409);
    assert_eq!(service.client.outputs(&job).await.unwrap().total_files, 0);
    service.ended(&job).await;
    assert_eq!(service.client.outputs(&job).await.unwrap().total_files, 1);
    let failing = service.submit("", &[("run.sh", "exit 1")]).await.job_id;
    for job in [failing, job] {
        eventually("the job is forgotten", async || {
            service.get(&format!("/status/{job}")).await.0 == 404
        })
        .await;
    }
    eventually("the folders go", async || service.job_folders().is_empty()).await;
}
