import ctypes, mmap, os, random, signal, struct, sys, threading, time

kind, seed = sys.argv[1], int(sys.argv[2])
random.seed(f'{kind} {seed}')
libc = ctypes.CDLL(None, use_errno=True)
out = os.dup2(1, 900) if False else os.dup(1)
memory = ctypes.create_string_buffer(1 << 16)
base = ctypes.addressof(memory)


def say(*what):
    text = ' '.join(map(str, what)) + '\n'
    try:
        os.write(out, text.encode())
    except OSError:
        pass


def fork(work):
    own = random.randrange(1 << 30)
    pid = os.fork()
    if pid == 0:
        random.seed(own)
        try:
            work()
        except BaseException as error:
            say('raised', type(error).__name__)
        finally:
            os._exit(3)
    return pid


def wait_all():
    while True:
        try:
            pid, status = os.wait()
            say('ended', pid, status)
        except ChildProcessError:
            return
        except InterruptedError:
            pass


def value(draw):
    return draw.choice([0, 1, 2, 3, 4, 5, 6, 7, 8, 16, -1, -100, 4096, 2**31, 2**63 - 1, base,
                        base + 8 * draw.randrange(8000), draw.getrandbits(64) - 2**63, draw.randrange(1 << 16),
                        os.getpid(), 1 << draw.randrange(63)])


# exit, exit_group, rt_sigreturn; brk, munmap, mremap, mprotect of random places end a process too soon to be of use
NEVER = {15, 60, 231}
SELDOM = {9, 10, 11, 12, 25, 28, 59, 322}


def calls(draw, count):
    for _ in range(count):
        number = draw.choice([draw.randrange(0, 470), draw.randrange(0, 335), draw.randrange(424, 470)])
        if number in NEVER or number in SELDOM and draw.random() < 0.9:
            continue
        arguments = [value(draw) for _ in range(6)]
        for at in draw.sample(range(0, 1 << 16, 8), 8):
            struct.pack_into('q', memory, at, value(draw))
        result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
        say(os.getpid(), number, result, ctypes.get_errno() if result < 0 else '')


def handlers():
    # a handler that returns to a fault would fault for ever
    for number in set(range(1, 65)) - {4, 7, 8, 11}:
        how = random.choice([signal.SIG_IGN, signal.SIG_DFL, lambda *_: say('handler', threading.get_native_id())])
        try:
            signal.signal(number, how)
        except (OSError, ValueError):
            pass


def child_of_calls():
    handlers()
    for _ in range(random.randrange(3)):
        draw = random.Random(random.randrange(1 << 30))
        threading.Thread(target=calls, args=(draw, 40), daemon=True).start()
    calls(random, 120)


