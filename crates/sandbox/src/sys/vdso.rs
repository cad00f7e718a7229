//! The machine code that takes the place of the vDSO's functions, and the one that a fresh program runs first.
//!
//! Owns the code alone; it is never run here, only copied into traced programs. It works on the page at [`CLOCK_PAGE`]
//! of the program: virtual time in nanoseconds, and the time at which the tracer wants to be asked.
#![allow(unsafe_code)]

/// Where a traced program has its clock page.
pub(crate) const CLOCK_PAGE: u64 = 0x10_0000;
/// Virtual nanoseconds that one look at the clock takes.
pub(crate) const CLOCK_STEP: u64 = 1_000;
/// Virtual time's beginning in Unix seconds: 2026-01-01T00:00:00Z.
pub(crate) const EPOCH_SECONDS: u64 = 1_767_225_600;

std::arch::global_asm!(
    r#"
    .pushsection .rodata.sandrun_vdso,"a",@progbits
    .globl sandrun_vdso_code, sandrun_vdso_code_end
    sandrun_vdso_code:
    .globl sandrun_vdso_gettime
    sandrun_vdso_gettime:
        mov rax, ds:[{now}]
        add rax, {step}
        mov ds:[{now}], rax
        cmp rax, ds:[{due}]
        jae 9f
        cmp edi, 11
        ja 9f
        mov ecx, edi
        mov edx, 1
        shl edx, cl
        test edx, 0x821
        jz 1f
        movabs rcx, {epoch}
        add rax, rcx
        jmp 2f
    1:  test edx, 0xde
        jz 9f
    2:  xor edx, edx
        mov ecx, 1000000000
        div rcx
        mov [rsi], rax
        mov [rsi + 8], rdx
        xor eax, eax
        ret
    9:  mov eax, 228
        syscall
        ret
    .globl sandrun_vdso_timeofday
    sandrun_vdso_timeofday:
        mov rax, ds:[{now}]
        add rax, {step}
        mov ds:[{now}], rax
        cmp rax, ds:[{due}]
        jae 9f
        test rdi, rdi
        jz 1f
        movabs rcx, {epoch}
        add rax, rcx
        xor edx, edx
        mov ecx, 1000000000
        div rcx
        mov [rdi], rax
        mov eax, edx
        xor edx, edx
        mov ecx, 1000
        div ecx
        mov [rdi + 8], rax
    1:  test rsi, rsi
        jz 2f
        mov qword ptr [rsi], 0
    2:  xor eax, eax
        ret
    9:  mov eax, 96
        syscall
        ret
    .globl sandrun_vdso_time
    sandrun_vdso_time:
        mov rax, ds:[{now}]
        add rax, {step}
        mov ds:[{now}], rax
        cmp rax, ds:[{due}]
        jae 9f
        movabs rcx, {epoch}
        add rax, rcx
        xor edx, edx
        mov ecx, 1000000000
        div rcx
        test rdi, rdi
        jz 1f
        mov [rdi], rax
    1:  ret
    9:  mov eax, 201
        syscall
        ret
    .globl sandrun_vdso_getcpu
    sandrun_vdso_getcpu:
        xor eax, eax
        test rdi, rdi
        jz 1f
        mov [rdi], eax
    1:  test rsi, rsi
        jz 2f
        mov [rsi], eax
    2:  ret
    .globl sandrun_vdso_getres
    sandrun_vdso_getres:
        cmp edi, 11
        ja 9f
        xor eax, eax
        test rsi, rsi
        jz 1f
        mov [rsi], rax
        mov qword ptr [rsi + 8], 1
    1:  ret
    9:  mov eax, 229
        syscall
        ret
    .globl sandrun_vdso_absent
    sandrun_vdso_absent:
        mov rax, -38
        ret
    .globl sandrun_vdso_start
    sandrun_vdso_start:
        mov eax, 158
        mov edi, 0x1012
        xor esi, esi
        syscall
    .globl sandrun_vdso_start_soft
    sandrun_vdso_start_soft:
        mov eax, 9
        mov edi, {now}
        mov esi, 4096
        mov edx, 3
        mov r10d, 0x100022
        mov r8, -1
        xor r9d, r9d
        syscall
        int3
    sandrun_vdso_code_end:
    .popsection
    "#,
    now = const CLOCK_PAGE,
    due = const CLOCK_PAGE + 8,
    step = const CLOCK_STEP,
    epoch = const EPOCH_SECONDS * 1_000_000_000,
);

unsafe extern "C" {
    static sandrun_vdso_code: u8;
    static sandrun_vdso_code_end: u8;
    static sandrun_vdso_gettime: u8;
    static sandrun_vdso_timeofday: u8;
    static sandrun_vdso_time: u8;
    static sandrun_vdso_getcpu: u8;
    static sandrun_vdso_getres: u8;
    static sandrun_vdso_absent: u8;
    static sandrun_vdso_start: u8;
    static sandrun_vdso_start_soft: u8;
}

/// The code, and where in it what begins.
#[derive(Debug)]
pub(crate) struct Code {
    /// All of it; it runs at any address.
    pub(crate) bytes: &'static [u8],
    /// `clock_gettime`.
    pub(crate) gettime: usize,
    /// `gettimeofday`.
    pub(crate) timeofday: usize,
    /// `time`.
    pub(crate) time: usize,
    /// `getcpu`.
    pub(crate) getcpu: usize,
    /// `clock_getres`.
    pub(crate) getres: usize,
    /// Any other: fails with ENOSYS.
    pub(crate) absent: usize,
    /// What a fresh program runs first: CPUID faults from then on, the clock page is mapped, then a breakpoint.
    pub(crate) start: usize,
    /// The same without the faults.
    pub(crate) start_soft: usize,
}

/// The code of this architecture.
pub(crate) fn code() -> Code {
    let base = (&raw const sandrun_vdso_code).addr();
    let at = |symbol: *const u8| symbol.addr() - base;
    let length = at(&raw const sandrun_vdso_code_end);
    Code {
        // SAFETY: both symbols bound one piece of read-only data of this executable.
        bytes: unsafe { std::slice::from_raw_parts(&raw const sandrun_vdso_code, length) },
        gettime: at(&raw const sandrun_vdso_gettime),
        timeofday: at(&raw const sandrun_vdso_timeofday),
        time: at(&raw const sandrun_vdso_time),
        getcpu: at(&raw const sandrun_vdso_getcpu),
        getres: at(&raw const sandrun_vdso_getres),
        absent: at(&raw const sandrun_vdso_absent),
        start: at(&raw const sandrun_vdso_start),
        start_soft: at(&raw const sandrun_vdso_start_soft),
    }
}
