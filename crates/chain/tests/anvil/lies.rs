//! An RPC that works but for a moment: a portal's page, a limit on requests, an error about what it has carried out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sandrun_chain::anvil::Anvil;
use sandrun_chain::{Call, Chain, ConnectOptions, SendError, Sender, SenderConfig};
use sandrun_types::{Address, Amount};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::world::chain;

const TO: Address = Address::repeat_byte(0x77);
const PAGE: &str = "<html>Welcome to the hotel</html>";
const LIMIT: &str =
    r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32005,"message":"daily request count exceeded"}}"#;
const INTERNAL: &str = r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32000,"message":"internal error"}}"#;
const TOO_LOW: &str = r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32003,"message":"nonce too low"}}"#;

/// What is answered to a method in place of the truth, `times` times, after it was carried out.
#[derive(Clone, Copy)]
struct Lie {
    method: &'static str,
    answer: &'static str,
    times: u32,
}

/// One HTTP message with its body.
async fn message(stream: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let Some(end) = text.find("\r\n\r\n") else {
            continue;
        };
        let length = text[..end]
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or(0);
        if bytes.len() >= end + 4 + length {
            return Ok(Some(bytes));
        }
    }
}

/// Passes requests on to the node at `to`, and lies about some of the answers.
async fn liar(to: &str, lie: Lie) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let to = to.trim_start_matches("http://").to_owned();
    let told = Arc::new(AtomicU32::new(0));
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let (to, told) = (to.clone(), Arc::clone(&told));
            tokio::spawn(async move {
                let mut node = TcpStream::connect(&to).await?;
                while let Some(request) = message(&mut from).await? {
                    node.write_all(&request).await?;
                    let Some(truth) = message(&mut node).await? else {
                        break;
                    };
                    let is_it = String::from_utf8_lossy(&request).contains(lie.method);
                    if is_it && told.fetch_add(1, Ordering::SeqCst) < lie.times {
                        let length = lie.answer.len();
                        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                        from.write_all(head.as_bytes()).await?;
                        from.write_all(lie.answer.as_bytes()).await?;
                    } else {
                        from.write_all(&truth).await?;
                    }
                }
                std::io::Result::Ok(())
            });
        }
    });
    Ok(url)
}

/// A payment through an RPC that lies; how it ended, and what was paid.
async fn pay(lie: Lie) -> anyhow::Result<(Result<(), SendError>, Amount)> {
    let (anvil, truth) = chain().await?;
    let url = liar(anvil.url(), lie).await?;
    let options = ConnectOptions {
        poll_interval: Some(Duration::from_millis(30)),
        ..ConnectOptions::default()
    };
    let seen = Chain::connect_with(&url, None, options).await?;
    let sender = Sender::new(seen, Anvil::key(3)?, None, SenderConfig::default());
    let end = sender.send(Call::pay(TO, Amount::from_gwei(1))).await;
    Ok((end.map(drop), truth.balance(TO).await?))
}

#[tokio::test]
async fn a_moments_nonsense_gives_up_no_transaction_that_is_on_its_way() -> anyhow::Result<()> {
    for answer in [PAGE, LIMIT, INTERNAL] {
        for method in ["eth_getTransactionReceipt", "eth_sendRawTransaction"] {
            let lie = Lie {
                method,
                answer,
                times: 1,
            };
            let (end, paid) = pay(lie).await?;
            assert!(end.is_ok(), "{method} answered with {answer}: {end:?}");
            assert_eq!(paid, Amount::from_gwei(1));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_was_sent_twice_on_the_way_is_not_signed_anew() -> anyhow::Result<()> {
    let lie = Lie {
        method: "eth_sendRawTransaction",
        answer: TOO_LOW,
        times: 1,
    };
    let (end, paid) = pay(lie).await?;
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(paid, Amount::from_gwei(1), "paid once");
    Ok(())
}

#[tokio::test]
async fn lasting_nonsense_is_no_proof_that_nothing_was_sent() -> anyhow::Result<()> {
    let lie = Lie {
        method: "eth_getTransactionReceipt",
        answer: PAGE,
        times: u32::MAX,
    };
    let (end, paid) = pay(lie).await?;
    assert!(matches!(end, Err(SendError::Unsure { .. })), "{end:?}");
    assert_eq!(paid, Amount::from_gwei(1));
    Ok(())
}
