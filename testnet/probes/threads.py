"""Eight threads that race: without locks, for locks, with queues, conditions, timers and time-outs."""

import queue
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

sequence, counter = [], 0


def race(name):
    global counter
    for step in range(400):
        value = counter
        if step % 50 == 0:
            time.sleep(random.random() / 1000)
        counter = value + 1
        sequence.append(name)


threads = [threading.Thread(target=race, args=(name,)) for name in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
turns = sum(a != b for a, b in zip(sequence, sequence[1:]))
print("race", counter, turns, sequence[::131])

jobs, results = queue.Queue(5), queue.SimpleQueue()


def work(name):
    while (job := jobs.get()) is not None:
        results.put((name, job))


threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
for thread in threads:
    thread.start()
for job in range(100):
    jobs.put(job)
for _ in threads:
    jobs.put(None)
for thread in threads:
    thread.join()
print("queue", [results.get() for _ in range(100)][::7])

condition, woken = threading.Condition(), []


def wait(name):
    with condition:
        was_told = condition.wait(timeout=0.05 if name % 3 == 0 else 5)
        woken.append((name, was_told))


threads = [threading.Thread(target=wait, args=(name,)) for name in range(8)]
for thread in threads:
    thread.start()
time.sleep(0.1)
with condition:
    condition.notify_all()
for thread in threads:
    thread.join()
print("woken", woken)

barrier, order = threading.Barrier(8), []


def meet(name):
    for _ in range(3):
        order.append((name, barrier.wait()))


with ThreadPoolExecutor(8) as pool:
    ended = [task.result() for task in as_completed([pool.submit(pow, n, n) for n in range(20)])]
    list(pool.map(meet, range(8)))
print("barrier", order, ended[:6])

fired = []
timers = [threading.Timer(0.02 + n % 3 / 100, fired.append, [n]) for n in range(6)]
for timer in timers:
    timer.start()
for timer in timers:
    timer.join()
print("timers", fired, threading.get_ident() % 4096, threading.get_native_id())
