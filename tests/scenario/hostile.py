#!/usr/bin/env python3
"""Bad input: too much, too slow, too deep, not HTTP. After each the program still answers."""
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

OFF = {'semantic.enabled': 'off'}
GB = int(os.environ.get('BIG_BODY', 80_000_000 if SANITIZED else 1_000_000_000))            # in any case more than max_body
BODIES = int(os.environ.get('BODIES', 6 if SANITIZED else 40))


def alive(p):
    r = p.generate('still there?', stream=False)
    assert r.status == 200 and r.json()['done'], r


def upload(p, path, n, headers=None, timeout=LATE * 10, chunked=False, method='POST', start=b'{"model":"llama3.2","messages":[{"role":"user","content":"', end=b'"}]}'):
    """Sends n bytes without holding them; the reply."""
    c = Conn(p.where, timeout)
    h = {'Content-Length': str(n)} if not chunked else {'Transfer-Encoding': 'chunked'}
    h.update(headers or {})
    c.send(build(method, path, h))
    block = b'x' * (1 << 20)
    left = n - len(start) - len(end)
    wrap = (lambda b: b'%x\r\n%s\r\n' % (len(b), b)) if chunked else (lambda b: b)
    c.send(wrap(start))
    while left:
        k = min(left, len(block))
        c.send(wrap(block[:k]))
        left -= k
    c.send(wrap(end) if end else b'')
    if chunked:
        c.send(b'0\r\n\r\n')
    r = c.reply()
    c.close()
    return r


