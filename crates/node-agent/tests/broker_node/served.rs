//! With the product's own broker: from a client's submission to its result.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use pool_manager::{Broker, BrokerConfig, BrokerError, QueueSettings};
use sandrun_store::queue::QueueAddress;
use serde_json::{Value, json};

use super::scene::{PATIENCE, Running, Scene};

struct Served {
    url: String,
    address: SocketAddr,
    http: reqwest::Client,
    service: Running<BrokerError>,
}

impl Served {
    async fn start(folder: &Path, address: &str) -> Result<Self> {
        let config = BrokerConfig {
            listen: address.parse()?,
            database: QueueAddress::Sqlite(folder.join("queue.db")),
            settings: QueueSettings::BROKER,
        };
        let broker = Broker::start(config).await?;
        let address = broker.local_addr();
        Ok(Self {
            url: format!("http://{address}"),
            address,
            http: reqwest::Client::new(),
            service: Running::start(|shutdown| broker.run(shutdown)),
        })
    }

    async fn submit(&self, job: Value) -> Result<String> {
        let url = format!("{}/submit", self.url);
        let answer = self.http.post(url).json(&job).send().await?;
        let status = answer.status();
        let body: Value = answer.json().await?;
        ensure!(status.is_success(), "{body}");
        Ok(body["job_id"].as_str().context("no id")?.to_owned())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await?;
        Ok(answer.json().await?)
    }

