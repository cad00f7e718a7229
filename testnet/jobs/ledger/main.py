"""A bank's ledger in SQLite: several processes move money at the same time, and none of it may get lost.

Writes ledger.db and statement.csv.
"""

import csv
import multiprocessing
import os
import random
import sqlite3
import time

ACCOUNTS, TELLERS, TRANSFERS = 20, 4, 60


def connect():
    database = sqlite3.connect("ledger.db", timeout=30, isolation_level=None)
    database.execute("pragma journal_mode = wal")
    return database


def teller(number):
    database = connect()
    for _ in range(TRANSFERS):
        source, target = random.sample(range(ACCOUNTS), 2)
        amount = random.randint(1, 40)
        database.execute("begin immediate")
        (balance,) = database.execute("select balance from accounts where id = ?", (source,)).fetchone()
        if balance >= amount:
            database.execute("update accounts set balance = balance - ? where id = ?", (amount, source))
            database.execute("update accounts set balance = balance + ? where id = ?", (amount, target))
            database.execute(
                "insert into transfers (teller, pid, at, source, target, amount) values (?, ?, ?, ?, ?, ?)",
                (number, os.getpid(), time.time(), source, target, amount),
            )
        database.execute("commit")
    database.close()


if __name__ == "__main__":
    database = connect()
    database.execute("create table accounts (id integer primary key, balance integer)")
    database.execute(
        "create table transfers (id integer primary key, teller, pid, at real, source, target, amount)"
    )
    database.executemany("insert into accounts values (?, 100)", [(id,) for id in range(ACCOUNTS)])
    tellers = [multiprocessing.Process(target=teller, args=(number,)) for number in range(TELLERS)]
    for process in tellers:
        process.start()
    for process in tellers:
        process.join()
    assert all(process.exitcode == 0 for process in tellers), [process.exitcode for process in tellers]
    (total,) = database.execute("select sum(balance) from accounts").fetchone()
    assert total == 100 * ACCOUNTS, total
    rows = database.execute("select * from transfers order by id").fetchall()
    with open("statement.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    database.execute("pragma journal_mode = delete")
    database.close()
    print(f"{len(rows)} transfers, {total} in all, tellers in the order of their last one:")
    print(*dict.fromkeys(row[1] for row in reversed(rows)))
