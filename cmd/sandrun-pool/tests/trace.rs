//! `trace` and `verify` with a real executor: what two runs did, and that a file is one's output.

#[path = "trace/proofs.rs"]
mod proofs;
mod support;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sandrun_executor::{ExecutorClient, FileContent, Submission};
use sandrun_types::{BundlePath, Manifest};
use serde_json::{Value, json};
use support::process::Process;
use support::{BIN, Said, said};
use tokio::process::Command;

/// An executor, and a place for files.
struct Ground {
    directory: tempfile::TempDir,
    executor: Process,
    worker: String,
}

/// A job that has ended.
struct Ended {
    id: String,
    signature: String,
}

impl Ground {
    async fn new() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let made = run(directory.path(), &["sandrun", "--generate-key", "worker.pem"]).await?;
        let worker = made
            .stdout
            .trim()
            .strip_prefix("Worker ID: ")
            .context("a key")?
            .to_owned();
        let executor = command(
            directory.path(),
            &[
                "sandrun",
                "--port",
                "0",
                "--no-quota",
                "--worker-key",
                "worker.pem",
            ],
        );
        Ok(Self {
            executor: Process::start(executor).await?,
            directory,
            worker,
        })
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<Said> {
        run(self.directory.path(), arguments).await
    }

    fn client(&self) -> anyhow::Result<ExecutorClient> {
        Ok(ExecutorClient::new(&self.executor.ready)?)
    }

    /// A job that prints and has two files.
    async fn job_with_outputs(&self) -> anyhow::Result<Ended> {
        self.job("mkdir out; echo a,b > out/table.csv; echo x > y; echo 1\n")
            .await
    }

    /// Runs a script to its end.
    async fn job(&self, script: &str) -> anyhow::Result<Ended> {
        self.run_script(script, Manifest::parse(b"{}")?).await
    }

