#!/usr/bin/env python3
"""Several upstreams: who is asked for what, who is asked again elsewhere, who waits for a place, and how long anybody waits."""
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

OFF = {'semantic.enabled': 'off'}
MESSAGES = [{'role': 'user', 'content': 'hello'}]


def two(s, options=None, **more):
    a, b = s.fake(name='a'), s.fake(name='b')
    b.order('digest?model=only-b&digest=x')
    p = s.proxy([a, b], dict(OFF, **(options or {})), **more)
    p.wait_stat('upstream_up', 2)
    return a, b, p


# ---- who is asked for what ----
def whatever_names_a_model_goes_where_it_is(s):
    for store in ('embedded', 'off'):
        a, b, p = two(s, {'cache.store': store}, name=store)
        m = {'model': 'only-b'}
        long = {'input': 'x ' * 40000}
        asks = [('POST', '/api/chat', dict(m, messages=MESSAGES)), ('POST', '/api/chat', dict(m, messages=MESSAGES, stream=False)),
                ('POST', '/api/chat', m), ('POST', '/api/generate', dict(m, keep_alive=0)), ('POST', '/api/generate', m),
                ('POST', '/api/chat', '{"model":"only-b","model":"only-b","messages":[{"role":"user","content":"x"}]}'),
                ('POST', '/api/show', m), ('POST', '/api/show', {'name': 'only-b:latest'}), ('POST', '/api/embed', dict(m, input='x')),
                ('POST', '/v1/chat/completions', dict(m, messages=MESSAGES)), ('POST', '/v1/chat/completions', dict(messages=MESSAGES, **m)),
                ('POST', '/v1/completions', dict(m, prompt='x')), ('POST', '/v1/embeddings', dict(long, **m)),
                ('GET', '/v1/models/only-b', None), ('POST', '/api/copy', dict(source='only-b', destination='also-b')),
                ('DELETE', '/api/delete', dict(model='also-b'))]
        for method, path, body in asks:
            r = p.ask(method, path, body)
            assert r.status in (200, 501), (store, method, path, str(body)[:80], r)      # 501: it makes no vectors
        r = p.post('/api/chat', dict(m, messages=MESSAGES), {'Cache-Control': 'no-store'})
        assert r.status == 200, r
        assert not [x for x in a.log() if 'only-b' in x['body'] or 'only-b' in x['target']], 'the one without it was asked'
        p.stop()


def what_no_host_is_known_to_have_is_sought(s):
    """It was pulled past the proxy a moment ago: the first 404 is not the answer."""
    a, b, p = two(s, {'upstream.health_interval': '1h'})
    for f, name in ((a, 'new-a'), (b, 'new-b')):
        f.order('digest?model=%s&digest=z' % name)
        for i in range(3):
            assert p.chat('q%d' % i, model=name).status == 200
            assert p.post('/v1/chat/completions', {'model': name, 'messages': MESSAGES}).status == 200
            assert p.post('/api/show', {'model': name}).status == 200
        assert p.ask('DELETE', '/api/delete', {'model': name}).status == 200
    n = len(a.log('/api/show')) + len(b.log('/api/show'))
    r = p.post('/api/show', {'model': 'nowhere'})
    assert r.status == 404 and 'nowhere' in r.error(), r
    assert len(a.log('/api/show')) + len(b.log('/api/show')) == n + 2, 'each is asked once'
    assert 'others are asked' not in p.said() and p.stats()['upstream_errors'] == 0


def a_body_streams_and_its_model_is_looked_for_in_its_beginning(s):
    """The limit is a MiB: a name behind it is not found, and the body passes all the same, byte for byte."""
    a, b, p = two(s)
    body = json.dumps({'input': 'x' * (3 << 20), 'model': 'llama3.2'}).encode()
    before = len(a.log('/v1/embeddings')) + len(b.log('/v1/embeddings'))
    r = p.post('/v1/embeddings', body)
    assert r.status == 200, r
    seen = a.log('/v1/embeddings') + b.log('/v1/embeddings')
    assert len(seen) == before + 1 and seen[-1]['body_bytes'] == len(body), seen[-1]['body_bytes']
    # in its beginning it is found, whatever comes after
    body = json.dumps({'model': 'only-b', 'input': 'x' * (3 << 20)}).encode()
    for headers in (None, {'Transfer-Encoding': 'chunked'}):
        sent = body if headers is None else b'%x\r\n%s\r\n0\r\n\r\n' % (len(body), body)
        c = Conn(p.where)
        c.send(build('POST', '/v1/embeddings', dict(headers or {'Content-Length': str(len(body))}, **{'Content-Type': 'application/json'})))
        c.send(sent)
        r = c.reply()
        assert r.status == 200, r
        assert b.log('/v1/embeddings')[-1]['body_bytes'] == len(body)


