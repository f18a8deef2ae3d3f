#!/usr/bin/env python3
"""The endpoints of the proxy's own that show or change what is stored: who may, what they say, bad input, both stores."""
import base64, hashlib, os, re, sys, threading, urllib.parse
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

OFF = {'semantic.enabled': 'off'}
TOKEN = {'admin.token': 'geheim-1234567890'}
MAY = {'Authorization': 'Bearer geheim-1234567890'}
OPEN = ('/metrics', '/ollacache/stats', '/ollacache/health', '/ollacache/ready', '/ollacache/history', '/ollacache/', '/ollacache')
CLOSED = (('GET', '/ollacache/requests'), ('GET', '/ollacache/recent'), ('GET', '/ollacache/cache'), ('DELETE', '/ollacache/cache?all=1'),
          ('GET', '/ollacache/cache/' + '0' * 64), ('DELETE', '/ollacache/cache/' + '0' * 64), ('POST', '/ollacache/explain'))
XSS = '<script>alert(1)</script><img src=x onerror=alert(2)>"\'&\u2028 Привіт \U0001f600'
THREE = ('Які є факультети в ХДУ?', 'Скільки факультетів у Херсонському університеті?', 'Які факультети є в ХДУ?')


def plain(r):
    """What holds for every reply of these endpoints."""
    cors = [k for k, v in r.headers if k.lower().startswith('access-control-')]
    assert not cors and r.get('Cache-Control') == 'no-store', r.headers
    return r


def semantic_ready(p):
    end = time.monotonic() + LATE
    while p.get('/ollacache/ready').status != 200:
        assert time.monotonic() < end, 'never ready'
        time.sleep(0.05)


def listing(p, headers=None, **query):
    """All pages of a listing."""
    rows, after = [], ''
    for _ in range(2000):
        q = dict(query, **({'after': after} if after else {}))
        r = plain(p.get('/ollacache/cache?' + urllib.parse.urlencode(q), headers))
        assert r.status == 200, r
        o = r.json()
        rows += o['entries']
        after = o['after']
        if not after:
            return rows
        assert len(o['entries']) <= query.get('limit', 50)
    raise AssertionError('a listing without an end')


def both_stores(run):
    def on_embedded(s):
        run(s, {})

    def on_redis(s):
        run(s, {'cache.store': 'redis', 'redis.url': s.redis().url, 'redis.timeout': '5s' if SANITIZED else '1s'})
    on_embedded.__name__, on_redis.__name__ = run.__name__ + '_embedded', run.__name__ + '_redis'
    return [on_embedded, on_redis]


# ---- who may ----

def without_a_token_only_this_machine(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    me = '127.0.0.1:%d' % p.where[1]
    for method, path in CLOSED:
        body = {'model': 'llama3.2', 'prompt': 'q'} if method == 'POST' else None
        assert plain(p.ask(method, path, body)).status in (200, 404), path
        for h in ({'Forwarded': 'for=1.2.3.4'}, {'X-Forwarded-For': '127.0.0.1'}, {'X-Forwarded-Host': 'localhost'}, {'X-Forwarded-Proto': 'http'},
                  {'X-Real-IP': '127.0.0.1'}, {'x-forwarded-port': '80'}, {'X-Forwarded-Server': 'front'}, {'X-Forwarded-Prefix': '/llm'},
                  {'X-Forwarded': 'for=1.2.3.4'}, {'X-Forwarded-Any': ''}, {'Via': '1.1 front'}, {'True-Client-IP': '1.2.3.4'},
                  {'CF-Connecting-IP': '1.2.3.4'}, {'X-Client-IP': '1.2.3.4'}, {'X-Original-Host': 'a'}, {'Origin': 'https://evil.example'}, {'Origin': 'null'}, {'Origin': 'http://localhost:1'}):
            r = plain(p.ask(method, path, body, h))
            assert r.status == 403 and 'admin.token' in r.error(), (path, h, r)
        r = p.ask(method, path, body, host='evil.example')
        assert r.status == 403, r
        # a Host that the proxy itself would serve, but that is no loopback name
        for host in ('printer.local', '[::1].evil', '[::1]evil:80', 'localhost:80:evil', '127.', '127.1', '127.999.0.1', '127.0.0.1.evil', '128.0.0.1'):
            r = p.ask(method, path, body, host=host)
            assert r.status == 403, (path, host, r)
        for host in ('localhost', 'LOCALHOST:80', '127.0.0.1', '127.9.9.9:1', '[::1]', '[::1]:80'):
            assert p.ask(method, path, body, host=host).status in (200, 404), (path, host)
        assert p.ask(method, path, body, {'Origin': 'http://' + me}, host=me).status in (200, 404), 'the page itself'
    semantic_ready(p)
    for path in OPEN:
        assert p.get(path, {'X-Forwarded-For': '1.2.3.4', 'Origin': 'https://evil.example'}).status in (200, 308), path


def unix_peers_are_of_this_machine(s):
    f = s.fake()
    p = s.proxy(f, OFF, listen='unix:' + os.path.join(s.dir, 'p.sock'))
    assert p.get('/ollacache/requests').status == 200
    assert p.get('/ollacache/requests', {'X-Forwarded-For': '10.0.0.1'}).status == 403


def with_a_token_nothing_else_counts(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **TOKEN))
    wrong = (None, 'Bearer', 'Bearer ', 'Bearer geheim-123456789', 'Bearer geheim-1234567890x', 'Bearer GEHEIM-1234567890', 'Basic geheim-1234567890',
             'geheim-1234567890', 'Bearer  geheim-1234567890')
    for method, path in CLOSED:
        body = {'model': 'llama3.2', 'prompt': 'q'} if method == 'POST' else None
        for w in wrong:
            r = plain(p.ask(method, path, body, {'Authorization': w} if w else None))
            assert r.status == 401 and r.get('WWW-Authenticate', '').startswith('Bearer') and 'admin.token' in r.error(), (w, r)
        for h in ({}, {'X-Forwarded-For': '1.2.3.4'}, {'Origin': 'https://evil.example'}):
            assert plain(p.ask(method, path, body, dict(MAY, **h))).status in (200, 404), (path, h)
    semantic_ready(p)
    for path in OPEN:
        assert p.get(path).status in (200, 308), path
    assert 'geheim' not in p.said(), 'the token is in the log'


