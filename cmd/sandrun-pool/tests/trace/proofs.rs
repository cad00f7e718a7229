//! Proofs that are made here, and receipts that are another job's.

use anyhow::Context as _;
use serde_json::Value;

use super::Ground;

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_whole_result_proves_one_file_of_it() -> anyhow::Result<()> {
    let ground = Ground::new().await?;
    let job = ground.job_with_outputs().await?;
    let id = &job.id;
    let receipt = std::fs::read(ground.get(&format!("/receipt/{id}"), "receipt").await?)?;
    let receipt: Value = serde_json::from_slice(&receipt)?;
    let root = receipt["output_root"].as_str().context("a root")?;
    std::fs::create_dir_all(ground.directory.path().join("result/outputs/out"))?;
    for (name, text) in [
        ("stdout", "1\n"),
        ("stderr", ""),
        ("outputs/y", "x\n"),
        ("outputs/out/table.csv", "a,b\n"),
    ] {
        ground.file(&format!("result/{name}"), text)?;
    }
    for (name, place) in [
        ("out/table.csv", "result/outputs/out/table.csv"),
        ("stdout", "result/stdout"),
    ] {
        let proven = ground
            .run(&["verify", "result", "--prove", name, "--root", root])
            .await?;
        assert_eq!(proven.code, 0, "{proven:?}");
        ground.file("own.proof", &proven.stdout)?;
        let said = ground
            .run(&["verify", place, "--root", root, "--proof", "own.proof"])
            .await?;
        assert_eq!(said.code, 0, "{said:?}");
    }
    let there = format!("{}/{id}", ground.executor.ready);
    let proven = ground
        .run(&["verify", "result", "--prove", "y", "--receipt", &there])
        .await?;
    assert_eq!(proven.code, 0, "{proven:?}");
    let missing = ground.run(&["verify", "result", "--prove", "z"]).await?;
    assert_eq!(missing.code, 2, "{missing:?}");
    ground.file("result/outputs/more", "")?;
    let other = ground
        .run(&["verify", "result", "--prove", "y", "--root", root])
        .await?;
    assert!(other.code == 7 && other.stdout.is_empty(), "{other:?}");
    Ok(())
}

/// What answers every question with this receipt.
async fn liar(receipt: Vec<u8>) -> anyhow::Result<(String, tokio::task::JoinHandle<()>)> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    let serve = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let _ = stream.read(&mut request).await;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                receipt.len()
            );
            let _ = stream.write_all(&[head.as_bytes(), &receipt].concat()).await;
        }
    });
    Ok((address, serve))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receipt_of_another_job_is_not_this_ones() -> anyhow::Result<()> {
    let ground = Ground::new().await?;
    let job = ground.det("echo a > a").await?;
    let receipt = std::fs::read(ground.get(&format!("/receipt/{}", job.id), "receipt").await?)?;
    ground.get(&format!("/trace/{}", job.id), "one.trace").await?;
    ground.file("a", "a\n")?;
    let (liar, serving) = liar(receipt).await?;
    let there = format!("{liar}/job-0123456789abcdef0123456789abcdef");
    for arguments in [
        &["verify", "a", "--receipt", there.as_str(), "--name", "a"][..],
        &["trace", "diff", "one.trace", there.as_str()],
    ] {
        let said = ground.run(arguments).await?;
        assert_eq!(said.code, 7, "{said:?}");
        assert!(
            said.stderr.contains(&format!("of the job {}", job.id)),
            "{said:?}"
        );
    }
    serving.abort();
    let honest = format!("{}/{}", ground.executor.ready, job.id);
    let said = ground
        .run(&["verify", "a", "--receipt", &honest, "--name", "a"])
        .await?;
    assert!(said.code == 0 && said.stdout.contains(&job.id), "{said:?}");
    Ok(())
}

/// Whoever lacks a key, a signature or a root is told which, and where it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_of_somebody_else_is_named() -> anyhow::Result<()> {
    let ground = Ground::new().await?;
    let job = ground.det("echo a > a").await?;
    ground.get(&format!("/receipt/{}", job.id), "receipt").await?;
    ground
        .get(&format!("/proof/{}/outputs/a", job.id), "proof")
        .await?;
    ground.file("a", "a\n")?;
    let (worker, stranger) = (ground.worker.as_str(), format!("{}=", "A".repeat(43)));
    let (root, there) = ("00".repeat(32), format!("{}/{}", ground.executor.ready, job.id));
    let signed = ["a", "--receipt", "receipt", "--worker"];
    let cases: [(i32, Vec<&str>, &[&str]); 8] = [
        (
            2,
            vec!["a"],
            &["nothing is named", "--receipt FILE", "--root HASH"],
        ),
        (
            2,
            vec!["a", "--proof", "proof"],
            &["a proof alone", "--root HASH"],
        ),
        (2, vec!["a", "--root", &root], &["root alone", "--proof FILE"]),
        (
            2,
            [&signed[..], &[worker]].concat(),
            &["signature is missing", "--signature BASE64"],
        ),
        (
            7,
            [&signed[..], &[worker, "--signature", "zzz"]].concat(),
            &["--signature is no signature", "worker_metadata.signature"],
        ),
        (
            7,
            vec!["a", "--receipt", &there, "--worker", &stranger],
            &["made by", worker, &stranger, "--worker"],
        ),
        (
            2,
            vec!["a", "--receipt", "proof"],
            &["proof: ", "no receipt", "GET /receipt/JOB"],
        ),
        (
            2,
            vec!["a", "--receipt", &there, "--worker", "worker.pem"],
            &["worker.pem", "not a worker id"],
        ),
    ];
    for (code, arguments, says) in cases {
        let said = ground.run(&[&["verify"], arguments.as_slice()].concat()).await?;
        assert_eq!(said.code, code, "{arguments:?}: {said:?}");
        let missing: Vec<_> = says.iter().filter(|it| !said.stderr.contains(**it)).collect();
        assert!(missing.is_empty(), "{arguments:?}: {missing:?} in {said:?}");
    }
    Ok(())
}