def child_of_signals():
    handlers()
    stop = threading.Event()

    def work(draw):
        for _ in range(30):
            what = draw.randrange(8)
            target = draw.choice([os.getpid(), os.getpid(), os.getppid(), 1, 2])
            number = draw.choice([0, 1, 2, 3, 10, 12, 13, 14, 15, 17, 18, 19, 20, 28, 34, 40, 64])
            if target in (2, os.getppid()) and number not in (0, 17, 18, 28):
                continue
            try:
                if what == 0:
                    os.kill(target, number)
                elif what == 1:
                    signal.pthread_kill(threading.get_ident(), number)
                elif what == 2:
                    time.sleep(draw.random() / 1000)
                elif what == 3:
                    libc.syscall(200, draw.choice([os.getpid(), threading.get_native_id()]), number)
                elif what == 4:
                    signal.pthread_sigmask(draw.randrange(3), draw.sample(range(1, 64), 5))
                elif what == 5:
                    signal.setitimer(draw.choice([0, 0, 0]), draw.random() / 100, draw.choice([0, 0.001]))
                elif what == 6:
                    say('taken', signal.sigtimedwait([number or 1], draw.random() / 1000))
                else:
                    stop.wait(draw.random() / 1000)
            except (OSError, ValueError) as error:
                say(what, error)
        say('worked', threading.get_native_id())

    threads = [threading.Thread(target=work, args=(random.Random(random.randrange(1 << 30)),), daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    work(random.Random(random.randrange(1 << 30)))
    for thread in threads:
        thread.join(1)


def child_of_programs():
    def work(draw):
        for _ in range(draw.randrange(1, 5)):
            what = draw.randrange(6)
            if what == 0:
                time.sleep(draw.random() / 100)
            elif what == 1:
                os.execv('/bin/sh', ['sh', '-c', f'echo $$; exit {draw.randrange(9)}'])
            elif what == 2:
                say('ran', os.spawnv(os.P_WAIT, '/bin/true', ['true']))
            elif what == 3:
                threading.Thread(target=work, args=(random.Random(draw.randrange(1 << 30)),), daemon=True).start()
            elif what == 4:
                os.posix_spawn('/bin/sh', ['sh', '-c', 'kill -TERM $PPID; echo sent'], {}) if draw.random() < 0.3 else None
            elif draw.random() < 0.2:
                libc.syscall(60, 0)
        say('thread over', threading.get_native_id())

    for _ in range(3):
        threading.Thread(target=work, args=(random.Random(random.randrange(1 << 30)),), daemon=True).start()
    work(random)
    time.sleep(0.05)


def child_of_bytes():
    code = mmap.mmap(-1, 4096, prot=7)
    pieces = [b'\x0f\x05', b'\x0f\x31', b'\x0f\xa2', b'\xcd\x80', b'\x0f\x01\xf9', b'\x50', b'\x58', b'\x90', b'\xf3\x90',
              b'\x0f\x0b', b'\xcc', b'\xf4', b'\x0f\x34', b'\xb8\x3c\0\0\0', b'\xb8\xe7\0\0\0', b'\x9c', b'\x9d']
    text = b''
    for _ in range(40):
        text += random.choice(pieces) if random.random() < 0.8 else random.randbytes(random.randrange(1, 4))
    code.write(text + b'\xc3')
    say('gave', ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))() & 0xff)


def child_of_files():
    os.chdir('/tmp')
    fds = []

    def work(draw):
        for _ in range(60):
            what = draw.randrange(14)
            name = draw.choice(['a', 'b', 'd/c', '/proc/self/stat', '/dev/urandom', '/proc/self/fd/3', 'l', 'd', '/dev/null', 'f'])
            other = draw.choice(['a', 'b', 'd/c', 'l', 'd', 'f'])
            try:
                if what < 3:
                    fds.append(os.open(name, draw.choice([0, 1, 2, 64, 66, 577, 0o10000000, 65536]) | os.O_NONBLOCK))
                elif what == 3:
                    os.mkdir(other)
                elif what == 4:
                    os.rename(other, draw.choice(['a', 'b', 'd/c', 'e']))
                elif what == 5:
                    os.unlink(other)
                elif what == 6:
                    os.symlink(name, other)
                elif what == 7:
                    os.mkfifo('f')
                elif what == 8:
                    fds.extend(os.pipe2(os.O_NONBLOCK))
                elif what == 9 and fds:
                    os.close(fds.pop(draw.randrange(len(fds))))
                elif what == 10 and fds:
                    say('read', os.read(draw.choice(fds), draw.choice([1, 100, 70000]))[:20])
                elif what == 11 and fds:
                    say('wrote', os.write(draw.choice(fds), b'x' * draw.choice([1, 100, 70000])))
                elif what == 12:
                    s = os.stat(name, follow_symlinks=draw.random() < 0.5)
                    say(s.st_ino, s.st_mode, s.st_mtime_ns)
                else:
                    say(sorted(os.listdir('.')), [e.inode() for e in os.scandir('.')])
            except (OSError, ValueError) as error:
                say(what, name, error)

    thread = threading.Thread(target=work, args=(random.Random(random.randrange(1 << 30)),), daemon=True)
    thread.start()
    work(random.Random(random.randrange(1 << 30)))
    thread.join(1)


signal.signal(signal.SIGCHLD, signal.SIG_DFL)
child = globals()['child_of_' + kind]
for _ in range(6):
    fork(child)
for number in (1, 2, 15, 18):
    signal.signal(number, lambda *_: None)
wait_all()
say('over')