def lists_are_merged(s):
    a, b, p = two(s)
    a.order('digest?model=only-a&digest=y')
    for path, field, name in (('/api/tags', 'models', 'name'), ('/v1/models', 'data', 'id')):
        r = p.get(path)
        names = [m[name] for m in r.json()[field]]
        assert r.status == 200 and r.get('Content-Type').startswith('application/json'), r
        assert 'only-a:latest' in names and 'only-b:latest' in names and len(names) == len(set(names)), names
    assert p.get('/api/ps').status == 200
    b.order('rule?path=/api/tags&mode=hang')
    t = time.monotonic()
    names = [m['name'] for m in p.get('/api/tags').json()['models']]
    assert 'only-a:latest' in names and 'only-b:latest' not in names, names
    assert time.monotonic() - t < 20
    b.order('rule?path=/api/tags')
    b.order('down?mode=refuse')
    a.order('rule?path=/api/tags&status=418')
    assert p.get('/api/tags').status == 418, 'no host tells a list: what one said is the answer'
    a.order('down?mode=refuse')
    r = p.get('/api/tags')
    assert r.status == 502 and r.error(), r
    with p.moved(passed_requests=1):
        assert p.get('/api/version').status == 502


def what_changes_models_goes_to_the_first(s):
    a, b, p = two(s)
    for i in range(4):
        assert p.post('/api/pull', {'model': 'fresh%d' % i, 'stream': False}).status == 200
    assert len(a.log('/api/pull')) == 4 and not b.log('/api/pull')
    assert p.post('/api/pull', {'model': 'only-b', 'stream': False}).status == 200      # an update, where it is
    assert len(b.log('/api/pull')) == 1
    assert p.ask('DELETE', '/api/delete', {'model': 'only-b'}).status == 200
    # and is never sent twice: it may have been done
    a.order('down?mode=503')
    assert p.post('/api/pull', {'model': 'busy', 'stream': False}).status == 503
    assert len(b.log('/api/pull')) == 1, 'sent on to the other one'


# ---- who is asked again elsewhere ----
def ties_take_turns(s):
    a, b, p = two(s)
    for i in range(8):
        assert p.generate('q%d' % i).whole
    # the place of an answer is given back a moment after it: the next question may find its host still busy, out of turn
    assert a.asked() >= 2 and b.asked() >= 2, (a.asked(), b.asked())


def busy_ones_are_passed_over(s):
    for status in (502, 503, 504):
        a, b, p = two(s, name='p%d' % status)
        a.order('rule?path=/api/generate&status=%d' % status)
        a.order('rule?path=/v1/chat/completions&status=%d' % status)
        for i in range(10):
            r = p.generate('q%d' % i, stream=bool(i % 2))
            assert r.status == 200 and r.whole, r
        assert a.asked() <= 2, 'it was asked %d times' % a.asked()
        for i in range(4):
            assert p.post('/v1/chat/completions', {'model': 'llama3.2', 'messages': MESSAGES}).status == 200
        # both: what the second said is the answer, and no third is asked
        b.order('rule?path=/api/generate&status=%d' % status)
        n = a.asked() + b.asked()
        assert p.generate('both').status == status
        assert a.asked() + b.asked() <= n + 2
        p.stop()
        a.stop()
        b.stop()


def a_hung_one_is_passed_over(s):
    """It says nothing, though it tells its models: only the first question waits for it."""
    a, b, p = two(s, {'upstream.first_byte_timeout': '500ms', 'upstream.answer_timeout': '600ms', 'upstream.health_interval': '200ms'})
    a.order('rule?path=/api/generate&mode=hang')
    for i in range(6):
        r = p.generate('q%d' % i, stream=bool(i % 2))
        assert r.status == 200 and r.whole, r
    p.wait_stat('upstream_up', 2)
    assert a.asked() == 1, 'it was asked %d times' % a.asked()
    assert 'others are asked first' in p.said()


