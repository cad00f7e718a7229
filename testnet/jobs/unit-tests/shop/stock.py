"""Stock with reservations that lapse, kept in a JSON file."""

import json
import os
import tempfile
import threading
import time
import uuid


class OutOfStock(Exception):
    pass


class Stock:
    def __init__(self, path, clock=time.time):
        self.path, self.clock, self.lock = path, clock, threading.Lock()
        self.items, self.reserved = {}, {}
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                self.items = json.load(file)

    def save(self):
        directory = os.path.dirname(self.path)
        handle, temporary = tempfile.mkstemp(dir=directory)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(self.items, file)
        os.replace(temporary, self.path)

    def add(self, item, count):
        if count <= 0:
            raise ValueError(f"{count} is no number of items")
        with self.lock:
            self.items[item] = self.items.get(item, 0) + count
            self.save()

    def reserve(self, item, count, seconds=60.0):
        with self.lock:
            self.lapse()
            if self.items.get(item, 0) < count:
                raise OutOfStock(item)
            self.items[item] -= count
            ticket = str(uuid.uuid4())
            self.reserved[ticket] = (item, count, self.clock() + seconds)
            return ticket

    def take(self, ticket):
        with self.lock:
            self.lapse()
            return self.reserved.pop(ticket)[:2]

    def lapse(self):
        for ticket, (item, count, until) in list(self.reserved.items()):
            if until <= self.clock():
                self.items[item] += count
                del self.reserved[ticket]
