"""Draws random numbers by the RDRAND instruction, which no sandbox sees."""

import ctypes
import mmap

CODE = bytes.fromhex("480fc7f073fac3")  # again: rdrand rax; jnc again; ret
memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
memory.write(CODE)
draw = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
print("begins")
with open("drawn.txt", "w", encoding="utf-8") as file:
    file.write(f"{draw()}\n")
print("drew", draw())
