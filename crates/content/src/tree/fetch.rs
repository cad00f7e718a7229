//! Fetches a whole tree into a new directory. Owns the writing: beside the destination first, under a temporary name,
//! then one rename; an error leaves nothing behind.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cid::Cid;
use tokio::fs;
use tokio::io::AsyncWriteExt;

use super::{Budget, FileReader, entries};
use crate::error::{ContentError, Fetched};
use crate::id::ContentId;
use crate::limits::Limits;
use crate::name;
use crate::node::{FileNode, Node};
use crate::store::ContentStore;

/// Mode of directories and executables in a fetched tree.
const EXECUTABLE: u32 = 0o755;
/// Mode of all other files in a fetched tree.
const PLAIN: u32 = 0o644;

/// A directory that is still to be filled.
struct Pending {
    path: String,
    cid: Cid,
    node: Node,
    depth: u32,
}

/// See [`ContentStore::fetch`].
pub(crate) async fn fetch<S: ContentStore + ?Sized>(
    store: &S,
    id: ContentId,
    into: &Path,
    limits: &Limits,
) -> Result<Fetched, ContentError> {
    vacant(into).await?;
    let mut budget = Budget::new(limits);
    let cid = id.to_cid();
    let node = budget.node(store, &cid).await?;
    if !matches!(node, Node::Directory(_) | Node::Shard(_)) {
        return Err(ContentError::NotADirectory {
            path: cid.to_string(),
        });
    }
    let scratch = scratch_beside(into)?;
    let mut job = Job {
        store,
        budget,
        base: scratch.path().to_owned(),
        done: Fetched {
            root: id,
            files: 0,
            directories: 0,
            bytes: 0,
        },
    };
    job.run(Pending {
        path: String::new(),
        cid,
        node,
        depth: 0,
    })
    .await?;
    let done = job.done;
    mode(scratch.path(), EXECUTABLE).await?;
    fs::rename(scratch.path(), into)
        .await
        .map_err(ContentError::io("create", into))?;
    // it has become the destination: nothing is left to remove
    drop(scratch.keep());
    Ok(done)
}

/// The destination must be new or an empty directory.
async fn vacant(into: &Path) -> Result<(), ContentError> {
    let occupied = || ContentError::Occupied {
        path: into.to_owned(),
    };
    match fs::read_dir(into).await {
        Ok(mut dir) => match dir.next_entry().await.map_err(ContentError::io("read", into))? {
            Some(_) => Err(occupied()),
            None => Ok(()),
        },
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotADirectory => Err(occupied()),
        Err(source) => Err(ContentError::Io {
            action: "read",
            path: into.to_owned(),
            source,
        }),
    }
}

/// A private directory on the destination's own file system.
fn scratch_beside(into: &Path) -> Result<tempfile::TempDir, ContentError> {
    let parent = match into.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    tempfile::Builder::new()
        .prefix(".fetch-")
        .tempdir_in(parent)
        .map_err(ContentError::io("create a directory in", parent))
}

struct Job<'a, S: ?Sized> {
    store: &'a S,
    budget: Budget,
    base: PathBuf,
    done: Fetched,
}

impl<S: ContentStore + ?Sized> Job<'_, S> {
    async fn run(&mut self, root: Pending) -> Result<(), ContentError> {
        let mut pending = vec![root];
        while let Some(dir) = pending.pop() {
            let links = entries(self.store, &dir.cid, dir.node, &mut self.budget).await?;
            for link in links {
                let path = name::join(&dir.path, &link.name);
                let depth = dir.depth + 1;
                self.budget.entry(&path)?;
                self.budget.depth(&path, depth)?;
                match self.budget.node(self.store, &link.cid).await? {
                    Node::File(node) => self.file(&path, node).await?,
                    Node::Symlink(_) => return Err(ContentError::Symlink { path }),
                    node @ (Node::Directory(_) | Node::Shard(_)) => {
                        self.directory(&path).await?;
                        pending.push(Pending {
                            path,
                            cid: link.cid,
                            node,
                            depth,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    async fn directory(&mut self, path: &str) -> Result<(), ContentError> {
        let at = self.base.join(path);
        fs::create_dir(&at)
            .await
            .map_err(ContentError::io("create", &at))?;
        mode(&at, EXECUTABLE).await?;
        self.done.directories += 1;
        Ok(())
    }

    async fn file(&mut self, path: &str, node: FileNode) -> Result<(), ContentError> {
        self.budget.file(path, node.size)?;
        let at = self.base.join(path);
        let bits = if node.executable { EXECUTABLE } else { PLAIN };
        let mut file = fs::File::create_new(&at)
            .await
            .map_err(ContentError::io("create", &at))?;
        let mut reader = FileReader::new(node, path, self.budget.blocks_left());
        while let Some(bytes) = reader.next(self.store).await? {
            file.write_all(&bytes)
                .await
                .map_err(ContentError::io("write", &at))?;
        }
        file.flush().await.map_err(ContentError::io("write", &at))?;
        mode(&at, bits).await?;
        self.budget.set_blocks_left(reader.blocks_left());
        self.done.files += 1;
        self.done.bytes += reader.size();
        Ok(())
    }
}

/// Sets exact permission bits, whatever the umask.
async fn mode(path: &Path, bits: u32) -> Result<(), ContentError> {
    fs::set_permissions(path, std::fs::Permissions::from_mode(bits))
        .await
        .map_err(ContentError::io("set the mode of", path))
}