def a_body_of_1_gb(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    p.ready()
    alive(p)
    before = p.peak_kib()
    for chunked in (False, True):
        n = GB if not chunked else max(GB // 5, 80_000_000)
        with p.moved(requests=1, bypassed_requests=1):
            r = upload(p, '/api/chat', n, chunked=chunked)
            assert r.status == 400 and r.cache == 'bypass', r      # the fake keeps 4 MiB of it, so it is broken JSON there
        seen = f.log('/api/chat')[-1]
        assert seen['body_bytes'] == n, seen['body_bytes']
    grown = p.peak_kib() - before
    # what is read while it may still fit (max_body, 64 MiB) is kept until it does not
    assert SANITIZED or grown < 160 * 1024, 'it grew by %d KiB' % grown
    alive(p)


def a_blob_of_1_gb(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    p.ready()
    alive(p)
    before = p.peak_kib()
    r = upload(p, '/api/blobs/sha256:' + '0' * 64, GB)
    assert r.status == 400 and 'digest mismatch' in r.error(), r
    assert f.log('/api/blobs/sha256:' + '0' * 64)[-1]['body_bytes'] == GB
    grown = p.peak_kib() - before
    assert SANITIZED or grown < 16 * 1024, 'a pass grew it by %d KiB' % grown


def a_download_of_1_gb_with_a_slow_reader(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    p.ready()
    alive(p)
    before = p.peak_kib()
    c = p.open('GET', '/fake/bytes?n=%d' % GB)
    h = c.head()
    assert h.get('Content-Length') == str(GB)
    got = len(c.buf)
    while got < GB:
        k = len(c.sock.recv(1 << 20))
        assert k, 'ended after %d' % got
        got += k
    assert got == GB
    grown = p.peak_kib() - before
    assert SANITIZED or grown < 16 * 1024, 'a pass grew it by %d KiB' % grown


def many_large_bodies_at_once(s):
    """max_buffered holds: over it reading pauses, and every request is answered in the end."""
    f = s.fake('--keep', '65536')
    p = s.proxy(f, dict(OFF, **{'server.max_buffered': '256MiB', 'server.idle_timeout': '10m'}))
    alive(p)
    start = b'{"model":"llama3.2","n":%d,"messages":[{"role":"user","content":"'
    replies = together(BODIES, lambda i: upload(p, '/api/chat', 60_000_000, start=start % i, timeout=600))
    assert all(r.status == 400 for r in replies), [r for r in replies if r.status != 400][:3]
    assert sum(x['body_bytes'] == 60_000_000 for x in f.log('/api/chat')) == BODIES
    peak = p.peak_kib()
    print('        peak with %d bodies of 60 MB and max_buffered = 256 MiB: %d MiB' % (BODIES, peak // 1024))
    # four may be read at once, and while one is parsed it is there about four times
    assert SANITIZED or peak < 5 * 256 * 1024, 'peak %d KiB' % peak
    alive(p)


def a_body_just_over_max_body(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.max_body': '64KiB'}))
    for n, cache in ((65536, 'miss'), (65537, 'bypass')):
        b = json.dumps({'model': 'llama3.2', 'prompt': '', 'stream': False}).encode()
        b = b.replace(b'""', b'"%s"' % (b'a' * (n - len(b))))
        assert len(b) == n
        r = p.post('/api/generate', b)
        assert r.status == 200 and r.cache == cache, (n, r)
        assert f.log('/api/generate')[-1]['body_bytes'] == n


def slow_headers(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.header_timeout': '500ms'}))
    conns = []
    for i in range(50):
        c = Conn(p.where)
        c.send(b'POST /api/chat HTTP/1.1\r\nHost: localhost\r\nX-%d: ' % i)
        conns.append(c)
    nothing = [Conn(p.where) for _ in range(10)]
    alive(p)
    for c in conns:
        c.ended()
        assert not c.buf or b' 408 ' in c.buf or b' 400 ' in c.buf, c.buf[:100]
    drip = Conn(p.where)                              # a byte now and then does not hold it open either
    end = time.monotonic() + LATE
    try:
        while True:
            drip.send(b'G')
            if select.select([drip.sock], [], [], 0.1)[0] and not drip.sock.recv(100):
                break
            assert time.monotonic() < end, 'a dripping head is never cut'
    except ConnectionError:
        pass
    alive(p)


def slow_bodies(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.idle_timeout': '500ms'}))
    for path in ('/api/chat', '/api/pull'):
        c = Conn(p.where)
        c.send(build('POST', path, {'Content-Length': '1000'}) + b'{"model"')
        c.ended()
    alive(p)


def header_floods(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for raw in (b'GET /api/version HTTP/1.1\r\nHost: localhost\r\n' + b'X-A: b\r\n' * 100000 + b'\r\n',
                b'GET /api/version HTTP/1.1\r\nHost: localhost\r\nX-Big: ' + b'a' * 4000000 + b'\r\n\r\n',
                b'GET /' + b'a' * 2000000 + b' HTTP/1.1\r\nHost: localhost\r\n\r\n',
                b'GET / HTTP/1.1\r\n' + b'a' * 2000000):
        c = Conn(p.where)
        try:
            c.send(raw)
        except ConnectionError:
            pass
        c.ended()
        assert not c.buf or re.match(rb'HTTP/1.1 (431|414|413|400) ', c.buf), c.buf[:100]
        alive(p)
    r = p.get('/api/version', {'X-Large': 'a' * 6000})
    assert r.status == 200, 'six KiB of header must pass: %s' % r


def chunked_lies(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    head = b'POST %s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n'
    for path in (b'/api/chat', b'/api/pull'):
        for lie in (b'zz\r\nabc\r\n', b'-1\r\nabc\r\n', b'ffffffffffffffffffff\r\nabc\r\n', b'5\r\nabcdefghi\r\n0\r\n\r\n', b'3\r\nabc', b'\r\n\r\n', b'3;' + b'x' * 100000):
            c = Conn(p.where)
            try:
                c.send(head % path + lie)
                c.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            c.ended()
            assert not c.buf or re.match(rb'HTTP/1.1 (4\d\d|502) ', c.buf), (lie[:30], c.buf[:100])
    both = Conn(p.where)                              # two lengths: an old way to smuggle a request
    both.send(b'POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n'
              b'0\r\n\r\nGET /api/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n')
    both.sock.settimeout(2)
    try:
        both.ended()
    except socket.timeout:
        pass
    assert all(x['body_bytes'] == 0 or x['target'] != '/api/smuggled' for x in f.log())
    alive(p)


def unknown_methods(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for m in ('FOO', 'PATCH', 'TRACE', 'PROPFIND', 'x-y', 'G' * 100):
        r = p.ask(m, '/api/chat')
        assert r.status in (405, 501, 400), (m, r)
        r = p.ask(m, '/api/pull')
        assert r.status in (405, 501, 400), (m, r)
    assert f.log('/api/chat')[0]['method'] == 'FOO', 'an unknown method passes'
    alive(p)


def binary_garbage(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.header_timeout': '500ms'}))
    import random
    rnd = random.Random(11)
    raws = [bytes(rnd.randrange(256) for _ in range(rnd.randrange(1, 3000))) for _ in range(60)]
    raws += [b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + bytes(200), b'\0' * 5000, b'\r\n' * 5000, b'GET\0/ HTTP/1.1\r\n\r\n', b'GET / HTTP/9.9\r\n\r\n', b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n']
    for raw in raws:
        c = Conn(p.where)
        try:
            c.send(raw)
            c.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        c.ended()
        assert not c.buf or re.match(rb'(HTTP/1.[01] (4\d\d|5\d\d) |<html)', c.buf), (raw[:30], c.buf[:80])
    alive(p)


def odd_text(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for prompt, cache in (('a\0b', None), ('\ud800'.encode('utf-8', 'surrogatepass').decode('latin-1'), None), ('\u202e\ufeff\uffff', None), ('e\u0301' * 1000, None)):
        r = p.generate(prompt, stream=False)
        assert r.status == 200 and r.json()['done'], (prompt[:20], r)
    for raw in (b'{"model":"llama3.2","prompt":"\xff\xfe\x80","stream":false}', b'{"model":"llama3.2","prompt":"\xed\xa0\x80","stream":false}',
                b'{"model":"llama3.2","prompt":"\\ud800","stream":false}', b'{"model":"llama3.2","prompt":"a\x00b","stream":false}'):
        r = p.post('/api/generate', raw)
        assert r.status in (200, 400), (raw, r)
        if r.status == 200 and raw[28:29] in (b'\xff', b'\xed'):
            assert r.cache == 'bypass', (raw, r)
    r = p.generate('x', options={'fake_text': 'a\0b\ufffd'}, stream=False)
    r2 = p.generate('x', options={'fake_text': 'a\0b\ufffd'}, stream=False)
    assert r2.cache in ('exact', 'bypass') and told(r) == told(r2)    # a NUL may be reason to doubt


def deep_json(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for n in (100, 1000, 3000, 100000, 1000000):
        raw = b'{"model":"llama3.2","prompt":"x","stream":false,"deep":' + b'[' * n + b']' * n + b'}'
        r = p.post('/api/generate', raw)
        assert r.status in (200, 400), (n, r)
        raw = b'{"model":"llama3.2","prompt":"x","stream":false,"deep":' + b'{"a":' * n + b'1' + b'}' * n + b'}'
        r = p.post('/api/generate', raw)
        assert r.status in (200, 400), (n, r)
        raw = b'[' * n
        assert p.post('/api/chat', raw).status == 400
    alive(p)


def endless_json(s):
    """A body that never ends: streams through, and its leaving is noticed."""
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.max_body': '1MiB'}))
    c = Conn(p.where)
    c.send(build('POST', '/api/chat', {'Transfer-Encoding': 'chunked'}))
    block = b'%x\r\n%s\r\n' % (1 << 20, b'[' * (1 << 20))
    for _ in range(20):
        c.send(block)
    f.wait('body_bytes', 10 << 20)
    c.close()
    f.wait('dropped', 1)
    alive(p)


def bodies_that_end_anywhere(s):
    """A client that leaves behind a part of its body, however many bytes the last read of it has, is noticed at once."""
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.max_body': '1MiB', 'server.workers': 1}))
    head = build('POST', '/api/chat', {'Transfer-Encoding': 'chunked'})
    sizes = [(2 << 20) + 397 * i for i in range(60)]

    def leave(i):
        c = Conn(p.where)
        c.send(head + b'%x\r\n' % (8 << 20) + b'[' * sizes[i])
        c.close(reset=False)
    together(6, lambda i: [leave(n) for n in range(i, len(sizes), 6)])
    f.wait('dropped', len(sizes))
    f.wait('running', 0, 'le')
    p.wait_stat('connections_open', 1)


def pipelined_bodies_that_end_anywhere(s):
    """The same behind a request that is still to be answered: neither outlives the client."""
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.max_body': '1MiB', 'server.workers': 1}))
    head = build('POST', '/api/chat', {'Transfer-Encoding': 'chunked'})

    def leave(i):
        c = Conn(p.where)
        body = json.dumps({'model': 'llama3.2', 'prompt': 'q%d' % i, 'stream': bool(i % 2)}).encode()
        c.send(build('POST', '/api/generate', {'Content-Length': len(body)}) + body + head + b'%x\r\n' % (8 << 20) + b'[' * (1 + 3971 * i))
        c.close(reset=bool(i % 3 == 0))
    together(6, lambda i: [leave(n) for n in range(i, 60, 6)])
    f.wait('running', 0, 'le')
    p.wait_stat('connections_open', 1)


def wide_json(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for b in ({'model': 'llama3.2', 'prompt': 'x', 'stream': False, 'options': {'k%d' % i: i for i in range(50000)}},
              {'model': 'llama3.2', 'prompt': 'x', 'stream': False, 'context': list(range(200000))},
              {'model': 'llama3.2', 'stream': False, 'messages': [{'role': 'user', 'content': str(i)} for i in range(20000)]}):
        path = '/api/chat' if 'messages' in b else '/api/generate'
        assert p.post(path, b).status == 200
        assert p.post(path, b).status == 200
    big = b'{"model":"llama3.2","prompt":"x","stream":false,"options":{"seed":' + b'9' * 100000 + b'}}'
    assert p.post('/api/generate', big).status in (200, 400, 500)
    assert p.post('/api/generate', b'{"model":"llama3.2","prompt":"x","stream":false,"options":{"temperature":1e999999}}').status in (200, 400, 500)
    alive(p)


def too_many_connections(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.max_connections': 20}))
    held = []
    for i in range(20):
        c = p.open('GET', '/api/version')
        c.reply()
        held.append(c)
    c = Conn(p.where)
    r = None
    try:
        c.send(build('GET', '/api/version'))
        r = c.reply()
    except (Gone, ConnectionError):
        pass
    assert r is not None and r.status == 503 and r.get('Retry-After'), r
    for h in held:
        h.close()
    end = time.monotonic() + LATE
    while True:
        try:
            if p.get('/api/version').status == 200:
                break
        except (Gone, ConnectionError):
            pass
        assert time.monotonic() < end, 'never room again'
        time.sleep(0.02)


def pipelined_and_kept_alive(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    c = Conn(p.where)
    one = build('POST', '/api/generate', None, {'model': 'llama3.2', 'prompt': 'p', 'stream': False})
    c.send(one * 5 + build('GET', '/api/version') + build('GET', '/nope') + one)
    replies = [c.reply() for _ in range(8)]
    assert [r.status for r in replies] == [200] * 6 + [404, 200], replies
    assert f.asked() == 1
    for i in range(50):
        c.send(build('POST', '/api/generate', None, {'model': 'llama3.2', 'prompt': 'p%d' % (i % 5)}))
        assert c.reply().whole


TESTS = [a_body_of_1_gb, a_blob_of_1_gb, a_download_of_1_gb_with_a_slow_reader, many_large_bodies_at_once, a_body_just_over_max_body, slow_headers, slow_bodies,
         header_floods, chunked_lies, unknown_methods, binary_garbage, odd_text, deep_json, endless_json, bodies_that_end_anywhere, pipelined_bodies_that_end_anywhere, wide_json, too_many_connections, pipelined_and_kept_alive]

if __name__ == '__main__':
    sys.exit(main(TESTS))
