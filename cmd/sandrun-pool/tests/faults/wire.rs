//! A TCP line between two services that can be cut, slowed down, stopped, and made to lie.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use sandrun_testnet::Lines;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What a line does with what is sent over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Passes it on.
    Straight,
    /// Passes each piece on after this time.
    Slow(Duration),
    /// Ends every connection at once.
    Cut,
    /// Leads to somebody else.
    Elsewhere(SocketAddr),
    /// Takes connections and passes nothing on.
    Stalled,
    /// Passes so many bytes of an answer on, then ends the connection.
    Short(usize),
    /// Answers with what no service says.
    Nonsense,
    /// Passes an answer on with bits turned over in the middle of each piece.
    Corrupt,
}

/// An answer that is HTTP and nothing else.
const NONSENSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 29\r\n\r\n\
    {\"jsonrpc\":\"9\",\"result\":[[]]}";

/// Lines by who asks and who is asked.
type ByEnds = BTreeMap<(String, String), watch::Sender<Mode>>;

/// All lines of a market.
#[derive(Clone, Default)]
pub(crate) struct Wires(Arc<Mutex<ByEnds>>);

impl Wires {
    /// What a market is built with so that its services reach each other over these.
    pub(crate) fn lines(&self) -> Lines {
        let wires = self.clone();
        Lines::by(move |service, (name, url)| wires.line(service, name, url))
    }

    /// Has every line whose ends fit do something else.
    pub(crate) fn set(&self, mode: Mode, fits: impl Fn(&str, &str) -> bool) {
        if let Ok(lines) = self.0.lock() {
            for ((service, target), line) in lines.iter() {
                if fits(service, target) {
                    line.send_replace(mode);
                }
            }
        }
    }

    /// A line of its own, for whoever is no part of the market; its address.
    pub(crate) fn line(&self, service: &str, name: &str, url: &str) -> anyhow::Result<String> {
        let target: SocketAddr = url
            .trim_start_matches("http://")
            .parse()
            .context(url.to_owned())?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let here = format!("http://{}", listener.local_addr()?);
        let (sender, mode) = watch::channel(Mode::Straight);
        let mut lines = self.0.lock().ok().context("the lines")?;
        lines.insert((service.to_owned(), name.to_owned()), sender);
        tokio::spawn(accept(TcpListener::from_std(listener)?, target, mode));
        Ok(here)
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, mode: watch::Receiver<Mode>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(connect(client, target, mode.clone()));
    }
}

async fn connect(client: TcpStream, target: SocketAddr, mut mode: watch::Receiver<Mode>) {
    let begun = *mode.borrow_and_update();
    let target = match begun {
        Mode::Cut => return,
        Mode::Elsewhere(other) => other,
        Mode::Straight | Mode::Slow(_) | Mode::Stalled | Mode::Short(_) | Mode::Nonsense | Mode::Corrupt => {
            target
        }
    };
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (asked, answered) = (mode.clone(), mode.clone());
    tokio::select! {
        _ = pass(from_client, to_server, asked, false) => {}
        _ = pass(from_server, to_client, answered, true) => {}
        // nothing more has to come over a connection that is cut, or that leads to another place than it should
        _ = mode.wait_for(|mode| *mode == Mode::Cut || leads(*mode) != leads(begun)) => {}
    }
}

/// Where a line leads, if that is not where it should.
fn leads(mode: Mode) -> Option<SocketAddr> {
    if let Mode::Elsewhere(other) = mode {
        Some(other)
    } else {
        None
    }
}

/// Passes on what comes, until an end closes.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    is_answer: bool,
) -> std::io::Result<()> {
    let mut piece = vec![0; 16 << 10];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        let _ = mode.wait_for(|mode| *mode != Mode::Stalled).await;
        let now = *mode.borrow();
        match now {
            Mode::Slow(pause) => tokio::time::sleep(pause).await,
            Mode::Short(most) if is_answer => {
                to.write_all(&piece[..length.min(most)]).await?;
                return to.shutdown().await;
            }
            Mode::Nonsense if is_answer => {
                to.write_all(NONSENSE).await?;
                return to.shutdown().await;
            }
            Mode::Corrupt if is_answer => piece[length / 2] ^= 0x55,
            Mode::Straight
            | Mode::Elsewhere(_)
            | Mode::Cut
            | Mode::Stalled
            | Mode::Short(_)
            | Mode::Nonsense
            | Mode::Corrupt => {}
        }
        to.write_all(&piece[..length]).await?;
    }
}
