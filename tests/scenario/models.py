#!/usr/bin/env python3
"""What is known of the upstreams: which is up and why not, which models each has with which digests, and for how long that holds."""
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

OFF = {'semantic.enabled': 'off'}
HOUR = dict(OFF, **{'upstream.health_interval': '1h'})


def kept(p, prompt='q', **more):
    """An answer that is kept, and asked for again."""
    first = p.generate(prompt, **more)
    assert first.cache == 'miss', first
    again = p.generate(prompt, **more)
    assert again.cache == 'exact', again
    return first


def looks(f):
    return f.state()['paths'].get('/api/tags', 0)


def until(what, why, late=LATE):
    end = time.monotonic() + late
    while not what():
        assert time.monotonic() < end, why() if callable(why) else why
        time.sleep(0.02)


# ---- the last known digests hold ----
def failed_management_changes_nothing(s):
    f = s.fake()
    p = s.proxy(f, HOUR)
    kept(p)
    until(lambda: looks(f) == 2, 'the answer was not confirmed')
    n = looks(f)
    f.order('rule?path=/api/tags&ms=300')
    for path, body, fake, status in (('/api/copy', {}, '', 400), ('/api/copy', {'source': 'never', 'destination': 'x'}, '', 404),
                                     ('/api/create', {'model': 'x', 'from': 'llama3.2', 'stream': False}, 'status=500', 500)):
        for _ in range(5):
            r = p.post(path, body, {'X-Fake': fake} if fake else None)
            assert r.status == status, r
            t = time.monotonic()
            assert p.generate('q').cache == 'exact'
            assert time.monotonic() - t < 0.25 * max(1, LATE / 10)
    r = p.ask('DELETE', '/api/delete', {'model': 'never'})
    assert r.status == 404, r
    r = p.post('/api/pull', {'model': 'x'}, {'X-Fake': 'fail_after=2'})
    assert r.status == 200 and b'"error"' in r.body, r
    time.sleep(0.5)
    assert looks(f) == n, 'it looked at the models after requests that had failed'


def hits_go_on_while_models_are_looked_at(s):
    f = s.fake()
    p = s.proxy(f, HOUR)
    kept(p)
    n = looks(f)
    f.order('rule?path=/api/tags&mode=hang')
    r = p.post('/api/copy', {'source': 'llama3.2', 'destination': 'mine'})
    assert r.status == 200, r
    f.wait('path:/api/tags', n + 1)
    t = time.monotonic()
    for _ in range(5):
        assert p.generate('q').cache == 'exact'
        assert p.generate('new %d' % _).cache == 'miss'
    assert time.monotonic() - t < LATE / 4, 'requests waited for the look'


def looks_are_apart(s):
    """However fast models are changed, there is one look at a time, and at most one every 250 ms."""
    f = s.fake()
    p = s.proxy(f, HOUR)
    kept(p)
    n, began = looks(f), time.monotonic()
    threads = [threading.Thread(target=lambda: [p.post('/api/copy', {'source': 'llama3.2', 'destination': 'mine'}) for _ in range(40)])
               for _ in range(3)]
    [t.start() for t in threads]
    while any(t.is_alive() for t in threads):
        assert p.generate('q').cache == 'exact'
        time.sleep(0.01)
    took = time.monotonic() - began
    until(lambda: looks(f) > n, 'nobody looked')
    assert looks(f) - n <= took / 0.25 + 2, '%d looks in %.2f s' % (looks(f) - n, took)


def one_hung_upstream_delays_no_other(s):
    a, b = s.fake(name='a'), s.fake(name='b')
    b.order('rule?path=/api/tags&mode=hang')
    p = s.proxy(a.url + ',' + b.url, HOUR)
    t = time.monotonic()
    kept(p)
    assert time.monotonic() - t < 0.9 * max(1, LATE / 10), 'the first look waited for the one that hangs'
    for i in range(3):
        a.order('digest?model=llama3.2&digest=d%d' % i)
        r = p.post('/api/copy', {'source': 'llama3.2', 'destination': 'mine'})
        assert r.status == 200, r
    until(lambda: p.generate('q', {'Cache-Control': 'only-if-cached'}).status == 504, 'the new digest was not noticed')


