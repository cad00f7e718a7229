//! `verify`: that a file is an output of a run, by the run's receipt and a proof. Needs nobody's word but the receipt's.

mod prove;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use sandrun_executor::decode_signature;
use sandrun_types::{
    BundlePath, FileHash, OutputName, OutputProof, OutputRoot, Receipt, Sha256Hex, WorkerId, verify_signature,
};
use serde::Serialize;

use super::trace::{OfJob, of_client, receipt};
use crate::exit::{Failure, Status, WithStatus as _, words};
use crate::files::read_small;
use crate::output::{Output, Report};

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
    The receipt is what an executor states and signs of a run: GET /receipt/JOB. It names the output root, and the output \
    files with their hashes. A proof (GET /proof/JOB/outputs/PATH, /proof/JOB/stdout, /proof/JOB/stderr) shows that a file \
    is under the output root, which is also what the market's nodes agree on: with --root no receipt is needed. Where the \
    receipt is a job at an executor, receipt, signature and proof are fetched there.\n\n\
    Who has a whole result (submit, fetch: DIR/stdout, DIR/stderr, DIR/outputs) makes such a proof of one file with --prove, \
    for others who have only that file and the output root; with --root or --receipt the result's root is checked too. A broker \
    or coordinator hands out what was printed as text: where that was no UTF-8, or longer than it keeps, the result has \
    another root than the receipt.\n\n\
    Exit codes:\n  \
    0  the file is that output of the run\n  \
    2  bad arguments, or a file, receipt or proof that can't be read\n  \
    3  the executor cannot be reached\n  \
    4  the executor has no such job or output\n  \
    7  it is not: another file, name, proof, root or signature\n\n\
    Examples:\n  \
    curl -o receipt http://127.0.0.1:8443/receipt/JOB\n  \
    curl -o proof http://127.0.0.1:8443/proof/JOB/outputs/out/table.csv\n  \
    sandrun-pool verify table.csv --receipt receipt --proof proof\n  \
    sandrun-pool verify table.csv --receipt receipt --name out/table.csv\n  \
    sandrun-pool verify table.csv --root 61763cbf… --proof proof\n  \
    sandrun-pool verify table.csv --receipt http://127.0.0.1:8443/JOB --name out/table.csv\n  \
    sandrun-pool verify results/JOB --prove out/table.csv > proof")]
