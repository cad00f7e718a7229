//! Clients that keep a market busy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use sandrun_chain::MarketReader;
use sandrun_core::market::Phase;
use sandrun_types::JobId;

use crate::scene::Frail;

/// Jobs that clients keep under way.
const LOAD: usize = 25;
/// Clients that post: each waits until its posting is mined.
const CLIENTS: usize = 4;

/// What was posted, and whether more is to come.
pub(crate) struct Load {
    reader: MarketReader,
    jobs: Mutex<BTreeMap<String, String>>,
    open: Mutex<BTreeSet<JobId>>,
    is_over: AtomicBool,
    /// After so many it is over by itself.
    most: usize,
}

impl Load {
    pub(crate) async fn of(frail: &Frail, most: usize) -> anyhow::Result<Self> {
        Ok(Self {
            reader: frail.scene.market.reader().await?,
            jobs: Mutex::default(),
            open: Mutex::default(),
            is_over: AtomicBool::new(false),
            most,
        })
    }

    /// Posts whenever fewer than [`LOAD`] jobs are open, until it is over.
    pub(crate) async fn post(&self, frail: &Frail, key: PathBuf, client: usize) -> anyhow::Result<()> {
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        for number in 0.. {
            while !self.is_over() && self.open().await? >= LOAD {
                looks.tick().await;
            }
            if self.is_over() {
                break;
            }
            let word = format!("job-{client}-{number}");
            let job = frail.post(&key, &word).await?;
            self.open
                .lock()
                .expect("nobody panics with it")
                .insert(job.parse()?);
            self.lock_jobs().insert(job, word);
        }
        Ok(())
    }

    /// How many jobs are under way, by the chain.
    pub(crate) async fn open(&self) -> anyhow::Result<usize> {
        let known = self.lock_open().clone();
        for job in &known {
            let state = self.reader.job(*job).await?;
            if state.is_some_and(|it| it.phase == Phase::Closed) {
                self.lock_open().remove(job);
            }
        }
        Ok(self.lock_open().len())
    }

    /// Nothing more is posted.
    pub(crate) fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || self.lock_jobs().len() >= self.most
    }

    /// How many jobs have ended.
    pub(crate) async fn ended(&self) -> anyhow::Result<usize> {
        let open = self.open().await?;
        Ok(self.lock_jobs().len().saturating_sub(open))
    }

    /// What was posted, with what each is to print.
    pub(crate) fn jobs(&self) -> BTreeMap<String, String> {
        self.lock_jobs().clone()
    }

    fn lock_jobs(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.jobs.lock().expect("nobody panics with it")
    }

    fn lock_open(&self) -> MutexGuard<'_, BTreeSet<JobId>> {
        self.open.lock().expect("nobody panics with it")
    }
}

/// Keys of clients with coins.
pub(crate) async fn clients(frail: &Frail) -> anyhow::Result<Vec<PathBuf>> {
    let mut keys = vec![frail.scene.market.client_key.clone()];
    for number in 1..CLIENTS {
        let key = frail.scene.directory.path().join(format!("client{number}.key"));
        frail.scene.market.client(&key).await?;
        keys.push(key);
    }
    Ok(keys)
}
