//! Turns a policy over system call numbers into a classic BPF program.
//!
//! Owns the assembly: a binary search over ranges of numbers, so that a program stays small (loading it is part of
//! every job's start) and every call passes about eight instructions. Never decides what is allowed.

use crate::sys::Instruction;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is made.
    Allow,
    /// It stops for the tracer.
    Trace,
    /// The low half of argument `argument` decides: if `value & mask == equals` it stops for the tracer, else it is
    /// made; the other way round if `unless`.
    TraceIf {
        argument: u8,
        mask: u32,
        equals: u32,
        unless: bool,
    },
    /// It fails with this error number.
    Errno(u16),
    /// The low half of argument `argument` decides: if `value & mask == equals` it is made, else it fails.
    If {
        argument: u8,
        mask: u32,
        equals: u32,
        otherwise: u16,
        traced: bool,
    },
    /// The low half of argument `argument` decides: if it is one of `values` the call is made, if one
    /// of `traced` it stops for the tracer, else it fails.
    Among {
        argument: u8,
        values: &'static [u32],
        traced: &'static [u32],
        otherwise: u16,
    },
    /// It goes to the filter's listener if the low half of argument 5 is not `mark`, and of `only`, an argument and bits, if
    /// one of these is set in it; else it is made.
    Notify { only: Option<(u8, u32)>, mark: u32 },
    /// The low half of argument `argument` decides: if it is `equals` the call fails, else it is made.
    Unless {
        argument: u8,
        equals: u32,
        otherwise: u16,
        traced: bool,
    },
}

/// Calls `from` to the next range's `from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    from: u32,
    verdict: Verdict,
}

