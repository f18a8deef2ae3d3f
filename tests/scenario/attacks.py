#!/usr/bin/env python3
"""What somebody with bad intentions would try, each way a test: other people's answers, poisoned answers, requests hidden in
requests, doors round the back, lies in the log and in our replies."""
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

OFF = {'semantic.enabled': 'off'}
Q = b'{"model":"llama3.2","prompt":"q","stream":false}'
HIDDEN = b'GET /api/hidden HTTP/1.1\r\nHost: localhost\r\n\r\n'
AFTER = b'GET /api/after HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'


def replies_of(raw):
    """Every reply in what came, by its own framing; fails where it is not replies."""
    out = []
    # MHD 0.9.75 writes the head of a 400 of its own (a Content-Length that is no number) twice, then closes: counted once
    head, _, rest = raw.partition(b'\r\n\r\n')
    if head.startswith(b'HTTP/1.1 4') and rest.startswith(head):
        raw = rest
    while raw:
        assert raw.startswith(b'HTTP/1.'), 'not a reply: %r' % raw[:200]
        c = Conn.__new__(Conn)
        a, b = socket.socketpair()
        c.sock, c.buf, c.eof = a, raw, False
        b.close()
        r = c.reply()
        a.close()
        assert r.whole, 'half a reply: %r' % raw[:300]
        out.append(r)
        raw = c.buf
    return out


def tell(p, raw, late=LATE):
    """Sends bytes as they are, and reads until the proxy ends the connection: the replies."""
    c = Conn(p.where, late)
    try:
        c.send(raw)
        c.ended()
    except (BrokenPipeError, ConnectionResetError):
        pass
    c.close()
    return replies_of(c.buf)


def refused(p, f, name, raw):
    """One 400 (or one of its kin) that closes the connection at once, and not a word upstream."""
    n, t = f.state()['paths'], time.monotonic()
    r = tell(p, raw)
    assert len(r) == 1 and r[0].status in (400, 413, 414, 431, 501, 505), '%s: %s' % (name, r)
    assert time.monotonic() - t < 5 or SANITIZED, '%s: the client waited %.1f s' % (name, time.monotonic() - t)
    now = f.state()['paths']
    assert {k: v for k, v in now.items() if k != '/api/tags'} == {k: v for k, v in n.items() if k != '/api/tags'}, '%s went upstream' % name


def counted(f, path):
    return f.state()['paths'].get(path, 0)


# ---- requests hidden in requests ----

