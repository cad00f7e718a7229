//! Directories in an order that does not depend on the file system: whole lists, sorted by the names' bytes.
//!
//! Owns the records of `getdents64(2)` and `getdents(2)`, the order, the positions, and the lists that readers are in
//! the middle of. Never reads a directory: its real records are an argument.
//!
//! A reader's position is the real file offset of its open directory, so duplicates and forks of a descriptor share
//! it as they should, and `lseek` needs no trap. A position above 0 is `list number << 20 | index`: the list that the
//! reader began with stays the one that it reads, whatever is made or removed meanwhile.

use std::collections::BTreeMap;

use super::inodes::Inode;

/// Most entries of one list; a job cannot have more files than this in one directory and read them all.
const INDEX_BITS: u32 = 20;
/// The same as a number.
pub(in super::super) const MOST: usize = 1 << INDEX_BITS;
/// List numbers come round after so many; positions stay below 2^31, which every file system takes.
const LISTS: u64 = 1 << 11;
/// Lists that are kept for readers in the middle.
const KEPT: usize = 32;
/// Entries of all lists together that are kept, but for the one that was made last.
const KEPT_ENTRIES: usize = 1 << 17;
/// Bytes of a `linux_dirent64` before its name.
const HEAD_64: usize = 19;
/// Bytes of a `linux_dirent` before its name.
const HEAD_OLD: usize = 18;
/// `DT_UNKNOWN`.
const UNKNOWN: u8 = 0;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Entry {
    /// Inode number.
    pub(in super::super) inode: u64,
    /// `DT_…`.
    pub(in super::super) kind: u8,
    /// Its name.
    pub(in super::super) name: Vec<u8>,
}

impl Entry {
    /// Whether the file system says what it is.
    pub(in super::super) const fn kind_is_known(&self) -> bool {
        self.kind != UNKNOWN
    }
}

/// Which of the two record forms a call writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Form {
    /// `getdents64`.
    Wide,
    /// `getdents`.
    Old,
}

/// What a call of a reader gives.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Page {
    /// These records; the reader's position is then this one.
    Records(Vec<u8>, u64),
    /// The buffer does not hold the next record.
    TooSmall,
}

/// What a directory held.
#[derive(Debug)]
struct List {
    directory: Inode,
    entries: Vec<Entry>,
}

/// The lists of a job.
#[derive(Debug, Default)]
pub(in super::super) struct Listings {
    kept: BTreeMap<u64, List>,
    made: u64,
}

impl Listings {
    /// The next records for a reader of `directory` at `position` with a buffer of `room` bytes. `read` gives the directory's entries
    /// as they are now; it is asked at the beginning, and where the reader's list is no longer kept.
    pub(in super::super) fn page<E>(
        &mut self,
        (directory, position): (Inode, u64),
        room: usize,
        form: Form,
        read: impl FnOnce() -> Result<Vec<Entry>, E>,
    ) -> Result<Page, E> {
        let index = usize::try_from(position & ((1 << INDEX_BITS) - 1)).unwrap_or(0);
        let list = match position >> INDEX_BITS {
            // numbers come round: the list may be another directory's meanwhile
            number
                if self
                    .kept
                    .get(&number)
                    .is_some_and(|list| list.directory == directory) =>
            {
                number
            }
            _ => self.keep(directory, read()?),
        };
        let entries = self.kept.get(&list).map_or(&[][..], |list| &list.entries);
        Ok(records(entries, list, index, room, form))
    }

    fn keep(&mut self, directory: Inode, mut entries: Vec<Entry>) -> u64 {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.truncate(MOST);
        let kept = self.kept.values().map(|list| list.entries.len());
        let mut all = entries.len() + kept.sum::<usize>();
        while self.kept.len() >= KEPT || all > KEPT_ENTRIES {
            // numbers come round: the oldest is the next one above the last
            let mut above = self.kept.range(self.made + 1..).map(|(number, _)| *number);
            let oldest = above.next().or_else(|| self.kept.keys().next().copied());
            let Some(oldest) = oldest.and_then(|number| self.kept.remove(&number)) else {
                break;
            };
            all -= oldest.entries.len();
        }
        self.made = self.made % (LISTS - 1) + 1;
        self.kept.insert(self.made, List { directory, entries });
        self.made
    }
}

