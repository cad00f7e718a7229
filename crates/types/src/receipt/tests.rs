use super::*;
use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;

fn receipt(worker: Option<WorkerId>) -> Receipt {
    let file = OutputFile {
        sha256: Sha256Hex::of(b"x"),
        size_bytes: 1,
        kind: "text".to_owned(),
    };
    Receipt {
        class: Sha256Hex([0; 32]),
        cpu_time_us: 1_230_000,
        environment: String::new(),
        exit_code: 0,
        explanation: String::new(),
        format: RECEIPT_FORMAT.to_owned(),
        interpreter: "python3".to_owned(),
        isolation: vec!["user".to_owned(), "pid".to_owned()],
        job_hash: Sha256Hex::of(b"job"),
        job_id: "job-1".to_owned(),
        manifest_sha256: Sha256Hex::of(b"{}"),
        memory_peak_bytes: 52_428_800,
        outcome: RunOutcome::OutputLimit,
        output_files: BTreeMap::from([(BundlePath::parse("out/a.txt").unwrap(), file)]),
        output_root: Some(Sha256Hex::of(b"out")),
        status: "failed".to_owned(),
        trace_root: None,
        wall_time_ms: 1400,
        worker_id: worker,
    }
}

fn key() -> (SigningKey, WorkerId) {
    let key = SigningKey::from_bytes(&[7; 32]);
    let id = WorkerId(key.verifying_key().to_bytes());
    (key, id)
}

#[test]
fn a_signed_receipt_verifies_and_reads_back() {
    let (key, worker) = key();
    let receipt = receipt(Some(worker));
    let bytes = receipt.canonical_bytes();
    let signature = key.sign(&bytes).to_bytes();
    assert_eq!(Receipt::verify(&bytes, &signature, worker).unwrap(), receipt);
    assert!(String::from_utf8(bytes).unwrap().starts_with(r#"{"class":"#));
}

#[test]
fn what_is_not_signed_by_the_worker_is_refused() {
    let (key, worker) = key();
    let bytes = receipt(Some(worker)).canonical_bytes();
    let signature = key.sign(&bytes).to_bytes();
    let other = WorkerId(SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes());
    assert!(matches!(
        Receipt::verify(&bytes, &signature, other),
        Err(ReceiptError::BadSignature(_))
    ));
    let anonymous = receipt(None).canonical_bytes();
    let signature = key.sign(&anonymous).to_bytes();
    assert!(matches!(
        Receipt::verify(&anonymous, &signature, worker),
        Err(ReceiptError::WrongWorker { found: None, .. })
    ));
    assert!(matches!(
        Receipt::verify(b"{}", &key.sign(b"{}").to_bytes(), worker),
        Err(ReceiptError::Malformed(_))
    ));
}

#[test]
fn only_canonical_bytes_are_a_receipt() {
    let bytes = receipt(None).canonical_bytes();
    let spaced = [b" ".as_slice(), &bytes].concat();
    assert!(matches!(Receipt::parse(&spaced), Err(ReceiptError::NotCanonical)));
    let other = String::from_utf8(bytes)
        .unwrap()
        .replace(RECEIPT_FORMAT, "sandrun-receipt-v2");
    assert!(matches!(
        Receipt::parse(other.as_bytes()),
        Err(ReceiptError::Format(_))
    ));
}

#[test]
fn job_hash_is_the_documented_text() {
    let files = BTreeMap::from([
        (
            BundlePath::parse("b").unwrap(),
            InputFile {
                sha256: Sha256Hex([1; 32]),
                size_bytes: 2,
            },
        ),
        (
            BundlePath::parse("a").unwrap(),
            InputFile {
                sha256: Sha256Hex([2; 32]),
                size_bytes: 3,
            },
        ),
    ]);
    let text = format!(
        "sandrun-job-v1\nmanifest {}\nfile {} 3 a\nfile {} 2 b\n",
        "03".repeat(32),
        "02".repeat(32),
        "01".repeat(32)
    );
    assert_eq!(
        job_hash(ManifestDigest([3; 32]), &files),
        Sha256Hex::of(text.as_bytes())
    );
}

proptest! {
    #[test]
    fn one_changed_bit_breaks_the_signature(at in 0usize..400, bit in 0u8..8) {
        let (key, worker) = key();
        let mut bytes = receipt(Some(worker)).canonical_bytes();
        let signature = key.sign(&bytes).to_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert!(Receipt::verify(&bytes, &signature, worker).is_err());
    }
}
