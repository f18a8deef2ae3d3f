#!/usr/bin/env python3
"""The embedded store: disk full, files corrupt, cut off, of a newer version, a directory that cannot be written, two programs
on one directory; killed at any moment. Answers flow, and none is ever wrong. The disk that fills is a tmpfs of its own, which
takes root: without it that test says so and fails."""
from world import *


def start_code(p, late=LATE):
    """Starts it where it may refuse: its exit code, or None if it serves."""
    try:
        p.start()
    except AssertionError:
        return p.process.wait(late)
    return None


def data_files(p):
    d = p.options['cache.path']
    return sorted(os.path.join(d, x) for x in os.listdir(d) if os.path.getsize(os.path.join(d, x)) > 0)


class Kept:
    """A file as it was, to be written again with something wrong in it. The store's is as long as its map (1 GiB) and
    nearly all of it a hole: only what was ever written is held and written, the hole stays one."""

    def __init__(self, path):
        self.path, end = path, 0
        with open(path, 'rb') as f:
            self.size = os.fstat(f.fileno()).st_size
            with contextlib.suppress(OSError):            # ENXIO: nothing but a hole from there on
                while end < self.size:
                    end = os.lseek(f.fileno(), os.lseek(f.fileno(), end, os.SEEK_DATA), os.SEEK_HOLE)
            self.raw = os.pread(f.fileno(), end, 0)
        self.live = [i for i in range(0, end, 4096) if any(self.raw[i:i + 4096])]

    def write(self, raw, size=None):
        with open(self.path, 'wb') as out:
            out.write(raw)
            out.truncate(self.size if size is None else size)


def filled(s, n=60, **options):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **options))
    for i in range(n):
        assert ask(p.where, i, KINDS[i % 4])[1] == 'good'
    p.wait_stat('stored_answers', n)
    return f, p


def all_good(p, n=60):
    for i in range(n):
        assert ask(p.where, i, KINDS[i % 4])[1] == 'good'


@contextlib.contextmanager
def tmpfs(s, size):
    at = os.path.join(s.dir, 'small')
    os.mkdir(at)
    done = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=' + size, 'tmpfs', at], stderr=subprocess.PIPE)
    assert done.returncode == 0, 'no tmpfs can be mounted here: %s' % done.stderr.decode().strip()
    try:
        yield at
    finally:
        for t in s.things:
            if isinstance(t, Proxy) and t.process and t.process.poll() is None:
                t.process.send_signal(signal.SIGCONT)
                t.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    t.process.wait(15)
                if t.process.poll() is None:
                    t.process.kill()
        subprocess.run(['umount', '-l', at])


def disk_full(s):
    f = s.fake()
    with tmpfs(s, '12m') as at:
        p = s.proxy(f, dict(OFF, **{'cache.path': at + '/data', 'cache.max_size': '1GiB'}))
        base = Base(p)
        with Load(p) as load:
            for _ in range(1 if QUICK else 4):
                b = os.open(at + '/ballast', os.O_WRONLY | os.O_CREAT)
                with contextlib.suppress(OSError):
                    while True:
                        os.write(b, b'x' * 4096)
                os.close(b)
                load.during()
                for k in range(20):
                    body = {'model': 'llama3.2', 'prompt': 'large %d [[tokens=2000 line_bytes=100000]]' % k, 'stream': False}
                    assert p.post('/api/generate', body).status == 200
                os.unlink(at + '/ballast')
                load.during()
        load.none_failed()
        base.back()
        n = 700000
        end = time.monotonic() + LATE
        while True:
            n += 1
            ask(p.where, n, 'chat')
            if ask(p.where, n, 'chat')[0].cache == 'exact':
                break
            assert time.monotonic() < end, 'nothing is kept any more, though there is room'