fn records(entries: &[Entry], list: u64, mut index: usize, room: usize, form: Form) -> Page {
    let position = |index: usize| list << INDEX_BITS | u64::try_from(index).unwrap_or(0);
    let mut out = Vec::with_capacity(room.min(1 << 15));
    for entry in entries.get(index..).unwrap_or_default() {
        let length = record_length(entry, form);
        if out.len() + length > room {
            if out.is_empty() {
                return Page::TooSmall;
            }
            break;
        }
        index += 1;
        write(entry, position(index), length, form, &mut out);
    }
    Page::Records(out, position(index))
}

/// Records begin at multiples of eight bytes.
fn record_length(entry: &Entry, form: Form) -> usize {
    let bare = match form {
        Form::Wide => HEAD_64 + entry.name.len() + 1,
        // The kind is the record's last byte.
        Form::Old => HEAD_OLD + entry.name.len() + 2,
    };
    bare.next_multiple_of(8)
}

fn write(entry: &Entry, next: u64, length: usize, form: Form, out: &mut Vec<u8>) {
    let end = out.len() + length;
    out.extend(entry.inode.to_le_bytes());
    out.extend(next.to_le_bytes());
    out.extend(u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    if form == Form::Wide {
        out.push(entry.kind);
    }
    out.extend(&entry.name);
    out.resize(end, 0);
    if form == Form::Old {
        out[end - 1] = entry.kind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HERE: Inode = Inode { device: 1, number: 2 };

    /// Reads the kernel's `linux_dirent64` records; what is cut short is left out.
    fn parse(mut bytes: &[u8], out: &mut Vec<Entry>) {
        while let Some(head) = bytes.first_chunk::<HEAD_64>() {
            let number = |from: usize| u64::from_le_bytes(std::array::from_fn(|at| head[from + at]));
            let length = usize::from(u16::from_le_bytes([head[16], head[17]]));
            let Some(record) = bytes.get(..length).filter(|_| length > HEAD_64) else {
                return;
            };
            let name = &record[HEAD_64..];
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            out.push(Entry {
                inode: number(0),
                kind: head[18],
                name: name[..end].to_vec(),
            });
            bytes = &bytes[length..];
        }
    }

    fn entry(name: &str) -> Entry {
        Entry {
            inode: 7,
            kind: libc::DT_REG,
            name: name.as_bytes().to_vec(),
        }
    }

    fn infallible(entries: Vec<Entry>) -> impl FnOnce() -> Result<Vec<Entry>, ()> {
        move || Ok(entries)
    }

    /// Reads on from `position` to the end, in pages of `room` bytes.
    fn rest(lists: &mut Listings, mut position: u64, room: usize, entries: &[Entry]) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            let page = lists.page((HERE, position), room, Form::Wide, infallible(entries.to_vec()));
            let Ok(Page::Records(bytes, next)) = page else {
                panic!("{page:?}")
            };
            if bytes.is_empty() {
                return names;
            }
            let mut parsed = Vec::new();
            parse(&bytes, &mut parsed);
            names.extend(
                parsed
                    .into_iter()
                    .map(|entry| String::from_utf8(entry.name).unwrap()),
            );
            position = next;
        }
    }

    #[test]
    fn a_reader_in_the_middle_keeps_its_list() {
        let mut lists = Listings::default();
        let before = ["c", "a", "b"].map(entry);
        let Ok(Page::Records(bytes, middle)) =
            lists.page((HERE, 0), 24, Form::Wide, infallible(before.to_vec()))
        else {
            panic!("no records");
        };
        assert_eq!(bytes.len(), 24);
        // Another reader begins, after "a" and "b" are gone.
        let after = ["c"].map(entry);
        assert_eq!(rest(&mut lists, 0, 1000, &after), ["c"]);
        assert_eq!(rest(&mut lists, middle, 24, &after), ["b", "c"]);
        assert_eq!(rest(&mut lists, middle, 1000, &after), ["b", "c"]);
    }

    #[test]
    fn a_forgotten_list_is_read_again() {
        let mut lists = Listings::default();
        let entries = ["a", "b"].map(entry);
        let Ok(Page::Records(_, middle)) =
            lists.page((HERE, 0), 24, Form::Wide, infallible(entries.to_vec()))
        else {
            panic!("no records");
        };
        for _ in 0..=KEPT {
            rest(&mut lists, 0, 1000, &entries);
        }
        assert_eq!(rest(&mut lists, middle, 1000, &entries), ["b"]);
    }

    #[test]
    fn no_reader_gets_the_list_of_another_directory() {
        let mut lists = Listings::default();
        let Ok(Page::Records(_, middle)) = lists.page(
            (HERE, 0),
            24,
            Form::Wide,
            infallible(vec![entry("a"), entry("b")]),
        ) else {
            panic!("no records");
        };
        let there = Inode { number: 3, ..HERE };
        for _ in 1..LISTS {
            let read = infallible(vec![entry("c"), entry("d")]);
            lists.page((there, 0), 24, Form::Wide, read).unwrap();
        }
        assert!(lists.kept.contains_key(&(middle >> INDEX_BITS)));
        assert_eq!(rest(&mut lists, middle, 24, &["a", "b"].map(entry)), ["b"]);
    }

    #[test]
    fn positions_stay_small_however_many_lists_are_made() {
        let mut lists = Listings::default();
        let mut last = Vec::new();
        for _ in 0..3 * LISTS {
            let page = lists.page((HERE, 0), 24, Form::Wide, infallible(vec![entry("a")]));
            let Ok(Page::Records(_, position)) = page else {
                panic!("{page:?}")
            };
            assert!(position > 1 << INDEX_BITS && i32::try_from(position).is_ok());
            last.push(position >> INDEX_BITS);
            // those that were made last are kept
            assert!(
                last.iter()
                    .rev()
                    .take(KEPT)
                    .all(|list| lists.kept.contains_key(list))
            );
        }
    }

    #[test]
    fn a_small_buffer_is_an_error_only_where_nothing_fits() {
        let mut lists = Listings::default();
        let entries = vec![entry("a"), entry("a long name that takes more")];
        let page = lists
            .page((HERE, 0), 30, Form::Wide, infallible(entries.clone()))
            .unwrap();
        let Page::Records(bytes, next) = page else {
            panic!("too small")
        };
        assert_eq!(bytes.len(), 24);
        assert_eq!(
            lists
                .page((HERE, next), 30, Form::Wide, infallible(entries))
                .unwrap(),
            Page::TooSmall
        );
    }

    #[test]
    fn the_old_form_has_the_kind_at_its_end() {
        let mut out = Vec::new();
        let link = Entry {
            inode: 3,
            kind: libc::DT_LNK,
            name: b"ab".to_vec(),
        };
        write(&link, 9, record_length(&link, Form::Old), Form::Old, &mut out);
        assert_eq!(out.len(), 24);
        assert_eq!(
            (out[0], out[8], out[16], &out[18..21], out[23]),
            (3, 9, 24, &b"ab\0"[..], libc::DT_LNK)
        );
    }

    proptest! {
        #[test]
        fn every_name_comes_once_and_in_order(
            names in proptest::collection::btree_set("[a-z]{1,40}", 0..60),
            room in 64_usize..600,
            seed in any::<u64>(),
        ) {
            let mut entries: Vec<Entry> = names.iter().map(|name| entry(name)).collect();
            let turn = usize::try_from(seed % 61).unwrap() % entries.len().max(1);
            entries.rotate_left(turn);
            let expected: Vec<String> = names.into_iter().collect();
            prop_assert_eq!(rest(&mut Listings::default(), 0, room, &entries), expected);
        }
    }
}