    /// The same in the deterministic class that this machine has.
    async fn det(&self, script: &str) -> anyhow::Result<Ended> {
        let class = sandrun_sandbox::Class::deterministic_here();
        self.run_script(
            script,
            Manifest::parse(format!(r#"{{"entrypoint":"run.sh","class":"{class}"}}"#).as_bytes())?,
        )
        .await
    }

    async fn run_script(&self, script: &str, manifest: Manifest) -> anyhow::Result<Ended> {
        let client = self.client()?;
        let submission = Submission::new().manifest(&manifest).file(
            BundlePath::parse("run.sh")?,
            FileContent::Bytes(script.as_bytes().to_vec()),
        );
        let id = client.submit(submission).await?.job_id;
        let ended = client.wait(&id, std::time::Duration::from_millis(20)).await?;
        let signature = ended.worker_metadata.signature.context("a signature")?;
        Ok(Ended { id, signature })
    }

    /// Writes a file.
    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> anyhow::Result<PathBuf> {
        let path = self.directory.path().join(name);
        std::fs::write(&path, bytes)?;
        Ok(path)
    }

    /// Fetches what the executor says at a path into a file.
    async fn get(&self, path: &str, to: &str) -> anyhow::Result<PathBuf> {
        let answer = reqwest::get(format!("{}{path}", self.executor.ready)).await?;
        let bytes = answer.error_for_status()?.bytes().await?;
        self.file(to, bytes)
    }
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BIN);
    command
        .args(arguments)
        .current_dir(directory)
        .env("SANDRUN_HOME", directory.join("home"))
        .env("SANDRUN_CONFIG", "/dev/null");
    command
}

async fn run(directory: &Path, arguments: &[&str]) -> anyhow::Result<Said> {
    said(command(directory, arguments)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_are_shown_and_compared() -> anyhow::Result<()> {
    let ground = Ground::new().await?;
    let script = "echo $RANDOM $RANDOM $RANDOM $(date +%N)\n";
    let (one, two) = (ground.job(script).await?, ground.job(script).await?);
    ground.get(&format!("/trace/{}", one.id), "one.trace").await?;
    let there = format!("{}/{}", ground.executor.ready, two.id);

    let shown = ground.run(&["trace", "show", "one.trace"]).await?;
    assert_eq!(shown.code, 0, "{shown:?}");
    for words in [
        "begin version 1",
        "stdout bytes 0..",
        "end exited, exit code 0",
        "root ",
    ] {
        assert!(shown.stdout.contains(words), "{words}: {shown:?}");
    }
    let lines = ground.run(&["trace", "show", "--json", &there]).await?;
    let lines: Vec<Value> = lines
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    assert_eq!(lines[0]["header"]["argv"][1], "run.sh");
    assert_eq!(lines[1]["event"]["kind"], "chunk");
    assert_eq!(lines[4]["events"], 3, "{lines:?}");
    let root = lines[4]["root"].as_str().context("a root")?;
    let other = ground
        .run(&["trace", "show", "one.trace", "--root", root])
        .await?;
    assert_eq!(other.code, 7, "{other:?}");

    let same = ground.run(&["trace", "diff", "one.trace", "one.trace"]).await?;
    assert_eq!(
        (same.code, same.stdout.starts_with("same: 3 events")),
        (0, true),
        "{same:?}"
    );
    let differ = ground.run(&["trace", "diff", "one.trace", &there]).await?;
    assert_eq!(differ.code, 1, "{differ:?}");
    assert!(
        differ.stdout.starts_with("first different: event 0\n"),
        "{differ:?}"
    );
    let differ = ground
        .run(&["trace", "diff", "--json", "one.trace", &there])
        .await?
        .json()?;
    assert_eq!(
        differ["difference"]["left"]["event"]["stream"], "stdout",
        "{differ}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_written_and_deleted_is_named() -> anyhow::Result<()> {
    let ground = Ground::new().await?;
    let writes = "echo x > /tmp/secret\nrm /tmp/secret\n";
    let (one, two) = (
        ground.det("echo 1\n").await?,
        ground.det(&format!("{writes}echo 1\n")).await?,
    );
    for (job, file) in [(&one, "one.trace"), (&two, "two.trace")] {
        ground.get(&format!("/trace/{}", job.id), file).await?;
    }
    let differ = ground.run(&["trace", "diff", "one.trace", "two.trace"]).await?;
    assert_eq!(differ.code, 1, "{differ:?}");
    for words in ["input files", "wrote /tmp/secret 2 bytes", "removed /tmp/secret"] {
        assert!(differ.stdout.contains(words), "{words}: {}", differ.stdout);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_trace_is_trouble() -> anyhow::Result<()> {
    let ground = Ground::new().await?;
    let job = ground.job("echo 1\n").await?;
    let whole = ground.get(&format!("/trace/{}", job.id), "whole").await?;
    let bytes = std::fs::read(whole)?;
    ground.file("cut", &bytes[..bytes.len() - 1])?;
    let mut changed = bytes.clone();
    changed[200] ^= 1;
    ground.file("changed", changed)?;
    ground.file("empty", "")?;
    for name in ["cut", "changed", "empty"] {
        let shown = ground.run(&["trace", "show", name]).await?;
        assert_eq!(shown.code, 7, "{name}: {shown:?}");
    }
    let there = format!("{}/job-{}", ground.executor.ready, "0".repeat(32));
    for (left, right) in [
        ("cut", "whole"),
        ("whole", "empty"),
        ("whole", "missing"),
        ("whole", there.as_str()),
        ("whole", "http://127.0.0.1:1/job-00000000000000000000000000000000"),
    ] {
        let said = ground.run(&["trace", "diff", left, right]).await?;
        assert_eq!(said.code, 2, "{left} {right}: {said:?}");
    }
    let missing = ground.run(&["trace", "show", "missing"]).await?;
    assert_eq!(missing.code, 2, "{missing:?}");
    let gone = ground.run(&["trace", "show", &there]).await?;
    assert_eq!(gone.code, 4, "{gone:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_is_verified_by_proof_and_by_receipt() -> anyhow::Result<()> {
    let ground = Ground::new().await?;
    let job = ground.job_with_outputs().await?;
    let id = &job.id;
    ground.get(&format!("/receipt/{id}"), "receipt").await?;
    ground
        .get(&format!("/proof/{id}/outputs/out/table.csv"), "proof")
        .await?;
    ground.get(&format!("/proof/{id}/stdout"), "stdout.proof").await?;
    ground.file("table.csv", "a,b\n")?;
    ground.file("printed", "1\n")?;
    let there = format!("{}/{id}", ground.executor.ready);
    let receipt: Value = serde_json::from_slice(&std::fs::read(ground.directory.path().join("receipt"))?)?;
    let root = receipt["output_root"].as_str().context("a root")?;
    for arguments in [
        vec!["table.csv", "--receipt", "receipt", "--proof", "proof"],
        vec!["table.csv", "--receipt", "receipt"],
        vec!["table.csv", "--receipt", "receipt", "--name", "out/table.csv"],
        vec!["table.csv", "--root", root, "--proof", "proof"],
        vec!["table.csv", "--receipt", &there],
        vec!["printed", "--receipt", &there, "--name", "stdout"],
        vec!["printed", "--receipt", "receipt", "--proof", "stdout.proof"],
        vec!["table.csv", "--receipt", &there, "--worker", &ground.worker],
        vec![
            "table.csv",
            "--receipt",
            "receipt",
            "--worker",
            &ground.worker,
            "--signature",
            &job.signature,
        ],
    ] {
        let said = ground
            .run(&[&["verify", "--json"], arguments.as_slice()].concat())
            .await?;
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        let view = said.json()?;
        assert_eq!(
            (&view["verified"], &view["output_root"]),
            (&json!(true), &json!(root))
        );
        let signed = arguments.contains(&"--worker");
        assert_eq!(view["signed_by"].is_string(), signed, "{view}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_output_is_found_out() -> anyhow::Result<()> {
    let ground = Ground::new().await?;
    let job = ground.job_with_outputs().await?;
    let id = &job.id;
    let receipt = std::fs::read(ground.get(&format!("/receipt/{id}"), "receipt").await?)?;
    let proof = ground
        .get(&format!("/proof/{id}/outputs/out/table.csv"), "proof")
        .await?;
    ground.get(&format!("/proof/{id}/outputs/y"), "y.proof").await?;
    ground.get(&format!("/proof/{id}/stdout"), "stdout.proof").await?;
    ground.file("table.csv", "a,b\n")?;
    ground.file("wrong.csv", "a,c\n")?;
    ground.file("printed", "1\n")?;
    let text = std::fs::read_to_string(proof)?;
    ground.file("cut.proof", &text[..text.len() / 2])?;
    let mut short: Value = serde_json::from_str(&text)?;
    short["proof"]["path"].as_array_mut().context("a path")?.pop();
    ground.file("short.proof", short.to_string())?;
    let mut renamed: Value = serde_json::from_str(&text)?;
    renamed["name"] = json!({"file": "y"});
    ground.file("renamed.proof", renamed.to_string())?;
    let forged = String::from_utf8(receipt)?.replace(r#""exit_code":0"#, r#""exit_code":1"#);
    ground.file("forged", forged)?;
    let root = "00".repeat(32);
    let worker = ground.worker.as_str();
    let cases: Vec<(u8, Vec<&str>)> = vec![
        // another file
        (7, vec!["wrong.csv", "--receipt", "receipt", "--proof", "proof"]),
        (
            7,
            vec!["wrong.csv", "--receipt", "receipt", "--name", "out/table.csv"],
        ),
        // another name
        (
            7,
            vec![
                "table.csv",
                "--receipt",
                "receipt",
                "--proof",
                "proof",
                "--name",
                "y",
            ],
        ),
        (7, vec!["table.csv", "--receipt", "receipt", "--name", "none"]),
        // another proof
        (7, vec!["table.csv", "--receipt", "receipt", "--proof", "y.proof"]),
        (
            7,
            vec!["table.csv", "--receipt", "receipt", "--proof", "stdout.proof"],
        ),
        (
            7,
            vec!["table.csv", "--receipt", "receipt", "--proof", "renamed.proof"],
        ),
        (
            7,
            vec!["table.csv", "--receipt", "receipt", "--proof", "short.proof"],
        ),
        (
            2,
            vec!["table.csv", "--receipt", "receipt", "--proof", "cut.proof"],
        ),
        // another root
        (7, vec!["table.csv", "--root", &root, "--proof", "proof"]),
        // another receipt
        (
            7,
            vec![
                "table.csv",
                "--receipt",
                "forged",
                "--worker",
                worker,
                "--signature",
                &job.signature,
            ],
        ),
        (
            7,
            vec![
                "table.csv",
                "--receipt",
                "receipt",
                "--worker",
                worker,
                "--signature",
                "AAAA",
            ],
        ),
        (2, vec!["table.csv", "--receipt", "proof"]),
        // nothing to go by
        (2, vec!["printed", "--receipt", "receipt"]),
        (2, vec!["printed", "--receipt", "receipt", "--name", "stdout"]),
        (2, vec!["missing", "--receipt", "receipt"]),
    ];
    for (code, arguments) in cases {
        let said = ground.run(&[&["verify"], arguments.as_slice()].concat()).await?;
        assert_eq!(said.code, i32::from(code), "{arguments:?}: {said:?}");
        assert!(!said.stdout.contains("verified"), "{said:?}");
    }
    Ok(())
}

#[tokio::test]
async fn traces_are_compared_by_the_roots_that_they_have() -> anyhow::Result<()> {
    let ground = Ground::new().await?;
    let one = ground.det("echo a > a; cat a").await?;
    let two = ground.job("echo b").await?;
    for (job, name) in [(&one, "one"), (&two, "two")] {
        ground
            .get(&format!("/trace/{}", job.id), &format!("{name}.trace"))
            .await?;
        ground
            .get(&format!("/receipt/{}", job.id), &format!("{name}.receipt"))
            .await?;
    }
    // as an editor saves it
    let mut saved = std::fs::read(ground.directory.path().join("one.receipt"))?;
    saved.extend(b"\n");
    ground.file("one.receipt", &saved)?;
    let there = format!("{}/{}", ground.executor.ready, one.id);
    for place in ["one.trace", there.as_str()] {
        let diff = ["trace", "diff", place, "one.trace"];
        for roots in [
            &[][..],
            &["--left-root", "one.receipt", "--right-root", "one.receipt"],
        ] {
            let same = ground.run(&[&diff[..], roots].concat()).await?;
            assert_eq!(same.code, 0, "{same:?}");
        }
        let other = ground
            .run(&[&diff[..], &["--left-root", "two.receipt"]].concat())
            .await?;
        assert_eq!(other.code, 2, "{other:?}");
        assert!(other.stderr.contains("has the root"), "{other:?}");
    }
    let whole = std::fs::read(ground.directory.path().join("one.trace"))?;
    for at in [
        whole.len() / 4,
        whole.len() / 2,
        whole.len() - 60,
        whole.len() - 1,
    ] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        ground.file("altered.trace", &bytes)?;
        ground.file("cut.trace", &whole[..at])?;
        for name in ["altered.trace", "cut.trace"] {
            let said = ground.run(&["trace", "diff", name, "one.trace"]).await?;
            assert_eq!(said.code, 2, "{name} at {at}: {said:?}");
            assert!(
                said.stderr.contains("can't be compared"),
                "{name} at {at}: {said:?}"
            );
        }
    }
    Ok(())
}
