"""Prints whatever differs between two runs of one program: random numbers, time, ids, hash order, the machine."""

import gc
import os
import platform
import random
import resource
import secrets
import socket
import sys
import tempfile
import time
import uuid


class Thing:
    pass


print("random", random.random(), random.SystemRandom().random(), secrets.token_hex(8), os.urandom(8).hex())
print("uuid", uuid.uuid1(), uuid.uuid4(), hex(uuid.getnode()))
print("time", time.time_ns(), time.monotonic_ns(), time.perf_counter_ns(), time.process_time_ns(), time.thread_time_ns())
print("date", time.ctime(), time.localtime().tm_yday, time.tzname, time.clock_gettime(time.CLOCK_BOOTTIME))
print("hash", hash("word"), hash(Thing()), [hash(Thing) % 1009, id(Thing()) % 65536])
print("set", {str(n) for n in range(20)}, [id(x) for x in {Thing() for _ in range(5)}])
print("repr", Thing(), len, sys.getrefcount(Thing), gc.get_count())

for name in random.sample([f"file-{n}" for n in range(40)], 40):
    with open(name, "w", encoding="utf-8") as file:
        file.write(name)
print("listdir", os.listdir("."))
print("scandir", [(entry.name, entry.inode()) for entry in os.scandir(".")][:5])
found = os.stat("file-1")
print("stat", found.st_ino, found.st_dev, found.st_nlink, found.st_mtime_ns, found.st_ctime_ns, found.st_uid, found.st_blocks)
print("statvfs", os.statvfs(".").f_bsize, os.statvfs("/tmp").f_files > 0)
print("temporary", tempfile.mktemp(), tempfile.gettempdir())

print("ids", os.getpid(), os.getppid(), os.getuid(), os.getpgrp(), os.getsid(0))
print("host", socket.gethostname(), platform.uname(), os.cpu_count(), sorted(os.sched_getaffinity(0)), os.getloadavg())
print("limits", [resource.getrlimit(kind) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_STACK, resource.RLIMIT_NPROC, resource.RLIMIT_AS)])
used = resource.getrusage(resource.RUSAGE_SELF)
print("used", used.ru_utime, used.ru_maxrss, used.ru_minflt, used.ru_nvcsw, used.ru_nivcsw)
print("environment", list(os.environ))
for path in ("/proc/self/stat", "/proc/meminfo", "/proc/uptime", "/proc/loadavg", "/proc/cpuinfo", "/proc/self/status",
             "/proc/sys/kernel/random/uuid", "/proc/sys/kernel/random/boot_id", "/proc/stat", "/proc/self/maps", "/etc/hostname"):
    try:
        with open(path, encoding="utf-8") as file:
            print(path, hash(file.read()))
    except OSError as error:
        print(path, error)
print("proc", [name for name in os.listdir("/proc") if name.isdigit()], os.listdir("/proc/self/fd"))

started = time.monotonic()
time.sleep(0.3)
print("slept", time.monotonic() - started)
rounds = 0
started = time.time()
while time.time() - started < 0.02:
    rounds += 1
print("rounds", rounds)
