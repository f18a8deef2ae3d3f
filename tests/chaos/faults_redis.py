#!/usr/bin/env python3
"""Redis killed, frozen, full, read-only, flushed, restarted, replaced by garbage; the network to it cut and healed. The
upstream is well all along: not one question may fail, and afterwards answers are hits again."""
from world import *


def stage(s, *redis_args, wire=False):
    f = s.fake()
    r = s.redis(*redis_args)
    w = Wire(r.sock) if wire else None
    p = s.proxy(f, dict(OFF, **{'cache.store': 'redis', 'redis.url': 'redis://127.0.0.1:%d/0' % w.port if w else r.url}))
    p.wait_stat('store_up', 1)
    return f, r, p, w


def caches_again(p, load):
    """Redis is used again: a new question becomes a hit."""
    p.wait_stat('store_up', 1)
    end, n = time.monotonic() + LATE, 500000
    while True:
        n += 1
        ask(p.where, n, 'generate')
        if ask(p.where, n, 'generate')[0].cache == 'exact':
            break
        assert time.monotonic() < end, 'nothing is kept any more'
    load.flows()


def killed_and_restarted(s):
    f, r, p, _ = stage(s)
    base = Base(p)
    with Load(p) as load:
        for _ in range(2 if QUICK else 5):
            r.process.kill()
            r.process.wait()
            load.during()
            p.wait_stat('store_up', 0)
            r.start()
            caches_again(p, load)
    load.none_failed()
    base.back()


def frozen(s):
    f, r, p, _ = stage(s)
    base = Base(p)
    with Load(p) as load:
        for _ in range(2 if QUICK else 5):
            r.process.send_signal(signal.SIGSTOP)
            load.during()
            r.process.send_signal(signal.SIGCONT)
            caches_again(p, load)
    load.none_failed()
    base.back()


def out_of_memory(s):
    f, r, p, _ = stage(s)
    base = Base(p)
    with Load(p) as load:
        r.command('CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
        r.command('CONFIG', 'SET', 'maxmemory', '1')
        load.during()
        assert ask(p.where, 3, 'generate')[1] == 'good'
        r.command('CONFIG', 'SET', 'maxmemory', '0')
        caches_again(p, load)
    load.none_failed()
    base.back()


def read_only(s):
    """It becomes a replica of nobody: reads go on, writes are refused."""
    f, r, p, _ = stage(s)
    base = Base(p)
    with Load(p) as load:
        r.command('CONFIG', 'SET', 'replica-serve-stale-data', 'yes')
        r.command('REPLICAOF', '127.0.0.1', '1')
        load.during()
        r.command('REPLICAOF', 'NO', 'ONE')
        caches_again(p, load)
    load.none_failed()
    base.back()


def flushed(s):
    f, r, p, _ = stage(s)
    base = Base(p)
    with Load(p) as load:
        end = time.monotonic() + SPELL
        while time.monotonic() < end:
            assert r.command('FLUSHALL') == b'+OK\r\n'
            r.command('SCRIPT', 'FLUSH')
            r.command('FUNCTION', 'FLUSH')
            load.flows(5)
        caches_again(p, load)
    load.none_failed()
    base.back()


def kicked_out(s):
    """Every connection is killed again and again."""
    f, r, p, _ = stage(s)
    base = Base(p)
    with Load(p) as load:
        end = time.monotonic() + SPELL
        while time.monotonic() < end:
            r.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
            load.flows(3)
        caches_again(p, load)
    load.none_failed()
    base.back()


def scribbled_over(s):
    """Its values are replaced by junk, of any type, and by each other's: never served."""
    f, r, p, _ = stage(s)
    with Load(p) as load:
        load.flows(60)
    c = Conn(r.sock)
    c.send(b'*2\r\n$4\r\nKEYS\r\n$1\r\n*\r\n')
    n = int(c.until(b'\r\n')[1:])
    keys = []
    for _ in range(n):
        keys.append(c.exactly(int(c.until(b'\r\n')[1:])))
        c.exactly(2)
    assert n > 10, 'nothing to scribble on'

    def command(*words):
        c.send(b'*%d\r\n' % len(words) + b''.join(b'$%d\r\n%s\r\n' % (len(w), w) for w in words))
        return c.until(b'\r\n')
    rnd, values = random.Random(7), [b'', b'x', b'\0' * 500, os.urandom(300), b'{"a":1}']
    with Load(p) as load:
        for i, k in enumerate(keys):
            how = i % 5
            if how == 0:
                command(b'SET', k, rnd.choice(values))
            elif how == 1:
                command(b'COPY', rnd.choice(keys), k, b'REPLACE')
            elif how == 2:
                command(b'DEL', k)
                command(b'LPUSH', k, b'x')
            elif how == 3:
                command(b'SETRANGE', k, b'%d' % rnd.randrange(200), os.urandom(3))
            else:
                command(b'APPEND', k, b'tail')
        load.flows(100)
        load.during(SPELL / 2)
    c.close()
    load.none_failed()


def cut_and_healed(s):
    f, r, p, w = stage(s, wire=True)
    base = Base(p)
    with Load(p) as load:
        for _ in range(2 if QUICK else 6):
            w.cut()
            load.during()
            w.mode = 'flow'
            caches_again(p, load)
    load.none_failed()
    base.back()
    w.end()


def stalled_and_healed(s):
    f, r, p, w = stage(s, wire=True)
    base = Base(p)
    with Load(p) as load:
        for _ in range(2 if QUICK else 6):
            w.mode = 'stall'
            load.during()
            w.mode = 'flow'
            caches_again(p, load)
    load.none_failed()
    base.back()
    w.end()


def replaced_by_garbage(s):
    f, r, p, w = stage(s, wire=True)
    base = Base(p)
    with Load(p) as load:
        for junk in (b'\xff\x00junk\r\n*9999999999\r\n$-7\r\n', b'HTTP/1.1 400 Bad Request\r\n\r\n', b'$536870912\r\n', b'*1\r\n' * 2000, b'+OK\r\n', b':' + b'9' * 4000, b'-ERR \xff\xff\r\n', b'\0' * 4096):
            w.cut()
            w.junk, w.mode = junk, 'junk'
            load.during(SPELL / 4)
        w.mode = 'flow'
        caches_again(p, load)
    load.none_failed()
    base.back()
    w.end()


TESTS = [killed_and_restarted, frozen, out_of_memory, read_only, flushed, kicked_out, scribbled_over, cut_and_healed, stalled_and_healed, replaced_by_garbage]

if __name__ == '__main__':
    sys.exit(main(TESTS))
