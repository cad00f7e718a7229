//! Bad RPCs and bad deployments.

use std::time::Duration;

use sandrun_chain::anvil::Anvil;
use sandrun_chain::{
    Chain, ConnectError, ConnectOptions, Deployment, ReadError, RpcError, Sender, SenderConfig, VerifyError,
    deploy_test_token,
};
use sandrun_types::{Address, ChainId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::world::{World, chain};

const QUICK: ConnectOptions = ConnectOptions {
    timeout: Duration::from_millis(500),
    poll_interval: None,
};

/// A server that answers everything with `status` and `body`; with none it never answers.
async fn server(answer: Option<(&'static str, &'static str)>) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0u8; 4096];
            let _ = stream.read(&mut request).await;
            if let Some((status, body)) = answer {
                let length = body.len();
                let text = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                let _ = stream.write_all(text.as_bytes()).await;
            } else {
                held.push(stream);
            }
        }
    });
    Ok(url)
}

async fn refusal(answer: Option<(&'static str, &'static str)>) -> anyhow::Result<RpcError> {
    match Chain::connect_with(&server(answer).await?, None, QUICK).await {
        Err(ConnectError::Rpc(error)) => Ok(error),
        other => anyhow::bail!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_no_node_is_said_to_be_none() -> anyhow::Result<()> {
    let html = refusal(Some(("200 OK", "<html>It works!</html>"))).await?;
    assert!(
        matches!(html, RpcError::Nonsense { .. }) && html.to_string().contains("<html>"),
        "{html}"
    );
    let other_json = refusal(Some(("200 OK", "{\"status\":\"ok\"}"))).await?;
    assert!(matches!(other_json, RpcError::Nonsense { .. }), "{other_json:?}");
    let other_type = refusal(Some(("200 OK", r#"{"jsonrpc":"2.0","id":0,"result":"hello"}"#))).await?;
    assert!(matches!(other_type, RpcError::Nonsense { .. }), "{other_type:?}");
    let missing = refusal(Some(("404 Not Found", "no"))).await?;
    assert!(
        matches!(missing, RpcError::Status { status: 404, .. }),
        "{missing:?}"
    );
    let limited = refusal(Some(("429 Too Many Requests", "slow down"))).await?;
    assert!(
        matches!(limited, RpcError::RateLimited { .. }) && limited.is_transient(),
        "{limited:?}"
    );
    let refused = refusal(Some((
        "200 OK",
        r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32601,"message":"nope"}}"#,
    )));
    assert!(matches!(refused.await?, RpcError::Refused { code: -32601, .. }));
    let silent = refusal(None).await?;
    assert!(
        matches!(silent, RpcError::Timeout { .. }) && silent.to_string().contains("0.5 s"),
        "{silent}"
    );
    Ok(())
}

/// A server whose answer never ends.
async fn endless() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0u8; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            let spaces = vec![b' '; 1 << 20];
            while stream.write_all(&spaces).await.is_ok() {}
        }
    });
    Ok(url)
}

#[tokio::test]
async fn an_answer_without_an_end_is_not_kept() -> anyhow::Result<()> {
    let options = ConnectOptions {
        timeout: Duration::from_secs(60),
        poll_interval: None,
    };
    let error = Chain::connect_with(&endless().await?, None, options)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ConnectError::Rpc(RpcError::TooLarge { .. })),
        "{error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn an_rpc_that_is_down_is_named_without_its_key() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    drop(listener);
    let error = Chain::connect_with(&format!("http://{address}/v2/SECRET?key=SECRET"), None, QUICK)
        .await
        .unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(
        matches!(error, ConnectError::Rpc(RpcError::Unreachable { .. })),
        "{error:?}"
    );
    assert!(
        text.contains(&address.to_string()) && text.contains("--blockchain-rpc"),
        "{text}"
    );
    assert!(!text.contains("SECRET"), "{text}");
    for (url, part) in [
        ("not a url", "not an RPC address"),
        ("ws://127.0.0.1:1", "http://"),
        ("127.0.0.1:8545", ""),
    ] {
        let error = Chain::connect_with(url, None, QUICK).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::BadUrl { .. } | ConnectError::Scheme { .. }),
            "{url}: {error:?}"
        );
        assert!(error.to_string().contains(part), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn another_chain_is_refused() -> anyhow::Result<()> {
    let (anvil, _chain) = chain().await?;
    let error = Chain::connect_with(anvil.url(), Some(ChainId(1)), QUICK)
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        ConnectError::WrongChain {
            found: ChainId(31_337),
            expected: ChainId(1),
            ..
        }
    ));
    assert!(error.to_string().contains("31337"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_deployment_that_is_not_there_is_refused() -> anyhow::Result<()> {
    let world = World::new().await?;
    let market = &world.market;
    market.verify(&world.chain).await?;
    let nowhere = Deployment {
        escrow: Address::repeat_byte(9),
        ..market.clone()
    };
    let error = nowhere.verify(&world.chain).await.unwrap_err();
    assert!(
        matches!(error, VerifyError::NoCode { what: "escrow", .. }),
        "{error:?}"
    );
    let sender = Sender::new(world.chain.clone(), Anvil::key(5)?, None, SenderConfig::default());
    let token = deploy_test_token(&sender, "Test", "TEST", 6).await?;
    for wrong in [
        Deployment {
            registry: token,
            ..market.clone()
        },
        Deployment {
            escrow: token,
            ..market.clone()
        },
    ] {
        let error = wrong.verify(&world.chain).await.unwrap_err();
        assert!(matches!(error, VerifyError::WrongContract { .. }), "{error:?}");
    }
    let swapped = Deployment {
        escrow: market.registry,
        registry: market.escrow,
        ..market.clone()
    };
    assert!(matches!(
        swapped.verify(&world.chain).await,
        Err(VerifyError::WrongContract { .. })
    ));
    let elsewhere = Deployment {
        chain: ChainId(1),
        ..market.clone()
    };
    assert!(matches!(
        elsewhere.verify(&world.chain).await,
        Err(VerifyError::WrongChain { .. })
    ));
    let reader = sandrun_chain::MarketReader::new(world.chain.clone(), nowhere);
    let error = reader.parameters().await.unwrap_err();
    assert!(matches!(error, ReadError::WrongContract { .. }), "{error:?}");
    Ok(())
}
