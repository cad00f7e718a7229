//! Reading the journal's files, of this format and of the one before. Pure.

use std::path::Path;

use serde::Deserialize;

use super::journal::{HEADER, LEAD, MAGIC, MARK};
use crate::queue::{Answer, ClientRow, JobState, LogPiece, NewJob, NodeRow, QueueStoreError, Writes};

/// The format before, without salt and bodies.
const FORMER: &[u8; 8] = b"sandrnj1";
const FORMER_HEADER: usize = 32;

/// What a batch was in it.
#[derive(Deserialize)]
struct FormerWrites {
    clients: Vec<ClientRow>,
    new_jobs: Vec<NewJob>,
    jobs: Vec<JobState>,
    nodes: Vec<NodeRow>,
    answers: Vec<Answer>,
    logs: Vec<LogPiece>,
}

/// A file's records, behind its header.
struct Records<'a> {
    first: u64,
    /// What the sums begin with.
    salt: &'a [u8],
    rest: &'a [u8],
    read: fn(&[u8]) -> postcard::Result<Writes>,
}

/// The batches of a file, up to the first that is not whole or not the next one.
///
/// # Errors
/// A file of another queue, or of a later format; a batch that is whole and not understood.
pub(super) fn batches(
    bytes: &[u8],
    mark: &[u8; MARK],
    path: &Path,
) -> Result<Vec<(u64, Writes)>, QueueStoreError> {
    let unreadable = |what| QueueStoreError::Unreadable {
        doing: "read the journal",
        what,
    };
    let Some(magic) = bytes.first_chunk::<8>() else {
        return Ok(Vec::new());
    };
    let is_former = magic == FORMER;
    if magic != MAGIC && !is_former {
        // a file that was only made
        if magic.starts_with(&MAGIC[..7]) {
            return Err(unreadable("its format"));
        }
        return Ok(Vec::new());
    }
    if !bytes[8..].starts_with(mark) {
        return Err(QueueStoreError::Mixed(path.to_owned()));
    }
    let length = if is_former { FORMER_HEADER } else { HEADER };
    let Some((header, rest)) = bytes.split_at_checked(length) else {
        return Ok(Vec::new());
    };
    let records = Records {
        first: number(&header[24..]),
        salt: &header[FORMER_HEADER..],
        rest,
        read: if is_former { former } else { current },
    };
    let read = records.read;
    let whole = records.map(|(id, body)| Ok((id, read(body).map_err(|_| unreadable("a batch"))?)));
    whole.collect()
}

impl<'a> Iterator for Records<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (lead, tail) = self.rest.split_first_chunk::<LEAD>()?;
        let length = u32::from_le_bytes([lead[8], lead[9], lead[10], lead[11]]);
        let found = u32::from_le_bytes([lead[12], lead[13], lead[14], lead[15]]);
        let (body, tail) = tail.split_at_checked(length as usize)?;
        let id = self.first;
        if number(&lead[..8]) != id || found != sum(&[self.salt, &lead[..12], body]) {
            return None;
        }
        (self.first, self.rest) = (id + 1, tail);
        Some((id, body))
    }
}

fn current(body: &[u8]) -> postcard::Result<Writes> {
    postcard::from_bytes(body)
}

pub(super) fn former(body: &[u8]) -> postcard::Result<Writes> {
    let FormerWrites {
        clients,
        new_jobs,
        jobs,
        nodes,
        answers,
        logs,
    } = postcard::from_bytes(body)?;
    Ok(Writes {
        clients,
        new_jobs,
        jobs,
        nodes,
        answers,
        logs,
        bodies: Vec::new(),
    })
}

fn sum(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().copied().map_or(0, u64::from_le_bytes)
}
