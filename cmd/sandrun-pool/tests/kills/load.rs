//! The load: clients that submit under keys of their own, submit again where no answer came, follow, and collect. What a
//! job says depends on the job, so that a result of another one is seen.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client_sdk::pool::{
    Job, JobStatus, LogEvent, Options, PoolClient, PoolClientError, PoolJobId, Printed, Submission,
};
use client_sdk::prepare;

use crate::fleet::Fleet;

/// Clients at once.
const CLIENTS: u64 = 10;
/// Jobs that each has under way.
const AT_ONCE: u64 = 3;
/// Longest wait for the end of a job: a lease that nobody gives back ends by itself after 65 seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

const RUN: &str = r#"n=$1
echo "begin $n"
case $2 in
  slow) sleep 1 ;;
  child) cat in/out.txt ;;
esac
echo "file of $n" > out.txt
echo "end $((n * n + 7))"
if [ "$2" = fail ]; then echo "no $n" >&2; exit 3; fi
"#;

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Quick,
    Slow,
    Fail,
    /// Prints its parent's file.
    Child(u64),
    /// Two nodes run it.
    Twice,
}

/// A job that was acknowledged and has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) job: Job,
    /// Answers that it has to have.
    pub(crate) answers: usize,
    /// How often its submission was sent.
    pub(crate) sent: usize,
}

/// What all clients share.
#[derive(Debug)]
pub(crate) struct Load {
    url: String,
    folder: PathBuf,
    has_replicas: bool,
    next: AtomicU64,
    is_over: AtomicBool,
}

impl Load {
    pub(crate) fn new(fleet: &Fleet) -> anyhow::Result<Self> {
        let folder = fleet.folder().join("load");
        std::fs::create_dir_all(folder.join("code"))?;
        std::fs::write(folder.join("code/run.sh"), RUN)?;
        Ok(Self {
            url: fleet.url(),
            folder,
            has_replicas: fleet.has_nodes(),
            next: AtomicU64::new(1),
            is_over: AtomicBool::new(false),
        })
    }

    /// No more jobs.
    pub(crate) fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// All clients, until it is over and their jobs have ended.
    pub(crate) async fn run(&self) -> anyhow::Result<Vec<Ended>> {
        let clients = (0..CLIENTS).map(|number| self.client(number));
        let ended = futures::future::try_join_all(clients).await?;
        Ok(ended.into_iter().flatten().collect())
    }

    /// One client: a few jobs at a time, until it is over.
    async fn client(&self, number: u64) -> anyhow::Result<Vec<Ended>> {
        let service = self.connect(&format!("client{number}")).await?;
        let mut ended = Vec::new();
        while !self.is_over() {
            let first = self.next.fetch_add(AT_ONCE, Ordering::Relaxed);
            let mut parents = BTreeMap::new();
            let mut open = Vec::new();
            for n in first..first + AT_ONCE {
                let kind = self.kind(n, &parents);
                let (id, sent) = self.submit(&service, n, kind, &parents).await?;
                if !matches!(kind, Kind::Fail) {
                    parents.insert(n, id.clone());
                }
                open.push((n, kind, id, sent));
            }
            for (n, kind, id, sent) in open {
                let what = || format!("job {id}, which is {n}, {kind:?}");
                let job = tokio::time::timeout(PATIENCE, self.collect(&service, n, kind, &id)).await;
                let job = job.context("it is stuck").flatten().with_context(what)?;
                let answers = if kind == Kind::Twice { 2 } else { 1 };
                ended.push(Ended { job, answers, sent });
            }
        }
        Ok(ended)
    }

    fn kind(&self, n: u64, parents: &BTreeMap<u64, PoolJobId>) -> Kind {
        match (n % 8, parents.last_key_value()) {
            (0 | 3, Some((parent, _))) => Kind::Child(*parent),
            (1, _) => Kind::Slow,
            (4, _) => Kind::Fail,
            (6, _) if self.has_replicas => Kind::Twice,
            _ => Kind::Quick,
        }
    }

    /// Connects; whoever is killed comes back.
    pub(crate) async fn connect(&self, name: &str) -> anyhow::Result<PoolClient> {
        persist(async || PoolClient::connect(&self.url, Some(name)).await).await
    }