def a_dripping_list_freezes_nobody(s):
    a, drips = s.fake(name='a'), socket.socket()
    drips.bind(('127.0.0.1', 0))
    drips.listen(50)

    def drip(c):
        try:
            c.recv(65536)
            c.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n')
            while True:
                c.sendall(b'1\r\n \r\n')
                time.sleep(0.2)
        except OSError:
            pass

    def accept():
        try:
            while True:
                threading.Thread(target=drip, args=(drips.accept()[0],), daemon=True).start()
        except OSError:
            pass
    threading.Thread(target=accept, daemon=True).start()
    url = 'http://127.0.0.1:%d' % drips.getsockname()[1]
    p = s.proxy(a.url + ',' + url, dict(OFF, **{'upstream.health_interval': '200ms'}))
    until(lambda: 'is down: GET /api/tags was not answered in time' in p.said(), p.said, 5 + LATE)
    kept(p)
    a.order('down?mode=refuse')
    until(lambda: p.said().count(' is down: ') == 2, p.said)
    drips.close()


def the_first_looks_of_all_are_waited_for(s):
    """A model that only the second of two has is known once that one has told."""
    a, b = s.fake(name='a'), s.fake(name='b')
    b.order('digest?model=only-b&digest=x')
    b.order('rule?path=/api/tags&ms=300')
    p = s.proxy(a.url + ',' + b.url, HOUR)
    assert p.generate('q', model='only-b').cache == 'miss'


def same_bytes_follow_the_digest_that_counts(s):
    """The first of two upstreams with different digests goes down: what was seen before, byte for byte, is no exception."""
    a, b = s.fake(name='a'), s.fake(name='b')
    b.order('digest?model=llama3.2&digest=other')
    p = s.proxy(a.url + ',' + b.url, dict(OFF, **{'server.workers': 1, 'upstream.health_interval': '200ms'}))
    p.wait_stat('upstream_up', 2)
    kept(p)
    a.stop()
    until(lambda: ' is down: ' in p.said(), p.said)
    body = {'model': 'llama3.2', 'prompt': 'q'}
    assert p.post('/api/generate', body).cache == 'miss'
    assert p.post('/api/generate', body).cache == 'exact'
    assert p.generate('q').cache == 'exact'


# ---- the digest is confirmed after the answer ----
def dropped(p):
    return p.stats().get('unstored_answers.unconfirmed', 0)


def a_model_replaced_meanwhile_leaves_nothing(s):
    """Neither behind the proxy before the answer began, nor while it was made: nothing of the new one is kept as the old one's."""
    for when in ('before', 'during'):
        for stream in (True, False):
            for complex_ in (None, 2):
                f = s.fake(name='%s%s%s' % (when, stream, complex_))
                p = s.proxy(f, HOUR, name='p%s%s%s' % (when, stream, complex_))
                kept(p, 'old', stream=stream)
                until(lambda: looks(f) >= 2, 'the first answer was not confirmed')
                time.sleep(0.1)
                old = next(m['digest'] for m in p.get('/api/tags').json()['models'] if m['name'] == 'llama3.2:latest')
                headers = {'X-Complex': str(complex_)} if complex_ else {}
                if when == 'before':
                    f.order('digest?model=llama3.2&digest=new')
                    assert p.generate('q', headers, stream=stream).cache == 'miss'
                else:
                    c = p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': '[[barrier=b tokens=3]] q', 'stream': stream}, headers)
                    f.wait('waiting')
                    f.order('digest?model=llama3.2&digest=new')
                    f.release('b')
                    assert c.reply().whole
                until(lambda: dropped(p) >= 1, p.said)
                until(lambda: 'the model was replaced meanwhile' in p.said(), p.said)
                f.order('digest?model=llama3.2&digest=' + old)
                p.post('/api/copy', {'source': 'llama3.2', 'destination': 'mine'})
                until(lambda: p.generate('old', {'Cache-Control': 'only-if-cached'}, stream=stream).cache == 'exact', 'the old model is not back')
                prompt = 'q' if when == 'before' else '[[barrier=b tokens=3]] q'
                assert p.generate(prompt, dict(headers, **{'Cache-Control': 'only-if-cached'}), stream=stream).status == 504
                p.stop()
                f.stop()


def answers_are_confirmed_together(s):
    """A hundred answers at once ask for a look or two, and all of them stay; none waited for it."""
    f = s.fake()
    p = s.proxy(f, HOUR)
    kept(p)
    f.order('rule?path=/api/tags&ms=100')
    n, began = looks(f), time.monotonic()
    for i in range(100):
        assert p.generate('q%d' % i).cache == 'miss'
        assert p.generate('q%d' % i).cache == 'exact'
    took = time.monotonic() - began
    time.sleep(0.8)
    assert 1 <= looks(f) - n <= (took + 0.8) / 0.25 + 2, (looks(f) - n, took)
    assert dropped(p) == 0
    for i in range(100):
        assert p.generate('q%d' % i, {'Cache-Control': 'only-if-cached'}).cache == 'exact'


