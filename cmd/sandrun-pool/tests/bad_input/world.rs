//! What the cases are made with: a real market, another chain, and services that answer nonsense or nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use sandrun_chain::anvil::{Anvil, AnvilOptions};
use sandrun_testnet::Role;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::Scene;

/// What the cases are made with.
pub(crate) struct World {
    pub(crate) scene: Scene,
    pub(crate) other: Anvil,
    /// Answers every request with a page.
    pub(crate) page: String,
    /// Accepts connections and says nothing.
    pub(crate) mute: String,
    /// A port that is taken.
    pub(crate) taken: u16,
}

impl World {
    pub(crate) async fn new() -> anyhow::Result<Self> {
        let scene = Scene::with(&[Role::Honest]).await?;
        let other = Anvil::start(&AnvilOptions {
            chain_id: 4_242,
            ..AnvilOptions::default()
        })
        .await?;
        let page = serve(|mut stream| async move {
            let mut buffer = [0u8; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n<html>hi</html>")
                .await;
        });
        let mute = serve(|stream| async move {
            let _held = stream;
            std::future::pending::<()>().await;
        });
        let (page, mute) = tokio::try_join!(page, mute)?;
        let taken = mute.rsplit(':').next().context("a port")?.parse()?;
        Ok(Self {
            scene,
            other,
            page,
            mute,
            taken,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scene.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) -> anyhow::Result<()> {
        let path = self.path(name);
        std::fs::write(&path, text)?;
        Ok(std::fs::set_permissions(
            path,
            std::fs::Permissions::from_mode(mode),
        )?)
    }
}

async fn serve<F>(answer: impl Fn(TcpStream) -> F + Send + 'static) -> anyhow::Result<String>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    Ok(format!("http://{address}"))
}
