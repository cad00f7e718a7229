//! The RPC through ipfs-api-backend-hyper as clients use it, and the raw shapes through reqwest. The expected answers
//! are those of Kubo 0.39 to the same requests.

use std::io::Cursor;

use futures::TryStreamExt;
use ipfs_api_backend_hyper::request::Add;
use ipfs_api_backend_hyper::{IpfsApi, IpfsClient, TryFromUri};
use reqwest::multipart::{Form, Part};
use reqwest::{Client, Response as Answer};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::id::ContentId;
use crate::kubo::KuboClient;
use crate::pack::pack_directory;
use crate::store::ContentStore;
use crate::tests::{self, pattern, read_tree, write_tree};

mod edges;
mod vitals;

const HELLO: &str = "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq";
const GONE: &str = "bafybeibml5uieyxa5tufngvg7fgwbkwvlsuntwbxgtskoqynbt7wlchmfm";

/// A served store; ends with the test's runtime.
struct Served {
    dir: TempDir,
    store: EmbeddedStore,
    url: String,
    http: Client,
}

async fn served() -> Served {
    // the provider is set once for all tests of the process
    let _already = rustls::crypto::ring::default_provider().install_default();
    let (dir, store) = tests::store().await;
    let config = ServiceConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let service = Service::bind(store.clone(), config).await.unwrap();
    let url = service.url();
    tokio::spawn(service.run(std::future::pending()));
    Served {
        dir,
        store,
        url,
        http: Client::new(),
    }
}

impl Served {
    async fn post(&self, call: &str) -> Answer {
        self.http
            .post(format!("{}/api/v0/{call}", self.url))
            .send()
            .await
            .unwrap()
    }

    async fn form(&self, call: &str, form: Form) -> Answer {
        self.http
            .post(format!("{}/api/v0/{call}", self.url))
            .multipart(form)
            .send()
            .await
            .unwrap()
    }