/// `BPF_LD | BPF_W | BPF_ABS`.
const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`.
const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const JUMP_EQ: u16 = 0x15;
/// `BPF_JMP | BPF_JGE | BPF_K`.
const JUMP_GE: u16 = 0x35;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER_AT: u32 = 0;
const ARCH_AT: u32 = 4;
const ARGUMENTS_AT: u32 = 16;

/// Assembles a filter: calls of another architecture fail with `foreign`, calls in `rules` get their verdict, calls
/// up to `newest` without a rule fail with `unlisted`, and newer ones with ENOSYS, as on an older kernel.
pub(super) fn assemble(
    arch: u32,
    foreign: u16,
    rules: &[(u32, Verdict)],
    newest: u32,
    unlisted: u16,
) -> Vec<Instruction> {
    let ranges = ranges(rules, newest, unlisted);
    let mut program = vec![
        plain(LOAD, ARCH_AT),
        jump(JUMP_EQ, arch, 1, 0),
        plain(RETURN, libc::SECCOMP_RET_ERRNO | u32::from(foreign)),
        plain(LOAD, NUMBER_AT),
    ];
    program.extend(search(&ranges));
    program
}

/// Assembles a filter that only adds to another one: calls in `rules` get their verdict, all others are allowed.
pub(super) fn overlay(rules: &[(u32, Verdict)]) -> Vec<Instruction> {
    let mut program = vec![plain(LOAD, NUMBER_AT)];
    for (number, rule) in rules {
        let code = verdict(*rule);
        program.push(jump(
            JUMP_EQ,
            *number,
            0,
            u8::try_from(code.len()).unwrap_or(u8::MAX),
        ));
        program.extend(code);
    }
    program.push(plain(RETURN, libc::SECCOMP_RET_ALLOW));
    program
}

/// Sorted ranges that cover every number, equal neighbours joined.
fn ranges(rules: &[(u32, Verdict)], newest: u32, unlisted: u16) -> Vec<Range> {
    let mut sorted = rules.to_vec();
    sorted.sort_by_key(|(number, _)| *number);
    let mut ranges: Vec<Range> = Vec::new();
    let mut push = |from: u32, verdict: Verdict| {
        if ranges.last().is_none_or(|last| last.verdict != verdict) {
            ranges.push(Range { from, verdict });
        }
    };
    let mut next = 0;
    for (number, verdict) in sorted {
        if number > next {
            push(next, Verdict::Errno(unlisted));
        }
        push(number, verdict);
        next = number + 1;
    }
    if newest >= next {
        push(next, Verdict::Errno(unlisted));
    }
    push(newest.max(next) + 1, Verdict::Errno(errno(libc::ENOSYS)));
    ranges
}

/// An error number in the width that a filter's answer has.
pub(super) fn errno(number: i32) -> u16 {
    u16::try_from(number).unwrap_or(1)
}

fn search(ranges: &[Range]) -> Vec<Instruction> {
    let [first, rest @ ..] = ranges else {
        return Vec::new();
    };
    if rest.is_empty() {
        return verdict(first.verdict);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let low_code = search(low);
    let pivot = high.first().map_or(0, |range| range.from);
    // Conditional jumps reach 255 instructions, unconditional ones anywhere.
    let mut code = match u8::try_from(low_code.len()) {
        Ok(distance) => vec![jump(JUMP_GE, pivot, distance, 0)],
        Err(_) => {
            let distance = u32::try_from(low_code.len()).unwrap_or(0);
            vec![jump(JUMP_GE, pivot, 0, 1), plain(JUMP, distance)]
        }
    };
    code.extend(low_code);
    code.extend(search(high));
    code
}

fn verdict(verdict: Verdict) -> Vec<Instruction> {
    let allow = plain(RETURN, libc::SECCOMP_RET_ALLOW);
    let fail = |number: u16| plain(RETURN, libc::SECCOMP_RET_ERRNO | u32::from(number));
    let trace = plain(RETURN, libc::SECCOMP_RET_TRACE);
    let made = |traced: bool| if traced { trace } else { allow };
    match verdict {
        Verdict::Allow => vec![allow],
        Verdict::Trace => vec![trace],
        Verdict::Errno(number) => vec![fail(number)],
        Verdict::TraceIf {
            argument,
            mask,
            equals,
            unless,
        } => vec![
            plain(LOAD, ARGUMENTS_AT + 8 * u32::from(argument)),
            plain(AND, mask),
            jump(JUMP_EQ, equals, 0, 1),
            made(!unless),
            made(unless),
        ],
        Verdict::If {
            argument,
            mask,
            equals,
            otherwise,
            traced,
        } => vec![
            plain(LOAD, ARGUMENTS_AT + 8 * u32::from(argument)),
            plain(AND, mask),
            jump(JUMP_EQ, equals, 0, 1),
            made(traced),
            fail(otherwise),
        ],
        Verdict::Among {
            argument,
            values,
            traced,
            otherwise,
        } => {
            let mut code = vec![plain(LOAD, ARGUMENTS_AT + 8 * u32::from(argument))];
            let all = values.len() + traced.len();
            for (at, value) in values.iter().chain(traced).enumerate() {
                // over the other comparisons, the failure, and what it is not
                let rest = all - at + usize::from(at >= values.len());
                let rest = u8::try_from(rest).unwrap_or(u8::MAX);
                code.push(jump(JUMP_EQ, *value, rest, 0));
            }
            code.extend([fail(otherwise), allow, trace]);
            code
        }
        Verdict::Notify { only, mark } => {
            let argument = |argument: u8| plain(LOAD, ARGUMENTS_AT + 8 * u32::from(argument));
            let mut code = Vec::new();
            if let Some((place, bits)) = only {
                code.extend([argument(place), plain(AND, bits), jump(JUMP_EQ, 0, 3, 0)]);
            }
            code.extend([argument(5), jump(JUMP_EQ, mark, 1, 0)]);
            code.extend([plain(RETURN, libc::SECCOMP_RET_USER_NOTIF), allow]);
            code
        }
        Verdict::Unless {
            argument,
            equals,
            otherwise,
            traced,
        } => vec![
            plain(LOAD, ARGUMENTS_AT + 8 * u32::from(argument)),
            jump(JUMP_EQ, equals, 1, 0),
            made(traced),
            fail(otherwise),
        ],
    }
}

const fn plain(code: u16, k: u32) -> Instruction {
    jump(code, k, 0, 0)
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runs a program as the kernel does.
    pub(in super::super) fn run(program: &[Instruction], arch: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut a) = (0, 0_u32);
        loop {
            let i = program[at];
            at += 1;
            let taken = |hit: bool| usize::from(if hit { i.jt } else { i.jf });
            match i.code {
                // every argument is the same one
                LOAD => {
                    a = [number, arch, 0, 0]
                        .get(usize::try_from(i.k / 4).unwrap())
                        .copied()
                        .unwrap_or(argument)
                }
                AND => a &= i.k,
                JUMP => at += usize::try_from(i.k).unwrap(),
                JUMP_EQ => at += taken(a == i.k),
                JUMP_GE => at += taken(a >= i.k),
                RETURN => return i.k,
                other => panic!("instruction {other}"),
            }
        }
    }

    #[test]
    fn every_number_gets_its_verdict() {
        // every other call has a rule, so that jumps get long
        let rules: Vec<(u32, Verdict)> = (0..400)
            .filter(|n| n % 2 == 0)
            .map(|n| match n % 3 {
                0 => (n, Verdict::Allow),
                1 => (n, Verdict::Errno(38)),
                _ => (
                    n,
                    Verdict::If {
                        argument: 0,
                        mask: 0xf0,
                        equals: 0x10,
                        otherwise: 9,
                        traced: false,
                    },
                ),
            })
            .collect();
        let program = assemble(7, 2, &rules, 450, 1);
        assert!(program.len() < 4096, "{} instructions", program.len());
        let fail = |n: u32| libc::SECCOMP_RET_ERRNO | n;
        for number in 0..400 {
            let expected = match (number % 2, number % 3) {
                (1, _) => fail(1),
                (_, 0) => libc::SECCOMP_RET_ALLOW,
                (_, 1) => fail(38),
                _ => fail(9),
            };
            assert_eq!(run(&program, 7, number, 0), expected, "call {number}");
        }
        assert_eq!(run(&program, 7, 2, 0x1f), libc::SECCOMP_RET_ALLOW);
        assert_eq!(run(&program, 8, 0, 0), fail(2));
        assert_eq!(run(&program, 7, 450, 0), fail(1));
        assert_eq!(run(&program, 7, 451, 0), fail(38));
        assert_eq!(run(&program, 7, 0x4000_0000, 0), fail(38));
    }
}
