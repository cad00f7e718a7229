"""Runs a test suite: fixtures in temporary directories, mocks, threads, subprocesses and real time."""

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

from shop.stock import OutOfStock, Stock


class StockTests(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.path = os.path.join(self.directory.name, "stock.json")
        self.stock = Stock(self.path)

    def test_what_is_added_is_there_after_a_restart(self):
        self.stock.add("lamp", 3)
        self.assertEqual(Stock(self.path).items, {"lamp": 3})
        self.assertEqual(os.listdir(self.directory.name), ["stock.json"])

    def test_a_reservation_lapses(self):
        clock = mock.Mock(return_value=100.0)
        stock = Stock(self.path, clock)
        stock.add("lamp", 1)
        ticket = stock.reserve("lamp", 1, seconds=5)
        with self.assertRaises(OutOfStock):
            stock.reserve("lamp", 1)
        clock.return_value = 105.0
        self.assertNotEqual(stock.reserve("lamp", 1), ticket)
        with self.assertRaises(KeyError):
            stock.take(ticket)

    def test_a_reservation_lapses_in_real_time(self):
        self.stock.add("lamp", 1)
        started = time.monotonic()
        self.stock.reserve("lamp", 1, seconds=0.05)
        while True:
            try:
                self.stock.reserve("lamp", 1)
                break
            except OutOfStock:
                time.sleep(0.01)
        self.assertGreaterEqual(time.monotonic() - started, 0.05)

    def test_threads_never_sell_one_item_twice(self):
        self.stock.add("lamp", 50)
        sold, failed, lock = [], [], threading.Lock()

        def buy():
            for _ in range(20):
                try:
                    ticket = self.stock.reserve("lamp", random.randint(1, 2))
                    count = self.stock.take(ticket)[1]
                    with lock:
                        sold.append(count)
                except OutOfStock as error:
                    with lock:
                        failed.append(error)

        threads = [threading.Thread(target=buy) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sum(sold) + self.stock.items["lamp"], 50)
        self.assertTrue(failed)

    def test_a_crash_while_saving_loses_nothing(self):
        self.stock.add("lamp", 1)
        code = (
            "import os, sys\nfrom shop.stock import Stock\n"
            "os.replace = lambda *_: os._exit(9)\nStock(sys.argv[1]).add('lamp', 5)\n"
        )
        ended = subprocess.run([sys.executable, "-c", code, self.path], check=False)
        self.assertEqual(ended.returncode, 9)
        self.assertEqual(Stock(self.path).items, {"lamp": 1})

    def test_bad_numbers_are_refused(self):
        for count in (0, -1):
            with self.subTest(count=count), self.assertRaises(ValueError):
                self.stock.add("lamp", count)

    @unittest.skipIf(sys.platform == "win32", "no such signals")
    def test_it_survives_a_signal(self):
        import signal

        seen = []
        before = signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        while not seen:
            self.stock.add("lamp", 1)
        self.assertEqual(seen, [1])


if __name__ == "__main__":
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(StockTests)
    with open("report.txt", "w", encoding="utf-8") as file:
        result = unittest.TextTestRunner(stream=file, verbosity=2).run(suite)
    print(f"{result.testsRun} tests, {len(result.failures) + len(result.errors)} failed")
    sys.exit(not result.wasSuccessful())
