"""Two processes that wait for each other in loops on shared memory, without a system call."""

import mmap
import os

memory = mmap.mmap(-1, 4096)
rounds = 0
if os.fork() == 0:
    for turn in range(1, 200, 2):
        while memory[0] != turn:
            pass
        memory[0] = turn + 1
    os._exit(0)
for turn in range(0, 200, 2):
    memory[0] = turn + 1
    while memory[0] != turn + 2:
        rounds += 1
os.wait()
print("waited", rounds, "rounds")
