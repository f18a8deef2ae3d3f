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
    before = [forwarded(p) for p in ring]
    for path in ('/api/version', '/api/ps'):
        r = ring[0].get(path)
        assert r.status == 508 and r.error(), r
    assert [forwarded(p) - n for p, n in zip(ring, before)] == [2, 2], 'it went round'


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
            assert p.generate('q', stream=stream).status == 200
        p.wait_stat('upstream_up', 1)
        want = base.rstrip('/').encode()
        targets = [h.split(b' ')[1] for h in u.heads]
        assert all(t.startswith(want + b'/') for t in targets), targets
        for t in (b'/', b'/api/version?a=b', b'/x/../y', b'/v1/chat/completions', b'/api/generate', b'/api/tags'):
            assert want + t in targets, (t, targets)
    u.stop()


TESTS = [nothing_behind_the_head, many_heads_on_one_connection, no_content_and_not_modified, old_clients_are_answered_in_their_version,
         upstream_is_this_proxy, a_ring_of_proxies, upstream_behind_a_path]

if __name__ == '__main__':
    sys.exit(main(TESTS))
