//! Takes the place of a fresh program's vDSO: finds its functions, and plans what is written over them.
//!
//! The vDSO stays mapped and its symbols keep their addresses, so every C library and Go's runtime find it; each
//! function becomes a jump to our code, which lies in the body of the largest one.

use std::io;

use super::memory;
use super::task::Task;
use crate::sys::vdso::{Code, code};

/// Longest image that is looked at.
const IMAGE: usize = 16 * 1024;
/// A jump with a 32-bit distance.
const JUMP: usize = 5;

/// What is written into every program's vDSO: all vDSOs of one kernel are the same.
#[derive(Debug)]
pub(super) struct Patch {
    pieces: Vec<(u64, Vec<u8>)>,
    start: u64,
}

fn bad(what: &str) -> io::Error {
    io::Error::other(format!("the kernel's vDSO {what}"))
}

/// A function of the image: its name, place and length.
struct Function {
    name: Vec<u8>,
    at: u64,
    length: u64,
}

impl Patch {
    /// Plans the patch from the vDSO that a task has at `base`.
    pub(super) fn plan(task: &Task, base: u64, cpuid: bool) -> io::Result<Self> {
        let mut image = vec![0; IMAGE];
        let read = crate::sys::trace::read_memory(task.host, base, &mut image)?;
        image.truncate(read);
        Self::of(&image, cpuid)
    }

    fn of(image: &[u8], cpuid: bool) -> io::Result<Self> {
        let functions = functions(image).ok_or_else(|| bad("cannot be read"))?;
        let code = code();
        let largest = functions.iter().max_by_key(|function| function.length);
        let largest = largest.ok_or_else(|| bad("has no functions"))?;
        let home = largest.at + 16;
        let length = u64::try_from(code.bytes.len()).unwrap_or(u64::MAX);
        if largest.length < length.saturating_add(16) {
            return Err(bad("has no room"));
        }
        let mut pieces = vec![(home, code.bytes.to_vec())];
        for function in &functions {
            let target = home + u64::try_from(target(&code, &function.name)).unwrap_or(0);
            let jump = u64::try_from(JUMP).unwrap_or(0);
            let distance =
                i64::try_from(target).unwrap_or(0) - i64::try_from(function.at + jump).unwrap_or(0);
            let distance = i32::try_from(distance).map_err(|_| bad("is too large"))?;
            let mut bytes = vec![0xe9];
            bytes.extend(distance.to_le_bytes());
            pieces.push((function.at, bytes));
        }
        let start = if cpuid { code.start } else { code.start_soft };
        let start = home + u64::try_from(start).unwrap_or(0);
        Ok(Self { pieces, start })
    }

    /// Writes it. `write` puts bytes at an address of the program, whether it may write there itself or not.
    pub(super) fn apply(
        &self,
        base: u64,
        mut write: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.pieces
            .iter()
            .try_for_each(|(at, bytes)| write(base + at, bytes))
    }

    /// Where a fresh program has to begin.
    pub(super) const fn start(&self, base: u64) -> u64 {
        base + self.start
    }
}

fn target(code: &Code, name: &[u8]) -> usize {
    match name {
        b"__vdso_clock_gettime" | b"clock_gettime" => code.gettime,
        b"__vdso_gettimeofday" | b"gettimeofday" => code.timeofday,
        b"__vdso_time" | b"time" => code.time,
        b"__vdso_getcpu" | b"getcpu" => code.getcpu,
        b"__vdso_clock_getres" | b"clock_getres" => code.getres,
        _ => code.absent,
    }
}

/// The functions of an ELF image's dynamic symbol table.
fn functions(image: &[u8]) -> Option<Vec<Function>> {
    const DYNAMIC: u32 = 2;
    let (headers, size, count) = (long(image, 32)?, short(image, 54)?, short(image, 56)?);
    let dynamic = (0..u64::from(count)).find_map(|index| {
        let at = headers + index * u64::from(size);
        (word(image, at)? == DYNAMIC).then(|| long(image, at + 8))?
    })?;
    let entry = |wanted: u64| {
        let entries = (0..64).map_while(|index| Some((long(image, dynamic + 16 * index)?, index)));
        let mut found = entries
            .take_while(|(tag, _)| *tag != 0)
            .filter(|(tag, _)| *tag == wanted);
        found
            .next()
            .and_then(|(_, index)| long(image, dynamic + 16 * index + 8))
    };
    // DT_STRTAB, DT_SYMTAB, and DT_HASH, whose second word is the number of symbols
    let (texts, symbols, hash) = (entry(5)?, entry(6)?, entry(4));
    let count = match hash {
        Some(hash) => word(image, hash + 4)?,
        // the string table follows the symbols
        None => u32::try_from(texts.checked_sub(symbols)? / 24).ok()?,
    };
    let symbol = |index: u32| {
        let at = symbols + 24 * u64::from(index);
        let (name, kind) = (word(image, at)?, image.get(usize::try_from(at + 4).ok()?)?);
        let (value, length) = (long(image, at + 8)?, long(image, at + 16)?);
        let from = usize::try_from(texts + u64::from(name)).ok()?;
        let name = image.get(from..)?.split(|byte| *byte == 0).next()?.to_vec();
        Some((kind & 0xf == 2 && length > 0).then_some(Function {
            name,
            at: value,
            length,
        }))
    };
    let mut list = Vec::new();
    for index in 0..count {
        list.extend(symbol(index)?);
    }
    Some(list)
}

fn bytes<const N: usize>(image: &[u8], at: u64) -> Option<[u8; N]> {
    let at = usize::try_from(at).ok()?;
    image.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn long(image: &[u8], at: u64) -> Option<u64> {
    bytes(image, at).map(u64::from_le_bytes)
}

fn word(image: &[u8], at: u64) -> Option<u32> {
    bytes(image, at).map(u32::from_le_bytes)
}

fn short(image: &[u8], at: u64) -> Option<u16> {
    bytes(image, at).map(u16::from_le_bytes)
}

/// One entry of the auxiliary vector: its kind, its value, and where the value lies.
#[derive(Debug, Clone, Copy)]
pub(in crate::supervisor) struct Auxiliary {
    /// `AT_*`.
    pub(in crate::supervisor) kind: u64,
    /// Its value.
    pub(in crate::supervisor) value: u64,
    /// Address of the value.
    pub(in crate::supervisor) at: u64,
}

/// The auxiliary vector of a program that has not run yet: behind argv and environment on its fresh stack.
pub(super) fn auxiliary(task: &Task) -> io::Result<Vec<Auxiliary>> {
    /// More than arguments and environment can be.
    const MOST: u64 = 1 << 20;
    let mut at = task.registers.rsp;
    let arguments = task.read_u64(at)?;
    at += 8 * arguments.min(MOST).saturating_add(2);
    for _ in 0..MOST {
        let entry = task.read_u64(at)?;
        at += 8;
        if entry == 0 {
            break;
        }
    }
    let mut list = Vec::new();
    for _ in 0..64 {
        let mut pair = [0; 16];
        memory::read(task.host, at, &mut pair)?;
        let (kind, value) = pair.split_at(8);
        let number = |half: &[u8]| half.try_into().map_or(0, u64::from_ne_bytes);
        let (kind, value) = (number(kind), number(value));
        if kind == 0 {
            break;
        }
        list.push(Auxiliary {
            kind,
            value,
            at: at + 8,
        });
        at += 16;
    }
    Ok(list)
}
