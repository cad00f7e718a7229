//! A tree as a tar archive, streamed. Owns the order (parents first, names sorted) and the headers: modes 0755 and
//! 0644, owner 0, time 0, so that one tree is one archive.

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use super::read::content;
use crate::embedded::EmbeddedStore;
use crate::error::ContentError;
use crate::limits::Limits;
use crate::name;
use crate::node::Node;
use crate::tree::{Budget, FileReader, Resolved, entries};

/// A tar archive is made of blocks of this size.
const TAR_BLOCK: u64 = 512;
/// How many pieces wait for the receiver.
const QUEUED: usize = 4;

type Piece = Result<Bytes, ContentError>;

/// The archive of what was found, its top named `name`.
pub(super) fn archive(
    store: EmbeddedStore,
    limits: Limits,
    name: String,
    found: Resolved,
) -> BoxStream<'static, Piece> {
    let (sender, receiver) = mpsc::channel(QUEUED);
    // ends by itself when the receiver is gone: the next piece can't be sent
    tokio::spawn(async move {
        let mut writer = Writer {
            store,
            budget: Budget::new(&limits),
            out: sender,
        };
        if let Err(error) = writer.run(name, found).await {
            // nobody is left to hear it only where the receiver is gone
            let _unheard = writer.out.send(Err(error)).await;
        }
    });
    futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    })
    .boxed()
}

struct Writer {
    store: EmbeddedStore,
    budget: Budget,
    out: mpsc::Sender<Piece>,
}

impl Writer {
    async fn run(&mut self, name: String, found: Resolved) -> Result<(), ContentError> {
        let mut pending = vec![(name, found)];
        while let Some((path, Resolved { cid, node })) = pending.pop() {
            match node {
                Node::File(file) => {
                    self.budget.file(&path, file.size)?;
                    let mode = if file.executable { 0o755 } else { 0o644 };
                    let reader = FileReader::new(file, &path, self.budget.blocks_left());
                    self.header(&path, ::tar::EntryType::Regular, mode, reader.size())
                        .await?;
                    self.file(reader).await?;
                }
                Node::Symlink(_) => return Err(ContentError::Symlink { path }),
                node @ (Node::Directory(_) | Node::Shard(_)) => {
                    self.header(&format!("{path}/"), ::tar::EntryType::Directory, 0o755, 0)
                        .await?;
                    for link in entries(&self.store, &cid, node, &mut self.budget)
                        .await?
                        .into_iter()
                        .rev()
                    {
                        let child = name::join(&path, &link.name);
                        self.budget.entry(&child)?;
                        let node = self.budget.node(&self.store, &link.cid).await?;
                        pending.push((child, Resolved { cid: link.cid, node }));
                    }
                }
            }
        }
        self.send(Bytes::from(vec![0; 1024])).await
    }

    async fn header(
        &self,
        path: &str,
        kind: ::tar::EntryType,
        mode: u32,
        size: u64,
    ) -> Result<(), ContentError> {
        let mut header = ::tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        // the builder knows how to write long names; the content follows by itself
        let mut builder = ::tar::Builder::new(Vec::new());
        let written = builder.append_data(&mut header, path, std::io::empty());
        written.map_err(ContentError::io("pack as tar", path))?;
        let bytes = std::mem::take(builder.get_mut());
        self.send(bytes.into()).await
    }

    async fn file(&self, reader: FileReader) -> Result<(), ContentError> {
        let size = reader.size();
        let mut bytes = content(self.store.clone(), reader);
        while let Some(piece) = bytes.try_next().await? {
            self.send(piece).await?;
        }
        let padding = usize::try_from((TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK).unwrap_or_default();
        self.send(Bytes::from(vec![0; padding])).await
    }

    async fn send(&self, bytes: Bytes) -> Result<(), ContentError> {
        self.out
            .send(Ok(bytes))
            .await
            .map_err(|_| ContentError::ShuttingDown)
    }
}
