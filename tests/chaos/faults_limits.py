#!/usr/bin/env python3
"""Descriptors and memory run out, and the clock jumps."""
from world import *


def few_descriptors(s):
    """More clients than descriptors: those that get in are served, the others wait or are told; later all is well."""
    f = s.fake()
    p = limited(s, f, 'ulimit -n 140', dict(OFF, **{'server.workers': 1}))
    p.start()
    base = Base(p)
    for _ in range(2 if QUICK else 10):
        held = []
        for i in range(300):
            try:
                c = Conn(p.where, 0.5)
                c.send(build('GET', '/api/version'))
                held.append(c)
            except OSError:
                break
        assert len(held) > 100
        with contextlib.suppress(OSError, Gone):
            ask(p.where, 5, 'chat', Conn(p.where, 2))
        assert p.process.poll() is None
        for c in held:
            c.close(reset=True)
        end = time.monotonic() + LATE
        while True:
            with contextlib.suppress(OSError, Gone):
                if ask(p.where, 6, 'chat')[1] == 'good':
                    break
            assert time.monotonic() < end, 'it does not come back'
    with Load(p, 4) as load:
        load.flows(40)
    base.back()


def little_memory(s):
    """Bodies that do not fit: refused or passed through, never a crash, and right answers beside and after them."""
    f = s.fake('--keep', '65536')
    # threads, their arenas and the dictionaries need room of their own
    p = limited(s, f, 'ulimit -v %d' % (700 << 10), dict(OFF, **{'server.workers': 2, 'cache.max_size': '64MiB', 'semantic.languages': 'en'}))
    p.start()
    for turn in range(2 if QUICK else 8):
        def heavy(i):
            with contextlib.suppress(OSError, Gone):
                n = 40_000_000
                c = Conn(p.where, LATE * 2)
                c.send(build('POST', '/api/generate', {'Content-Length': str(n)}) + b'{"model":"llama3.2","stream":false,"prompt":"')
                for _ in range(n // 1000000 - 1):
                    c.send(b'[' * 1000000)
                c.send(b'x' * (n - 44 - 1000000 * (n // 1000000 - 1) - 2) + b'"}')
                r = c.reply()
                assert r.status in (200, 400, 413, 500, 502, 503), r
                c.close()
        with Load(p, 2) as load:
            together(10, heavy)
            assert p.process.poll() is None, 'it ended with %s: %s' % (p.process.returncode, p.said()[-800:])
            load.flows(10)
    assert ask(p.where, 7, 'chat stream')[1] == 'good'


def clock_jumps(s):
    """The wall clock goes back two days, forward three, and home: nothing is served past its time, no age is negative, and
    timers, which go by another clock, do not mind."""
    f = s.fake()
    shims = [x for x in ('/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1', '/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1', '/usr/lib/faketime/libfaketime.so.1') if os.path.exists(x)]
    assert shims, 'libfaketime is not installed (Debian package faketime)'
    rc = os.path.join(s.dir, 'clock')

    def jump(by):
        with open(rc + '.new', 'w') as out:
            out.write(by + '\n')
        os.rename(rc + '.new', rc)
    jump('+0')
    p = s.proxy(f, OFF, env={'LD_PRELOAD': shims[0], 'FAKETIME_TIMESTAMP_FILE': rc, 'FAKETIME_NO_CACHE': '1', 'DONT_FAKE_MONOTONIC': '1', 'FAKETIME_DONT_FAKE_MONOTONIC': '1'})
    base = Base(p)
    assert ask(p.where, 1, 'chat')[0].cache in ('miss', 'exact')
    p.wait_stat('stored_answers', lambda n: n >= 1)
    assert ask(p.where, 1, 'chat')[0].cache == 'exact'
    with Load(p) as load:
        jump('-2d')
        load.flows(30)
        r = ask(p.where, 1, 'chat')[0]
        assert r.cache in ('exact', 'miss') and (r.cache == 'miss' or int(r.get('Age')) >= 0), r.headers
        jump('+3d')
        load.flows(30)
        ask(p.where, 777777, 'chat')
        for by in ('-1000d', '+1d', '-1d', '+0'):
            jump(by)
            load.flows(10)
    load.none_failed()
    jump('+0')
    p.wait_stat('stored_answers', p.stats()['cache_misses'])
    before = p.stats()['stored_answers']
    assert ask(p.where, 888888, 'chat')[0].cache == 'miss'
    p.wait_stat('stored_answers', before + 1)
    jump('+25h')
    assert ask(p.where, 888888, 'chat')[0].cache == 'miss', 'served past its time'
    jump('+0')
    base.back()


TESTS = [few_descriptors, little_memory, clock_jumps]

if __name__ == '__main__':
    sys.exit(main(TESTS))
