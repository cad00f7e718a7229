# Ways in which processes with several threads end, many times each: who is told, in which order, at which time.
import ctypes, os, signal, sys, threading, time

libc = ctypes.CDLL(None, use_errno=True)
seen = []

def sleepers(count):
    for n in range(count):
        threading.Thread(target=time.sleep, args=(100 + n,), daemon=True).start()

def leader_leaves():
    sleepers(12)
    os._exit(3)

def thread_leaves(place):
    def leave():
        time.sleep(0.01)
        os._exit(4 + place)
    for n in range(9):
        if n == place * 4:
            threading.Thread(target=leave).start()
        else:
            sleepers(1)
    time.sleep(100)

def signal_ends():
    sleepers(7)
    os.kill(os.getpid(), signal.SIGTERM)

def fault_in_thread():
    sleepers(3)
    threading.Thread(target=ctypes.string_at, args=(0,)).start()
    sleepers(3)
    time.sleep(100)

def thread_executes():
    sleepers(4)
    def execute():
        os.execv('/bin/sh', ['sh', '-c', 'exit 9'])
    threading.Thread(target=execute).start()
    sleepers(4)
    time.sleep(100)

def leader_first():
    def last():
        time.sleep(0.01)
    threading.Thread(target=last).start()
    libc.syscall(60, 0)

def waits():
    sleepers(5)
    time.sleep(100)

def own_group():
    os.setpgid(0, 0)
    for _ in range(3):
        if os.fork() == 0:
            sleepers(3)
            time.sleep(100)
    sleepers(3)
    time.sleep(0.01)
    os.kill(0, signal.SIGKILL)

def timer_kills():
    class Event(ctypes.Structure):
        _fields_ = [('value', ctypes.c_void_p), ('signo', ctypes.c_int), ('notify', ctypes.c_int), ('rest', ctypes.c_char * 48)]
    event, number = Event(None, signal.SIGKILL, 0, b''), ctypes.c_int()
    sleepers(3)
    libc.syscall(222, 1, ctypes.byref(event), ctypes.byref(number))
    libc.syscall(223, number, 0, (ctypes.c_long * 4)(0, 0, 0, 5_000_000), None)
    time.sleep(100)

def start(body, *arguments):
    child = os.fork()
    if child == 0:
        body(*arguments)
        os._exit(99)
    return child

def told(number, frame):
    seen.append(('told', time.monotonic_ns()))

signal.signal(signal.SIGCHLD, told)

# another thread works on meanwhile, so that the moment of a wake changes what comes next
done = False
count = 0
def works():
    global count
    while not done:
        count += 1
        os.getppid()
        time.sleep(0.0001)
worker = threading.Thread(target=works)
worker.start()

for round in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
    children = [
        start(leader_leaves), start(thread_leaves, 0), start(thread_leaves, 1), start(thread_leaves, 2),
        start(signal_ends), start(fault_in_thread), start(thread_executes), start(leader_first), start(own_group),
        start(timer_kills),
    ]
    for child in children:
        pid, status = os.waitpid(child, 0)
        seen.append((pid, status, count, time.monotonic_ns()))
    group = [start(waits) for _ in range(4)]
    for child in group:
        os.setpgid(child, group[0])
    time.sleep(0.01)
    os.killpg(group[0], signal.SIGKILL)
    for _ in group:
        seen.append(os.waitpid(-1, 0) + (count, time.monotonic_ns()))
done = True
worker.join()
for entry in seen:
    print(entry)