def two_framings(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for path in (b'/api/pull', b'/api/generate'):
        h = b'POST ' + path + b' HTTP/1.1\r\nHost: localhost\r\n'
        for name, lines in (
                ('CL then TE', b'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n'),
                ('TE then CL', b'Transfer-Encoding: chunked\r\nContent-Length: 5\r\n'),
                ('CL twice', b'Content-Length: 5\r\nContent-Length: 0\r\n'),
                ('CL twice the same', b'Content-Length: 5\r\nContent-Length: 5\r\n'),
                ('a list of CL', b'Content-Length: 0, 5\r\n'),
                ('TE twice', b'Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n'),
                ('TE in HTTP/1.0', None)):
            body = b'0\r\n\r\n' + HIDDEN
            if lines is None:
                refused(p, f, name, b'POST ' + path + b' HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n' + body)
            else:
                refused(p, f, name, h + lines + b'\r\n' + body)


def lengths_that_are_none(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for v in (b'+5', b'0x5', b'-1', b'5 5', b'', b'99999999999999999999', b'5,5', b'\x0b5', b'5.0', b'5e0', b'\xd9\xa5'):
        refused(p, f, v, b'POST /api/pull HTTP/1.1\r\nHost: localhost\r\nContent-Length: ' + v + b'\r\n\r\n' + HIDDEN)


def codings_that_are_none(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for v in (b'chunked, identity', b'identity, chunked', b'identity', b'xchunked', b'chunked, chunked', b'"chunked"', b'\x0bchunked', b'chunked;a=b', b'gzip, chunked'):
        refused(p, f, v, b'POST /api/pull HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: ' + v + b'\r\n\r\n0\r\n\r\n' + HIDDEN)


def header_names_that_are_none(s):
    """Space before the colon hides a length from one side; a folded line, which MHD glues to the name, hides it too."""
    f = s.fake()
    p = s.proxy(f, OFF)
    h = b'POST /api/pull HTTP/1.1\r\nHost: localhost\r\n'
    n = b'%d' % len(HIDDEN)
    for lines in (b'Content-Length : ' + n, b'Content-Length\t: ' + n, b'Transfer-Encoding : chunked', b'Content-Length:\r\n ' + n,
                  b'Content-Length: \r\n\t' + n, b'Transfer-Encoding:\r\n chunked', b'X-A: b\r\n Content-Length: ' + n, 
                  b'X(A): b', b'X-\xc3\xa9: b', b'"X": b'):
        refused(p, f, lines, h + lines + b'\r\n\r\n' + HIDDEN)
    refused(p, f, 'a first line that is folded', b'POST /api/pull HTTP/1.1\r\n Content-Length: ' + n + b'\r\nHost: localhost\r\n\r\n' + HIDDEN)
    assert counted(f, '/api/hidden') == 0


def controls_in_header_values(s):
    """A bare CR ends a line for some: it must never reach the upstream. (MHD ends a value at a NUL; so the upstream gets it cut as we saw it.)"""
    f = s.fake()
    p = s.proxy(f, OFF)
    for path in (b'/api/pull', b'/api/generate'):
        for v in (b'a\rContent-Length: 5', b'a\rTransfer-Encoding: chunked', b'a\x01', b'a\x7f', b'\x1b[31m'):
            refused(p, f, v, b'POST ' + path + b' HTTP/1.1\r\nHost: localhost\r\nX-A: ' + v + b'\r\nContent-Length: 0\r\n\r\n')
    tell(p, b'POST /api/pull HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-A: a\0b\r\nContent-Length: 0\r\n\r\n')
    assert not f.log('/api/pull') or 'X-A: a' in f.log('/api/pull')[-1]['headers']
    r = p.get('/api/version', {'X-A': 'a\tb \u00e9'})
    assert r.status == 200, 'a tab and Latin-1 are allowed: %s' % r
    assert any('a\tb' in x for x in f.log('/api/version')[-1]['headers'])
    # anywhere in a value, whose bytes are looked at by eights
    for at in (0, 3, 7, 8, 9, 15, 16, 18):
        for c in list(range(1, 9)) + [11, 12] + list(range(14, 32)) + [0x7f]:
            v = b'b' * at + bytes([c]) + b'b' * (19 - at)
            refused(p, f, v, b'GET /api/version HTTP/1.1\r\nHost: localhost\r\nX-A: ' + v + b'\r\n\r\n')
        for c in (' ', '\t', '~', '\x80', '\xa0', '\xff'):
            assert p.get('/api/version', {'X-A': 'b' * at + c + 'b' * (19 - at)}).status == 200, (at, c)


def bare_line_feeds(s):
    """RFC 9112, 2.2 allows to take LF for a line's end. Then it must be that for the length, too."""
    f = s.fake()
    p = s.proxy(f, OFF)
    c = Conn(p.where)
    c.send(b'POST /api/pull HTTP/1.1\nHost: localhost\nX-A: b\nContent-Length: %d\n\n' % len(HIDDEN) + HIDDEN + AFTER)
    c.ended()
    assert counted(f, '/api/hidden') == 0 and counted(f, '/api/after') in (0, 1)
    seen = f.log('/api/pull')
    assert not seen or seen[-1]['body_bytes'] == len(HIDDEN), seen[-1]


def lies_in_chunks(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    h = b'POST /api/pull HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n'
    for size in (b'0x3', b'+3', b'-3', b' 3', b'3 ', b'', b'3_', b'3\0', b'10000000000000003', b'fffffffffffffffff'):
        tell(p, h + size + b'\r\nabc\r\n0\r\n\r\n' + HIDDEN)
        assert counted(f, '/api/hidden') == 0, size
    tell(p, h + b'3\r\nabcXX0\r\n\r\n' + HIDDEN)
    assert counted(f, '/api/hidden') == 0
    extended = b'3;a=b\r\nabc\r\n0\r\n\r\n'
    good = [b'003\r\nabc\r\n0\r\nContent-Length: 99\r\nX-Y: z\r\n\r\n']
    # libmicrohttpd takes a chunk's extension and drops it in 0.9.75; 1.0.1 refuses it
    if library('libmicrohttpd') < (1, 0):
        good.append(extended)
    else:
        before = counted(f, '/api/after')
        r = tell(p, h + extended + HIDDEN)
        assert len(r) == 1 and r[0].status == 400 and counted(f, '/api/hidden') == 0 and counted(f, '/api/after') == before, r
    for good in good:
        before = counted(f, '/api/after')
        r = tell(p, h + good + AFTER)
        assert len(r) == 2 and counted(f, '/api/after') == before + 1, (good, r)
        assert f.log('/api/pull')[-1]['body_bytes'] == 3


def bodies_nobody_expects(s):
    """A body on GET, HEAD or DELETE is a body, not the next request."""
    f = s.fake()
    p = s.proxy(f, OFF)
    for m in ('GET', 'DELETE', 'OPTIONS', 'FOO'):
        for path in ('/api/version', '/ollacache/health', '/nope'):
            r = tell(p, ('%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n' % (m, path, len(HIDDEN))).encode() + HIDDEN + AFTER)
            assert counted(f, '/api/hidden') == 0 and len(r) == 2, (m, path, r)
    c = Conn(p.where)
    c.send(b'HEAD /api/version HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n' % len(HIDDEN) + HIDDEN + AFTER)
    assert c.reply('HEAD').status == 200 and c.reply().status == 404
    assert counted(f, '/api/hidden') == 0


@contextlib.contextmanager
def crooked_upstream(answer):
    """answer(word, reply) are the bytes it sends when asked for word."""
    with socket.create_server(('127.0.0.1', 0), backlog=100) as l:
        tags = json.dumps({'models': [{'name': 'llama3.2:latest', 'digest': 'd' * 64}]}).encode()

        def reply(body):
            return b'HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n' % len(body) + body

        def serve(c):
            with c, contextlib.suppress(OSError):
                buf = b''
                while True:
                    got = c.recv(65536)
                    if not got:
                        return
                    buf += got
                    while b'\r\n\r\n' in buf:
                        head, _, buf = buf.partition(b'\r\n\r\n')
                        n = re.search(rb'(?i)content-length: (\d+)', head)
                        n = int(n.group(1)) if n else 0
                        while len(buf) < n:
                            buf += c.recv(65536)
                        asked, buf = buf[:n], buf[n:]
                        c.sendall(reply(tags) if b'/api/tags' in head else answer(json.loads(asked)['prompt'], reply))

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(l.accept()[0],), daemon=True).start()
        threading.Thread(target=accept, daemon=True).start()
        yield 'http://127.0.0.1:%d' % l.getsockname()[1]


def whole_answer(text, pad=0):
    return json.dumps({'model': 'llama3.2', 'response': text, 'done': True, 'done_reason': 'stop', 'pad': 'x' * pad}).encode()


def upstream_hides_a_reply(s):
    """What an upstream sends behind its answer is not taken for the answer to the next question."""
    with crooked_upstream(lambda word, reply: reply(whole_answer('for ' + word)) + reply(whole_answer('POISON'))) as url:
        p = s.proxy(url, OFF)
        for i in range(30):
            r = p.generate('w%d' % i, stream=False)
            assert r.status in (200, 502) and (r.status == 502 or r.json()['response'] == 'for w%d' % i), r
        for i in range(30):
            r = p.generate('w%d' % i, stream=False)
            assert b'POISON' not in r.body, r
        p.stop()


def upstream_hides_a_reply_where_a_read_ends(s):
    """The same when the answer fills a read to its last byte, and the next question waits for just that connection."""
    def answer(word, reply):
        short = reply(whole_answer('for ' + word, 1000))
        return reply(whole_answer('for ' + word, 1000 + 4096 - len(short))) + reply(whole_answer('POISON'))

    with crooked_upstream(answer) as url:
        p = s.proxy(url, dict(OFF, **{'upstream.max_in_flight': 1, 'server.workers': 1}))
        asked = [p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': 'w%d' % i, 'stream': False}) for i in range(30)]
        for i, c in enumerate(asked):
            r = c.reply()
            assert r.status in (200, 502) and (r.status == 502 or r.json()['response'] == 'for w%d' % i), r
        for i in range(30):
            assert b'POISON' not in p.generate('w%d' % i, stream=False).body
        p.stop()


def upstream_begins_its_head_with_a_space(s):
    """A first line that continues none: an answer or a 502, and the next question is answered."""
    def answer(word, reply):
        whole = reply(whole_answer('for ' + word))
        return whole.replace(b'OK\r\n', b'OK\r\n X-Odd: 1\r\n') if word.startswith('odd') else whole

    with crooked_upstream(answer) as url:
        p = s.proxy(url, OFF)
        for path in ('/api/generate', '/api/odd'):
            for i in range(3):
                assert p.post(path, {'model': 'llama3.2', 'prompt': 'odd%d' % i, 'stream': False}).status in (200, 502)
                assert p.generate('w%d%s' % (i, path), stream=False).json()['response'] == 'for w%d%s' % (i, path)
        p.stop()


# ---- doors round the back ----

def targets_with_an_authority(s):
    """RFC 9112, 3.2.2: what the target names counts, so it has to be what Host names."""
    f = s.fake()
    p = s.proxy(f, OFF)
    for t in ('http://evil.example.com/api/version', 'http://localhost@evil.example.com/api/version', 'https://x/metrics', 'http:///metrics',
              'http://localhost?/metrics', 'h://localhost/metrics', 'ftp://localhost/metrics', 'http://localhost:1/metrics', 'metrics', '?x', 'evil.example.com:443'):
        refused(p, f, t, ('GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' % t).encode())
    for t, where in (('http://localhost/api/version', '/api/version'), ('HTTP://LOCALHOST', '/'), ('http://localhost/api/tags?x=1', '/api/tags?x=1')):
        r = tell(p, ('GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' % t).encode())
        assert r[0].status == 200 and counted(f, where.partition('?')[0]) >= 1, (t, r)
    r = tell(p, b'GET http://evil.example.com/api/version HTTP/1.1\r\nHost: evil.example.com\r\nConnection: close\r\n\r\n')
    assert [x.status for x in r] == [403], r


def ways_round_to_our_endpoints(s):
    """Only the very path is ours; every other spelling goes upstream exactly as written, or ends here."""
    f = s.fake()
    p = s.proxy(f, {'admin.token': 'sesame'})
    for t in ('/%6fllacache/stats', '//ollacache/stats', '/./ollacache/stats', '/api/../ollacache/stats', '/api/../metrics', '/OLLACACHE/stats', '/ollacache;x/stats',
              '/metrics;x', '/metrics/', '/Metrics', '/metrics%00', '/metrics%20', '/ollacache%2fstats', '/ollacache\\stats', '/%2e%2e/metrics', '/api/version/..%2f..%2fmetrics'):
        r = p.get(t)
        assert r.status == 404 and f.log()[-1]['target'] in (t, '/api/tags') and counted(f, t) == 1, (t, r, f.log()[-1]['target'])
    n = f.state()['paths']
    for t in ('/ollacache', '/ollacache/', '/ollacache//stats', '/ollacache/../api/version', '/ollacache/stats;x', '/ollacache/stats/', '/ollacache/stats%00', '/ollacache/%2e%2e/requests',
              '/ollacache/cache/../requests', '/ollacache/requests', '/ollacache/cache', '/ollacache/cache?all=1', '/ollacache/explain', '/ollacache/stats#x'):
        for m in ('GET', 'POST', 'DELETE', 'PUT', 'get', 'OPTIONS', 'TRACE'):
            r = p.ask(m, t, b'{}' if m == 'POST' else None)
            assert r.status in (401, 404, 405) or (r.status == 200 and m == 'GET' and t in ('/ollacache', '/ollacache/')) or r.status in (301, 302, 308) and t == '/ollacache', (m, t, r)
            assert b'sesame' not in r.body and r.get('Access-Control-Allow-Origin') is None
    now = f.state()['paths']
    assert {k: v for k, v in now.items() if k != '/api/tags'} == {k: v for k, v in n.items() if k != '/api/tags'}, 'ours went upstream: %s' % now


def admin_needs_its_token(s):
    f = s.fake()
    p = s.proxy(f, {'admin.token': 'sesame'})
    for a in (None, '', 'sesame', 'Bearer', 'Bearer ', 'Bearer sesam', 'Bearer sesamex', 'Bearer  sesame', 'Bearer Sesame', 'Basic sesame', 'Bearer\tsesame', 'Bearer sesame,', 'Bearer sesame\u00e9', 'Bearer ' + 's' * 5000):
        for m, t in (('GET', '/ollacache/requests'), ('GET', '/ollacache/cache'), ('DELETE', '/ollacache/cache?all=1'), ('POST', '/ollacache/explain')):
            r = p.ask(m, t, Q if m == 'POST' else None, {'Authorization': a})
            assert r.status in (401, 404, 405), (a, m, t, r)
    for h in ({'X-Forwarded-For': '127.0.0.1'}, {'X-Admin-Token': 'sesame'}, {'Cookie': 'token=sesame'}):
        assert p.get('/ollacache/requests?token=sesame', h).status in (401, 404), h


def the_token_is_compared_in_constant_time(s):
    """Time cannot be measured on a busy machine; that the comparison is the constant-time one can be read."""
    source = open(os.path.join(ROOT, 'proxy', 'admin.c')).read()
    body = source[source.index('static bool token_is'):]
    body = body[:body.index('\n}')]
    assert 'memeql_sec(' in body and not re.search(r'\b(strcmp|memcmp|strncmp|slice_is)\(', body), body


def rebinding(s):
    """A page whose name was pointed at 127.0.0.1 has a Host that is its own, and Origin or none."""
    f = s.fake()
    p = s.proxy(f, OFF)
    assert p.generate('q').cache == 'miss' and p.generate('q').cache == 'exact'
    n = f.state()['requests']
    for host in ('rebind.example.com', 'rebind.example.com:11436', '127.0.0.1.example.com', 'localhost.example.com', 'xn--localhost', '8.8.8.8', '[2001:db8::1]', '[::1', 'a' * 300,
                 'localhost, evil.example.com', 'localhost evil.example.com', 'localhost/evil', 'localhost#evil.com', 'evil.com#localhost', 'localhost\\evil.com', '0x7f000001', '2130706433', '127.1'):
        for m, t, b in (('POST', '/api/generate', Q), ('GET', '/api/tags', None), ('GET', '/metrics', None), ('GET', '/ollacache/stats', None), ('GET', '/ollacache/requests', None), ('DELETE', '/ollacache/cache?all=1', None)):
            r = p.ask(m, t, b, host=host)
            assert r.status in (400, 403), (host, m, t, r)
    assert f.state()['requests'] == n, 'a rebound page reached the upstream'
    assert p.generate('q').cache == 'exact'
    r = tell(p, b'GET /api/version HTTP/1.1\r\nHost: localhost\r\nHost: evil.example.com\r\n\r\n')
    assert [x.status for x in r] == [400], r
    r = tell(p, b'GET /api/version HTTP/1.1\r\n\r\n')
    assert [x.status for x in r] == [400], r


# ---- somebody else's answer ----

def another_tenants_answer(s):
    """With the scope `authorization`, whoever does not send the very same credentials gets nothing of it: by no header, no
    key, not by a near question, not by joining."""
    f = s.fake()
    p = s.proxy(f, {'semantic.enabled': 'on'})
    p.wait_stat('upstream_up', 1)
    secret = {'Authorization': 'Bearer alice'}
    ask = 'Які є факультети в ХДУ?'
    first = p.generate(ask, secret, options={'fake_fresh': 1})
    assert first.cache == 'miss'
    p.wait_stat('stored_answers', 1)
    assert p.generate(ask, secret, options={'fake_fresh': 1}).cache == 'exact'
    near = 'Які факультети є в ХДУ?'
    others = ({}, {'Authorization': ''}, {'Authorization': 'Bearer bob'}, {'Authorization': 'bearer alice'}, {'Authorization': 'Bearer Alice'}, {'Authorization': 'Bearer  alice'}, {'Authorization': 'Bearer alice '.strip() + 'x'},
              {'X-Authorization': 'Bearer alice'}, {'Proxy-Authorization': 'Bearer alice'}, {'X-Cache-Namespace': 'Bearer alice'}, {'X-Cache-Namespace': '', 'Authorization': 'Bearer'}, {'Cookie': 'Authorization=Bearer alice'},
              {'Authorization': 'Bearer bob', 'X-Cache-Namespace': 'Bearer alice'}, {'Authorization': 'Bearer bob', 'X-Cache-Semantic': '0.5'})
    said = [x['response'] for x in first.lines()]
    for h in others:
        for q in (ask, near):
            r = p.generate(q, dict(h, **{'Cache-Control': 'only-if-cached'}), options={'fake_fresh': 1})
            assert r.status == 504, 'given away to %s: %s' % (h, r)
            r = p.generate(q, dict(h, **{'Cache-Control': 'no-store'}), options={'fake_fresh': 1})
            assert r.cache == 'bypass' and [x['response'] for x in r.lines()] != said, (h, r)
    # the scope's own header in another case is the same header
    assert p.generate(ask, {'aUTHORIZATION': 'Bearer alice'}, options={'fake_fresh': 1}).cache == 'exact'
    # joining
    f2 = s.fake(name='second')
    p = s.proxy(f2, OFF, name='joins')
    body = {'model': 'llama3.2', 'prompt': '[[barrier=b barrier_at=2 tokens=3]]', 'stream': True}
    a = p.open('POST', '/api/generate', body, secret)
    f2.wait('started', 1)
    b = p.open('POST', '/api/generate', body, {'Authorization': 'Bearer bob'})
    f2.wait('started', 2)
    f2.release('b')
    assert a.reply().cache == 'miss' and b.reply().cache == 'miss'


def two_credentials(s):
    """Whoever stands in front or behind may take the first or the last of two headers: together they are a tenant of their own."""
    for scope, name in (('authorization', 'Authorization'), ('header:X-User', 'X-User')):
        f = s.fake(name='fake-' + name)
        p = s.proxy(f, dict(OFF, **{'cache.scope': scope}), name='proxy-' + name)

        def ask(*values):
            lines = ''.join('%s: %s\r\n' % (name, v) for v in values)
            r = tell(p, b'POST /api/generate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n' + lines.encode() + b'Content-Length: %d\r\n\r\n' % len(Q) + Q)
            assert len(r) == 1, r
            return r[0].cache if r[0].status == 200 else r[0].status
        assert ask('alice') == 'miss' and ask('alice') == 'exact' and ask('bob') == 'miss'
        for pair in (('alice', 'bob'), ('bob', 'alice'), ('alice', ''), ('', 'alice'), ('alice', 'alice')):
            assert ask(*pair) in ('miss', 400), (name, pair)
        for joined in ('alice, bob', 'alice,bob', 'alice,'):
            assert ask(joined) in ('miss', 400), (name, joined)


def namespaces_do_not_meet(s):
    """No way of writing tenant, namespace and question makes two of them one."""
    f = s.fake()
    p = s.proxy(f, OFF)
    seen = 0
    for tenant in (None, 'a', 'ab', 'a b'):
        for space in (None, 'a', 'b', 'b a', 'ab'):
            for prompt in ('q', 'aq', 'a'):
                r = p.generate(prompt, {'Authorization': tenant, 'X-Cache-Namespace': space}, stream=False)
                seen += 1
                assert r.cache == 'miss', (tenant, space, prompt)
    assert f.asked() == seen


# ---- poisoned answers ----

def ambiguous_bodies(s):
    """Two readers, two questions: a body that could be read otherwise is never stored, and never finds anything."""
    f = s.fake()
    p = s.proxy(f, OFF)
    assert p.post('/api/generate', Q).cache == 'miss' and p.post('/api/generate', Q).cache == 'exact'
    assert p.chat('q', stream=False).cache == 'miss'
    p.wait_stat('stored_answers', 2)
    bodies = (b'{"model":"llama3.2","prompt":"q","stream":false,"prompt":"evil"}', b'{"model":"llama3.2","prompt":"evil","prompt":"q","stream":false}',
              b'{"model":"llama3.2","prompt":"q","Prompt":"evil","stream":false}', b'{"model":"llama3.2","PROMPT":"q","stream":false}',
              '{"model":"llama3.2","prompt":"q","\u017ftream":false,"stream":false}'.encode(), '{"model":"llama3.2","prompt":"q","stream":false,"\u017fystem":"evil"}'.encode(),
              '{"model":"llama3.2","prompt":"q","stream":false,"\u212aeep_alive":1}'.encode(), b'{"model":"llama3.2","prompt":"q","stream":false,"\\u017fystem":"evil"}',
              b'{"model":"llama3.2","prompt":"q","stream":false,"Options":{"seed":1}}', b'{"model":"llama3.2","prompt":"q","stream":false,"options":{"seed":1,"seed":2}}',
             
              Q + b'{}', Q + Q, Q + b'x', Q + b',', Q + b'\0', b'\xef\xbb\xbf' + Q, b'\0' + Q, Q[:-1] + b',}', Q.replace(b'"', b"'"), b'[' + Q + b']', Q.replace(b'q"', b'q\0"'),
              b'{"model":"llama3.2","pro\\u006dpt":"q","stream":false,"prompt":"evil"}', b'{"model":"llama3.2","prompt":"q","stream":false,"a\0b":1}', b'/**/' + Q, Q.replace(b'false', b'False'),
              Q.replace(b'"q"', b'NaN'), Q.replace(b'"q"', b'"\xff"'), Q.replace(b'"q"', b'"\xc0\xaf"'), Q.replace(b'"q"', b'"\xed\xa0\x80"'), Q.replace(b'"prompt"', b'"prompt\xff"'))
    for raw in bodies:
        r = p.post('/api/generate', raw)
        assert r.cache == 'bypass', (raw, r)
        assert f.log('/api/generate')[-1]['body_bytes'] == len(raw), 'not forwarded as it came: %r' % raw
    for raw in (b'{"model":"llama3.2","messages":[{"role":"user","content":"q","content":"evil"}],"stream":false}', b'{"model":"llama3.2","messages":[{"role":"user","Content":"evil","content":"q"}],"stream":false}',
                '{"model":"llama3.2","me\u017f\u017fages":[],"messages":[{"role":"user","content":"q"}],"stream":false}'.encode(), b'{"model":"llama3.2","messages":[{"role":"user","content":"q"}],"Messages":[],"stream":false}'):
        assert p.post('/api/chat', raw).cache == 'bypass', raw
    # escapes are no ambiguity: the same question
    assert p.post('/api/generate', b'{"model":"llama3.2","\\u0070rompt":"\\u0071","stream":false}').cache in ('exact', 'bypass')
    assert p.post('/api/generate', Q).cache == 'exact'
    assert p.stats()['stored_answers'] == 2


def half_answers(s):
    """An upstream that stops early in any way leaves nothing behind."""
    f = s.fake()
    p = s.proxy(f, OFF)
    intact = {('no_done=1', False), ('bad_chunk=no_last', True), ('bad_chunk=no_last', False), ('until_close=1 no_done=1', False), ('cut_body=1', True), ('bad_json=2', False),
              ('bad_chunk=short', False), ('bad_chunk=long', False)}
    for d in ('die_after=3 die_how=fin', 'die_after=3', 'half_line=3', 'no_done=1', 'bad_chunk=no_last', 'until_close=1 no_done=1', 'cut_body=1', 'fail_after=3', 'bad_json=2', 'bad_chunk=short', 'bad_chunk=long',
              'done_reason=load', 'done_reason=odd', 'html=1', 'garbage=1', 'status=500', 'status=404 error=x', 'status=201'):
        for stream in (True, False):
            q = '[[tokens=6 %s]] %s' % (d, stream)
            n = f.asked()
            p.generate(q, stream=stream)
            again = p.generate(q, {'Cache-Control': 'only-if-cached'}, stream=stream)
            if again.status == 504:
                continue
            # an answer that had ended: what the directive breaks is not in this form of it, or comes behind done:true
            assert (d, stream) in intact and told(again)['last']['done'], (d, stream, again)
            assert f.asked() == n + 1


def poison_by_header(s):
    """What is not in the key must not change what is stored."""
    f = s.fake()
    p = s.proxy(f, OFF)
    r = p.post('/api/generate', Q, {'Accept-Encoding': 'gzip', 'Range': 'bytes=0-3', 'If-None-Match': '*', 'X-HTTP-Method-Override': 'DELETE', 'Accept': 'text/html', 'Content-Type': 'text/plain'})
    assert r.status == 200 and r.json()['done']
    assert p.post('/api/generate', Q).json()['response'] == r.json()['response']
    seen = [h.lower() for h in f.log('/api/generate')[-1]['headers']]
    for h in ('accept-encoding', 'range', 'if-none-match'):
        assert not any(x.startswith(h + ':') for x in seen), seen
    # a header that the Connection header names is about this connection
    p.post('/api/generate', Q.replace(b'"q"', b'"r"'), {'Connection': 'X-Secret, close', 'X-Secret': '1'})
    assert not any(x.lower().startswith(('x-secret:', 'connection:')) for x in f.log('/api/generate')[-1]['headers']), f.log('/api/generate')[-1]['headers']
    # Host is no part of the key, and is not taken upstream
    assert p.post('/api/generate', Q, host='10.1.2.3').cache == 'exact'
    assert all(('Host: ' + f.url[7:]) in x['headers'] for x in f.log())
    # a query is not part of the path: it goes along, and must not be lost or mixed
    n = f.asked('/api/generate')
    r = p.post('/api/generate?x=1', Q)
    assert r.status == 200 and r.json()['done'], (r, n)


# ---- lies ----

def logs_cannot_be_forged(s):
    f = s.fake()
    for fmt in ('text', 'json'):
        p = s.proxy(f, dict(OFF, **{'log.prompts': 'on', 'log.format': fmt, 'log.level': 'debug'}), name='log-' + fmt)
        evil = 'x\n2026-01-01T00:00:00Z info  request: FORGED\r\x1b[31mRED\x1b]0;title\x07\x08\x7f\u009b31m\u2028 "quoted" n=1 \\'
        p.generate(evil, stream=False)
        p.generate('q', model=evil, stream=False)
        p.chat(evil, model='llama3.2\n' + evil)
        p.get('/x%0aFORGED%1b[31m\u009b')
        p.generate('q', {'X-Cache-Namespace': evil.encode('latin-1', 'replace').decode('latin-1').translate({10: 32, 13: 32, 27: 32, 7: 32, 8: 32, 0x7f: 32})}, stream=False)
        p.post('/api/generate', Q, {'X-Cache-TTL': '\u009b31mFORGED'})
        p.post('/api/generate', Q, {'Origin': 'http://localhost:1\u009bFORGED'})
        p.generate('[[status=500 error=+\nFORGED\x1b[31m]]', stream=False)
        tell(p, b'GET /a\x1b[31m HTTP/1.1\r\nHost: localhost\r\n\r\n')
        tell(p, b'F\x1bOO / HTTP/1.1\r\nHost: localhost\r\n\r\n')
        p.generate('the end')
        assert p.stop() == 0
        raw = open(p.log_path, 'rb').read()
        for line in raw.split(b'\n'):
            text = line.decode('utf-8')                  # fails where it is not UTF-8
            bad = [c for c in text if ord(c) < 32 or 0x7f <= ord(c) < 0xa0 or c in '\u2028\u2029']
            assert not bad, 'control characters in the log: %r in %r' % (bad, text[:300])
            if fmt == 'text':
                assert not re.match(r'2026-01-01T00:00:00Z', text), text
                assert not text or re.match(r'20\d\d-\d\d-\d\dT[\d:.]+Z (debug|info|warn|error) ', text), text[:200]
            elif text:
                o = json.loads(text)
                assert isinstance(o, dict), text
        assert b'FORGED' in raw, 'the words themselves are to be there, made harmless'


def replies_cannot_be_split(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    names = ('llama3.2\r\nX-Evil: 1', 'llama3.2"\r\n\r\n<html>', 'a\nb', '"},{"x":"', '</script>', '\u2028', 'x' * 3000, 'llama3.2@complex\r\nX-Evil: 1', 'llama3.2@complex=2"')
    for name in names:
        for stream in (True, False):
            for _ in range(2):
                r = p.generate('q', model=name, stream=stream)
                assert r.get('X-Evil') is None and r.whole, (name, r.headers)
                [json.loads(x) for x in r.body.splitlines() if x.strip()] if stream else r.json()
    for h, v in (('X-Cache-Namespace', 'a%0d%0aX-Evil:1'), ('X-Complex', '1\u0085X-Evil: 1'), ('X-Cache-Semantic', '0.7"x'), ('X-Cache-TTL', '1e\u008a'), ('Cache-Control', 'max-age="\\"'), ('X-Complex-Explain', '"')):
        r = p.generate('q', {h: v})
        assert r.get('X-Evil') is None and r.status in (200, 400), (h, v, r)
        if r.status == 400:
            r.json()
    r = tell(p, b'POST /api/generate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Complex: \xff\xfe"\\\r\nContent-Length: %d\r\n\r\n' % len(Q) + Q)
    assert r[0].status == 400 and isinstance(json.loads(r[0].body.decode('utf-8'))['error'], str), r
    # an upstream's header cannot carry one of ours
    r = p.post('/api/nope', '{}', {'X-Fake': 'header=X-Cache:exact'})
    assert r.cache is None, r.headers
    r = p.generate('again', {'X-Fake': 'header=X-Cache:semantic'})
    assert r.cache == 'miss', r.headers


# ---- floods and odd protocols ----

def floods_of_headers(s):
    """Up to 8 KiB pass, as with most servers; what does not fit is refused at once, in HTTP."""
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.header_timeout': '60s'}))
    for n in (100, 4000, 8000, 8192):
        assert p.get('/api/version', {'X-L': 'y' * n}).status == 200, n
    assert any('y' * 8192 in h for x in f.log('/api/version')[-1:] for h in x['headers'])
    for name, raw in (('17 KB', b'X-L: ' + b'y' * 17000 + b'\r\n'), ('100 KB', b'X-L: ' + b'y' * 100000 + b'\r\n'), ('1000 headers', b'X-A: b\r\n' * 1000),
                      ('50000 headers', b'X-A: b\r\n' * 50000), ('a name of 20 KB', b'X' * 20000 + b': y\r\n'), ('no end', b'X: ' + b'y' * 20000)):
        refused(p, f, name, b'GET /api/version HTTP/1.1\r\nHost: localhost\r\n' + raw + b'\r\n')
    refused(p, f, 'a long target', b'GET /' + b'a' * 20000 + b' HTTP/1.1\r\nHost: localhost\r\n\r\n')
    for n in (50, 100):
        r = p.get('/api/version', {'X-%d' % i: 'y' for i in range(n)})
        assert r.status == 200 and sum(bool(re.match(r'X-\d+:', h)) for h in f.log('/api/version')[-1]['headers']) == n, (n, r)


def odd_methods_and_versions(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for raw, statuses in ((b'OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n', (200, 204, 400, 404)), (b'CONNECT evil.example.com:443 HTTP/1.1\r\nHost: evil.example.com:443\r\n\r\n', (400, 403, 405)),
                          (b'CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n', (400, 405)), (b'TRACE /ollacache/stats HTTP/1.1\r\nHost: localhost\r\nCookie: secret\r\nConnection: close\r\n\r\n', (405,)),
                          (b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0', (400, 505)), (b'GET /api/version HTTP/2.0\r\nHost: localhost\r\n\r\n', (400, 505)), (b'GET /api/version HTTP/0.9\r\n\r\n', (400, 505)),
                          (b'GET /api/version\r\n\r\n', (400, 505)), (b'GET /api/version\r\n', (400, 505)), (b'GET /api/version HTTP/1.1x\r\nHost: localhost\r\n\r\n', (400, 505)), (b'GET /api/version http/1.1\r\nHost: localhost\r\n\r\n', (400, 505)),
                          (b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + bytes(100) + b'\r\n\r\n', (400, 505))):
        r = tell(p, raw)
        assert len(r) <= 1 and (not r or r[0].status in statuses), (raw, r)
        assert not r or b'secret' not in r[0].body
    for h in (b'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n', b'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n'):
        c = Conn(p.where)
        c.send(b'GET /api/version HTTP/1.1\r\nHost: localhost\r\n' + h + b'\r\n' + AFTER)
        r = [c.reply(), c.reply()]
        assert [x.status for x in r] == [200, 404], r
        assert not any(x.lower().startswith(('upgrade:', 'http2-settings:', 'connection:')) for x in f.log('/api/version')[-1]['headers'])
    r = p.generate('sse', {'Accept': 'text/event-stream'})
    assert r.status == 200 and r.get('Content-Type') == 'application/x-ndjson', r.headers
    r = tell(p, b'CONNECT /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' + HIDDEN)
    assert counted(f, '/api/hidden') == 0 and len(r) <= 1, r


TESTS = [two_framings, lengths_that_are_none, codings_that_are_none, header_names_that_are_none, controls_in_header_values, bare_line_feeds, lies_in_chunks, bodies_nobody_expects, upstream_hides_a_reply, upstream_hides_a_reply_where_a_read_ends, upstream_begins_its_head_with_a_space,
         targets_with_an_authority, ways_round_to_our_endpoints, admin_needs_its_token, the_token_is_compared_in_constant_time, rebinding, another_tenants_answer, two_credentials, namespaces_do_not_meet,
         ambiguous_bodies, half_answers, poison_by_header, logs_cannot_be_forged, replies_cannot_be_split, floods_of_headers, odd_methods_and_versions]

if __name__ == '__main__':
    sys.exit(main(TESTS))
