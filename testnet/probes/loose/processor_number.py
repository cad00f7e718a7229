"""Asks on which processor it runs, by the RDPID instruction, which no sandbox sees."""

import ctypes
import mmap

CODE = bytes.fromhex("f30fc7f8c3")  # rdpid rax; ret
memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
memory.write(CODE)
number = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
print("this is processor", number() & 0xFFF)