def a_plain_answer_that_does_not_come_is_asked_for_elsewhere(s):
    """Nothing tells a long one from one that never comes; where both hosts take long, the second has all the time there is."""
    a, b, p = two(s, {'upstream.first_byte_timeout': '500ms', 'upstream.answer_timeout': '1h'})
    a.order('rule?path=/api/generate&mode=hang')
    a.order('rule?path=/v1/chat/completions&mode=hang')
    for i in range(4):
        assert p.generate('q%d' % i, stream=False).status == 200
        assert p.post('/v1/chat/completions', {'model': 'llama3.2', 'messages': MESSAGES}).status == 200
    assert len(a.log('/api/generate')) + len(a.log('/v1/chat/completions')) == 1
    a.order('rule?path=/api/generate')
    r = p.generate('[[tokens=10 pace_ms=150]] long', stream=False)
    assert r.status == 200, r


def an_error_of_the_question_is_its_answer(s):
    """500 and 400 are not another host's to answer, and speak against nobody."""
    a, b, p = two(s)
    for status in (400, 404, 500):
        n = a.asked() + b.asked()
        assert p.generate('[[status=%d error=no]]' % status).status == status
        assert a.asked() + b.asked() == n + 1
    assert 'others are asked first' not in p.said()


def candidates_go_elsewhere_too(s):
    a, b, p = two(s)
    a.order('rule?path=/api/generate&status=503')
    r = p.generate('several', {'X-Complex': '3'}, stream=False)
    assert r.status == 200 and r.get('X-Candidates', '').startswith('3;'), r
    assert p.stats()['candidates_failed'] == 0, 'they were not asked again elsewhere'


# ---- places ----
def held(p, f, n, limit):
    """n questions, of which the first `limit` run and wait at the fake's barrier. The others come after them: two workers would
    let either in first."""
    cs = []
    for i in range(n):
        cs.append(p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': '[[barrier=b]] q%d' % i}))
        if i + 1 == limit:
            f.wait('waiting', limit)
    p.arrived(n)
    p.wait_stat('queue_length', n - limit)
    return cs


def the_limit_holds_whatever_passes(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'upstream.max_in_flight': 1, 'upstream.health_interval': '50ms'}))
    p.ready()
    cs = held(p, f, 6, 1)
    assert p.get('/api/version').status == 200
    assert p.post('/api/show', {'model': 'llama3.2'}).status == 200
    looks = len(f.log('/api/tags'))
    f.wait('path:/api/tags', looks + 3)
    assert f.state()['running'] == 1 and p.stats()['queue_length'] == 5, f.state()
    f.release('b')
    assert all(c.reply().whole for c in cs)


def idle_uploads_take_no_place(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'upstream.max_in_flight': 2}))
    p.ready()
    ups = []
    for i in range(3):
        c = Conn(p.where)
        c.send(b'POST /api/blobs/sha256:%064d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx' % i)
        ups.append(c)
    p.wait_stat('passed_requests', 3)
    t = time.monotonic()
    assert p.generate('while they hold').whole
    assert time.monotonic() - t < 5, 'it waited for one of them to be given up'
    for c in ups:
        c.close()


def waiting_in_line_is_seen(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'upstream.max_in_flight': 1}))
    p.ready()
    cs = held(p, f, 3, 1)
    steps = sorted(x['step'] for x in p.get('/ollacache/requests').json()['requests'])
    assert steps.count('queue') == 2, steps
    f.release('b')
    assert all(c.reply().whole for c in cs)
    p.wait_stat('queue_length', 0)
    got = p.get('/ollacache/stats').json()['queue_seconds']
    assert got['count'] == 2, got
    assert 'ollacache_queue_length 0' in p.get('/metrics').body.decode()
    many = p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': '[[barrier=c]] many', 'stream': False}, {'X-Complex': '2'})
    f.wait('waiting')
    assert p.get('/ollacache/requests').json()['requests'][0]['step'] == 'forward', 'one of its candidates runs'
    f.release('c')
    assert many.reply().status == 200


def the_line_ends_in_503(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'upstream.max_in_flight': 1, 'upstream.queue_timeout': '300ms'}))
    p.ready()
    first, late = held(p, f, 2, 1)
    r = late.reply()
    assert r.status == 503 and 'queue_timeout' in r.error() and int(r.get('Retry-After')) > 0, r
    f.release('b')
    assert first.reply().whole and f.asked() == 1
    p.wait_stat('queue_length', 0)


