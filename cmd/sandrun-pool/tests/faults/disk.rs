//! Data directories on disks that run full: a clear error, nothing lost, and on it goes when there is room.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use sandrun_testnet::Role::Honest;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::say;
use crate::scene::{Frail, until};
use crate::support::{Said, said};

const MIB: u64 = 1 << 20;

/// A small file system over a folder, with what was in it, for those who join it. It goes when this is dropped.
struct SmallDisk {
    // ends with its standard input
    holder: Child,
    folder: PathBuf,
}

impl SmallDisk {
    async fn over(folder: &Path, mib: u64) -> anyhow::Result<Self> {
        let script = "mkdir -p \"$1.small\" && mount -t tmpfs -o size=\"$2\" none \"$1.small\" && \
            cp -a \"$1/.\" \"$1.small/\" && mount --bind \"$1.small\" \"$1\" && echo mounted && exec cat";
        let own_users: &[&str] = if is_root() {
            &[]
        } else {
            &["--user", "--map-root-user"]
        };
        let mut holder = Command::new("unshare")
            .args(own_users)
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(folder)
            .arg(format!("{mib}m"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = holder.stdout.take().context("a pipe")?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        anyhow::ensure!(
            line.as_deref() == Some("mounted"),
            "no small file system can be had here"
        );
        Ok(Self {
            holder,
            folder: folder.to_owned(),
        })
    }

    fn id(&self) -> anyhow::Result<u32> {
        self.holder.id().context("its holder has ended")
    }

    /// What starts a program on it.
    fn joined(&self) -> anyhow::Result<Vec<OsString>> {
        let id = self.id()?.to_string();
        let mut words = vec!["nsenter", "--target", &id, "--mount"];
        if !is_root() {
            words.extend(["--user", "--preserve-credentials", "--"]);
            // not as the root that the folder's mount needed: a service would take itself for the machine's
            words.extend(["unshare", "--user", "--map-user=1000", "--map-group=1000"]);
        }
        words.push("--");
        Ok(words.into_iter().map(Into::into).collect())
    }

    /// A path below the folder, as it is seen from outside.
    fn inside(&self, path: &str) -> anyhow::Result<PathBuf> {
        let root = PathBuf::from(format!("/proc/{}/root", self.id()?));
        Ok(root.join(self.folder.strip_prefix("/")?).join(path))
    }

    /// Takes all the room but so many bytes.
    fn fill(&self, but: u64) -> anyhow::Result<()> {
        let ballast = self.inside("ballast")?;
        let mut ballast = std::fs::File::options().create(true).append(true).open(ballast)?;
        let free = self.free()?;
        let mut left = free.saturating_sub(but);
        let piece = vec![1; 1 << 12];
        while left > 0 {
            let length = usize::try_from(left.min(1 << 12))?;
            match ballast.write_all(&piece[..length]) {
                Ok(()) => left -= length as u64,
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn free(&self) -> anyhow::Result<u64> {
        let found = nix::sys::statvfs::statvfs(&self.inside("")?)?;
        Ok(found.blocks_available() * found.fragment_size())
    }

    fn make_room(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.inside("ballast")?)?)
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Has a service of the market go on with its data on a small disk.
async fn squeeze(frail: &mut Frail, name: &str, folder: &str, mib: u64) -> anyhow::Result<SmallDisk> {
    let folder = frail.scene.directory.path().join("market").join(folder);
    let service = frail.service(name)?;
    service.stop().await;
    let disk = SmallDisk::over(&folder, mib).await?;
    service.within(&disk.joined()?);
    service.restart().await?;
    Ok(disk)
}

async fn submit(frail: &Frail, code: &Path) -> anyhow::Result<Said> {
    let mut command = frail.scene.command(&["submit", "--detach", "--json", "--code"]);
    command
        .arg(code)
        .args(["--payment", "0.1", "--redundancy", "1", "--class", "native"]);
    said(command).await
}

/// What the job's program prints is what comes back.
async fn comes_back(frail: &Frail, jobs: &BTreeMap<String, String>) -> anyhow::Result<()> {
    for (job, word) in jobs {
        frail.over(job).await?;
        let out = tempfile::tempdir_in(frail.scene.directory.path())?;
        let place = out.path().to_string_lossy().into_owned();
        let fetched = frail
            .scene
            .run(&["fetch", job, "--json", "--out", &place])
            .await?;
        anyhow::ensure!(fetched.code == 0, "{fetched:?}");
        let fetched = fetched.json()?;
        let seats = fetched["payments"].as_array().context("no payments")?;
        anyhow::ensure!(
            seats.len() == 1 && seats[0]["end"] == "Paid" && seats[0]["slashed"] == "0",
            "{fetched}"
        );
        let printed = std::fs::read_to_string(out.path().join("stdout"))?;
        anyhow::ensure!(printed == format!("{word}\n"), "{printed:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_store_that_is_full_says_so_and_keeps_what_it_has() -> anyhow::Result<()> {
    let mut frail = Frail::with(&[Honest]).await?;
    let disk = squeeze(&mut frail, "content", "content", 24).await?;
    let small = frail.scene.code("small", &[("main.py", "print('small')\n")])?;
    let posted = submit(&frail, &small).await?;
    anyhow::ensure!(posted.code == 0, "{posted:?}");
    let first = posted.json()?["job"].as_str().context("no id")?.to_owned();
    let mut jobs = BTreeMap::from([(first, "small".to_owned())]);
    comes_back(&frail, &jobs).await?;

    disk.fill(0)?;
    let ballast = "#".repeat(300_000);
    let program = format!("print('large')\n{ballast}\n");
    let large = frail.scene.code("large", &[("main.py", &program)])?;
    let refused = submit(&frail, &large).await?;
    anyhow::ensure!(
        refused.code != 0 && refused.stderr.to_lowercase().contains("no space left"),
        "{refused:?}"
    );
    // what it had is still there, and read
    comes_back(&frail, &jobs).await?;
    disk.make_room()?;
    let posted = submit(&frail, &large).await?;
    anyhow::ensure!(posted.code == 0, "{posted:?}");
    jobs.insert(
        posted.json()?["job"].as_str().context("no id")?.to_owned(),
        "large".to_owned(),
    );
    comes_back(&frail, &jobs).await?;
    frail.scene.market.stop().await;
    Ok(())
}

/// It takes some real time, so that a disk can run full meanwhile.
const SLOW: &[(&str, &str)] = &[
    ("main.py", "import time\ntime.sleep(3)\nprint('slow')\n"),
    ("job.json", r#"{"timeout": 20}"#),
];

/// Seats of a job that the chain has.
async fn seats(frail: &Frail, job: &str) -> anyhow::Result<u8> {
    let reader = frail.scene.market.reader().await?;
    Ok(reader.job(job.parse()?).await?.map_or(0, |it| it.seats))
}

/// Posts a job that runs for a while.
async fn post_slow(frail: &Frail, jobs: &mut BTreeMap<String, String>) -> anyhow::Result<String> {
    let code = frail.scene.code("slow", SLOW)?;
    let posted = submit(frail, &code).await?;
    anyhow::ensure!(posted.code == 0, "{posted:?}");
    let job = posted.json()?["job"].as_str().context("no id")?.to_owned();
    jobs.insert(job.clone(), "slow".to_owned());
    Ok(job)
}

/// It may have ended for want of room, as what starts it again would find.
async fn up_again(frail: &mut Frail, name: &str) -> anyhow::Result<()> {
    let service = frail.service(name)?;
    if service.has_ended() {
        service.restart().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: make faults"]
async fn an_executor_whose_disk_is_full_gets_no_seats_until_there_is_room() -> anyhow::Result<()> {
    let mut frail = Frail::with(&[Honest]).await?;
    let disk = squeeze(&mut frail, "sandrun1", "node1/sandrun", 96).await?;
    // the file system is part of class `det`: the node has another one now
    frail.service("agent1")?.restart().await?;
    let mut jobs = BTreeMap::new();
    // full in the middle of a run
    let first = post_slow(&frail, &mut jobs).await?;
    frail.says("agent1", "to=running").await?;
    disk.fill(0)?;
    frail.says("agent1", "no more seats are taken").await?;
    // and before one
    let waiting = post_slow(&frail, &mut jobs).await?;
    frail.blocks(5).await?;
    anyhow::ensure!(
        (seats(&frail, &first).await?, seats(&frail, &waiting).await?) == (1, 0),
        "a seat on a full disk"
    );
    disk.make_room()?;
    comes_back(&frail, &jobs).await?;
    frail.scene.market.stop().await;
    Ok(())
}

/// Most runs that may be tried in [`TRIES_IN`] blocks: they rest for longer and longer.
const MOST_TRIES: usize = 6;
const TRIES_IN: u64 = 8;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: make faults"]
async fn an_agent_whose_disk_is_full_loses_no_bond() -> anyhow::Result<()> {
    let mut frail = Frail::with(&[Honest]).await?;
    frail.service("agent1")?.also(&["--min-free-disk", "4"], &[]);
    let disk = squeeze(&mut frail, "agent1", "node1/agent", 16).await?;
    let mut jobs = BTreeMap::new();
    // too little room: no seat
    disk.fill(3 * MIB)?;
    frail.says("agent1", "less than 4 MiB are free").await?;
    let waiting = post_slow(&frail, &mut jobs).await?;
    frail.blocks(5).await?;
    anyhow::ensure!(seats(&frail, &waiting).await? == 0, "a seat on a full disk");
    disk.make_room()?;
    // none at all in the middle of a run
    frail.says("agent1", "to=running").await?;
    disk.fill(0)?;
    frail.blocks(TRIES_IN).await?;
    let log = frail.scene.directory.path().join("market/logs/agent1.log");
    let tries = std::fs::read_to_string(&log)?.matches("to=running").count();
    anyhow::ensure!(tries <= MOST_TRIES, "{tries} runs on a full disk");
    disk.make_room()?;
    up_again(&mut frail, "agent1").await?;
    comes_back(&frail, &jobs).await?;

    // and none for the journal
    frail.service("agent1")?.stop().await;
    disk.fill(0)?;
    let Err(error) = frail.service("agent1")?.restart().await else {
        anyhow::bail!("it starts without room for its journal");
    };
    let error = format!("{error:#}");
    say(&error);
    anyhow::ensure!(
        error.contains("disk full") || error.contains("disk is full"),
        "{error}"
    );
    disk.make_room()?;
    frail.service("agent1")?.restart().await?;
    post_slow(&frail, &mut jobs).await?;
    comes_back(&frail, &jobs).await?;
    frail.scene.market.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: make faults"]
async fn a_manager_whose_disk_is_full_says_so_and_goes_on_with_its_index() -> anyhow::Result<()> {
    let mut frail = Frail::with(&[Honest]).await?;
    let disk = squeeze(&mut frail, "pool", "pool", 8).await?;
    let mut jobs = BTreeMap::new();
    let first = post_slow(&frail, &mut jobs).await?;
    frail.over(&first).await?;
    disk.fill(0)?;
    frail.says("pool", "disk is full").await?;
    // the market needs no manager
    let second = post_slow(&frail, &mut jobs).await?;
    let reader = frail.scene.market.reader().await?;
    let second = second.parse()?;
    until("the job is over", async || {
        let state = reader.job(second).await?;
        Ok(state.is_some_and(|it| it.phase == sandrun_core::market::Phase::Closed))
    })
    .await?;
    disk.make_room()?;
    frail.service("pool")?.restart().await?;
    comes_back(&frail, &jobs).await?;
    let total = |_, it: &serde_json::Value| it["total"] == 2;
    frail.scene.manager("/v1/jobs", total).await?;
    frail.scene.market.stop().await;
    Ok(())
}
