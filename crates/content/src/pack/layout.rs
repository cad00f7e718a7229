//! What will stand in a tree, before any content is read. Owns the names, where each content is, and the counting.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::PackError;
use crate::limits::Limits;
use crate::name;

/// Where a file's content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// In memory.
    Bytes(Bytes),
    /// In a regular file of this size, which must not change until the tree is stored.
    File {
        /// Where.
        path: PathBuf,
        /// Bytes.
        size: u64,
    },
}

impl Data {
    /// The content of a regular file.
    ///
    /// # Errors
    /// [`PackError`] where there is none, or it is something else.
    pub fn from_file(path: &Path) -> Result<Self, PackError> {
        super::scan::regular_file(path).map(|(data, _)| data)
    }

    pub(super) const fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }
}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<u8>> for Data {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

/// A file or directory in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Directory,
    File { data: Data, executable: bool },
}

/// The tree by full path (`a/b.txt`), so sorted; every directory on the way stands there too.
#[derive(Debug, Default)]
pub(super) struct Layout {
    items: BTreeMap<String, Item>,
    origin: PathBuf,
}

impl Layout {
    pub(super) fn new(origin: &Path) -> Self {
        Self {
            items: BTreeMap::new(),
            origin: origin.to_owned(),
        }
    }

    pub(super) fn items(&self) -> impl Iterator<Item = (&str, &Item)> {
        self.items.iter().map(|(path, item)| (path.as_str(), item))
    }

    pub(super) fn insert(&mut self, path: String, item: Item) {
        self.items.insert(path, item);
    }

    /// A plain file in the root, whose name must be free.
    pub(super) fn file(&mut self, name: &str, data: Data) -> Result<(), PackError> {
        match self.items.insert(
            name.to_owned(),
            Item::File {
                data,
                executable: false,
            },
        ) {
            None => Ok(()),
            Some(_) => Err(PackError::Reserved {
                path: self.origin.join(name),
            }),
        }
    }

    /// A plain file in the root in place of any file of that name.
    pub(super) fn replace_file(&mut self, name: &str, data: Data, origin: &Path) -> Result<(), PackError> {
        match self.items.insert(
            name.to_owned(),
            Item::File {
                data,
                executable: false,
            },
        ) {
            None | Some(Item::File { .. }) => Ok(()),
            Some(Item::Directory) => Err(PackError::Reserved {
                path: origin.join(name),
            }),
        }
    }

    /// An empty directory in the root.
    pub(super) fn directory(&mut self, name: &str) {
        self.items.insert(name.to_owned(), Item::Directory);
    }

    /// All of `other` below the directory `name`.
    pub(super) fn below(&mut self, name: &str, other: Self) {
        self.items.extend(
            other
                .items
                .into_iter()
                .map(|(path, item)| (name::join(name, &path), item)),
        );
        self.origin = other.origin;
    }

    /// Without modes and without empty directories: the other directories come with their files.
    pub(super) fn files_only(mut self) -> Self {
        self.items.retain(|_, item| matches!(item, Item::File { .. }));
        for item in self.items.values_mut() {
            if let Item::File { executable, .. } = item {
                *executable = false;
            }
        }
        self
    }

    pub(super) fn bytes(&self) -> u64 {
        self.items
            .values()
            .fold(0, |sum, item| sum.saturating_add(item_size(item)))
    }

    pub(super) fn files(&self) -> u64 {
        self.items
            .values()
            .filter(|item| matches!(item, Item::File { .. }))
            .count() as u64
    }

    /// What the tree was made from, for messages.
    pub(super) fn name(&self) -> PathBuf {
        self.origin.clone()
    }

    /// Holds the whole against the limits; the path in an error is the one that passed them.
    pub(super) fn check(&self, limits: &Limits) -> Result<(), PackError> {
        let mut counted = Counted::new(limits);
        for (path, item) in self.items() {
            let at = match item {
                Item::File {
                    data: Data::File { path, .. },
                    ..
                } => path.clone(),
                Item::File {
                    data: Data::Bytes(_), ..
                }
                | Item::Directory => self.origin.join(path),
            };
            let depth = path.split('/').count() as u64;
            counted.entry(&at, depth)?;
            counted.bytes(&at, item_size(item))?;
        }
        Ok(())
    }
}

const fn item_size(item: &Item) -> u64 {
    match item {
        Item::Directory => 0,
        Item::File { data, .. } => data.size(),
    }
}

/// Counts a tree against its limits.
#[derive(Debug)]
pub(super) struct Counted<'a> {
    limits: &'a Limits,
    entries: u64,
    bytes: u64,
}

impl<'a> Counted<'a> {
    pub(super) const fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            entries: 0,
            bytes: 0,
        }
    }

    pub(super) fn entry(&mut self, path: &Path, depth: u64) -> Result<(), PackError> {
        self.entries += 1;
        within(
            path,
            "files and directories",
            self.entries,
            self.limits.max_entries,
        )?;
        within(path, "levels", depth, u64::from(self.limits.max_depth))
    }

    pub(super) fn bytes(&mut self, path: &Path, size: u64) -> Result<(), PackError> {
        within(path, "bytes in a file", size, self.limits.max_file_bytes)?;
        self.bytes = self.bytes.saturating_add(size);
        within(path, "bytes in all", self.bytes, self.limits.max_bytes)
    }
}

fn within(path: &Path, what: &'static str, found: u64, limit: u64) -> Result<(), PackError> {
    if found <= limit {
        return Ok(());
    }
    Err(PackError::Limit {
        path: path.to_owned(),
        what,
        limit,
    })
}