def a_short_outage_costs_no_answer(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'upstream.health_interval': '200ms'}))
    kept(p)
    f.order('down?mode=refuse')
    until(lambda: ' is down: ' in p.said(), p.said)
    time.sleep(1)
    assert p.generate('q').cache == 'exact'
    f.order('up')
    until(lambda: ' is up again' in p.said(), p.said)
    time.sleep(0.5)
    assert p.generate('q').cache == 'exact' and dropped(p) == 0


# ---- names and digests ----
def no_digest_no_cache(s):
    """An empty digest is none, and a stub of a model elsewhere tells nothing of that model's weights."""
    for extra in ({'digest': ''}, {'digest': 'a' * 64, 'remote_model': 'm', 'remote_host': 'https://ollama.com:443'}):
        up = Tags(json.dumps({'models': [dict({'name': 'm:latest', 'model': 'm:latest'}, **extra)]}).encode())
        p = s.proxy(up.url, HOUR, name='p%d' % len(extra))
        for _ in range(2):
            r = p.generate('q', model='m')
            assert r.cache == 'bypass' and 'detail=digest' in r.get('Cache-Status'), r.headers
        p.stop()
        up.close()


def names_of_two_parts_have_no_host(s):
    f = s.fake()
    p = s.proxy(f, HOUR)
    kept(p)
    for name in ('llama3.2:latest', 'LLAMA3.2', 'library/llama3.2', 'registry.ollama.ai/library/llama3.2', 'Registry.Ollama.AI/Library/llama3.2'):
        assert p.generate('q', model=name).cache == 'exact', name
    for name in ('registry.ollama.ai/llama3.2', 'library/library/llama3.2', 'llama3.2:other', 'me/llama3.2'):
        r = p.generate('q', model=name)
        assert r.status == 404 and r.cache == 'bypass', (name, r)


# ---- up, down and why ----
def said_of(p, url):
    return [l.split('upstream: ')[1] for l in p.said().splitlines() if ' warn ' in l and ('upstream: ' + url + ' is ') in l]


def state_of(p, url):
    return next(u for u in p.get('/ollacache/health').json()['upstreams'] if u['url'] == url)


def each_change_is_said_once(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'upstream.health_interval': '100ms'}))
    until(lambda: state_of(p, f.url)['up'], 'never up')
    assert state_of(p, f.url)['cause'] == 'ok' and state_of(p, f.url)['why'] == ''
    assert said_of(p, f.url) == [], p.said()
    f.order('down?mode=refuse')
    until(lambda: not state_of(p, f.url)['up'], 'never down')
    for i in range(10):
        assert p.generate('q%d' % i).status == 502
    time.sleep(0.5)
    state = state_of(p, f.url)
    assert state['cause'] == 'refused' and 'refused' in state['why'] and abs(state['since'] - time.time()) < 60, state
    f.order('up')
    until(lambda: state_of(p, f.url)['up'], 'never up again')
    assert p.generate('q').cache == 'miss'
    time.sleep(0.3)
    said = said_of(p, f.url)
    assert len(said) == 2, said
    assert said[0] == f.url + ' is down: the connection was refused', said
    assert re.fullmatch(re.escape(f.url) + r' is up again, after \d+ s', said[1]), said