def methods(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for path, allow in (('/metrics', 'GET, HEAD'), ('/ollacache/requests', 'GET, HEAD'), ('/ollacache/cache', 'GET, HEAD, DELETE'),
                        ('/ollacache/cache/' + '0' * 64, 'GET, HEAD, DELETE'), ('/ollacache/explain', 'POST'), ('/ollacache/', 'GET, HEAD')):
        for m in ('PUT', 'PATCH', 'OPTIONS', 'POST', 'DELETE', 'BREW'):
            if m in allow:
                continue
            r = plain(p.ask(m, path))
            assert r.status == 405 and r.get('Allow') == allow, (m, path, r.headers)
    for path in ('/metrics', '/ollacache/', '/ollacache/health', '/ollacache/cache', '/ollacache/requests'):
        g, h = p.get(path), p.ask('HEAD', path)
        assert h.status == 200 and h.body == b'' and h.get('Content-Type') == g.get('Content-Type'), path
    for path in ('/ollacache/nope', '/ollacache/cache/x/y', '/ollacache//', '/ollacache/../api/tags'):
        assert p.get(path).status in (400, 404), path
    assert f.state()['paths'].get('/ollacache/nope') is None, 'it went upstream'


# ---- the page ----

def the_page_runs_only_its_own_script(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    r = plain(p.get('/ollacache/'))
    assert r.status == 200 and r.get('Content-Type') == 'text/html; charset=utf-8' and r.get('X-Content-Type-Options') == 'nosniff'
    policy = dict(x.strip().split(' ', 1) for x in r.get('Content-Security-Policy').split(';'))
    html = r.body.decode()
    for tag in ('script', 'style'):
        inside = re.findall('<%s>(.*?)</%s>' % (tag, tag), html, re.S)
        assert len(inside) == 1 and html.count('<' + tag) == 1, tag
        want = "'sha256-%s'" % base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode()
        assert policy[tag + '-src'] == want, (tag, policy)
    assert policy['default-src'] == "'none'" and policy['connect-src'] == "'self'" and policy['frame-ancestors'] == "'none'"
    assert not re.search(r'(src|href)="(?!data:|#main")', html) and ' style=' not in html and 'innerHTML' not in html
    r = p.get('/ollacache')
    assert r.status == 308 and r.get('Location') == 'ollacache/'      # from where the client stands, which may be behind a prefix


# ---- requests ----

def what_runs_now(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.workers': 4}))
    assert p.get('/ollacache/requests').json() == {'running': 0, 'requests': []}
    held = [p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': 'slow %d' % i}, {'X-Fake': 'barrier=b barrier_at=3'}) for i in range(8)]
    heads = [c.head() for c in held]
    joined = p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': 'slow 0'}, {'X-Fake': 'barrier=b barrier_at=3'})
    held.append(joined)
    heads.append(joined.head())
    passed = p.open('POST', '/api/pull', {'model': 'llama3.2'}, {'X-Fake': 'barrier=b'})
    f.wait('path:/api/pull')
    r = plain(p.get('/ollacache/requests'))
    o = r.json()
    assert o['running'] == 10 == len(o['requests']), o
    rows = {x['path'] for x in o['requests']}
    assert rows == {'/api/generate', '/api/pull'}, rows
    asks = [x for x in o['requests'] if x['path'] == '/api/generate']
    assert sorted(x['result'] for x in asks) == ['joined'] + ['miss'] * 8, asks
    for x in asks:
        assert x['model'] == 'llama3.2' and x['method'] == 'POST' and x['step'] in ('stream', 'forward') and x['client'].startswith('127.0.0.1:')
        assert x['in'] > 0 and x['out'] > 0 and x['since_ms'] >= x['step_ms'] >= 0 and not x['client_gone']
    assert len({x['n'] for x in asks}) == 9
    # a leader whose client has left while somebody reads on
    held[0].close()
    end = time.monotonic() + LATE
    while not any(x['client_gone'] for x in p.get('/ollacache/requests').json()['requests']):
        assert time.monotonic() < end, p.get('/ollacache/requests').json()
        time.sleep(0.02)
    f.release('b')
    assert all(c.rest(h).whole for c, h in list(zip(held, heads))[1:]) and passed.reply().whole
    p.wait_stat('streams_open', 0)
    assert p.get('/ollacache/requests').json()['running'] == 0


def askers_that_leave(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.workers': 3}))
    p.generate('q')
    for i in range(60):
        for path in ('/ollacache/requests', '/ollacache/cache', '/ollacache/cache?all=1'):
            c = p.open('DELETE' if 'all' in path else 'GET', path)
            c.close(reset=i % 2 == 0)
    c = p.open('POST', '/ollacache/explain', {'model': 'llama3.2', 'prompt': 'q'})
    c.close(reset=True)
    assert p.get('/ollacache/requests').status == 200
    p.wait_stat('connections_open', lambda n: n <= 1)


# ---- entries ----

def entries(s, store):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **store))
    if store:
        p.wait_stat('store_up', 1)
    assert p.get('/ollacache/cache').json() == {'entries': [], 'after': None}
    p.chat('Why is the sky blue?', {'X-Fake': 'text=+Rayleigh think=+hm_so'}, stream=False)
    p.generate('ЩО ТАКЕ Їжак', {'X-Cache-Namespace': 'team-a', 'X-Cache-TTL': '600'}, model='qwen3', stream=False)
    p.generate(XSS, stream=False)
    p.post('/api/embed', {'model': 'nomic-embed-text', 'input': 'abc'})
    p.chat('weather in Kyiv?', tools=[{'type': 'function', 'function': {'name': 'weather', 'parameters': {'type': 'object', 'properties': {}}}}], stream=False)
    p.wait_stat('stored_answers', 5)
    p.generate('ЩО ТАКЕ Їжак', {'X-Cache-Namespace': 'team-a'}, model='qwen3', stream=False)
    rows = listing(p)
    assert len(rows) == 5, rows
    by = {r['question']: r for r in rows}
    sky, hedgehog = by['Why is the sky blue?'], by['ЩО ТАКЕ Їжак']
    assert sky['model'] == 'llama3.2:latest' and sky['family'] == 'chat' and sky['namespace'] == '' and 86300 < sky['ttl'] <= 86400
    assert hedgehog['namespace'] == 'team-a' and 590 <= hedgehog['ttl'] <= 600 and hedgehog['model'] == 'qwen3:latest' and hedgehog['bytes'] > 50
    if store:
        assert hedgehog['hits'] is None
    else:
        end = time.monotonic() + LATE
        while [r['hits'] for r in listing(p, q='їжак')] != [1]:
            assert time.monotonic() < end, listing(p)
    assert XSS in by, list(by)
    # search: case-folded, part of the question; and the filters
    for query, want in (({'q': 'SKY'}, 1), ({'q': 'їЖАК'}, 1), ({'q': 'що таке'}, 1), ({'q': '<SCRIPT>'}, 1), ({'q': '% '}, 0), ({'q': 'nothing like it'}, 0),
                        ({'model': 'llama3.2'}, 3), ({'model': 'LLAMA*'}, 3), ({'model': 'qwen3:latest'}, 1), ({'model': '*'}, 5), ({'model': '?wen*'}, 1),
                        ({'namespace': 'team-*'}, 1), ({'namespace': 'team'}, 0), ({'model': 'qwen3', 'namespace': 'x'}, 0), ({'q': 'sky', 'model': 'llama3.2'}, 1)):
        assert len(listing(p, **query)) == want, (query, listing(p, **query))
    assert p.get('/ollacache/cache?q=&limit=&after=').json()['entries'], 'empty values are as if they were not there'
    assert len(p.get('/ollacache/cache?q=the+sky').json()['entries']) == 1
    # one entry
    o = plain(p.get('/ollacache/cache/' + sky['id'])).json()
    assert o['answer']['text'] == 'Rayleigh' and o['answer']['stats']['done_reason'] == 'stop' and o['id'] == sky['id'] and o['eval_count'] > 0, o
    assert p.get('/ollacache/cache/' + sky['id'].upper()).json()['id'] == sky['id']
    assert p.get('/ollacache/cache/' + by[XSS]['id']).json()['question'] == XSS
    tool = p.get('/ollacache/cache/' + by['weather in Kyiv?']['id']).json()['answer']
    assert tool['tool_calls'][0]['function']['name'] == 'weather', tool
    embed = [r for r in rows if r['family'] == 'embed'][0]
    assert len(p.get('/ollacache/cache/' + embed['id']).json()['answer']['body']['embeddings'][0]) > 3
    # removing it, and only it
    assert plain(p.ask('DELETE', '/ollacache/cache/' + sky['id'])).json() == {'removed': 1}
    assert plain(p.ask('DELETE', '/ollacache/cache/' + sky['id'])).status == 404
    assert plain(p.get('/ollacache/cache/' + sky['id'])).status == 404
    assert len(listing(p)) == 4
    assert p.chat('Why is the sky blue?', stream=False).cache == 'miss'
    assert p.generate(XSS, stream=False).cache == 'exact'


def thinking_is_shown(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    p.chat('hm', {'X-Fake': 'text=+yes think=+let_me_see'}, model='qwen3', think=True)
    p.wait_stat('stored_answers', 1)
    a = p.get('/ollacache/cache/' + listing(p)[0]['id']).json()['answer']
    assert a['text'] == 'yes' and a['thinking'] == 'let me see', a


def bad_input(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    p.generate('stays', stream=False)
    p.wait_stat('stored_answers', 1)
    for q in ('limit=0', 'limit=501', 'limit=-1', 'limit=ten', 'limit=1e2', 'limit=99999999999999999999', 'after=x', 'after=..%2f', 'after=' + 'a' * 200, 'nope=1', 'q=%',
              'q=%zz', 'q=%00', 'q=%ff', 'q=%c3', 'q=a&q=b', 'q=' + 'a' * 600, 'limit=%31%00', '=1', 'q' * 40 + '=1', 'Limit=3'):
        r = plain(p.get('/ollacache/cache?' + q))
        assert r.status == 400 and r.error(), (q, r)
    assert p.get('/ollacache/cache?limit=%31%30&&').status == 200
    for q in ('', 'model=', 'namespace=', 'model=&namespace=', 'all=', 'all=0', 'all=true', 'all=1&nope=1', 'all=1&all=1', 'q=x', 'limit=1', 'models=x', 'all=1&model=%'):
        r = plain(p.ask('DELETE', '/ollacache/cache?' + q))
        assert r.status == 400, (q, r)
    for id in ('x', '0' * 63, '0' * 65, 'g' * 64, '0' * 63 + '%30', '', '%2e%2e', '0' * 64 + '/'):
        for m in ('GET', 'DELETE'):
            r = plain(p.ask(m, '/ollacache/cache/' + id))
            assert r.status == 400, (m, id, r)
    for m in ('GET', 'DELETE'):
        r = plain(p.ask(m, '/ollacache/cache/' + 'ab' * 32))
        assert r.status == 404 and r.error(), r
        assert p.ask(m, '/ollacache/cache/' + 'ab' * 32 + '?x=1').status == 400
    for pattern in ('nope*', '*x*y*z*' * 20, '!llama3.2', ',', 'llama3.2,qwen3', '%5B', '[a-z]*', '\\*'):
        r = plain(p.ask('DELETE', '/ollacache/cache?model=' + urllib.parse.quote(pattern, safe='')))
        assert r.status == 200 and r.json() == {'removed': 0}, (pattern, r)
    assert len(listing(p)) == 1 and p.generate('stays', stream=False).cache == 'exact'


def purging(s, store):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **store))
    if store:
        p.wait_stat('store_up', 1)

    def put():
        for m, n in (('llama3.2', ''), ('llama3.2', 'team-a'), ('llama3.2', 'team-b'), ('qwen3', ''), ('qwen3', 'team-a')):
            for i in range(3):
                assert p.generate('p%d' % i, {'X-Cache-Namespace': n} if n else None, model=m, stream=False).cache in ('miss', 'exact')
        end = time.monotonic() + LATE
        while len(listing(p)) != 15:
            assert time.monotonic() < end, len(listing(p))
            time.sleep(0.02)
    for query, removed in (('model=qwen3', 6), ('namespace=team-a', 6), ('namespace=team-*', 9), ('model=llama3.2&namespace=team-b', 3), ('model=*', 15),
                           ('model=LLAMA3.2:latest', 9), ('all=1', 15), ('all=1&model=qwen3', 6), ('model=&namespace=&all=1', 15), ('model=none', 0)):
        put()
        r = plain(p.ask('DELETE', '/ollacache/cache?' + query))
        assert r.status == 200 and r.json() == {'removed': removed}, (query, r)
        assert len(listing(p)) == 15 - removed, query
    put()
    p.ask('DELETE', '/ollacache/cache?model=qwen3')
    assert p.generate('p0', model='qwen3', stream=False).cache == 'miss'
    assert p.generate('p0', model='llama3.2', stream=False).cache == 'exact'
    # what was purged is no near question of anything either, and an answer on its way is not cut
    c = p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': 'on its way'}, {'X-Fake': 'barrier=w barrier_at=2'})
    head = c.head()
    assert p.ask('DELETE', '/ollacache/cache?all=1').status == 200
    f.release('w')
    assert c.rest(head).whole


def purged_questions_are_near_to_nothing(s, store):
    f = s.fake()
    p = s.proxy(f, store)
    semantic_ready(p)
    if store:
        p.wait_stat('store_up', 1)
    assert p.chat(THREE[0], stream=False).cache == 'miss'
    p.wait_stat('stored_answers', 1)
    assert p.chat(THREE[1], stream=False).cache == 'semantic'
    assert p.ask('DELETE', '/ollacache/cache?all=1').json()['removed'] == 1
    assert p.chat(THREE[2], stream=False).cache == 'miss'


def a_purge_is_seen_by_every_proxy_on_one_redis(s):
    f, r = s.fake(), s.redis()
    o = {'cache.store': 'redis', 'redis.url': r.url}
    a, b = s.proxy(f, o, name='a'), s.proxy(f, o, name='b')
    for p in (a, b):
        p.wait_stat('store_up', 1)
        semantic_ready(p)
    for i in range(30):
        a.generate('number %d' % i, stream=False)
    a.wait_stat('stored_answers', 30)
    assert b.generate('number 7', stream=False).cache == 'exact'
    assert len(listing(b, limit=7)) == 30
    assert a.ask('DELETE', '/ollacache/cache?all=1').json() == {'removed': 30}
    assert listing(b) == [] and b.generate('number 7', stream=False).cache == 'miss'
    b.wait_stat('stored_answers', 1)
    id = listing(a)[0]['id']
    assert b.ask('DELETE', '/ollacache/cache/' + id).json() == {'removed': 1}
    assert a.get('/ollacache/cache/' + id).status == 404 and a.generate('number 7', stream=False).cache == 'miss'


def store_gone(s):
    f, r = s.fake(), s.redis()
    p = s.proxy(f, dict(OFF, **{'cache.store': 'redis', 'redis.url': r.url}))
    p.wait_stat('store_up', 1)
    r.stop()
    for method, path in CLOSED[2:6]:
        x = plain(p.ask(method, path))
        assert x.status == 503 and x.get('Retry-After'), (method, path, x)
    x = p.post('/ollacache/explain', {'model': 'llama3.2', 'prompt': 'q'})
    assert x.status == 200 and x.json()['would'] == 'miss' and 'store' in x.json()['why'], x
    off = s.proxy(f, {'cache.store': 'off'}, name='off')
    for method, path in CLOSED[2:6]:
        assert off.ask(method, path).status == 404, path
    x = off.post('/ollacache/explain', {'model': 'llama3.2', 'prompt': 'q'})
    assert x.status == 200 and x.json()['would'] == 'bypass' and x.json()['bypass'] == 'store-off', x


def paging_over_thousands(s, store):
    """Every entry once, whatever the size of a page; a search for what is rare ends and finds it."""
    f = s.fake()
    p = s.proxy(f, dict(OFF, **store))
    if store:
        p.wait_stat('store_up', 1)
    n = 600 if SANITIZED else 3000
    bad = []

    def put(part):
        c = http.client.HTTPConnection(*p.where, timeout=LATE)
        for i in range(part, n, 4):
            c.request('POST', '/api/generate', json.dumps({'model': 'llama3.2', 'prompt': 'entry %05d' % i, 'stream': False}), {'X-Fake': 'tokens=2'})
            r = c.getresponse()
            r.read()
            if r.status != 200:
                bad.append(r.status)
        c.close()
    threads = [threading.Thread(target=put, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not bad, bad[:3]
    p.wait_stat('stored_answers', n)
    for limit in (500, 37):
        rows = listing(p, limit=limit)
        assert len(rows) == n and len({r['id'] for r in rows}) == n, (limit, len(rows))
    assert {r['question'] for r in listing(p, limit=500)} == {'entry %05d' % i for i in range(n)}
    assert [r['question'] for r in listing(p, q='ENTRY 00314')] == ['entry 00314']
    assert len(listing(p, q='entry 001', limit=9)) == 100
    assert p.ask('DELETE', '/ollacache/cache?model=llama*').json() == {'removed': n}
    assert listing(p) == []


# ---- explain ----

def explain(p, body, headers=None, query=''):
    r = plain(p.post('/ollacache/explain' + query, body, headers))
    assert r.status == 200, r
    return r.json()


def chat_body(text, **more):
    return dict({'model': 'llama3.2', 'messages': [{'role': 'user', 'content': text}]}, **more)


def explaining(s, store):
    f = s.fake()
    p = s.proxy(f, store)
    semantic_ready(p)
    if store:
        p.wait_stat('store_up', 1)
    asked = f.asked()
    with p.moved():
        o = explain(p, chat_body(THREE[0]))
        assert o['would'] == 'miss' and o['model'] == 'llama3.2:latest' and re.fullmatch('[0-9a-f]{64}', o['key']) and o['nearest'] == [], o
        assert o['endpoint'] == 'chat' and o['semantic']['tried'] and o['semantic']['class'] == 'list', o
        assert explain(p, {'model': 'llama3.2', 'prompt': 'x y z'})['endpoint'] == 'generate'
    assert f.asked() == asked, 'a model was asked'
    p.chat(THREE[0], stream=False)
    p.wait_stat('stored_answers', 1)
    o = explain(p, chat_body(THREE[0]))
    assert o['would'] == 'exact' and o['exact']['fresh'], o
    # the key does not depend on stream, and is the entry's id
    assert explain(p, chat_body(THREE[0], stream=False))['key'] == o['key'] == listing(p)[0]['id']
    o = explain(p, chat_body(THREE[1]))
    n = o['nearest'][0]
    assert o['would'] == 'semantic' and n['hit'] and n['question'] == THREE[0] and n['guards'] == [] and n['similarity'] >= 0.7, o
    r = p.chat(THREE[1], stream=False)
    assert r.cache == 'semantic' and r.get('X-Cache-Similarity') == '%.2f' % n['similarity'], (r.headers, n)
    assert explain(p, chat_body(THREE[1]), {'X-Cache-Semantic': 'off'})['would'] == 'miss'
    assert explain(p, chat_body(THREE[1]), {'X-Cache-Namespace': 'other'})['nearest'] == []
    assert explain(p, chat_body(THREE[1]), {'X-Cache-Semantic': '1.0'})['would'] == ('semantic' if n['similarity'] >= 1 else 'miss')
    # guards, each with its words
    p.chat('How do I enable the firewall on Debian?', stream=False)
    p.wait_stat('stored_answers', 2)
    o = explain(p, chat_body('How do I disable the firewall on Debian?'))
    n = o['nearest'][0]
    assert o['would'] == 'miss' and not n['hit'] and n['guards'] and all(g['says'] for g in n['guards']), o
    assert ['firewall', 'firewall'] in n['pairs'] and 'enable' in n['only_stored'] and 'disable' in n['only_asked'], n
    o = explain(p, chat_body('How do I not enable the firewall on Debian?'))
    assert o['semantic']['negators'] == 1 and 'neg' in [g['name'] for g in o['nearest'][0]['guards']], o
    # the other reasons
    assert explain(p, chat_body(THREE[0]), {'Cache-Control': 'no-cache'})['bypass'] == 'no-cache'
    assert explain(p, chat_body(THREE[0]), {'Cache-Control': 'no-store'})['would'] == 'bypass'
    assert explain(p, chat_body('new'), {'Cache-Control': 'only-if-cached'})['would'] == 'refused'
    assert explain(p, chat_body(THREE[0]), {'Cache-Control': 'max-age=0'})['exact']['fresh'] is False
    assert explain(p, chat_body('x', model='never-heard-of'))['bypass'] == 'digest'
    assert explain(p, {'model': 'llama3.2', 'messages': []})['bypass'] == 'no-question'
    o = explain(p, '{"model":"llama3.2","messages":[],"messages":[]}')
    assert o['would'] == 'bypass' and not o['understood'] and o['doubt'], o
    assert explain(p, 'not json')['understood'] is False and explain(p, '')['understood'] is False
    assert explain(p, chat_body('a b c'), {'X-Complex': '3'})['candidates'] == 3
    assert explain(p, chat_body('a b c', model='llama3.2@complex=2'))['candidates_why'] == 'model'
    for text, skip in (('\U0001f600 !!!', 'empty'), ('слово ' * 300, 'long')):
        assert explain(p, chat_body(text))['semantic'].get('skip') == skip, text[:20]
    o = explain(p, chat_body(XSS))
    assert o['question'] == XSS
    for q in ('?endpoint=nope', '?x=1', '?endpoint=chat&endpoint=chat', '?endpoint=%'):
        assert plain(p.post('/ollacache/explain' + q, chat_body('x'))).status == 400, q
    for h in ({'X-Complex': '99'}, {'X-Cache-Semantic': 'maybe'}, {'X-Cache-TTL': 'x'}, {'Cache-Control': 'max-age=x'}):
        r = plain(p.post('/ollacache/explain', chat_body('x'), h))
        assert r.status == 400 and r.error(), (h, r)
    assert explain(p, {'model': 'nomic-embed-text', 'input': 'a'}, query='?endpoint=embed')['semantic']['tried'] is False


def explaining_what_flies(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    c = p.open('POST', '/api/chat', chat_body('wait'), {'X-Fake': 'barrier=b'})
    f.wait('started')
    end = time.monotonic() + LATE
    while explain(p, chat_body('wait'))['would'] != 'joined':
        assert time.monotonic() < end
    assert explain(p, chat_body('wait'))['flying'] is True
    f.release('b')
    c.reply()
    p.wait_stat('stored_answers', 1)
    assert explain(p, chat_body('wait'))['would'] == 'exact'


def explaining_on_behalf_of_a_tenant(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **TOKEN))
    p.chat('mine', {'Authorization': 'Bearer alice'}, stream=False)
    p.wait_stat('stored_answers', 1)
    key = listing(p, MAY)[0]['id']
    assert explain(p, chat_body('mine'), MAY)['would'] == 'miss', "the operator's token is no tenant"
    o = explain(p, chat_body('mine'), dict(MAY, **{'X-Explain-Authorization': 'Bearer alice'}))
    assert o['would'] == 'exact' and o['key'] == key and o['has_tenant'], o
    assert explain(p, chat_body('mine'), dict(MAY, **{'X-Explain-Authorization': 'Bearer bob'}))['would'] == 'miss'
    # with no token to be had, the header that came is the request's own
    q = s.proxy(f, OFF, name='open')
    q.chat('mine', {'Authorization': 'Bearer alice'}, stream=False)
    q.wait_stat('stored_answers', 1)
    assert explain(q, chat_body('mine'), {'Authorization': 'Bearer alice'})['would'] == 'exact'
    assert explain(q, chat_body('mine'))['would'] == 'miss'


def explain_bodies_are_bounded(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    r = p.post('/ollacache/explain', chat_body('x' * 1000000))
    assert r.status == 200 and r.json()['key'], r
    r = plain(p.post('/ollacache/explain', chat_body('x' * 1100000)))
    assert r.status == 413 and r.error(), r
    c = p.open('POST', '/ollacache/explain', None, {'Transfer-Encoding': 'chunked'})
    piece = b'10000\r\n' + b'x' * 0x10000 + b'\r\n'
    for _ in range(20):
        c.send(piece)
    c.send(b'0\r\n\r\n')
    assert c.reply().status == 413
    assert p.stats()['requests'] == 0
    # the share of server.max_buffered is given back
    small = s.proxy(f, dict(OFF, **{'server.max_buffered': '2MiB', 'server.max_body': '1MiB'}), name='small')
    for _ in range(20):
        assert small.post('/ollacache/explain', chat_body('x' * 900000)).status == 200


# ---- history and recent ----

def history_and_recent(s):
    f = s.fake()
    p = s.proxy(f)
    semantic_ready(p)
    o = plain(p.get('/ollacache/history')).json()
    names = {'exact', 'semantic', 'joined', 'miss', 'bypass', 'tokens_saved', 'gpu_seconds_saved', 'first_byte_hit_ms', 'first_byte_miss_ms', 'connections', 'streams', 'end_ms'}
    for part, step, steps in (('hour', 10, 360), ('day', 300, 288)):
        assert o[part]['step_s'] == step and o[part]['steps'] == steps and names <= set(o[part]), o
        assert len({len(o[part][k]) for k in names}) == 1
    p.chat(THREE[0], stream=False)
    p.wait_stat('stored_answers', 1)
    p.chat(THREE[0], stream=False)
    p.chat(THREE[1], stream=False)
    r = plain(p.get('/ollacache/recent')).json()['semantic_hits']
    assert len(r) == 1 and r[0]['asked'] == THREE[1] and r[0]['stored'] == THREE[0] and r[0]['similarity'] >= 0.7 and r[0]['id'] == listing(p)[0]['id'], r
    for i in range(60):
        p.chat(THREE[1], {'X-Cache-TTL': '1'}, stream=False)
    assert len(p.get('/ollacache/recent').json()['semantic_hits']) == 50
    end = time.monotonic() + 15 + LATE
    while not sum(p.get('/ollacache/history').json()['hour']['semantic']) >= 61:
        assert time.monotonic() < end, p.get('/ollacache/history').json()['hour']
        time.sleep(0.2)
    h = p.get('/ollacache/history').json()['hour']
    assert sum(h['miss']) == 1 and sum(h['exact']) == 1 and sum(h['semantic']) == 61 and sum(h['tokens_saved']) > 0
    assert [x for x in h['first_byte_miss_ms'] if x is not None] and all(x is None or x > 0 for x in h['first_byte_hit_ms'])
    assert p.stats()['gpu_seconds_saved'] == 0 or abs(sum(h['gpu_seconds_saved']) - p.stats()['gpu_seconds_saved']) < 0.1


def ten_thousand_page_loads_while_serving(s):
    """The page is asked for over and over while answers stream; both stay right, and nothing grows."""
    f = s.fake()
    p = s.proxy(f, OFF)
    n = 400 if SANITIZED else 10000
    semantic_ready(p)                    # what dictionaries take is not what pages take
    page = p.get('/ollacache/').body
    before = p.peak_kib('VmRSS')
    wrong = []

    def load(count):
        c = http.client.HTTPConnection(*p.where, timeout=LATE)
        for _ in range(count):
            c.request('GET', '/ollacache/')
            r = c.getresponse()
            if r.status != 200 or r.read() != page:
                wrong.append(r.status)
        c.close()
    threads = [threading.Thread(target=load, args=(n // 4,)) for _ in range(4)]
    for t in threads:
        t.start()
    served = 0
    while any(t.is_alive() for t in threads):
        r = p.generate('while %d' % (served % 20))
        assert r.whole and r.cache in ('miss', 'exact'), r
        served += 1
    for t in threads:
        t.join()
    assert not wrong and served > 0, wrong[:3]
    if not SANITIZED:
        assert p.peak_kib('VmRSS') - before < 16000, 'it grew by %d KiB' % (p.peak_kib('VmRSS') - before)


TESTS = [without_a_token_only_this_machine, unix_peers_are_of_this_machine, with_a_token_nothing_else_counts, methods, the_page_runs_only_its_own_script,
         what_runs_now, askers_that_leave, *both_stores(entries), thinking_is_shown, bad_input, *both_stores(purging), *both_stores(purged_questions_are_near_to_nothing),
         a_purge_is_seen_by_every_proxy_on_one_redis, store_gone, *both_stores(paging_over_thousands), *both_stores(explaining), explaining_what_flies,
         explaining_on_behalf_of_a_tenant, explain_bodies_are_bounded, history_and_recent, ten_thousand_page_loads_while_serving]
if __name__ == '__main__':
    sys.exit(main(TESTS))