    /// Follows a job to its end: when each event came, and what it was.
    async fn follow(
        &self,
        job: &str,
        mut enough: impl FnMut(&str) -> bool,
    ) -> Result<Vec<(Instant, String)>> {
        let url = format!("{}/v1/jobs/{job}/logs/stream", self.url);
        let mut stream = self.http.get(url).send().await?.bytes_stream();
        let (mut events, mut text) = (Vec::new(), String::new());
        let read = async {
            while let Some(piece) = stream.next().await {
                text.push_str(&String::from_utf8_lossy(&piece?));
                while let Some((event, rest)) = text.split_once("\n\n") {
                    let (event, rest) = (event.to_owned(), rest.to_owned());
                    text = rest;
                    events.push((Instant::now(), event.clone()));
                    if enough(&event) {
                        return anyhow::Ok(());
                    }
                }
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, read)
            .await
            .with_context(|| format!("following {job}"))??;
        Ok(events)
    }

    async fn ended(&self, job: &str) -> Result<Value> {
        self.follow(job, |_| false).await?;
        self.get(&format!("/v1/jobs/{job}")).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_reaches_the_client_within_a_second_and_the_result_is_what_was_printed() -> Result<()> {
    let scene = Scene::new().await?;
    let served = Served::start(scene.folder.path(), "127.0.0.1:0").await?;
    let node = scene.node(&served.url, |config| config.max_concurrent_jobs = 2);
    let code = "import time\nprint('begin', flush=True)\ntime.sleep(3)\nprint('last')\n";
    let job = served.submit(json!({"code": code})).await?;
    let events = served.follow(&job, |_| false).await?;
    let at = |text: &str| {
        let found = events.iter().find(|(_, event)| event.contains(text));
        found
            .map(|(at, _)| *at)
            .with_context(|| format!("{text}: {events:?}"))
    };
    let ahead = at("last")? - at("begin")?;
    // three seconds lie between the two lines; the first was not more than a second late
    assert!(ahead > Duration::from_secs(2), "{ahead:?}");
    let result = served.get(&format!("/results/{job}")).await?;
    assert_eq!(
        (&result["output"], &result["exit_code"]),
        (&json!("begin\nlast\n"), &json!(0))
    );
    let failed = served
        .submit(json!({"code": "exit 7", "interpreter": "bash"}))
        .await?;
    assert_eq!(served.ended(&failed).await?["exit_code"], 7);
    node.stop().await?;
    served.service.stop().await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dependant_finds_its_parents_outputs_and_leaves_its_own() -> Result<()> {
    let scene = Scene::new().await?;
    let served = Served::start(scene.folder.path(), "127.0.0.1:0").await?;
    let node = scene.node(&served.url, |config| config.max_concurrent_jobs = 2);
    let parent = served
        .submit(
            json!({"code": "mkdir d; echo 42 > d/answer.txt; echo x > skipped.log", "interpreter": "bash",
            "outputs": ["*.txt"]}),
        )
        .await?;
    let child = served
        .submit(
            json!({"code": "wc -c < 'from/d/answer.txt' > 'the size.txt'; ls -A from; cat from/d/*",
            "interpreter": "bash", "after": [{"job": parent, "into": "from"}], "outputs": ["*size.txt"]}),
        )
        .await?;
    let view = served.ended(&child).await?;
    assert_eq!(
        (&view["status"], &view["exit_code"]),
        (&json!("completed"), &json!(0)),
        "{view}"
    );
    assert_eq!(view["outputs"].as_array().map(Vec::len), Some(1), "{view}");
    let output = format!("{}/v1/jobs/{child}/outputs/the%20size.txt", served.url);
    assert_eq!(served.http.get(output).send().await?.text().await?.trim(), "3");
    let result = served.get(&format!("/results/{child}")).await?;
    assert_eq!(result["output"], "d\n42\n");
    let receipt = served.get(&format!("/v1/jobs/{child}/receipt")).await?;
    assert!(!receipt.is_null(), "{receipt}");
    node.stop().await?;
    served.service.stop().await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_the_run_and_frees_the_slot() -> Result<()> {
    let scene = Scene::new().await?;
    let served = Served::start(scene.folder.path(), "127.0.0.1:0").await?;
    let node = scene.node(&served.url, |_| ());
    let endless = "echo begun; while :; do sleep 1; done";
    let job = served
        .submit(json!({"code": endless, "interpreter": "bash"}))
        .await?;
    served.follow(&job, |event| event.contains("begun")).await?;
    let url = format!("{}/v1/jobs/{job}", served.url);
    ensure!(served.http.delete(url).send().await?.status().is_success());
    let next = served.submit(json!({"code": "print('next')"})).await?;
    assert_eq!(served.ended(&next).await?["status"], "completed");
    assert_eq!(served.get(&format!("/status/{job}")).await?["status"], "failed");
    node.stop().await?;
    assert_eq!(scene.executor.stats().await?.system.active_jobs, 0);
    served.service.stop().await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_the_broker_is_away_is_answered_when_it_is_back() -> Result<()> {
    let scene = Scene::new().await?;
    let served = Served::start(scene.folder.path(), "127.0.0.1:0").await?;
    let node = scene.node(&served.url, |_| ());
    let job = served
        .submit(
            json!({"code": "echo begun; sleep 2; cat /proc/sys/kernel/random/uuid > once.txt; cat once.txt",
            "interpreter": "bash", "outputs": ["once.txt"]}),
        )
        .await?;
    served.follow(&job, |event| event.contains("begun")).await?;
    let address = served.address.to_string();
    served.service.stop().await?;
    // it ends while nobody is there to be told
    let wait = async {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while scene.kept_answers()? == 0 {
            look.tick().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .context("no answer was kept")??;
    let served = Served::start(scene.folder.path(), &address).await?;
    let view = served.ended(&job).await?;
    assert_eq!(
        (&view["status"], &view["attempt"]),
        (&json!("completed"), &json!(1)),
        "{view}"
    );
    let output = format!("{}/v1/jobs/{job}/outputs/once.txt", served.url);
    let once = served.http.get(output).send().await?.text().await?;
    let result = served.get(&format!("/results/{job}")).await?;
    assert_eq!(result["output"], format!("begun\n{once}"));
    node.stop().await?;
    served.service.stop().await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dependant_of_a_job_that_leaves_everything_has_one_program() -> Result<()> {
    let scene = Scene::new().await?;
    let served = Served::start(scene.folder.path(), "127.0.0.1:0").await?;
    let node = scene.node(&served.url, |_| ());
    let parent = json!({"code": "echo 42 > answer.txt", "interpreter": "bash", "outputs": ["*"]});
    let parent = served.submit(parent).await?;
    let child = json!({"code": "cat answer.txt", "interpreter": "bash", "after": [{"job": parent}]});
    let child = served.submit(child).await?;
    let view = served.ended(&child).await?;
    assert_eq!(view["status"], "completed", "{view}");
    assert_eq!(served.get(&format!("/results/{child}")).await?["output"], "42\n");
    node.stop().await?;
    served.service.stop().await?;
    scene.end().await
}
