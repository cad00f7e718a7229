"""Subprocesses, forks and signals: who comes first, with which number, after how long."""

import multiprocessing
import os
import random
import select
import signal
import subprocess
import sys
import time

children = []
read, write = os.pipe()
for number in range(5):
    pid = os.fork()
    if pid == 0:
        time.sleep(random.random() / 50)
        os.write(write, f"child {number} is {os.getpid()} at {time.time()}\n".encode())
        os._exit(number)
    children.append(pid)
os.close(write)
ends = [os.wait() for _ in children]
with os.fdopen(read) as said:
    print("forked", children, ends, said.read().splitlines())

running = [
    subprocess.Popen(
        [sys.executable, "-c", "import os, random, time; time.sleep(random.random() / 20); print(os.getpid(), random.random())"],
        stdout=subprocess.PIPE,
    )
    for _ in range(4)
]
order, waiting = [], {process.stdout.fileno(): process for process in running}
while waiting:
    for ready in select.select(list(waiting), [], [], 5)[0]:
        order.append((waiting[ready].pid, os.read(ready, 1000)))
        waiting[ready].wait()
        del waiting[ready]
print("subprocesses", order)


def square(value):
    time.sleep(random.random() / 100)
    return os.getpid(), value * value


if __name__ == "__main__":
    with multiprocessing.Pool(3) as pool:
        print("pool", list(pool.imap_unordered(square, range(8))))
    print("shell", subprocess.run("echo $$ $RANDOM; date +%s%N; ls -U /tmp | head; sort -R <(seq 5) 2>&1; ps 2>&1 | wc -l", shell=True,
                                  executable="/bin/bash", capture_output=True, text=True, check=False))
    seen = []
    signal.signal(signal.SIGUSR1, lambda number, _: seen.append((number, time.monotonic())))
    signal.signal(signal.SIGALRM, lambda number, _: seen.append((number, time.monotonic())))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    rounds = 0
    while len(seen) < 4:
        rounds += 1
        if rounds % 1000 == 0:
            os.kill(os.getpid(), signal.SIGUSR1)
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("signals", seen, rounds)
