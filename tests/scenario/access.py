#!/usr/bin/env python3
"""Origin and Host: judged by the proxy alone, on hits too; and who may use the endpoints of its own."""
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

OFF = {'semantic.enabled': 'off'}
GOOD = ('http://localhost', 'http://localhost:3000', 'https://localhost:1', 'http://127.0.0.1', 'http://127.0.0.1:8080', 'http://0.0.0.0:99', 'app://x', 'file://', 'tauri://localhost', 'vscode-webview://abc', 'vscode-file://x')
BAD = ('https://evil.example.com', 'http://localhost.evil.com', 'http://127.0.0.1.evil.com', 'null', 'chrome-extension://abc', 'http://10.0.0.1', 'HTTP://', 'http://evil.com:11434', 'http://localhost@evil.com')


def refused(r):
    assert r.status == 403 and r.body == b'' and not r.get('Access-Control-Allow-Origin'), r


def origins(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for path, b in (('/api/generate', {'model': 'llama3.2', 'prompt': 'q'}), ('/api/tags', None), ('/nope', None)):
        for o in GOOD:
            r = p.ask('POST' if b else 'GET', path, b, {'Origin': o}, host='10.9.8.7')
            assert r.status in (200, 404) and r.get('Access-Control-Allow-Origin') == o, (o, r.headers)
            assert 'origin' in r.get('Vary', '').lower(), r.headers
            if path == '/api/generate':
                assert 'x-cache' in r.get('Access-Control-Expose-Headers', '').lower(), r.headers
        n = f.state()['requests']
        for o in BAD:
            refused(p.ask('POST' if b else 'GET', path, b, {'Origin': o}))
        assert f.state()['requests'] == n, 'a refused request went upstream'
    assert not any(h.lower().startswith('origin:') for x in f.log() for h in x['headers']), 'Origin went upstream'


def each_hit_for_its_own_origin(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    p.generate('q', {'Origin': 'http://localhost:1'})
    for o in ('http://localhost:2', 'app://y'):
        r = p.generate('q', {'Origin': o})
        assert r.cache == 'exact' and r.get('Access-Control-Allow-Origin') == o, r.headers
    r = p.generate('q')
    assert r.cache == 'exact' and r.get('Access-Control-Allow-Origin') is None, r.headers
    refused(p.generate('q', {'Origin': 'https://evil.example.com'}))


def origin_equal_to_the_host(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    me = '127.0.0.1:%d' % p.where[1]
    r = p.get('/api/version', {'Origin': 'http://' + me}, host=me)
    assert r.status == 200 and r.get('Access-Control-Allow-Origin') is None, r.headers


def preflights(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    ask = {'Origin': 'http://localhost:3000', 'Access-Control-Request-Method': 'POST', 'Access-Control-Request-Headers': 'content-type,x-cache-ttl,x-complex'}
    for path in ('/api/chat', '/api/tags', '/nope'):
        r = p.ask('OPTIONS', path, None, ask)
        assert r.status == 204 and r.body == b'' and r.get('Content-Length') is None, r
        assert r.get('Access-Control-Allow-Origin') == ask['Origin'] and r.get('Access-Control-Max-Age') == '43200'
        allowed = {x.strip().lower() for x in r.get('Access-Control-Allow-Headers').split(',')}
        assert {'authorization', 'content-type', 'user-agent', 'accept', 'x-requested-with', 'openai-beta', 'x-cache-semantic', 'x-cache-ttl', 'x-cache-namespace', 'x-complex', 'cache-control'} <= allowed, allowed
        assert set('GET POST PUT PATCH DELETE HEAD OPTIONS'.split()) <= {x.strip() for x in r.get('Access-Control-Allow-Methods').split(',')}
        vary = r.get('Vary').lower()
        assert 'origin' in vary and 'access-control-request-method' in vary and 'access-control-request-headers' in vary, vary
    for path, allow in (('/api/chat', 'POST'), ('/api/tags', 'HEAD, GET'), ('/v1/models', 'GET'), ('/api/delete', 'DELETE'), ('/nope', None)):
        assert p.ask('OPTIONS', path, None, ask).get('Allow') == allow, path
        assert p.ask('OPTIONS', path, None, dict(ask, Origin='https://evil.example.com')).get('Allow') == allow, path
    n = f.state()['requests']
    refused(p.ask('OPTIONS', '/api/chat', None, dict(ask, Origin='https://evil.example.com')))
    assert f.state()['paths'].get('/nope') is None and f.state()['requests'] == n


def more_origins(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.origins': 'https://app.example.com,https://*.example.org'}))
    for o, ok in (('https://app.example.com', True), ('https://a.example.org', True), ('https://app.example.net', False), ('http://localhost:1', True)):
        r = p.get('/api/version', {'Origin': o})
        assert (r.status == 200) == ok, (o, r)
    p = s.proxy(f, dict(OFF, **{'server.origins': '*'}), name='all')
    r = p.get('/api/version', {'Origin': 'https://anything.example'})
    assert r.status == 200 and r.get('Access-Control-Allow-Origin') in ('*', 'https://anything.example'), r.headers


def hosts(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for h in ('localhost', 'localhost:1', 'LOCALHOST', '127.0.0.1', '127.0.0.1:99', '[::1]:5', '10.1.2.3', '192.168.1.5:11434', '172.16.0.1', 'box.local', 'x.localhost', 'host.docker.internal:11434', socket.gethostname()):
        for path in ('/api/version', '/ollacache/health'):
            r = p.get(path, host=h)
            assert r.status == 200, (h, path, r)
    n = f.state()['requests']
    for h in ('evil.example.com', '8.8.8.8', 'localhost.evil.com', '127.0.0.1.evil.com', 'evil.local.com', '11.0.0.1', '172.32.0.1'):
        refused(p.get('/api/version', host=h))
        refused(p.post('/api/generate', {'model': 'llama3.2', 'prompt': 'q'}, host=h))
    assert f.state()['requests'] == n, 'a refused request went upstream'


def hosts_on_hits(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    p.generate('q')
    assert p.generate('q').cache == 'exact'
    refused(p.post('/api/generate', {'model': 'llama3.2', 'prompt': 'q'}, host='evil.example.com'))


def allowed_hosts(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.allowed_hosts': 'llm.example.com,other.example'}))
    for h, ok in (('llm.example.com', True), ('llm.example.com:443', True), ('other.example', True), ('localhost', True), ('evil.example.com', False)):
        assert (p.get('/api/version', host=h).status == 200) == ok, h


def own_endpoints_without_a_token(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    p.ready()
    for path in ('/metrics', '/ollacache/stats', '/ollacache/health', '/ollacache/ready'):
        r = p.get(path)
        assert r.status == 200 and r.get('Access-Control-Allow-Origin') is None, (path, r)
    assert b'ollacache_requests_total' in p.get('/metrics').body


def token_endpoints_without_a_token(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    ok = p.get('/ollacache/requests')
    assert ok.status == 200 and isinstance(ok.json(), (list, dict)), ok
    for h in ({'X-Forwarded-For': '1.2.3.4'}, {'Forwarded': 'for=1.2.3.4'}, {'Origin': 'http://localhost:3000'}, {'X-Forwarded-Host': 'x'}):
        assert p.get('/ollacache/requests', h).status == 403, h
    assert p.get('/ollacache/requests', host='evil.example.com').status == 403


def own_endpoints_with_a_token(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'admin.token': 'sesame'}))
    assert p.get('/ollacache/requests').status == 401
    assert p.get('/ollacache/requests', {'Authorization': 'Bearer wrong'}).status == 401
    assert p.get('/ollacache/requests', {'Authorization': 'Bearer sesame'}).status == 200
    assert p.get('/ollacache/stats').status == 200


def purge(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for q in ('a', 'b'):
        p.generate(q)
    p.generate('c', model='tiny-qa')
    p.wait_stat('stored_answers', 3)
    r = p.ask('DELETE', '/ollacache/cache?model=tiny-qa')
    assert r.status == 200 and 1 in r.json().values(), r
    assert p.generate('a').cache == 'exact' and p.generate('c', model='tiny-qa').cache == 'miss'
    r = p.ask('DELETE', '/ollacache/cache?all=1')
    assert r.status == 200 and 3 in r.json().values(), r
    assert p.generate('a').cache == 'miss'
    assert p.ask('DELETE', '/ollacache/cache').status == 400


TESTS = [origins, each_hit_for_its_own_origin, origin_equal_to_the_host, preflights, more_origins, hosts, hosts_on_hits, allowed_hosts,
         own_endpoints_without_a_token]
if os.environ.get('ADMIN') == '1':               # the endpoints behind the token
    TESTS += [token_endpoints_without_a_token, own_endpoints_with_a_token, purge]

if __name__ == '__main__':
    sys.exit(main(TESTS))