def killed_at_any_moment(s):
    """kill -9 under load: it starts again, and what it kept is right."""
    f = s.fake()
    p = s.proxy(f, OFF)
    for turn in range(3 if QUICK else 15):
        with contextlib.suppress(AssertionError):
            with Load(p, seed=turn) as load:
                load.during(SPELL / 4)
                p.process.kill()
                p.process.wait()
                load.over = True
        assert not load.violations, load.violations
        p.start()
        all_good(p, 40)


def corrupt_file(s):
    """Bytes are changed anywhere in the stopped store's file. It may be put aside; it may not stop the program or lie."""
    f, p = filled(s)
    assert p.stop() == 0
    rnd = random.Random(5)
    keep = [Kept(x) for x in data_files(p)]
    for turn in range(6 if QUICK else 60):
        for file in keep:
            raw = bytearray(file.raw)
            for _ in range(1 + turn % 30):
                at = rnd.choice(file.live) + rnd.randrange(4096)
                if at < len(raw):
                    raw[at] = rnd.randrange(256)
            file.write(raw)
        code = start_code(p)
        assert code in (None, 2), 'it ended with %s: %s' % (code, p.said()[-1500:])
        if code is None:
            all_good(p, 60)
            assert ask(p.where, 40000 + turn, 'chat')[1] == 'good'
            assert p.process.poll() is None, 'it died of it with %s: %s' % (p.process.poll(), p.said()[-1500:])
            assert p.stop() in (0,), p.said()[-500:]


def cut_off_file(s):
    f, p = filled(s)
    assert p.stop() == 0
    keep = [Kept(x) for x in data_files(p)]
    for part in (0, 1, 100, 4096, 8192, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        for file in keep:
            cut = file.raw[:part if isinstance(part, int) else int(len(file.raw.rstrip(b'\0')) * part)]
            file.write(cut, len(cut))
        code = start_code(p)
        assert code in (None, 2), 'cut to %s: it ended with %s: %s' % (part, code, p.said()[-1500:])
        if code is None:
            all_good(p, 60)
            assert p.process.poll() is None, 'cut to %s: it died of it with %s: %s' % (part, p.process.poll(), p.said()[-1500:])
            assert p.stop() == 0
    for file in keep:
        file.write(os.urandom(300000), 300000)
    assert start_code(p) in (None, 2), p.said()[-800:]


def directory_cannot_be_written(s):
    """Read-only: exit 2 that says so, or it serves without keeping; never a crash."""
    f = s.fake()
    with tmpfs(s, '8m') as at:
        p = s.proxy(f, dict(OFF, **{'cache.path': at + '/data'}), name='first')
        ask(p.where, 1, 'chat')
        assert p.stop() == 0
        subprocess.run(['mount', '-o', 'remount,ro', at], check=True)
        code = start_code(p)
        assert code in (None, 2), (code, p.said()[-500:])
        if code == 2:
            assert at in p.said().splitlines()[-1] or 'ead-only' in p.said(), p.said()[-500:]
            p.process = None
        else:
            all_good(p, 10)
    q = Proxy(s.dir, f.url, dict(OFF, **{'cache.path': '/proc/nowhere'}), start=False, name='proc')
    assert start_code(q) == 2 and '/proc/nowhere' in q.said(), q.said()[-500:]


def two_on_one_directory(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    with Load(p, 3) as load:
        q = Proxy(s.dir, f.url, dict(OFF, **{'cache.path': p.options['cache.path']}), start=False, name='second')
        assert start_code(q) == 2, q.said()
        assert p.options['cache.path'] in q.said() or 'in use' in q.said(), q.said()
        load.flows(30)
    load.none_failed()


def removed_under_it(s):
    """Somebody deletes the directory while it runs: answers go on; a restart begins anew."""
    f, p = filled(s, 20)
    shutil.rmtree(p.options['cache.path'])
    with Load(p) as load:
        load.during()
    load.none_failed()
    assert p.stop() == 0
    p.start()
    all_good(p, 20)


TESTS = [disk_full, killed_at_any_moment, corrupt_file, cut_off_file, directory_cannot_be_written, two_on_one_directory, removed_under_it]

if __name__ == '__main__':
    sys.exit(main(TESTS))