    /// Submits until it is acknowledged; who submits again gets the same job.
    async fn submit(
        &self,
        service: &PoolClient,
        n: u64,
        kind: Kind,
        parents: &BTreeMap<u64, PoolJobId>,
    ) -> anyhow::Result<(PoolJobId, usize)> {
        let (word, after) = match kind {
            Kind::Quick | Kind::Twice => ("quick", vec![]),
            Kind::Slow => ("slow", vec![]),
            Kind::Fail => ("fail", vec![]),
            Kind::Child(parent) => ("child", vec![format!("{}=in", parents[&parent]).parse()?]),
        };
        let manifest = self.folder.join(format!("{n}.json"));
        let text = format!(r#"{{"args": ["{n}", "{word}"], "timeout": 15, "outputs": ["out.txt"]}}"#);
        std::fs::write(&manifest, text)?;
        let job = prepare(&self.folder.join("code"), Some(&manifest))?;
        let replicas = if kind == Kind::Twice { 2 } else { 1 };
        let options = Options {
            replicas,
            quorum: replicas,
            after,
            ..Options::default()
        };
        let submission = Submission::new(&job, options, true).with_key(Some(format!("key-{n}")));
        let mut sent = 0;
        let send = async || {
            sent += 1;
            service.submit(&submission).await
        };
        let id = persist(send).await?.id;
        if n.is_multiple_of(5) {
            let again = persist(async || service.submit(&submission).await).await?.id;
            ensure!(again == id, "one key has two jobs: {id} and {again}");
        }
        Ok((id, sent))
    }

    /// Follows a job to its end and checks all that came of it.
    async fn collect(&self, service: &PoolClient, n: u64, kind: Kind, id: &PoolJobId) -> anyhow::Result<Job> {
        let (stdout, stderr) = expected(n, kind);
        if n.is_multiple_of(3) {
            let seen = follow(service, id).await.context("following")?;
            ensure!(seen == stdout, "what was followed is {seen:?}, not {stdout:?}");
        }
        let job = persist(async || service.wait(id, |_| ()).await).await?;
        let code = if kind == Kind::Fail { 3 } else { 0 };
        let status = if code == 0 {
            JobStatus::Completed
        } else {
            JobStatus::Failed
        };
        ensure!((job.status, job.exit_code) == (status, Some(code)), "{job:?}");
        let printed: Printed = persist(async || service.printed(id).await).await?;
        ensure!(
            printed.stdout == stdout && printed.stderr == stderr,
            "{printed:?}"
        );
        let receipt = persist(async || service.receipt(&job, &printed).await).await?;
        let is_signed = receipt.is_some_and(|it| it.worker.is_some() && it.covers_result);
        ensure!(is_signed, "nobody vouches for {job:?}");
        let into = self.folder.join(format!("result-{n}"));
        persist(async || service.fetch_result(&job, &printed, &into).await).await?;
        let file = std::fs::read_to_string(into.join("outputs/out.txt"))?;
        ensure!(file == format!("file of {n}\n"), "the file is {file:?}");
        Ok(job)
    }
}

fn expected(n: u64, kind: Kind) -> (String, String) {
    let middle = match kind {
        Kind::Child(parent) => format!("file of {parent}\n"),
        Kind::Quick | Kind::Slow | Kind::Fail | Kind::Twice => String::new(),
    };
    let stderr = if kind == Kind::Fail {
        format!("no {n}\n")
    } else {
        String::new()
    };
    (format!("begin {n}\n{middle}end {}\n", n * n + 7), stderr)
}

/// What is told of standard output until the end; a new attempt begins anew.
async fn follow(service: &PoolClient, id: &PoolJobId) -> anyhow::Result<String> {
    let mut follower = service.follow(id);
    let mut seen = String::new();
    while let Some(event) = follower.next().await? {
        match event {
            LogEvent::Stdout(text) => seen += &text,
            LogEvent::Attempt(_) => seen.clear(),
            LogEvent::Stderr(_) | LogEvent::Status(_) => {}
        }
    }
    Ok(seen)
}

/// Asks again where the connection broke or the service could not.
pub(crate) async fn persist<T>(
    mut ask: impl AsyncFnMut() -> Result<T, PoolClientError>,
) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        match ask().await {
            Err(error) if error.is_transient() && started.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => return Ok(other?),
        }
    }
}
