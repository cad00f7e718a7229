"""An epidemic among people who meet at random, and a queue at a clinic: agent-based, with unseeded random numbers.

Writes course.csv, patients.csv and summary.json.
"""

import csv
import heapq
import json
import random
import sys
import uuid
from dataclasses import dataclass, field

PEOPLE, DAYS, MEETINGS = 2000, 90, 6
INFECTION, RECOVERY = 0.06, 0.12


@dataclass(order=True)
class Event:
    time: float
    number: int
    kind: str = field(compare=False)
    patient: str = field(compare=False)


def epidemic():
    healthy, sick, over = set(range(PEOPLE)), set(), set()
    for person in random.sample(range(PEOPLE), 8):
        healthy.discard(person)
        sick.add(person)
    for day in range(DAYS):
        yield day, len(healthy), len(sick), len(over)
        met = {random.randrange(PEOPLE) for _ in sick for _ in range(MEETINGS)}
        caught = {person for person in met & healthy if random.random() < INFECTION * MEETINGS / 2}
        recovered = {person for person in sick if random.random() < RECOVERY}
        healthy -= caught
        sick = (sick | caught) - recovered
        over |= recovered


def clinic(patients, doctors):
    events, waiting, waits, free, number = [], [], [], doctors, 0
    time = 0.0
    for _ in range(patients):
        time += random.expovariate(1 / 4)
        heapq.heappush(events, Event(time, number, "arrives", str(uuid.uuid4())))
        number += 1
    while events:
        event = heapq.heappop(events)
        if event.kind == "arrives":
            waiting.append(event)
        else:
            free += 1
        while free and waiting:
            free -= 1
            first = waiting.pop(0)
            waits.append((first.patient, round(event.time - first.time, 4)))
            number += 1
            heapq.heappush(
                events, Event(event.time + random.gammavariate(3, 3.5), number, "leaves", first.patient)
            )
    return waits


course = list(epidemic())
with open("course.csv", "w", newline="", encoding="utf-8") as file:
    csv.writer(file).writerows([("day", "healthy", "sick", "recovered"), *course])
waits = clinic(400, 3)
with open("patients.csv", "w", newline="", encoding="utf-8") as file:
    csv.writer(file).writerows(waits)
summary = {
    "peak": max(sick for _, _, sick, _ in course),
    "untouched": course[-1][1],
    "mean_wait": round(sum(wait for _, wait in waits) / len(waits), 4),
    "id": str(uuid.uuid4()),
}
with open("summary.json", "w", encoding="utf-8") as file:
    json.dump(summary, file)
print(summary)
sys.exit(0 if summary["peak"] > 8 else 3)