# ---- how long anybody waits ----
def a_plain_answer_has_a_limit_of_its_own(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'upstream.first_byte_timeout': '300ms', 'upstream.idle_timeout': '400ms', 'upstream.answer_timeout': '20s'}))
    p.ready()
    slow = '[[tokens=10 pace_ms=100]]'
    assert p.generate(slow).whole
    for r in (p.generate(slow + ' plain', stream=False), p.chat(slow, stream=False),
              p.post('/v1/chat/completions', {'model': 'llama3.2', 'messages': [{'role': 'user', 'content': slow}]}),
              p.generate(slow, {'X-Complex': '2'}), p.post('/api/embed', {'model': 'nomic-embed-text', 'input': '[[first_ms=900]]'})):
        assert r.status == 200, r
    p.stop()
    p = s.proxy(f, dict(OFF, **{'upstream.answer_timeout': '500ms'}), name='bounded')
    for path, body in (('/api/generate', {'prompt': '[[tokens=100 pace_ms=100]]'}),
                       ('/v1/chat/completions', {'messages': [{'role': 'user', 'content': '[[tokens=100 pace_ms=100]]'}]})):
        r = p.post(path, dict(body, model='llama3.2', stream=False))
        assert r.status == 504 and 'answer_timeout' in r.body.decode(), r


def a_head_comes_whole(s):
    """Neither a byte now and then nor interim replies without end keep anybody waiting."""
    for drip in (b'x', b'HTTP/1.1 102 Processing\r\n\r\n'):
        l = socket.socket()
        l.bind(('127.0.0.1', 0))
        l.listen(50)

        def serve(c):
            with contextlib.suppress(OSError):
                c.recv(65536)
                if drip == b'x':
                    c.sendall(b'HTTP/1.1 200 OK\r\nX-A: ')
                while True:
                    c.sendall(drip)
                    time.sleep(0.05)

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(l.accept()[0],), daemon=True).start()
        threading.Thread(target=accept, daemon=True).start()
        p = s.proxy('http://127.0.0.1:%d' % l.getsockname()[1], dict(OFF, **{'upstream.first_byte_timeout': '500ms', 'upstream.idle_timeout': '500ms'}),
                    name='p%d' % len(drip))
        for stream in (True, False):
            t = time.monotonic()
            r = p.generate('q', stream=stream)
            assert r.status == 504, r
            assert time.monotonic() - t < 15
        l.close()


# ---- what is said, and what is ours ----
def a_502_says_where_and_why(s):
    url = 'http://127.0.0.1:%d' % free_port()
    p = s.proxy(url, OFF)
    for r in (p.generate('q'), p.get('/api/version'), p.generate('q', {'X-Complex': '2'}, stream=False)):
        assert r.status == 502 and url in r.error() and 'refused' in r.error(), r


def our_own_shortage_is_not_the_upstreams(s):
    f = s.fake()
    p = Proxy(s.dir, f.url, dict(OFF, **{'server.workers': 1, 'upstream.health_interval': '1h'}), start=False)
    s.things.append(p)
    argv = p.argv()
    p.argv = lambda: ['sh', '-c', 'ulimit -n 100; exec "$@"', 'sh'] + argv
    p.start()
    p.ready()
    mine = [Conn(p.where) for _ in range(4)]
    ask = lambda c, prompt: c.send(build('POST', '/api/generate', None, {'model': 'llama3.2', 'prompt': prompt, 'stream': False}))
    ask(mine[0], '[[barrier=b]] keeps the connection there is')
    f.wait('waiting')
    idle = [Conn(p.where) for _ in range(200)]
    refused = 0
    for c in mine[1:3]:
        ask(c, 'needs another one')
        r = c.reply()
        refused += r.status == 503 and 'descriptor' in r.error()
        assert r.status == 503, r
    assert refused == 2
    mine[3].send(build('GET', '/ollacache/ready'))
    assert mine[3].reply().status == 200, 'the upstream was held to be down'
    for c in idle:
        c.close()
    f.release('b')
    assert mine[0].reply().status == 200
    assert 'is down' not in p.said() and 'others are asked' not in p.said()


TESTS = [whatever_names_a_model_goes_where_it_is, what_no_host_is_known_to_have_is_sought,
         a_body_streams_and_its_model_is_looked_for_in_its_beginning, lists_are_merged,
         what_changes_models_goes_to_the_first, ties_take_turns, busy_ones_are_passed_over, a_hung_one_is_passed_over,
         a_plain_answer_that_does_not_come_is_asked_for_elsewhere,
         an_error_of_the_question_is_its_answer, candidates_go_elsewhere_too, the_limit_holds_whatever_passes, idle_uploads_take_no_place,
         waiting_in_line_is_seen, the_line_ends_in_503, a_plain_answer_has_a_limit_of_its_own, a_head_comes_whole, a_502_says_where_and_why,
         our_own_shortage_is_not_the_upstreams]

if __name__ == '__main__':
    sys.exit(main(TESTS))