pub(crate) struct Arguments {
    /// The file; with --prove the directory that a whole result was fetched into
    file: PathBuf,
    /// The run's receipt: a file, or a job at an executor
    #[arg(long, value_name = "FILE|URL")]
    receipt: Option<String>,
    /// The output root, in the place of a receipt
    #[arg(long, value_name = "HASH", conflicts_with = "receipt", value_parser = super::trace::hash)]
    root: Option<Sha256Hex>,
    /// The proof that the file is under the output root
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
    /// Print the proof of this output (a name, `stdout` or `stderr`); FILE is then the directory with the whole result
    #[arg(long, value_name = "NAME", conflicts_with_all = ["proof", "name", "worker"])]
    prove: Option<String>,
    /// The output's name in the run, or `stdout` or `stderr`; the proof's, or the file's, when not given
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The worker that must have signed the receipt, in base64 (a node's: worker_id of GET /health at its executor)
    #[arg(long, value_name = "ID", requires = "receipt")]
    worker: Option<WorkerId>,
    /// Its signature over the receipt, in base64; a job at an executor has its own
    #[arg(long, value_name = "BASE64", requires = "worker")]
    signature: Option<String>,
}

/// What was found to be true.
#[derive(Debug, Serialize)]
struct Verified {
    verified: bool,
    name: String,
    length: u64,
    sha256: Sha256Hex,
    /// What it was checked against.
    by_proof: bool,
    by_receipt: bool,
    output_root: Option<Sha256Hex>,
    trace_root: Option<Sha256Hex>,
    class: Option<Sha256Hex>,
    job: Option<String>,
    /// Who signed the receipt, if that was checked.
    signed_by: Option<WorkerId>,
}

impl Report for Verified {
    fn human(&self) -> String {
        let mut text = format!("verified: {} bytes are the output {}\n", self.length, self.name);
        let how = match (self.by_proof, self.by_receipt) {
            (true, true) => "by the proof and by the receipt's list of files",
            (true, false) => "by the proof",
            (false, _) => "by the receipt's list of files",
        };
        text += &format!("  {how}\n");
        if let Some(job) = &self.job {
            text += &format!("  {:<11}  {job}\n", "job");
        }
        for (name, hash) in [
            ("sha256", Some(self.sha256)),
            ("output root", self.output_root),
            ("trace root", self.trace_root),
            ("class", self.class),
        ] {
            if let Some(hash) = hash {
                text += &format!("  {name:<11}  {hash}\n");
            }
        }
        text += &match self.signed_by {
            Some(worker) => format!("  signed by    {worker}\n"),
            None if self.job.is_none() => String::new(),
            None => {
                "  the receipt's signature was not checked: --worker ID, and for a file --signature BASE64\n"
                    .to_owned()
            }
        };
        text
    }
}

/// What a file is checked against.
struct Evidence {
    receipt: Option<Receipt>,
    proof: Option<OutputProof>,
    signed_by: Option<WorkerId>,
}

/// Checks the file.
pub(crate) async fn run(arguments: Arguments, output: &Output) -> anyhow::Result<Status> {
    if let Some(name) = &arguments.prove {
        let root = prove::stated(&arguments).await?;
        return prove::run(&arguments.file, output_name(name)?, root, output).await;
    }
    has_evidence(&arguments)?;
    let path = arguments.file.clone();
    let content = tokio::task::spawn_blocking(move || hash_of(&path)).await??;
    let evidence = Evidence::gather(&arguments).await?;
    let verified = evidence.check(&arguments, content)?;
    output.result(&verified)?;
    Ok(Status::Success)
}

/// Refuses a question that names nothing to check the file against.
fn has_evidence(arguments: &Arguments) -> anyhow::Result<()> {
    let file = arguments.file.display();
    let text = match (&arguments.receipt, &arguments.root, &arguments.proof) {
        (Some(_), _, _) | (None, Some(_), Some(_)) => return Ok(()),
        (None, None, None) => format!(
            "nothing is named that {file} could be checked against: give the run's receipt with --receipt FILE, or its job \
             at an executor with --receipt http://HOST:8443/JOB, or the output root with --root HASH --proof FILE"
        ),
        (None, None, Some(_)) => format!(
            "a proof alone says nothing of {file}: anybody can make one; give the output root that it has to lead to with \
             --root HASH (or --receipt FILE|URL, which names it)"
        ),
        (None, Some(_), None) => format!(
            "an output root alone does not name {file}: give the file's proof with --proof FILE (GET /proof/JOB/NAME at the \
             executor; `sandrun-pool verify DIR --prove NAME` makes one of a whole result)"
        ),
    };
    Err(Failure::new(Status::BadInput, text))
}

impl Evidence {
    async fn gather(arguments: &Arguments) -> anyhow::Result<Self> {
        let mut evidence = Self {
            receipt: None,
            proof: arguments.proof.as_deref().map(read_proof).transpose()?,
            signed_by: None,
        };
        let Some(place) = &arguments.receipt else {
            return Ok(evidence);
        };
        let mut signature = arguments.signature.clone();
        let bytes = match OfJob::parse(place) {
            None => read(Path::new(place), "receipt")?,
            Some(job) => {
                let job = job.map_err(|text| Failure::new(Status::BadInput, text))?;
                let (client, id) = (job.client()?, job.id.to_string());
                let (bytes, receipt) = job.receipt(&client).await?;
                if arguments.worker.is_some() && signature.is_none() {
                    signature = client
                        .status(&id)
                        .await
                        .map_err(of_client)?
                        .worker_metadata
                        .signature;
                }
                if evidence.proof.is_none() {
                    let name = name_of(arguments, None, Some(&receipt))?;
                    evidence.proof = Some(client.output_proof(&id, &name).await.map_err(of_client)?);
                }
                bytes
            }
        };
        let receipt = read_receipt(&bytes, place)?;
        if let Some(worker) = arguments.worker {
            check_signature(&bytes, signature.as_deref(), worker, &receipt)?;
            evidence.signed_by = Some(worker);
        }
        evidence.receipt = Some(receipt);
        Ok(evidence)
    }

