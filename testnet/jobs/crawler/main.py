"""A small web crawler: workers fetch the pages of site/ through a server on a local socket, follow links, rank the pages
(PageRank; Brin and Page, 1998) and build an index in SQLite.
"""

import csv
import http.client
import http.server
import os
import queue
import re
import socket
import socketserver
import sqlite3
import threading
from html.parser import HTMLParser
from urllib.parse import urljoin, urlparse

SOCKET = "/tmp/site.sock"


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self):
        request, _ = super().get_request()
        return request, ("local", 0)


class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, directory="site", **options)

    def log_message(self, *arguments):
        pass


class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(SOCKET)


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.text, self.title, self.inside = [], [], "", ""

    def handle_starttag(self, tag, attributes):
        self.inside = tag
        if tag == "a":
            self.links += [value for name, value in attributes if name == "href"]

    def handle_data(self, data):
        if self.inside == "title":
            self.title += data.strip()
        self.text.append(data)


def fetch(path):
    connection = Connection("local")
    connection.request("GET", path, headers={"User-Agent": "crawler"})
    answer = connection.getresponse()
    body = answer.read().decode("utf-8")
    connection.close()
    return answer.status, body


pages, missing, seen = {}, [], {"/index.html"}
todo, lock = queue.Queue(), threading.Lock()
todo.put("/index.html")


def worker():
    while True:
        path = todo.get()
        if path is None:
            return
        status, body = fetch(path)
        page = Page()
        page.feed(body)
        targets = [urlparse(urljoin(f"http://local{path}", link)) for link in page.links]
        targets = [target.path for target in targets if target.hostname == "local"]
        with lock:
            if status == 200:
                pages[path] = (page, targets)
            else:
                missing.append((path, status))
            for target in targets if status == 200 else ():
                if target not in seen:
                    seen.add(target)
                    todo.put(target)
        todo.task_done()


server = Server(SOCKET, Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
workers = [threading.Thread(target=worker) for _ in range(4)]
for thread in workers:
    thread.start()
todo.join()
for _ in workers:
    todo.put(None)
for thread in workers:
    thread.join()
server.shutdown()
os.unlink(SOCKET)

rank = dict.fromkeys(pages, 1 / len(pages))
for _ in range(40):
    new = dict.fromkeys(pages, 0.15 / len(pages))
    for path, (_, targets) in pages.items():
        known = [target for target in targets if target in pages] or list(pages)
        for target in known:
            new[target] += 0.85 * rank[path] / len(known)
    rank = new

database = sqlite3.connect("index.db")
database.execute("create table words (word text, page text, times integer, primary key (word, page))")
with database:
    for path, (page, _) in pages.items():
        for word in re.findall(r"[a-z]+", " ".join(page.text).lower()):
            database.execute(
                "insert into words values (?, ?, 1) on conflict do update set times = times + 1", (word, path)
            )
hits = database.execute(
    "select page, times from words where word = 'otter' order by times desc, page limit 3"
).fetchall()
database.close()

with open("pages.csv", "w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    # in the order in which they were fetched
    for path, (page, targets) in pages.items():
        writer.writerow([path, page.title, len(targets), f"{rank[path]:.6f}"])
best = max(rank, key=rank.get)
print(f"{len(pages)} pages, {len(missing)} missing, first {best}, otter on {hits}")
