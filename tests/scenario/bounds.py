"""What strangers can take: memory and time of requests that announce much and send little, of clients that read slowly, of
bodies and heads made to be dear to read."""
import os, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

OFF = {'semantic.enabled': 'off'}
MIB = 1 << 20
MEASURED = not os.environ.get('MODE')             # times and sizes mean something only without a sanitizer


def announce(p, length, sent):
    """A connection whose body is announced with `length` bytes and comes with those in `sent`."""
    c = Conn(p.where)
    c.send(b'POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n' % length + sent)
    return c


def prompt_of(n):
    return {'model': 'llama3.2', 'prompt': 'x' * n, 'stream': False}


def took(run):
    begun = time.monotonic()
    r = run()
    return r, time.monotonic() - begun


# ---- server.max_buffered ----

def who_announces_holds_nothing(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    assert p.post('/api/generate', prompt_of(5000)).cache == 'miss'
    p.settled()
    idle = [announce(p, 64 * MIB, b'{') for _ in range(16)]
    p.arrived(17)
    for _ in range(3):
        for c in idle:
            c.send(b' ')
        r, seconds = took(lambda: p.post('/api/generate', prompt_of(5000)))
        assert r.cache == 'exact' and seconds < 1, (r, seconds)
    r, seconds = took(lambda: p.post('/api/generate', prompt_of(3 * MIB)))
    assert r.cache == 'miss' and seconds < 5, (r, seconds)


def who_holds_much_leaves_room(s):
    """One client's bodies fill its half of the budget: what is small goes on as ever, what is not waits a moment, and then
    streams through."""
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.max_buffered': '2MiB', 'server.max_body': '1MiB'}))
    assert p.post('/api/generate', prompt_of(5000)).cache == 'miss'
    p.settled()
    start = b'{"model":"llama3.2","stream":false,"prompt":"'
    held = announce(p, MIB, start + b'y' * (MIB - 1000))
    p.wait_stat('connections_open', 2)
    time.sleep(0.2)
    other = Conn(p.where)
    other.send(build('POST', '/api/generate', None, prompt_of(400000)))
    r, seconds = took(other.reply)
    assert r.status == 200 and r.cache == 'bypass' and 'detail=too-large' in r.get('Cache-Status').replace('_', '-'), r
    assert seconds < 4, seconds
    held.send(b'y' * (1000 - len(start) - 2) + b'"}')
    r = held.reply()
    assert r.status == 200 and r.cache == 'miss', r
    assert p.post('/api/generate', prompt_of(400000)).cache == 'miss'


def who_is_slow_with_much_streams_through(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    start = b'{"model":"llama3.2","stream":false,"prompt":"'
    c = announce(p, MIB, start + b'y' * 200000)
    f.wait('body_bytes', 200000, late=20)          # the upstream has what came so far
    c.send(b'y' * (MIB - 200000 - len(start) - 2) + b'"}')
    r = c.reply()
    assert r.status == 200 and r.cache == 'bypass', r
    assert f.log('/api/generate')[0]['body_bytes'] == MIB


def a_share_ends_with_the_body(s):
    """What streams through gives its share back when it has been sent on, not when its answer ends."""
    f = s.fake('--keep', str(64 * MIB))
    p = s.proxy(f, dict(OFF, **{'server.max_buffered': '16MiB', 'server.max_body': '8MiB'}))
    odd = b'{"model":"llama3.2","Prompt":"","prompt":"[[barrier=b]] ' + b'y' * (7 * MIB) + b'"}'
    c = Conn(p.where, 60)
    c.send(build('POST', '/api/generate', None, odd))
    f.wait('waiting', 1)
    r, seconds = took(lambda: p.post('/api/generate', prompt_of(6 * MIB)))
    assert r.cache == 'miss' and seconds < 3, (r, seconds)
    f.release('b')
    assert c.reply().cache == 'bypass'


def bodies_around_every_limit(s):
    """Whatever its size and framing a body is answered; over server.max_body as bypass."""
    f = s.fake()
    for limit in (1 << 10, 128 << 10):
        p = s.proxy(f, dict(OFF, **{'server.max_body': str(limit)}), name='p%d' % limit)
        for around in (limit, 2 * limit, 4096, 65536):
            for n in (around - 1, around, around + 1):
                start = b'{"model":"llama3.2","stream":false,"prompt":"'
                body = start + b'x' * (n - len(start) - 2) + b'"}'
                chunked = b''.join(b'%x\r\n%s\r\n' % (len(body[i:i + 1000]), body[i:i + 1000]) for i in range(0, n, 1000)) + b'0\r\n\r\n'
                c = Conn(p.where)
                c.send(b'POST /api/generate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n' + chunked)
                for r in (c.reply(), p.post('/api/generate', body)):
                    assert r.status == 200, (limit, n, r)
                    assert (r.cache == 'bypass') == (n > limit), (limit, n, r)


if __name__ == '__main__':
    sys.exit(main([who_announces_holds_nothing, who_holds_much_leaves_room, who_is_slow_with_much_streams_through,
                   a_share_ends_with_the_body, bodies_around_every_limit]))