    fn check(self, arguments: &Arguments, content: FileHash) -> anyhow::Result<Verified> {
        let name = name_of(arguments, self.proof.as_ref(), self.receipt.as_ref())?;
        let root = match &self.receipt {
            Some(receipt) => receipt.output_root,
            None => arguments.root,
        };
        if let Some(proof) = &self.proof {
            check_proof(proof, &name, content, root)?;
        }
        let by_receipt = match &self.receipt {
            Some(receipt) => check_list(receipt, &name, content)?,
            None => false,
        };
        if self.proof.is_none() && !by_receipt {
            let text =
                format!("the receipt does not say what {name} is: give its proof (GET /proof/JOB/{name})");
            return Err(Failure::new(Status::BadInput, text));
        }
        Ok(Verified {
            verified: true,
            name: name.to_string(),
            length: content.length,
            sha256: content.sha256,
            by_proof: self.proof.is_some(),
            by_receipt,
            output_root: root,
            trace_root: self.receipt.as_ref().and_then(|receipt| receipt.trace_root),
            class: self.receipt.as_ref().map(|receipt| receipt.class),
            job: self.receipt.map(|receipt| receipt.job_id),
            signed_by: self.signed_by,
        })
    }
}

fn wrong(text: impl Into<String>) -> anyhow::Error {
    Failure::new(Status::VerificationFailed, text)
}

fn check_signature(
    bytes: &[u8],
    signature: Option<&str>,
    worker: WorkerId,
    receipt: &Receipt,
) -> anyhow::Result<()> {
    match receipt.worker_id {
        Some(made) if made == worker => {}
        Some(made) => {
            return Err(wrong(format!(
                "the receipt was made by the worker {made}, not by {worker}: correct --worker, or get the receipt of the run \
                 that {worker} made"
            )));
        }
        None => {
            return Err(wrong(format!(
                "the receipt names no worker, so nobody has signed it, {worker} neither: its executor runs without \
                 --worker-key; leave --worker out, or have the job run by one that has its key"
            )));
        }
    }
    let Some(text) = signature else {
        let text = "the receipt's signature is missing, which --worker needs: give it with --signature BASE64 \
                    (worker_metadata.signature in GET /status/JOB), or name the job at its executor with --receipt URL, \
                    which has it; without --worker it is not checked";
        return Err(Failure::new(Status::BadInput, text));
    };
    let signature = decode_signature(text).ok_or_else(|| {
        wrong("--signature is no signature: base64 of 64 bytes, as worker_metadata.signature in GET /status/JOB")
    })?;
    verify_signature(bytes.trim_ascii_end(), &signature, worker).map_err(|_| {
        wrong(format!(
            "the signature is not {worker}'s over this receipt: one of the two was changed, or is of another run; get both \
             from the executor again"
        ))
    })
}

/// Reads a receipt, and says which file is none.
fn read_receipt(bytes: &[u8], place: &str) -> anyhow::Result<Receipt> {
    receipt(bytes).map_err(|error| {
        let text = format!("{place}: {error}; an executor has it at GET /receipt/JOB, byte for byte");
        Failure::new(Status::BadInput, text)
    })
}

fn check_proof(
    proof: &OutputProof,
    name: &OutputName,
    content: FileHash,
    root: Option<Sha256Hex>,
) -> anyhow::Result<()> {
    if proof.name != *name {
        return Err(wrong(format!("the proof is for {}, not for {name}", proof.name)));
    }
    let root = root.ok_or_else(|| wrong("the receipt has no output root: nothing was run"))?;
    proof
        .check(content, OutputRoot(root.0))
        .map_err(|error| wrong(format!("{name} is not proven: {error}")))
}

/// Whether the receipt's own list names the file; one that it names otherwise, or a file that is not on it, is wrong.
fn check_list(receipt: &Receipt, name: &OutputName, content: FileHash) -> anyhow::Result<bool> {
    let OutputName::File(path) = name else {
        return Ok(false);
    };
    let listed = receipt
        .output_files
        .get(path)
        .ok_or_else(|| wrong(format!("the run has no output {path}")))?;
    if (listed.sha256, listed.size_bytes) == (content.sha256, content.length) {
        Ok(true)
    } else {
        Err(wrong(format!(
            "the file is not the run's {path}: it has {content}, the receipt says {} bytes sha256 {}",
            listed.size_bytes, listed.sha256
        )))
    }
}

/// The name that is asked for: as given, the proof's, or the only output that ends in the file's name.
fn name_of(
    arguments: &Arguments,
    proof: Option<&OutputProof>,
    receipt: Option<&Receipt>,
) -> anyhow::Result<OutputName> {
    if let Some(name) = &arguments.name {
        return output_name(name);
    }
    if let Some(proof) = proof {
        return Ok(proof.name.clone());
    }
    let own = arguments.file.file_name().and_then(|name| name.to_str());
    let mut named = receipt
        .iter()
        .flat_map(|receipt| receipt.output_files.keys())
        .filter(|path| Some(path.file_name()) == own);
    match (named.next(), named.next()) {
        (Some(path), None) => Ok(OutputName::File(path.clone())),
        _ => Err(Failure::new(
            Status::BadInput,
            "which output of the run is it? give --name NAME (or stdout, or stderr)",
        )),
    }
}

fn output_name(text: &str) -> anyhow::Result<OutputName> {
    Ok(match text {
        "stdout" => OutputName::Stdout,
        "stderr" => OutputName::Stderr,
        path => OutputName::File(BundlePath::parse(path).status(Status::BadInput)?),
    })
}

fn read_proof(path: &Path) -> anyhow::Result<OutputProof> {
    let bytes = read(path, "proof")?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let text = format!("{} is no proof, or was cut off: {error}", path.display());
        Failure::new(Status::BadInput, text)
    })
}

fn read(path: &Path, what: &str) -> anyhow::Result<Vec<u8>> {
    read_small(path).map_err(|error| {
        let text = format!("the {what} {} can't be read: {error}", path.display());
        Failure::new(Status::BadInput, text)
    })
}

/// Length and hash of a file.
fn hash_of(path: &Path) -> anyhow::Result<FileHash> {
    let failed = |error: io::Error| {
        let text = format!("{} can't be read: {}", path.display(), words(&error.into()));
        Failure::new(Status::BadInput, text)
    };
    let mut file = File::open(path).map_err(failed)?;
    FileHash::read(&mut file).map_err(failed)
}
