"""Threads that append to a list and add to a counter without a lock."""

import threading

counter, order = 0, []


def race(name):
    global counter
    for _ in range(150_000):
        seen = counter
        order.append(name)
        counter = seen + 1


threads = [threading.Thread(target=race, args=(name,)) for name in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("counted", counter, "turns", [place for place in range(1, len(order)) if order[place] != order[place - 1]][:20])
