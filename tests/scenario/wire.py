#!/usr/bin/env python3
"""HTTP as the client sees it: framing of replies that have no body, versions, interim replies, headers that pass both ways."""
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

OFF = {'semantic.enabled': 'off'}
TAGS = b'{"models":[{"name":"llama3.2:latest","model":"llama3.2:latest","digest":"%s"}]}' % (b'a' * 64)
ONE = b'{"model":"llama3.2","created_at":"2026-01-01T00:00:00Z","response":"%s","done":true,"done_reason":"stop"}'


class Scripted:
    """An upstream whose replies are written by hand: answer(sock, head, body) writes them; False closes the connection.
    It answers /api/tags and the health check itself."""

    def __init__(self, answer, own=True):
        self.answer, self.own, self.heads = answer, own, []
        self.door = socket.create_server(('127.0.0.1', 0), backlog=128)
        self.url = 'http://127.0.0.1:%d' % self.door.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.door.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        buf = b''
        with contextlib.suppress(OSError), sock:
            while True:
                while b'\r\n\r\n' not in buf:
                    got = sock.recv(65536)
                    if not got:
                        return
                    buf += got
                head, _, buf = buf.partition(b'\r\n\r\n')
                if re.search(rb'(?i)transfer-encoding: *chunked', head):
                    while b'0\r\n\r\n' not in buf:
                        buf += sock.recv(65536)
                    head, buf = head + b'\r\nContent-Length: %d' % buf.index(b'0\r\n\r\n'), buf.replace(b'0\r\n\r\n', b'', 1)
                n = re.search(rb'(?i)content-length: *(\d+)', head)
                while n and len(buf) < int(n.group(1)):
                    buf += sock.recv(65536)
                body, buf = (buf[:int(n.group(1))], buf[int(n.group(1)):]) if n else (b'', buf)
                self.heads.append(head)
                if self.own and head.startswith((b'GET /api/tags ', b'GET /api/version ', b'GET / ', b'HEAD / ')):
                    say(sock, TAGS)
                elif self.answer(sock, head, body) is False:
                    return

    def stop(self):
        self.door.close()

    def sent(self, word):
        """The heads of the requests that have this word in their first line."""
        return [h for h in self.heads if word.encode() in h.split(b'\r\n')[0]]


def say(sock, body=b'', status='200 OK', headers='', kind='application/json'):
    head = 'HTTP/1.1 %s\r\n%s%sContent-Length: %d\r\n\r\n' % (status, 'Content-Type: %s\r\n' % kind if kind else '', headers, len(body))
    sock.sendall(head.encode('latin-1') + body)


def raw_head(c, request):
    """The head of the reply, and that the next bytes on the connection are the next reply."""
    c.send(request)
    r = c.head('HEAD')
    c.rest(r)
    c.nothing_follows(r)
    return r


# ---- replies without a body ----

def nothing_behind_the_head(s):
    """HEAD, everywhere: the upstream's framing or none, and the next reply on the same connection."""
    f = s.fake()
    blob = b'x' * 3000
    import hashlib
    digest = '/api/blobs/sha256:' + hashlib.sha256(blob).hexdigest()
    assert f.post(digest, blob).status == 201
    p = s.proxy(f, OFF)
    for path in ('/', '/api/version', '/api/tags', '/api/ps', digest, '/api/blobs/sha256:' + '0' * 64, '/nope', '/api/chat', '/v1/models'):
        want, got = f.ask('HEAD', path), p.ask('HEAD', path)
        assert got.status == want.status and got.body == b'', (path, got)
        for name in ('Content-Length', 'Transfer-Encoding', 'Content-Type', 'Connection'):
            assert got.get(name) == want.get(name), (path, name, got.get(name), want.get(name))
    assert p.ask('HEAD', '/api/tags').get('Content-Length') is None, 'the list is too short to test anything'
    for path in ('/metrics', '/ollacache/stats', '/ollacache/health', '/ollacache/', '/ollacache/requests', '/ollacache/nope', '/ollacache/explain'):
        got, want = p.ask('HEAD', path), p.get(path)
        assert got.status == want.status and got.get('Transfer-Encoding') is None, (path, got.headers)
    for headers in ({'Host': 'evil.example'}, {'Origin': 'http://evil.example'}):
        want, got = f.ask('HEAD', '/api/tags', headers=headers), p.ask('HEAD', '/api/tags', headers=headers)
        assert got.status == want.status == 403, (got, want)
        assert got.get('Content-Length') == want.get('Content-Length'), (got.headers, want.headers)
    f.order('down?mode=refuse')
    assert p.ask('HEAD', '/api/tags').status == 502


