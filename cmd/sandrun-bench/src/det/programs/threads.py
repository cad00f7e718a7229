"""Eight threads in a ring of eight locks hand over a hundred thousand times."""

import threading

THREADS, ROUNDS = 8, 12_500
locks = [threading.Lock() for _ in range(THREADS)]
for lock in locks:
    lock.acquire()


def turn(place):
    own, following = locks[place], locks[(place + 1) % THREADS]
    for _ in range(ROUNDS):
        own.acquire()
        following.release()


threads = [threading.Thread(target=turn, args=(place,)) for place in range(THREADS)]
for thread in threads:
    thread.start()
locks[0].release()
for thread in threads:
    thread.join()
print("done")
