use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use sandrun_types::ChainId;
use serde::Deserialize;

use super::*;

const AT: EscrowRef = EscrowRef {
    chain: ChainId::LOCAL,
    escrow: Address::repeat_byte(9),
};
const WORKER: Address = Address::repeat_byte(1);
const NOW: UnixSeconds = UnixSeconds(1_700_000_000);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Step {
    Salt { salt: String },
    Sent(u64),
}

fn job(byte: u8) -> JobId {
    JobId([byte; 32])
}

#[test]
fn a_journal_that_was_deleted_or_replaced_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut journal = Journal::open(&data, AT, WORKER).unwrap();
    journal.append(job(1), NOW, &Step::Sent(1)).unwrap();
    assert!(journal.is_in_place());
    std::fs::remove_dir_all(&data).unwrap();
    assert!(!journal.is_in_place(), "deleted");
    let again = Journal::open(&data, AT, WORKER).unwrap();
    assert!(!journal.is_in_place(), "another one lies there");
    assert!(again.is_in_place());
}

#[test]
fn records_keep_their_order_over_a_restart_and_jobs_end() {
    let folder = tempfile::tempdir().unwrap();
    let steps = [
        Step::Salt {
            salt: "ab".to_owned(),
        },
        Step::Sent(1),
        Step::Sent(2),
    ];
    {
        let mut journal = Journal::open(folder.path(), AT, WORKER).unwrap();
        for (number, step) in steps.iter().enumerate() {
            assert_eq!(
                journal.append(job(1), NOW, step).unwrap(),
                u64::try_from(number).unwrap()
            );
            journal.append(job(2), NOW, &Step::Sent(9)).unwrap();
        }
        journal.end(job(2), NOW).unwrap();
        journal.end(job(2), NOW).unwrap();
    }
    let mut journal = Journal::open(folder.path(), AT, WORKER).unwrap();
    assert_eq!(journal.records::<Step>(job(1)).unwrap(), steps);
    assert_eq!(journal.open_jobs().unwrap(), [job(1)]);
    assert_eq!(
        journal.records::<Step>(job(2)).unwrap().len(),
        3,
        "an ended job keeps its records"
    );
    assert_eq!(journal.records::<Step>(job(3)).unwrap(), []);
    journal.reopen(job(2)).unwrap();
    assert_eq!(journal.open_jobs().unwrap(), [job(1), job(2)]);
    assert!(matches!(
        journal.records::<u64>(job(1)),
        Err(JournalError::Decode { number: 0, .. })
    ));
}

#[test]
fn notes_are_replaced_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path(), AT, WORKER).unwrap();
    assert_eq!(journal.note::<u64>(Note::ResumeFrom).unwrap(), None);
    journal.set_note(Note::ResumeFrom, &5u64).unwrap();
    journal.set_note(Note::ResumeFrom, &6u64).unwrap();
    journal.set_note(Note::Gate, &"slashed").unwrap();
    journal.set_note(Note::Genesis, &"first").unwrap();
    assert_eq!(journal.note(Note::Genesis).unwrap(), Some("first".to_owned()));
    assert_eq!(journal.note(Note::ResumeFrom).unwrap(), Some(6u64));
    journal.clear_note(Note::Gate).unwrap();
    assert_eq!(journal.note::<String>(Note::Gate).unwrap(), None);
}

#[test]
fn one_key_has_one_agent_and_other_keys_have_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let first = Journal::open(folder.path(), AT, WORKER).unwrap();
    let second = Journal::open(folder.path(), AT, WORKER).unwrap_err();
    assert!(matches!(second, JournalError::InUse { worker: WORKER, .. }));
    assert!(
        second
            .to_string()
            .contains("another agent already runs with the key"),
        "{second}"
    );
    let other_key = Journal::open(folder.path(), AT, Address::repeat_byte(2)).unwrap();
    let other_escrow = EscrowRef {
        escrow: Address::repeat_byte(8),
        ..AT
    };
    assert_ne!(
        Journal::open(folder.path(), other_escrow, WORKER).unwrap().path(),
        other_key.path()
    );
    drop(first);
    assert!(Journal::open(folder.path(), AT, WORKER).is_ok());
}

#[test]
fn salts_are_closed_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut journal = Journal::open(&data, AT, WORKER).unwrap();
    journal.append(job(1), NOW, &Step::Sent(1)).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

const CHILD: &str = "SANDRUN_JOURNAL_TEST_CHILD";

/// Not a test by itself: the process that the next one kills.
#[test]
fn writes_until_killed() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let mut journal = Journal::open(Path::new(&folder), AT, WORKER).unwrap();
    let mut out = std::io::stderr();
    for number in 0u64.. {
        journal.append(job(1), NOW, &Step::Sent(number)).unwrap();
        writeln!(out, "written {number}").unwrap();
    }
}

#[test]
fn what_was_written_survives_kill_9_and_the_lock_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "journal::tests::writes_until_killed", "--nocapture"])
        .env(CHILD, folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let told = |line: &str| {
        line.strip_prefix("written ")
            .and_then(|number| number.parse::<u64>().ok())
    };
    let mut last = lines
        .by_ref()
        .find_map(|line| told(&line).filter(|number| *number >= 20))
        .unwrap();
    assert!(matches!(
        Journal::open(folder.path(), AT, WORKER),
        Err(JournalError::InUse { .. })
    ));
    child.kill().unwrap();
    child.wait().unwrap();
    last = lines.filter_map(|line| told(&line)).last().unwrap_or(last);

    let journal = Journal::open(folder.path(), AT, WORKER).unwrap();
    let records = journal.records::<Step>(job(1)).unwrap();
    assert!(
        u64::try_from(records.len()).unwrap() > last,
        "{} records, {last} were told",
        records.len()
    );
    assert!(
        records
            .iter()
            .zip(0..)
            .all(|(record, number)| *record == Step::Sent(number))
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// Whatever is appended to several jobs, with restarts in between, comes back in order.
    #[test]
    fn nothing_is_lost_or_mixed_up(script in proptest::collection::vec((0u8..4, any::<u64>(), any::<bool>()), 1..20)) {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Some(Journal::open(folder.path(), AT, WORKER).unwrap());
        let mut expected = std::collections::BTreeMap::<u8, Vec<Step>>::new();
        for (id, value, restart) in script {
            if restart {
                drop(journal.take());
                journal = Some(Journal::open(folder.path(), AT, WORKER).unwrap());
            }
            journal.as_mut().unwrap().append(job(id), NOW, &Step::Sent(value)).unwrap();
            expected.entry(id).or_default().push(Step::Sent(value));
        }
        let journal = journal.unwrap();
        for (id, steps) in expected {
            prop_assert_eq!(journal.records::<Step>(job(id)).unwrap(), steps);
        }
    }
}
