//! What has to hold at the end, beside what each client has seen of its own jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client_sdk::pool::{Job, JobQuery, MAX_PAGE, PoolClient};
use sandrun_store::queue::{JobFilter, open_queue};

use crate::fleet::{Fleet, Rest};
use crate::load::{Ended, persist};

/// How long what was killed may take to vanish.
const VANISH: Duration = Duration::from_secs(10);

/// What the load was.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    jobs: usize,
    sent_again: usize,
    tried_again: usize,
}

impl Counts {
    pub(crate) fn of(ended: &[Ended]) -> Self {
        let count = |wanted: fn(&Ended) -> bool| ended.iter().filter(|it| wanted(it)).count();
        Self {
            jobs: ended.len(),
            sent_again: count(|it| it.sent > 1),
            tried_again: count(|it| {
                it.job
                    .attempt
                    .is_some_and(|attempt| attempt as usize > it.answers)
            }),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} jobs acknowledged and ended as they should, {} of them submitted again, {} in a later attempt",
            self.jobs, self.sent_again, self.tried_again
        )
    }
}

/// The service has these jobs and no others, and each stands as it stood when its client saw its end.
pub(crate) async fn through_the_api(fleet: &Fleet, ended: &[Ended]) -> anyhow::Result<()> {
    let url = fleet.url();
    let service = persist(async || PoolClient::connect(&url, None).await).await?;
    let mut listed: BTreeMap<_, Job> = BTreeMap::new();
    let mut after = None;
    loop {
        let query = JobQuery {
            limit: Some(MAX_PAGE),
            after: after.clone(),
            ..JobQuery::default()
        };
        let page = persist(async || service.jobs(&query).await).await?;
        listed.extend(page.jobs.into_iter().map(|job| (job.id.clone(), job)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let ids: BTreeSet<_> = ended.iter().map(|it| &it.job.id).collect();
    ensure!(ids.len() == ended.len(), "two submissions got one job");
    for id in listed.keys() {
        ensure!(ids.contains(id), "job {id} was made though nobody was told so");
    }
    for Ended { job, .. } in ended {
        let now = persist(async || service.job(&job.id).await).await?;
        ensure!(now == *job, "after its end it was {job:?}, now it is {now:?}");
        ensure!(listed.contains_key(&job.id), "{job:?} is not in the list");
    }
    Ok(())
}

/// Of each job the answers that count, and no more.
pub(crate) async fn on_disk(rest: Rest, ended: &[Ended]) -> anyhow::Result<()> {
    let (store, reader) = open_queue(&rest.database).await?;
    let mut wanted: BTreeMap<usize, usize> = BTreeMap::new();
    for it in ended {
        *wanted.entry(it.answers).or_default() += 1;
    }
    let mut answers: BTreeMap<usize, usize> = BTreeMap::new();
    let mut below = None;
    loop {
        let filter = JobFilter {
            word: None,
            client: None,
            below,
            limit: MAX_PAGE,
        };
        let rows = reader.list(&filter).await?;
        let Some(last) = rows.last() else { break };
        below = Some(last.new.number);
        for row in &rows {
            let number = row.new.number;
            ensure!(!row.state.open, "job {number} is open on the disk");
            let of_job = reader.answers(number).await?;
            let attempts: BTreeSet<_> = of_job.iter().map(|it| it.attempt).collect();
            let accepted = row.state.attempt.context("an ended job has an attempt")?;
            ensure!(attempts.contains(&accepted), "job {number}: {of_job:?}");
            *answers.entry(of_job.len()).or_default() += 1;
        }
    }
    ensure!(answers == wanted, "answers on disk: {answers:?}, not {wanted:?}");
    tokio::task::spawn_blocking(move || drop(store)).await?;
    drop(rest);
    Ok(())
}

/// No process and no mount of the run.
pub(crate) async fn nothing_is_left(folder: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let left = left(&folder.to_string_lossy())?;
        if left.is_empty() {
            return Ok(());
        }
        ensure!(started.elapsed() < VANISH, "left behind: {left:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Processes that were started with the folder, or see it mounted; and mounts in it.
fn left(folder: &str) -> anyhow::Result<Vec<String>> {
    let mut left = Vec::new();
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    left.extend(mounts.lines().filter(|it| it.contains(folder)).map(str::to_owned));
    for entry in std::fs::read_dir("/proc")? {
        let process = entry?.path();
        let is_other = process
            .file_name()
            .and_then(|it| it.to_str()?.parse::<u32>().ok());
        if is_other.is_none_or(|it| it == std::process::id()) {
            continue;
        }
        // one that has just ended has no files
        let has = |file: &str| {
            let bytes = std::fs::read(process.join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).contains(folder)
        };
        if has("environ") || has("cmdline") || has("mountinfo") {
            let words = std::fs::read(process.join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            left.push(format!("{}: {words}", process.display()));
        }
    }
    Ok(left)
}