def why_it_is_down_is_said_at_the_start(s):
    f = s.fake()
    page = Tags(b'<html>It works!</html>')
    wrong = Tags(b'{"data":[]}')
    silent = socket.socket()
    silent.bind(('127.0.0.1', 0))
    silent.listen(5)
    greets = socket.socket()
    greets.bind(('127.0.0.1', 0))
    greets.listen(50)

    def greet():
        while True:
            c = greets.accept()[0]
            c.sendall(b'220 mail.example.org ESMTP\r\n')
            c.recv(1)
            c.close()
    threading.Thread(target=greet, daemon=True).start()
    cases = [('http://127.0.0.1:%d' % free_port(), 'refused', 'the connection was refused'),
             ('http://nowhere.invalid:1', 'dns', 'its name cannot be resolved'),
             (page.url, 'no-list', 'its answer to GET /api/tags is not a list of models'),
             (wrong.url, 'no-list', 'its answer to GET /api/tags is not a list of models'),
             ('https://127.0.0.1:%d' % f.where[1], 'connect-timeout', 'no connection was made in time'),
             ('https://127.0.0.1:%d' % greets.getsockname()[1], 'tls', 'TLS failed: '),
             ('http://127.0.0.1:%d' % greets.getsockname()[1], 'not-http', 'its answer to GET /api/tags is not HTTP'),
             ('http://127.0.0.1:%d' % silent.getsockname()[1], 'timeout', 'GET /api/tags was not answered in time')]
    p = s.proxy(','.join(c[0] for c in cases), dict(OFF, **{'upstream.health_interval': '200ms', 'upstream.first_byte_timeout': '500ms'}))
    for url, cause, why in cases:
        until(lambda: state_of(p, url)['cause'] == cause, lambda: '%s: %s' % (url, state_of(p, url)), 6 + LATE)
        assert state_of(p, url)['why'].startswith(why), state_of(p, url)
        assert not state_of(p, url)['up']
        until(lambda: [l for l in said_of(p, url) if l.startswith(url + ' is down: ' + why)], p.said)
    time.sleep(1)                                    # a wrong one is asked again and again; it is not said again and again
    for i in range(6):
        p.generate('q%d' % i)
    for url, cause, why in cases:
        assert len(said_of(p, url)) == 1, said_of(p, url)


def a_status_is_a_cause(s):
    f = s.fake()
    f.order('rule?path=/api/tags&status=503')
    p = s.proxy(f, dict(OFF, **{'upstream.health_interval': '100ms'}))
    until(lambda: state_of(p, f.url)['cause'] == 'status', lambda: p.said())
    for i in range(5):
        assert p.generate('q%d' % i).status == 200   # its models cannot be listed, and it answers all the same
    time.sleep(0.4)
    assert said_of(p, f.url) == [f.url + ' is down: its answer to GET /api/tags has status 503'], p.said()
    f.order('rule?path=/api/tags')
    until(lambda: state_of(p, f.url)['up'], lambda: p.said())


def certificate(s, name='c'):
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'k.pem', '-out', name + '.pem', '-days', '2', '-subj',
                    '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'], cwd=s.dir, capture_output=True, check=True)
    return os.path.join(s.dir, name + '.pem'), os.path.join(s.dir, 'k.pem')


def a_private_authority_can_be_trusted(s):
    import ssl
    pem, key = certificate(s)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    up = Tags(json.dumps({'models': [{'name': 'm:latest', 'digest': 'a' * 64}]}).encode(), context)
    directory = os.path.join(s.dir, 'authorities')
    os.mkdir(directory)
    hashed = subprocess.run(['openssl', 'x509', '-hash', '-noout', '-in', pem], capture_output=True, check=True).stdout.decode().strip()
    os.symlink(pem, os.path.join(directory, hashed + '.0'))
    for i, (option, env) in enumerate((({}, {}), ({'upstream.tls_ca': pem}, {}), ({'upstream.tls_ca': directory}, {}),
                                       ({}, {'SSL_CERT_FILE': pem}), ({}, {'SSL_CERT_DIR': directory}), ({}, {'CURL_CA_BUNDLE': pem}))):
        p = s.proxy(up.url, dict(HOUR, **option), name='p%d' % i, env=dict(dict.fromkeys(('SSL_CERT_FILE', 'SSL_CERT_DIR', 'CURL_CA_BUNDLE'), ''), **env))
        r = p.generate('q', model='m', stream=False)
        if option or env:
            assert r.status == 200 and r.cache == 'miss', (option, env, r, p.said())
        else:
            assert r.status == 502, r
            assert 'certificate' in state_of(p, up.url)['why'], state_of(p, up.url)
            until(lambda: [l for l in said_of(p, up.url) if 'certificate' in l], p.said)
        p.stop()
    up.close()


def authorities_are_checked(s):
    pem, key = certificate(s)
    cut, empty = os.path.join(s.dir, 'cut.pem'), os.path.join(s.dir, 'empty')
    with open(cut, 'w') as f:
        f.write(open(pem).read()[:200])
    os.mkdir(empty)

    def check(path):
        return subprocess.run([OLLACACHE, '-t', '--upstream.tls_ca=' + path], cwd=s.dir, capture_output=True)
    assert check(pem).returncode == 0, check(pem)
    for path, why in ((key, b'no certificate in it'), (cut, b'no certificate in it'), (empty, b'openssl rehash'), ('/never', b'No such file')):
        r = check(path)
        assert r.returncode == 1 and b'upstream.tls_ca' in r.stderr + r.stdout and why in r.stderr + r.stdout, (path, r)


