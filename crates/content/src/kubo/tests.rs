//! Services that lie, stall, or are not there.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use tokio::net::TcpListener;

use super::*;
use crate::limits::Limits;
use crate::tests::leaf;

const DIR: &str = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354";

async fn client_of(router: Router) -> KuboClient {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = KuboConfig::new(format!("http://{}", listener.local_addr().unwrap()));
    config.stall = Duration::from_millis(200);
    config.pin = Duration::from_millis(200);
    tokio::spawn(async { axum::serve(listener, router).await });
    KuboClient::with(config).unwrap()
}

#[tokio::test]
async fn wrong_bytes_are_corrupt() {
    let client = client_of(Router::new().route("/api/v0/block/get", post(|| async { "lies" }))).await;
    let error = client.get_block(&DIR.parse().unwrap()).await.unwrap_err();
    assert!(
        matches!(&error, ContentError::Block(e) if matches!(**e, BlockError::Corrupt { len: 4, .. })),
        "{error}"
    );
    assert!(error.is_unavailable());
    let dir = tempfile::tempdir().unwrap();
    let fetched = client
        .fetch(DIR.parse().unwrap(), &dir.path().join("x"), &Limits::default())
        .await;
    assert!(matches!(fetched, Err(ContentError::Block(_))));
}

#[tokio::test]
async fn endless_bytes_are_too_large() {
    let endless = || async {
        Body::from_stream(futures::stream::repeat_with(|| {
            Ok::<_, std::io::Error>(Bytes::from(vec![0; 65536]))
        }))
    };
    let client = client_of(Router::new().route("/api/v0/block/get", post(endless))).await;
    let error = client.get_block(&DIR.parse().unwrap()).await.unwrap_err();
    assert!(
        matches!(&error, ContentError::Block(e) if matches!(**e, BlockError::TooLarge { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn silence_is_a_stall() {
    let never = || std::future::pending::<&'static str>();
    let begins = || async {
        let head = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"x"))]);
        Body::from_stream(futures::StreamExt::chain(head, futures::stream::pending()))
    };
    let router = Router::new()
        .route("/api/v0/block/get", post(begins))
        .route("/api/v0/block/put", post(never))
        .route("/api/v0/pin/add", post(never));
    let client = client_of(router).await;
    let id: ContentId = DIR.parse().unwrap();
    let errors = [
        client.get_block(&id.to_cid()).await.unwrap_err(),
        client.put_block(leaf(b"x")).await.unwrap_err(),
        client.pin(id).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, ContentError::Stalled { .. }), "{error}");
        assert!(!error.is_unavailable());
    }
}

#[tokio::test]
async fn what_is_stored_under_another_name_is_refused() {
    let other = || async { format!("{{\"Key\":\"{DIR}\",\"Size\":1}}\n") };
    let client = client_of(Router::new().route("/api/v0/block/put", post(other))).await;
    let error = client.put_block(leaf(b"x")).await.unwrap_err();
    assert!(
        matches!(&error, ContentError::Refused { message, .. } if message.contains(DIR)),
        "{error}"
    );
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let client = KuboClient::new(&format!("http://{free}")).unwrap();
    let error = client.health().await.unwrap_err();
    assert!(matches!(error, ContentError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&free.to_string()));
}