def many_heads_on_one_connection(s):
    """Also one behind the other, and all sent at once."""
    f = s.fake()
    p = s.proxy(f, OFF)
    c = Conn(p.where)
    one = b'HEAD /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n'
    for _ in range(20):
        raw_head(c, one)
    c.send(one * 5 + build('GET', '/api/version'))
    for _ in range(5):
        r = c.reply('HEAD')
        assert r.status == 200 and r.framing == 'none', r
    assert 'version' in c.reply().json()
    c.close()


def no_content_and_not_modified(s):
    """What the upstream says of a body that does not follow is passed on, and nothing is made up."""
    lines = {'/a': '204 No Content\r\n', '/b': '304 Not Modified\r\nETag: "x"\r\n', '/c': '304 Not Modified\r\nContent-Length: 123\r\n',
             '/d': '304 Not Modified\r\nTransfer-Encoding: chunked\r\n'}

    def answer(sock, head, body):
        sock.sendall(('HTTP/1.1 ' + lines[head.split(b' ')[1].decode()] + '\r\n').encode())
    u = Scripted(answer)
    p = s.proxy(u.url, OFF)
    c = Conn(p.where)
    for path, said in lines.items():
        for method in ('GET', 'HEAD'):
            r = raw_head(c, build(method, path))
            assert r.status == int(said[:3]), (path, r)
            assert r.get('Content-Length') == ('123' if path == '/c' else None) and not r.get('Transfer-Encoding'), (path, r.headers)
    c.close()
    u.stop()


# ---- versions ----

