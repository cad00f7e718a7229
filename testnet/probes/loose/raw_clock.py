"""Asks for the date by the system call instruction itself, past the C library."""

import ctypes
import mmap

# mov eax, 228 (clock_gettime); mov rsi, rdi; xor edi, edi (CLOCK_REALTIME); syscall; ret
CODE = bytes.fromhex("b8e40000004889fe31ff0f05c3")
memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
memory.write(CODE)
ask = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
now = (ctypes.c_int64 * 2)()
assert ask(ctypes.addressof(now)) == 0
print("it is", now[0], now[1])
