//! The balancer in front of the replicas: each connection goes to the next one that takes it, and ends with it.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A balancer; ends when dropped.
#[derive(Debug)]
pub(crate) struct Balancer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Balancer {
    pub(crate) async fn start(replicas: Vec<SocketAddr>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let mut next = 0_usize;
            while let Ok((client, _)) = listener.accept().await {
                next += 1;
                let replicas = replicas.clone();
                tokio::spawn(carry(client, replicas, next));
            }
        });
        Ok(Self { address, task })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where nobody takes it, the connection is dropped.
async fn carry(mut client: TcpStream, replicas: Vec<SocketAddr>, first: usize) {
    for at in 0..replicas.len() {
        let replica = replicas[(first + at) % replicas.len()];
        if let Ok(mut server) = TcpStream::connect(replica).await {
            drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            return;
        }
    }
}