    async fn get(&self, path: &str) -> Answer {
        self.http.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    fn client(&self) -> KuboClient {
        KuboClient::new(&self.url).unwrap()
    }

    fn ipfs(&self) -> IpfsClient {
        IpfsClient::from_str(&self.url).unwrap()
    }
}

fn part(name: &str, content: &'static str) -> Part {
    Part::bytes(content.as_bytes())
        .file_name(name.to_owned())
        .mime_str("application/octet-stream")
        .unwrap()
}

async fn lines(answer: Answer) -> Vec<Value> {
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

async fn message(answer: Answer) -> String {
    assert_eq!(answer.status(), 500);
    let error: Value = answer.json().await.unwrap();
    assert_eq!((&error["Code"], &error["Type"]), (&json!(0), &json!("error")));
    error["Message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn our_client_adds_and_fetches_over_the_wire() {
    let served = served().await;
    let client = served.client();
    let tree = served.dir.path().join("tree");
    write_tree(
        &tree,
        &[
            ("large", &pattern(2 << 20), false),
            ("bin/run", b"#!/bin/sh\n", true),
            ("zero", &[0; 600_000], false),
        ],
    );
    let limits = Limits::default();
    let packed = pack_directory(&tree, &limits).unwrap();
    assert!(!client.has(packed.root()).await.unwrap());
    assert_eq!(client.add(&packed).await.unwrap(), packed.root());
    assert!(client.has(packed.root()).await.unwrap());
    assert!(served.store.is_pinned(&packed.root().to_cid()));
    let back = served.dir.path().join("back");
    client.fetch(packed.root(), &back, &limits).await.unwrap();
    assert_eq!(read_tree(&back), read_tree(&tree));
    client.unpin(packed.root()).await.unwrap();
    client.unpin(packed.root()).await.unwrap();
    assert_eq!(client.health().await.unwrap().version, env!("CARGO_PKG_VERSION"));
    let gone: ContentId = GONE.parse().unwrap();
    let error = client
        .fetch(gone, &served.dir.path().join("no"), &limits)
        .await
        .unwrap_err();
    assert!(matches!(error, crate::ContentError::NotFound { .. }), "{error}");
    assert!(matches!(
        client.pin(gone).await,
        Err(crate::ContentError::NotFound { .. })
    ));
}

#[tokio::test]
async fn the_ipfs_crate_understands_every_answer() {
    let served = served().await;
    let ipfs = served.ipfs();
    let options = Add {
        cid_version: Some(1),
        ..Add::default()
    };
    let added = ipfs
        .add_with_options(Cursor::new("hello"), options)
        .await
        .unwrap();
    assert_eq!(
        (added.name.as_str(), added.hash.as_str(), added.size.as_str()),
        (HELLO, HELLO, "5")
    );
    let old = ipfs.add(Cursor::new("hello")).await.unwrap();
    assert_eq!(
        (old.hash.as_str(), old.size.as_str()),
        ("QmWfVY9y3xjsixTgbd9AorQxH7VtMpzfx2HaWtsoUYecaX", "13")
    );
    for cid in [HELLO, &old.hash] {
        let read: Vec<_> = ipfs.cat(cid).try_collect().await.unwrap();
        assert_eq!(read.concat(), b"hello");
    }
    let part: Vec<_> = ipfs.cat_range(HELLO, 1, 3).try_collect().await.unwrap();
    assert_eq!(part.concat(), b"ell");
    let block: Vec<_> = ipfs.block_get(HELLO).try_collect().await.unwrap();
    assert_eq!(block.concat(), b"hello");
    assert_eq!(ipfs.block_stat(HELLO).await.unwrap().size, 5);
    assert_eq!(ipfs.block_put(Cursor::new("hello")).await.unwrap().key, HELLO);
    assert_eq!(ipfs.pin_ls(None, Some("recursive")).await.unwrap().keys.len(), 2);
    assert_eq!(ipfs.pin_rm(HELLO, true).await.unwrap().pins, [HELLO]);
    assert_eq!(ipfs.pin_add(HELLO, true).await.unwrap().pins, [HELLO]);
    assert_eq!(ipfs.version().await.unwrap().version, env!("CARGO_PKG_VERSION"));
    assert!(
        ipfs.id(None)
            .await
            .unwrap()
            .agent_version
            .starts_with("sandrun-content/")
    );
    assert_eq!(ipfs.stats_repo().await.unwrap().num_objects, 2);
    let tree = served.dir.path().join("tree");
    write_tree(&tree, &[("a.txt", b"hello", false), ("sub/b.txt", b"x\n", false)]);
    let paths = ipfs.add_path(&tree).await.unwrap();
    let root = &paths.last().unwrap().hash;
    assert_eq!(paths.last().unwrap().name, "tree");
    let listed = ipfs.ls(root).await.unwrap();
    let listed: Vec<_> = listed.objects[0]
        .links
        .iter()
        .map(|l| (l.name.as_str(), l.typ, l.size))
        .collect();
    assert_eq!(listed, [("a.txt", 2, 5), ("sub", 1, 0)]);
}

#[tokio::test]
async fn add_answers_as_kubo_does() {
    let served = served().await;
    let form = || {
        Form::new()
            .part("file", part("d%2Fa.txt", "hello"))
            .part("file", part("d%2Fsub%2Fb.txt", "x\n"))
    };
    let expected = [
        json!({"Name": "d/a.txt", "Hash": HELLO, "Size": "5"}),
        json!({"Name": "d/sub/b.txt", "Hash": "bafkreidtzm4frjuhvbeuzizsgbjqcyuc6pnnhhkcz5rmuttz3wrkvr6zvq", "Size": "2"}),
        json!({"Name": "d/sub", "Hash": "bafybeid4m45o2uxqpdecvg7as5q2qgj6ayjkno6hmmwckhwqabbtg4tvqy", "Size": "55"}),
        json!({"Name": "d", "Hash": "bafybeickvn2mlqtfeo7wjq4g3agtdyk6yz2lodnvcwnsibl4xprcr2kkgm", "Size": "160"}),
    ];
    assert_eq!(
        lines(served.form("add?cid-version=1&only-hash=true", form()).await).await,
        expected
    );
    assert_eq!(served.store.stat().await.unwrap().blocks, 0);
    assert_eq!(
        lines(served.form("add?cid-version=1&progress=true", form()).await).await,
        expected
    );
    let wrapped = Form::new().part("file", part("a.txt", "hello"));
    let wrapped = lines(
        served
            .form("add?cid-version=1&wrap-with-directory=true&pin=false", wrapped)
            .await,
    )
    .await;
    let root = json!({"Name": "", "Hash": "bafybeicdexjwatebfhiltofxjw7xgzcjphgj2axkeneflnrmztijfru3tu", "Size": "58"});
    assert_eq!(wrapped[1], root);
    let empty = Form::new().part("file", part("d/a.txt", "hello")).part(
        "file",
        Part::bytes(b"".as_slice())
            .file_name("d/empty")
            .mime_str("application/x-directory")
            .unwrap(),
    );
    let empty = lines(served.form("add?cid-version=1", empty).await).await;
    assert_eq!(
        empty[1]["Hash"],
        "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
    );
    let top = json!({"Name": "d", "Hash": "bafybeic6uhzzthauruxlibfbl4gfbwvq73gn7ext3ju3szmcmzm5twe4ja", "Size": "111"});
    assert_eq!(empty[2], top);
    // the roots alone are pinned
    let pins = served
        .post("pin/ls?type=recursive")
        .await
        .json::<Value>()
        .await
        .unwrap();
    assert_eq!(pins["Keys"].as_object().unwrap().len(), 2, "{pins}");
}

#[tokio::test]
async fn what_add_can_not_do_is_refused() {
    let served = served().await;
    let hello = || Form::new().part("file", part("a.txt", "hello"));
    for option in [
        "chunker=rabin",
        "trickle=true",
        "hash=blake3",
        "nocopy=true",
        "inline=true",
        "cid-version=7",
    ] {
        assert!(
            message(served.form(&format!("add?{option}"), hello()).await)
                .await
                .contains(' '),
            "{option}"
        );
    }
    let evil = Form::new().part("file", part("..%2F..%2Fx", "evil"));
    assert!(
        message(served.form("add", evil).await)
            .await
            .contains("can't be added")
    );
    let link = Form::new().part(
        "file",
        Part::bytes(b"/etc".as_slice())
            .file_name("l")
            .mime_str("application/symlink")
            .unwrap(),
    );
    assert!(message(served.form("add", link).await).await.contains("symlink"));
    let twice = Form::new()
        .part("file", part("a", "1"))
        .part("file", part("a", "2"));
    assert!(
        message(served.form("add?cid-version=1", twice).await)
            .await
            .contains("twice")
    );
    let both = Form::new()
        .part("file", part("a", "1"))
        .part("file", part("a/b", "2"));
    assert!(
        message(served.form("add?cid-version=1", both).await)
            .await
            .contains('a')
    );
    for answer in [
        served.post("add").await,
        served.form("add?pin=maybe", hello()).await,
    ] {
        assert_eq!(answer.status(), 400);
    }
    assert!(served.store.pins().is_empty());
}

#[tokio::test]
async fn failed_commands_say_what_kubo_says() {
    let served = served().await;
    assert_eq!(served.post("block/get").await.status(), 400);
    assert_eq!(served.post("nosuch").await.status(), 404);
    assert!(
        message(served.post("block/get?arg=hello").await)
            .await
            .starts_with("invalid path \"hello\"")
    );
    assert!(
        message(served.post(&format!("cat?arg={GONE}")).await)
            .await
            .contains(GONE)
    );
    assert_eq!(
        message(served.post(&format!("pin/ls?arg={GONE}")).await).await,
        format!("path '{GONE}' is not pinned")
    );
    assert_eq!(
        message(served.post(&format!("pin/rm?arg={GONE}")).await).await,
        "not pinned or pinned indirectly"
    );
    let dir = lines(
        served
            .form(
                "add?cid-version=1",
                Form::new().part("file", part("d/a", "hello")),
            )
            .await,
    )
    .await;
    let dir = dir[1]["Hash"].as_str().unwrap().to_owned();
    assert_eq!(
        message(served.post(&format!("cat?arg={dir}")).await).await,
        "this dag node is a directory"
    );
    assert_eq!(
        served
            .post(&format!("cat?arg={dir}/a"))
            .await
            .text()
            .await
            .unwrap(),
        "hello"
    );
    let big = Form::new().part("data", Part::bytes(vec![0; (2 << 20) + 1]).file_name("x"));
    assert!(
        message(served.form("block/put", big).await)
            .await
            .contains("2097152")
    );
    let codec = Form::new().part("data", part("x", "x"));
    assert!(
        message(served.form("block/put?cid-codec=dag-cbor", codec).await)
            .await
            .contains("dag-cbor")
    );
}

#[tokio::test]
async fn collection_removes_what_was_unpinned() {
    let served = served().await;
    lines(
        served
            .form("add?cid-version=1", Form::new().part("file", part("a", "hello")))
            .await,
    )
    .await;
    assert!(lines(served.post("repo/gc").await).await.is_empty());
    lines(served.post(&format!("pin/rm?arg={HELLO}")).await).await;
    assert_eq!(
        lines(served.post("repo/gc").await).await,
        [json!({"Key": {"/": HELLO}})]
    );
    let stat = served.post("repo/stat").await.json::<Value>().await.unwrap();
    assert_eq!((&stat["NumObjects"], &stat["RepoSize"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn the_service_ends_when_told() {
    let (_dir, store) = tests::store().await;
    let config = ServiceConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let service = Service::bind(store.clone(), config.clone()).await.unwrap();
    let taken = ServiceConfig {
        listen: service.address(),
        ..config
    };
    let error = Service::bind(store, taken).await.unwrap_err();
    assert!(matches!(error, ServeError::Listen { .. }), "{error}");
    service.run(std::future::ready(())).await.unwrap();
}