def old_clients_are_answered_in_their_version(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    q = {'model': 'llama3.2', 'prompt': 'q', 'stream': False}
    for cache in ('miss', 'exact', 'exact'):
        assert p.post('/api/generate', q).cache == cache
        r = p.post('/api/generate', q, version='1.0')
        assert r.line == 'HTTP/1.0 200 OK' and r.cache == 'exact' and r.framing != 'chunked' and r.whole, (r.line, r)
    for method, path in (('GET', '/api/version'), ('HEAD', '/api/tags'), ('GET', '/nope'), ('GET', '/metrics'), ('OPTIONS', '/api/tags')):
        r = p.ask(method, path, version='1.0')
        assert r.line.startswith('HTTP/1.0 '), (method, path, r.line)
    r = p.generate('streamed', stream=True)
    old = p.post('/api/generate', {'model': 'llama3.2', 'prompt': 'streamed', 'stream': True}, version='1.0')
    assert old.line == 'HTTP/1.0 200 OK' and told(old)['text'] == told(r)['text'], old
    c = Conn(p.where)                           # the connection may be kept, if the client asks for it
    for _ in range(3):
        c.send(build('GET', '/api/version', {'Connection': 'keep-alive'}, version='1.0'))
        r = c.reply()
        assert r.line == 'HTTP/1.0 200 OK' and r.get('Connection', '').lower() == 'keep-alive', r.headers
    c.close()


# ---- headers end to end ----

def what_the_upstream_says_of_errors(s):
    """Retry-After and the like reach who asked, and who waited with him; on misses too, never on hits."""
    open_gate = threading.Event()

    def answer(sock, head, body):
        q = json.loads(body)['prompt']
        if q == 'together':
            open_gate.wait(LATE)
        if q in ('429', 'together'):
            say(sock, b'{"error":"slow down"}', '429 Too Many Requests', 'Retry-After: 17\r\nX-RateLimit-Remaining: 0\r\nSet-Cookie: a=b\r\n')
        elif q == '401':
            say(sock, b'{"error":"no"}', '401 Unauthorized', 'WWW-Authenticate: Bearer realm="x"\r\nConnection: X-Secret\r\nX-Secret: hop\r\nX-Cache: lie\r\n')
        elif q == '307':
            say(sock, b'', '307 Temporary Redirect', 'Location: https://elsewhere/api/generate\r\n', kind=None)
        else:
            say(sock, ONE % b'ok', headers='X-Request-Id: 77\r\nAge: 5\r\nCache-Status: other; hit\r\n')
    u = Scripted(answer)
    p = s.proxy(u.url, OFF)
    for stream in (False, True):
        r = p.generate('429', stream=stream)
        assert r.status == 429 and r.get('Retry-After') == '17' and r.get('X-RateLimit-Remaining') == '0' and r.get('Set-Cookie') == 'a=b', r.headers
        r = p.generate('401', stream=stream)
        assert r.status == 401 and r.get('WWW-Authenticate') == 'Bearer realm="x"', r.headers
        assert r.get('X-Secret') is None and r.cache == 'miss', r.headers
        r = p.generate('307', stream=stream)
        assert r.status == 307 and r.get('Location') == 'https://elsewhere/api/generate' and r.body == b'', r.headers
    r = p.generate('miss', stream=False)
    assert r.cache == 'miss' and r.get('X-Request-Id') == '77' and r.get('Age') is None and 'other' not in r.get('Cache-Status'), r.headers
    r = p.generate('miss', stream=False)
    assert r.cache == 'exact' and r.get('X-Request-Id') is None, r.headers
    clients = [p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': 'together', 'stream': False}) for _ in range(4)]
    p.arrived(12)
    open_gate.set()
    replies = [c.reply() for c in clients]
    assert all(r.status == 429 and r.get('Retry-After') == '17' for r in replies), replies
    assert sum(r.get('Set-Cookie') is not None for r in replies) <= 1, 'one client was given the cookie of another'
    u.stop()


def encoded_answers_pass_and_are_not_kept(s):
    import gzip
    packed = gzip.compress(ONE % b'zipped')

    def answer(sock, head, body):
        kind = 'application/x-ndjson' if b'"stream": true' in body else 'application/json'
        say(sock, packed, headers='Content-Encoding: gzip\r\n', kind=kind)
    u = Scripted(answer)
    p = s.proxy(u.url, OFF)
    for stream in (False, True):
        for _ in range(2):
            r = p.generate('q', stream=stream)
            assert r.status == 200 and r.get('Content-Encoding') == 'gzip' and r.body == packed and r.whole, r
            assert r.cache == 'miss', r
    assert p.stats()['stored_answers'] == 0
    u.stop()


def several_connection_headers(s):
    u = Scripted(lambda sock, head, body: say(sock, ONE % b'ok', headers='Connection: keep-alive\r\nConnection: X-Secret\r\nX-Secret: hop\r\nX-Open: 1\r\n'))
    p = s.proxy(u.url, OFF)
    body = json.dumps({'model': 'llama3.2', 'prompt': 'q', 'stream': False}).encode()
    for method, path in (('POST', '/api/generate'), ('GET', '/nope')):
        c = Conn(p.where)
        c.send(('%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\nConnection: X-Hop, x-other\r\nX-Hop: 1\r\nX-Other: 1\r\nX-End: 1\r\nContent-Length: %d\r\n\r\n'
                % (method, path, len(body))).encode() + body)
        r = c.reply()
        c.close()
        assert r.status == 200 and r.get('X-Secret') is None and r.get('X-Open') == '1', (path, r.headers)
        sent = u.sent(path)[-1]
        assert b'X-End' in sent and b'X-Hop' not in sent and b'X-Other' not in sent, sent
    u.stop()


# ---- kept connections that are closed without a word ----

def small_bodies_are_sent_again_once(s):
    """The second request on each connection finds it closed: what may be done twice goes to a fresh one, once."""
    served, tried = {}, []

    def answer(sock, head, body):
        tried.append((head.split(b' ')[1].decode(), len(body)))
        served[sock] = served.get(sock, 0) + 1
        if served[sock] > 1:
            return False
        say(sock, b'{"ok":1}')
    u = Scripted(answer)
    p = s.proxy(u.url, dict(OFF, **{'server.workers': 1, 'upstream.health_interval': '1h'}))

    def second(method, path, body, chunked=False):
        assert p.get('/first').status == 200              # a connection that was used and is kept
        tried.clear()
        if not chunked:
            return p.ask(method, path, body)
        c = Conn(p.where)
        c.send(build(method, path, {'Transfer-Encoding': 'chunked'}) + in_chunks(body, 7))
        r = c.reply()
        c.close()
        return r
    for n in (2, 1000, 30000):
        r = second('POST', '/v1/chat/completions', b'x' * n)
        assert r.status == 200 and tried == [('/v1/chat/completions', n)] * 2, (n, r, tried)
    assert second('POST', '/api/show', b'{"model":"x"}', chunked=True).status == 200
    assert second('GET', '/api/ps', None).status == 200 and len(tried) == 2
    for method, path, body in (('POST', '/api/copy', b'{}'), ('DELETE', '/api/delete', b'{}'), ('POST', '/unknown', b'x'), ('POST', '/v1/chat/completions', b'x' * 200000)):
        r = second(method, path, body)
        assert r.status == 502 and len(tried) <= 1, (path, r, tried)
    u.stop()


# ---- bodies around server.max_body ----

def in_chunks(body, size):
    return b''.join(b'%x\r\n%s\r\n' % (len(body[i:i + size]), body[i:i + size]) for i in range(0, len(body), size)) + b'0\r\n\r\n'


def bodies_around_max_body(s):
    """Up to the limit understood, over it streamed through; at every size around every limit, in both framings."""
    f = s.fake()
    for limit in (1024, 3000, 4096, 65536, 128 << 10, 256 << 10, 300000):
        p = s.proxy(f, dict(OFF, **{'server.max_body': str(limit), 'server.workers': 1}), name='p%d' % limit)
        sizes = {0, 1, 2, 1023, 1024, 1025, 3000, 4095, 4096, 4097, limit // 2, limit - 1, limit, limit + 1, limit + 2, limit * 2, 3 * limit}
        for n in sorted(sizes):
            shell = json.dumps({'model': 'llama3.2', 'prompt': '%d of %d' % (n, limit), 'stream': False, 'pad': ''})
            body = shell.replace('"pad": ""', '"pad": "%s"' % ('x' * (n - len(shell)))).encode() if n >= len(shell) else b' ' * n
            for chunked in (False, True):
                c = Conn(p.where)
                framing = {'Transfer-Encoding': 'chunked'} if chunked else {'Content-Length': str(n)}
                c.send(build('POST', '/api/generate', dict(framing, **{'Content-Type': 'application/json', 'X-Cache-Namespace': str(chunked)})) +
                       (in_chunks(body, 1 + n // 3) if chunked else body))
                r = c.reply()
                c.close()
                what = (limit, n, chunked, r)
                if n < len(shell):
                    assert r.status == 400 and r.cache == 'bypass', what
                else:
                    assert r.status == 200 and r.whole and r.cache == ('miss' if n <= limit else 'bypass'), what
                    assert n <= limit or f.log('/api/generate')[-1]['body_bytes'] == n, what
        assert p.stop() == 0
        s.things.remove(p)


# ---- where upstream.url leads ----

def relay(port):
    """A door that leads to that port of this machine."""
    door = socket.create_server(('127.0.0.1', 0), backlog=128)

    def pump(a, b):
        with contextlib.suppress(OSError):
            while True:
                got = a.recv(65536)
                if not got:
                    break
                b.sendall(got)
        with contextlib.suppress(OSError):
            b.shutdown(socket.SHUT_WR)

    def serve():
        while True:
            try:
                a, _ = door.accept()
                b = socket.create_connection(('127.0.0.1', port))
            except OSError:
                return
            threading.Thread(target=pump, args=(a, b), daemon=True).start()
            threading.Thread(target=pump, args=(b, a), daemon=True).start()
    threading.Thread(target=serve, daemon=True).start()
    return door


def forwarded(p):
    return sum(v for k, v in p.stats().items() if k == 'upstream_requests')


def upstream_is_this_proxy(s):
    """Refused at start where it can be seen; else the request that comes back is answered with 508."""
    port = free_port()
    for listen, url in (('127.0.0.1:%d', 'http://localhost:%d'), ('0.0.0.0:%d', 'http://127.0.0.1:%d/x'), ('[::]:%d', 'http://[::1]:%d')):
        p = Proxy(s.dir, url % port, OFF, listen=listen % port, start=False)
        r = subprocess.run(p.argv() + ['-t'], capture_output=True, text=True)
        assert r.returncode == 1 and 'this proxy itself' in r.stderr, r
    port = free_port()
    door = relay(port)
    p = s.proxy('http://127.0.0.1:%d' % door.getsockname()[1], dict(OFF, **{'upstream.health_interval': '1h'}), listen='127.0.0.1:%d' % port)
    before = forwarded(p)
    for path, body in (('/api/version', None), ('/nope', b'x' * 100000), ('/api/generate', {'model': 'm', 'prompt': 'q'}), ('/v1/chat/completions', {})):
        r = p.ask('POST' if body else 'GET', path, body)
        assert r.status == 508 and 'leads back here' in r.body.decode(), (path, r)
    assert forwarded(p) - before == 4, 'it went round'
    door.close()


def a_ring_of_proxies(s):
    """Two in a row are good, two in a ring are not."""
    f = s.fake()
    one = s.proxy(f, OFF, name='one')
    two = s.proxy(one.where and 'http://127.0.0.1:%d' % one.where[1], OFF, name='two')
    assert two.get('/api/version').status == 200
    assert two.generate('q', stream=False).status == 200 and f.asked() == 1
    ports = free_port(), free_port()
    ring = [s.proxy('http://127.0.0.1:%d' % ports[1 - i], dict(OFF, **{'upstream.health_interval': '1h'}), listen='127.0.0.1:%d' % ports[i], name='ring%d' % i)
            for i in range(2)]
    end = time.monotonic() + LATE
    while not all('is down' in p.said() for p in ring):       # their checks at start go round the ring too
        assert time.monotonic() < end, 'a check at start came to no end'
        time.sleep(0.02)
    before = [forwarded(p) for p in ring]
    for path in ('/api/version', '/api/ps'):
        r = ring[0].get(path)
        assert r.status == 508 and r.error(), r
    more = [forwarded(p) - n for p, n in zip(ring, before)]
    assert more == [2, 2], 'it went round: %s' % more


def upstream_behind_a_path(s):
    """http://host/ollama: the path stands before that of every request, ours too, and nothing else does."""
    def answer(sock, head, body):
        say(sock, ONE % b'ok' if body else b'{}')
    u = Scripted(answer, own=False)
    tags = u.answer
    u.answer = lambda sock, head, body: say(sock, TAGS) if b'/api/tags ' in head.split(b'\r\n')[0] else tags(sock, head, body)
    for base in ('/ollama', '/a/b%20c/'):
        u.heads.clear()
        p = s.proxy(u.url + base, dict(OFF, **{'server.workers': 1}), name='p%d' % len(s.things))
        assert p.get('/').status == 200 and p.get('/api/version?a=b').status == 200 and p.ask('OPTIONS', '/x/../y').status == 200
        assert p.post('/v1/chat/completions', {'model': 'llama3.2'}).status == 200
        for stream in (False, True):
            assert p.generate('q' + base, stream=stream).status == 200
        p.wait_stat('upstream_up', 1)
        want = base.rstrip('/').encode()
        targets = [h.split(b' ')[1] for h in u.heads]
        assert all(t.startswith(want + b'/') for t in targets), targets
        for t in (b'/', b'/api/version?a=b', b'/x/../y', b'/v1/chat/completions', b'/api/generate', b'/api/tags'):
            assert want + t in targets, (t, targets)
        assert p.stop() == 0                    # or its checks would be heard among the next one's
        s.things.remove(p)
    u.stop()


TESTS = [nothing_behind_the_head, many_heads_on_one_connection, no_content_and_not_modified, old_clients_are_answered_in_their_version,
         what_the_upstream_says_of_errors, encoded_answers_pass_and_are_not_kept, several_connection_headers, small_bodies_are_sent_again_once, bodies_around_max_body,
         upstream_is_this_proxy, a_ring_of_proxies, upstream_behind_a_path]

if __name__ == '__main__':
    sys.exit(main(TESTS))
