//! Images of packages: fetched when a job names one, bound into its receipt, refused with words where there is none.

use std::path::Path;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use sandrun_content::{
    ContentId, ContentStore, EmbeddedConfig, EmbeddedStore, KuboClient, Limits, pack_directory,
};
use sandrun_executor::{ClientError, ExecutorConfig, QuotaRules};
use sandrun_types::{ContentDigest, RunOutcome};
use serde_json::json;

use crate::support::{Service, form};

/// Of the empty directory, which nobody has stored.
const NOWHERE: &str = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354";
const CODE: (&str, &str) = ("main.py", "import shapes; print(shapes.SIDES)");

/// A content store in `folder`, and an image in it whose module says this number.
async fn store(folder: &Path, sides: u32) -> (Arc<EmbeddedStore>, ContentId) {
    let image = folder.join("image");
    let site = image.join("lib/python3.11/site-packages");
    std::fs::create_dir_all(&site).unwrap();
    std::fs::write(site.join("shapes.py"), format!("SIDES = {sides}\n")).unwrap();
    let store = EmbeddedStore::open(EmbeddedConfig::new(folder.join("store")))
        .await
        .unwrap();
    let id = store
        .add(&pack_directory(&image, &Limits::default()).unwrap())
        .await
        .unwrap();
    (Arc::new(store), id)
}

fn with(store: Arc<EmbeddedStore>, name: &'static str, id: ContentId) -> impl FnOnce(&mut ExecutorConfig) {
    move |config| {
        config.environments.store = Some(store);
        config.environments.list.insert(name.parse().unwrap(), id);
    }
}

#[tokio::test]
async fn a_job_imports_from_its_environment_and_the_receipt_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, id) = store(folder.path(), 4).await;
    let service = Service::start_with(with(store, "shapes", id)).await;
    let mut roots = Vec::new();
    for asked in ["shapes".to_owned(), id.to_string()] {
        let manifest = json!({"environment": asked}).to_string();
        let status = service.run(&manifest, &[CODE]).await;
        assert_eq!(
            service.stdout(&status.job_id).await,
            "4\n",
            "{}",
            status.explanation
        );
        assert_eq!(status.execution_metadata.environment, asked);
        let receipt = service
            .client
            .verified_receipt(&status.job_id, service.worker)
            .await
            .unwrap();
        assert_eq!(
            (receipt.outcome, receipt.environment.as_str()),
            (RunOutcome::Exited, &*id.to_string())
        );
        roots.push(receipt.trace_root);
    }
    assert_eq!(roots[0], roots[1], "the image counts, not its name");
    let there = service.client.environments().await.unwrap();
    assert!(there.templates.contains(&"shapes".to_owned()) && there.fetches);
    assert_eq!((there.stats.cached_environments, there.stats.total_uses), (1, 2));
    assert!(there.stats.disk_usage_mb >= 1);
    let entry = there
        .environments
        .iter()
        .find(|it| it.name.as_deref() == Some("shapes"))
        .unwrap();
    assert!(entry.cached && entry.size_bytes.is_some() && entry.content == id.to_string());
}

#[tokio::test]
async fn equal_jobs_in_two_environments_never_have_one_trace() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut roots = Vec::new();
    for (folder, sides) in folders.iter().zip([4, 5]) {
        let (store, id) = store(folder.path(), sides).await;
        let service = Service::start_with(with(store, "shapes", id)).await;
        let code = ("main.py", "print('the same')");
        let status = service.run(r#"{"environment":"shapes"}"#, &[code]).await;
        roots.push((status.output_root, status.trace_root));
    }
    assert_eq!(roots[0].0, roots[1].0);
    assert_ne!(roots[0].1, roots[1].1);
}

#[tokio::test]
async fn an_image_can_be_made_ready_before_a_job_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, id) = store(folder.path(), 4).await;
    let service = Service::start_with(with(store, "shapes", id)).await;
    let entry = service.client.obtain_environment("shapes").await.unwrap();
    assert!(entry.cached && entry.name.as_deref() == Some("shapes") && entry.content == id.to_string());
    for (asked, expected) in [("squares", 404), (NOWHERE, 404)] {
        match service.client.obtain_environment(asked).await {
            Err(ClientError::Refused { status, .. }) => assert_eq!(status, expected, "{asked}"),
            other => panic!("{asked}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_no_environment_is_refused_before_the_job_is_queued() {
    let folder = tempfile::tempdir().unwrap();
    let (store, id) = store(folder.path(), 4).await;
    let service = Service::start_with(with(store, "shapes", id)).await;
    for (code, asked, words) in [
        (
            424,
            "squares",
            "there is no environment `squares`; known are data-science",
        ),
        (424, NOWHERE, "can't be fetched: block"),
        (400, "../../etc", "names no environment"),
    ] {
        let manifest = json!({"environment": asked}).to_string();
        let (status, body) = service.post(form(&manifest, &[CODE])).await;
        let said = body["error"].as_str().unwrap();
        assert_eq!(status, code, "{body}");
        assert!(
            said.starts_with("manifest field \"environment\": ") && said.contains(words),
            "{said}"
        );
    }
    crate::support::eventually("drafts go", async || service.job_folders().is_empty()).await;
    let alone = Service::start().await;
    let (status, body) = alone.post(form(r#"{"environment":"ml-basic"}"#, &[CODE])).await;
    assert_eq!(status, 424, "{body}");
    assert!(
        body["error"].as_str().unwrap().contains("no content store"),
        "{body}"
    );
}

#[tokio::test]
async fn who_waits_for_an_image_is_counted_and_holds_up_no_other() {
    // a content store that takes connections and never answers
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = KuboClient::new(&format!("http://{}", silent.local_addr().unwrap())).unwrap();
    let service = Service::start_with(|config| {
        config.quota = Some(QuotaRules {
            jobs_at_once: 100,
            jobs_per_hour: 100,
            ..QuotaRules::default()
        });
        config.environments.store = Some(Arc::new(store));
    })
    .await;
    let form_of = |n: u8| {
        let id = ContentId::from_digest(ContentDigest([n; 32]));
        form(&json!({"environment": id}).to_string(), &[CODE])
    };
    let mut sent: FuturesUnordered<_> = (0..6).map(|n| service.post(form_of(n))).collect();
    for _ in 0..2 {
        let (status, body) = sent.next().await.unwrap();
        let said = body["error"].as_str().unwrap();
        assert!(
            status == 503 && said.contains("wait for their environments"),
            "{body}"
        );
    }
    let others = async {
        let ahead = service
            .http
            .post(service.url(&format!("/environments/{NOWHERE}")));
        assert_eq!(ahead.send().await.unwrap().status(), 503);
        let status = service.run("", &[("main.py", "print(1)")]).await;
        assert_eq!(service.stdout(&status.job_id).await, "1\n");
    };
    tokio::select! {
        biased;
        never = sent.next() => panic!("four wait: {never:?}"),
        () = others => {}
    }
}