class Tags:
    """An upstream that answers /api/tags with these bytes, and everything else with one generation."""
    def __init__(self, tags, tls=None):
        self.tags = tags
        self.socket = socket.socket()
        self.socket.bind(('127.0.0.1', 0))
        self.socket.listen(50)
        self.url = '%s:%d' % ('https://localhost' if tls else 'http://127.0.0.1', self.socket.getsockname()[1])
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        try:
            while True:
                threading.Thread(target=self.serve, args=(self.socket.accept()[0],), daemon=True).start()
        except OSError:
            pass

    def serve(self, c):
        try:
            got = b''
            while True:
                while b'\r\n\r\n' not in got:
                    more = c.recv(65536)
                    if not more:
                        return
                    got += more
                head, _, got = got.partition(b'\r\n\r\n')
                length = int((re.search(rb'content-length: (\d+)', head, re.I) or [0, 0])[1])
                while len(got) < length:
                    got += c.recv(65536)
                got = got[length:]
                tags = self.tags() if callable(self.tags) else self.tags
                body = tags if b' /api/tags ' in head else b'{"model":"m","response":"yes","done":true,"done_reason":"stop"}'
                c.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n' % len(body) + body)
        except OSError:
            pass
        finally:
            c.close()

    def close(self):
        self.socket.close()


# ---- explain ----
def explained(p, body):
    r = p.post('/ollacache/explain', body)
    assert r.status == 200, r
    return r.json()


def why_the_cache_keeps_out_is_said_in_words(s):
    f = s.fake()
    p = s.proxy(f, {'upstream.health_interval': '200ms', 'cache.models': '!tiny-qa'})
    p.ready()
    ask = {'model': 'llama3.2', 'prompt': 'q'}
    for body, bypass, why in ((dict(ask, model='x'), 'digest', "no upstream has model 'x:latest'"),
                              (dict(ask, prompt=''), 'no-question', 'nothing is asked'),
                              (dict(ask, model='tiny-qa'), 'model', 'cache.models does not take this model'),
                              (dict(ask, _debug_render_only=True), 'debug', '_debug_render_only asks for the prompt')):
        o = explained(p, body)
        assert o['bypass'] == bypass and why in o['why'], o
    f.order('down?mode=refuse')
    until(lambda: ' is down: ' in p.said(), p.said)
    o = explained(p, dict(ask, model='x'))
    assert "no upstream is known to have model 'x:latest'" in o['why'] and f.url + ' is down: the connection was refused' in o['why'], o


def every_role_and_flag_has_a_name(s):
    p = s.proxy(s.fake())
    p.ready()
    o = explained(p, {'model': 'llama3.2', 'prompt': 'Which flights leave Kyiv for London on Monday?'})
    words = o['semantic']['keywords']
    assert [w['role'] for w in words if w['text'].lower() == 'london'] == ['for'], words
    assert 'null' not in json.dumps([w.get('role', '') for w in words]) and all(w['flags'] is not None for w in words), words


# ---- threads ----
def clients_leave_while_looks_end(s):
    """Who waits for digests leaves at the moment in which they come: under a sanitizer what is looked at too late shows."""
    f = s.fake()
    p = s.proxy(f, dict(HOUR, **{'server.workers': 3}))
    kept(p)
    f.order('rule?path=/api/tags&ms=40')
    for i in range(60):
        p.post('/api/copy', {'source': 'llama3.2', 'destination': 'mine'})
        cs = [p.open('POST', '/api/generate', {'model': 'unknown%d' % i, 'prompt': 'x', 'stream': False}) for _ in range(3)]
        time.sleep(0.02 + i % 10 * 0.005)
        for c in cs:
            c.close(reset=True)
    f.order('rule?path=/api/tags')
    kept(p, 'then')


TESTS = [failed_management_changes_nothing, hits_go_on_while_models_are_looked_at, looks_are_apart, one_hung_upstream_delays_no_other,
         a_dripping_list_freezes_nobody, the_first_looks_of_all_are_waited_for, same_bytes_follow_the_digest_that_counts,
         a_model_replaced_meanwhile_leaves_nothing, answers_are_confirmed_together, a_short_outage_costs_no_answer,
         each_change_is_said_once, why_it_is_down_is_said_at_the_start, a_status_is_a_cause, a_private_authority_can_be_trusted,
         authorities_are_checked, no_digest_no_cache, why_the_cache_keeps_out_is_said_in_words,
         every_role_and_flag_has_a_name, names_of_two_parts_have_no_host, clients_leave_while_looks_end]

if __name__ == '__main__':
    sys.exit(main(TESTS))
