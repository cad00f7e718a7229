//! What anyone can check a run by: the trace, and proofs for the outputs.

use sandrun_types::{
    BundlePath, DiffStep, Difference, FileHash, OutputName, OutputRoot, ProofError, Side, TraceDiff,
    TraceEvent, TraceLeaf, TraceReader,
};

use crate::support::{Service, form};

const WRITES: &str = "mkdir out; echo a,b > out/table.csv; echo x > y.txt; echo 1; echo 2 >&2";

fn file(name: &str) -> OutputName {
    OutputName::File(BundlePath::parse(name).unwrap())
}

/// The leaves of a job's trace, checked, and the root.
async fn trace(service: &Service, job: &str) -> (Vec<TraceLeaf>, [u8; 32]) {
    let to = service.folder.path().join(format!("{job}.trace"));
    let length = service.client.save_trace(job, &to, 1 << 20).await.unwrap();
    assert_eq!(service.client.trace_length(job).await.unwrap(), length);
    let mut reader = TraceReader::new(std::fs::File::open(&to).unwrap()).unwrap();
    let leaves = reader.by_ref().collect::<Result<_, _>>().unwrap();
    (leaves, reader.root().0)
}

/// The first difference of two jobs' traces, read in parts over HTTP.
async fn difference(service: &Service, left: &str, right: &str) -> Option<Box<Difference>> {
    let length = async |job| service.client.trace_length(job).await.unwrap();
    let mut diff = TraceDiff::new(length(left).await, length(right).await);
    loop {
        match diff.step().unwrap() {
            DiffStep::Done(found) => return found,
            DiffStep::Read(side, range) => {
                let job = match side {
                    Side::Left => left,
                    Side::Right => right,
                };
                diff.feed(&service.client.trace_range(job, range).await.unwrap())
                    .unwrap();
            }
        }
    }
}

#[tokio::test]
async fn the_trace_has_the_root_of_the_receipt_and_goes_with_the_job() {
    let service = Service::start().await;
    let job = service.run("", &[("run.sh", WRITES)]).await;
    let (leaves, root) = trace(&service, &job.job_id).await;
    assert_eq!(job.trace_root.unwrap().0, root);
    // header, stdout, stderr, output tree, exit
    assert_eq!(leaves.len(), 5, "{leaves:?}");
    let path = format!("/trace/{}", job.job_id);
    assert_eq!(service.get("/trace/job-1").await.0, 404);
    service.client.cancel(&job.job_id).await.unwrap();
    assert_eq!(service.get(&path).await.0, 404);
}

#[tokio::test]
async fn two_traces_are_compared_by_their_parts() {
    let service = Service::start().await;
    let jobs = ["echo 1", "echo 1", "echo 2"].map(|script| form("", &[("run.sh", script)]));
    let mut ids = Vec::new();
    for job in jobs {
        let (_, submitted) = service.post(job).await;
        let id = submitted["job_id"].as_str().unwrap().to_owned();
        service.ended(&id).await;
        ids.push(id);
    }
    assert_eq!(difference(&service, &ids[0], &ids[1]).await, None);
    let found = difference(&service, &ids[0], &ids[2]).await.unwrap();
    // another script is another input tree
    assert!(matches!(found.left, Some(TraceLeaf::Header(_))), "{found:?}");
}

#[tokio::test]
async fn parts_of_a_trace_are_parts_of_its_file() {
    let service = Service::start().await;
    let job = service.run("", &[("run.sh", "echo 1")]).await.job_id;
    let whole = service.http.get(service.url(&format!("/trace/{job}")));
    let whole = whole.send().await.unwrap().bytes().await.unwrap();
    for (range, expected) in [
        ("bytes=0-15", Some(&whole[..16])),
        ("bytes=-64", Some(&whole[whole.len() - 64..])),
        ("bytes=999999-", None),
    ] {
        let request = service.http.get(service.url(&format!("/trace/{job}")));
        let response = request.header("range", range).send().await.unwrap();
        let status = response.status().as_u16();
        match expected {
            Some(bytes) => {
                assert_eq!(status, 206);
                assert_eq!(response.bytes().await.unwrap(), bytes);
            }
            None => assert_eq!(status, 416),
        }
    }
}

#[tokio::test]
async fn every_output_is_proven_and_nothing_else() {
    let service = Service::start().await;
    let job = service.run("", &[("run.sh", WRITES)]).await;
    let (id, root) = (job.job_id.as_str(), OutputRoot(job.output_root.unwrap().0));
    let outputs: [(OutputName, &[u8]); 4] = [
        (OutputName::Stdout, b"1\n"),
        (OutputName::Stderr, b"2\n"),
        (file("out/table.csv"), b"a,b\n"),
        (file("y.txt"), b"x\n"),
    ];
    for (name, bytes) in &outputs {
        let proof = service.client.output_proof(id, name).await.unwrap();
        assert_eq!(proof.name, *name);
        assert_eq!(proof.check(FileHash::of(bytes), root), Ok(()));
        let wrong = proof.check(FileHash::of(b"other"), root);
        assert!(matches!(wrong, Err(ProofError::Root { .. })), "{wrong:?}");
        let mut renamed = proof.clone();
        renamed.name = file("other.txt");
        assert!(renamed.check(FileHash::of(bytes), root).is_err());
        let mut short = proof;
        short.proof.path.pop();
        let cut = short.check(FileHash::of(bytes), root);
        assert!(matches!(cut, Err(ProofError::Length { .. })), "{cut:?}");
    }
    for nothing in ["outputs/none", "outputs/../x", "stdin", ""] {
        let status = service.get(&format!("/proof/{id}/{nothing}")).await.0;
        assert_eq!(status, 404, "{nothing}");
    }
    // a proof needs no file: it is there as long as the receipt
    service.client.cancel(id).await.unwrap();
    assert!(service.client.output_proof(id, &file("y.txt")).await.is_ok());
}

#[tokio::test]
async fn a_job_that_never_ran_has_neither() {
    let service = Service::start().await;
    let submitted = service.submit("", &[("run.sh", "sleep 60")]).await;
    let id = submitted.job_id;
    assert_eq!(service.get(&format!("/trace/{id}")).await.0, 409);
    assert_eq!(service.get(&format!("/proof/{id}/stdout")).await.0, 409);
    service.client.cancel(&id).await.unwrap();
    service.ended(&id).await;
    assert_eq!(service.get(&format!("/trace/{id}")).await.0, 404);
    assert_eq!(service.get(&format!("/proof/{id}/stdout")).await.0, 404);
}

#[tokio::test]
async fn a_limit_leaves_a_trace_that_says_so() {
    let service = Service::start().await;
    let job = service
        .run(
            r#"{"entrypoint":"run.sh","timeout":1}"#,
            &[("run.sh", "echo 1; sleep 60")],
        )
        .await;
    let (leaves, root) = trace(&service, &job.job_id).await;
    assert_eq!(job.trace_root.unwrap().0, root);
    let last = leaves.last().unwrap();
    assert!(
        matches!(last, TraceLeaf::Event(TraceEvent::Exit { status: None, .. })),
        "{last:?}"
    );
}
