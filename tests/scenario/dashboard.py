#!/usr/bin/env python3
"""What the dashboard is told: requests that failed are no misses, its figures are those of the span, nothing secret without the token."""
import os, sys, urllib.parse
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

OFF = {'semantic.enabled': 'off'}


def history(p):
    r = p.get('/ollacache/history')
    assert r.status == 200, r
    return r.json()


def kinds(p):
    """Of the last hour, by kind: from the figures, which the steps must add up to."""
    o = history(p)
    names = ('exact', 'semantic', 'joined', 'miss', 'bypass', 'refused', 'failed')
    for span, part in (('1h', 'hour'), ('24h', 'day')):
        assert {k: sum(o[part][k]) for k in names} == {k: o['spans'][span][k] for k in names}, o['spans']
    return {k: o['spans']['1h'][k] for k in names if o['spans']['1h'][k]}, o['spans']['1h']


def seconds(p, name):
    return {k: v['count'] for k, v in p.get('/ollacache/stats').json()[name].items() if v['count']}


def failures_are_no_misses(s):
    """The upstream goes down: its 502s come at once, and must neither be drawn as misses nor make misses look quick."""
    f = s.fake()
    p = s.proxy(f, OFF)
    for i in range(3):
        assert p.chat('question %d' % i, {'X-Fake': 'first_ms=400'}, stream=False).status == 200
    p.wait_stat('cache_misses', 3)
    count, figures = kinds(p)
    assert count == {'miss': 3} and figures['first_byte_miss_ms'] >= 250, figures
    f.order('down?mode=refuse')
    for i in range(20):
        assert p.chat('down %d' % i, stream=bool(i % 2)).status == 502
    p.wait_stat('failed_requests', 20)
    count, figures = kinds(p)
    assert count == {'miss': 3, 'failed': 20} and figures['first_byte_miss_ms'] >= 250, figures
    stats = p.stats()
    assert stats['requests'] == 23 and stats['cache_misses'] == 23, 'the counters of before stay what they were'
    for name in ('first_byte_seconds', 'request_seconds'):
        assert seconds(p, name) == {'miss': 3, 'failed': 20}, seconds(p, name)
    assert 'ollacache_failed_requests_total 20\n' in p.get('/metrics').body.decode()


def every_way_to_fail(s):
    """A status of 500 and above, a stream or an object that breaks off, an error line, no done line, a timeout: each is one failure."""
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'upstream.first_byte_timeout': '400ms'}))
    n = 0
    for how, stream in (('status=500', True), ('status=503', False), ('tokens=5 die_after=2', True), ('tokens=5 die_after=2', False),
                        ('tokens=5 fail_after=2', True), ('tokens=5 fail_after=2', False), ('tokens=5 no_done=1', True), ('tokens=5 half_line=2', True),
                        ('html=1', False), ('barrier=never barrier_at=0', True)):
        p.generate('[[%s]]' % how, stream=stream)
        n += 1
        p.wait_stat('failed_requests', n)
    assert kinds(p)[0] == {'failed': n} and seconds(p, 'request_seconds') == {'failed': n}, kinds(p)
    # a follower of a stream that dies fails too; one that took nothing yet starts anew and is served
    body = {'model': 'llama3.2', 'prompt': 'dies under two'}
    lead = p.open('POST', '/api/generate', body, {'X-Fake': 'tokens=9 die_after=3 barrier=c barrier_at=3'})
    f.wait('waiting')
    follower = p.open('POST', '/api/generate', body)
    head = follower.head()
    follower.chunk()
    f.release('c')
    follower.rest(head)
    lead.reply()
    p.wait_stat('failed_requests', n + 2)
    f.release('never')


def refused_is_not_failed(s):
    """What the request itself was at fault for, and an only-if-cached that found nothing, are neither failures nor misses."""
    f = s.fake()
    p = s.proxy(f, OFF)
    assert p.post('/api/chat', {'model': 'no-such-model', 'messages': [{'role': 'user', 'content': 'x'}]}).status == 404
    assert p.post('/api/chat', '{"model": 3').status == 400
    assert p.chat('x', {'X-Cache-TTL': 'soon'}).status == 400
    assert p.chat('x', {'Cache-Control': 'only-if-cached'}).status == 504
    p.wait_stat('refused_requests', 4)
    assert p.stats()['failed_requests'] == 0
    assert kinds(p)[0] == {'refused': 4} and seconds(p, 'request_seconds') == {'refused': 4}


def who_leaves_fails_nothing(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    c = p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': 'left alone'}, {'X-Fake': 'tokens=9 barrier=g barrier_at=4'})
    c.head()
    c.chunk()
    c.close(reset=True)
    p.wait_stat('client_gone', 1)
    p.wait_stat('streams_open', 0)
    stats = p.stats()
    assert stats['failed_requests'] == 0 and stats['refused_requests'] == 0, stats
    f.release('g')


def recent(p, headers=None):
    r = p.get('/ollacache/recent', headers)
    assert r.status == 200, r
    return r.json()


def the_last_requests_say_why(s):
    f = s.fake()
    p = s.proxy(f, {'admin.token': 'geheim'})
    p.ready()
    may = {'Authorization': 'Bearer geheim'}
    secret = 'my secret words'
    p.chat(secret, stream=False)
    p.wait_stat('stored_answers', 1)
    p.chat(secret, stream=False)
    p.chat(secret, {'Cache-Control': 'no-store'}, stream=False)
    p.post('/api/chat', {'model': 'llama3.2', 'messages': [], 'STREAM': False, 'keep_alive': '1m'})
    p.post('/api/chat', {'model': '<b>no-such</b>', 'messages': [{'role': 'user', 'content': secret}]})
    p.get('/api/version')
    f.order('down?mode=refuse')
    p.chat('another', stream=False, model='qwen3')
    p.wait_stat('failed_requests', 1)
    o = recent(p, may)
    rows = o['requests'][::-1]
    said = [(r['method'], r['path'], r['model'], r['outcome'], r['cache'], r['status'], r['why'], 'upstream' in r) for r in rows]
    assert said == [
        ('POST', '/api/chat', 'llama3.2', 'miss', 'miss', 200, '', True),
        ('POST', '/api/chat', 'llama3.2', 'exact', 'exact', 200, '', False),
        ('POST', '/api/chat', 'llama3.2', 'bypass', 'bypass', 200, 'no-store', True),
        ('POST', '/api/chat', '', 'bypass', 'bypass', 200, 'key in another case', True),
        ('POST', '/api/chat', '<b>no-such</b>', 'refused', 'bypass', 404, 'digest', True),
        ('GET', '/api/version', '', 'pass', '', 200, '', True),
        ('POST', '/api/chat', 'qwen3', 'failed', 'miss', 502, 'UPSTREAM_DOWN', True)], said
    assert all(r['total_ms'] > 0 and abs(r['at_ms'] / 1000 - time.time()) < 60 for r in rows)
    models = {m['model']: m for m in o['models']}
    assert set(models) == {'llama3.2', ''} and models['llama3.2']['miss'] == 1 and models['llama3.2']['exact'] == 1, models
    assert models['llama3.2']['bypass'] == 1 and models['llama3.2']['tokens_saved'] > 0 and models['']['refused'] == 1 and models['']['failed'] == 1
    up = o['upstreams'][0]
    assert up['url'] == f.url and up['miss'] == 1 and up['failed'] == 1 and up['pass'] == 1 and up['generated_seconds'] > 0, up
    assert secret not in p.get('/ollacache/recent', may).body.decode()
    # who may not see the entries may not see these either
    assert p.get('/ollacache/recent').status == 401


def entries_in_order(s, options):
    """Newest first, or by any column either way, page by page; how many there are; the same on both stores."""
    f = s.fake()
    p = s.proxy(f, dict(OFF, **options))
    names = ['question %02d' % i for i in range(40)]
    for i, name in enumerate(names):
        p.chat(name, {'X-Fake': 'tokens=%d' % (i * 7 % 40 + 1), 'X-Cache-TTL': str(1000 + i * 11 % 40)}, stream=False)
        p.wait_stat('stored_answers', i + 1)

    def pages(**query):
        rows, after = [], ''
        while True:
            o = p.get('/ollacache/cache?' + urllib.parse.urlencode(dict(query, limit=15, **({'after': after} if after else {})))).json()
            assert o['complete'] and o['matched'] == (40 if 'q' not in query else 10), o
            rows += o['entries']
            after = o['after']
            if not after:
                return rows
    assert [r['question'] for r in pages(sort='-created')] == names[::-1]
    assert [r['question'] for r in pages(sort='created')] == names
    assert [r['question'] for r in pages(sort='-created', q='question 1')] == names[19:9:-1]
    for name, key in (('bytes', 'bytes'), ('expires', 'ttl')):
        for sign in ('', '-'):
            rows = pages(sort=sign + name)
            values = [r[key] for r in rows]
            assert len({r['id'] for r in rows}) == 40 and values == sorted(values, reverse=sign == '-'), (sign + name, values)
    if not options:
        for _ in range(3):
            p.chat(names[7], stream=False)
        end = time.monotonic() + LATE
        while pages(sort='-hits')[0]['question'] != names[7]:
            assert time.monotonic() < end
            time.sleep(0.1)
    for bad in ('sort=age', 'sort=-', 'sort=--created', 'sort=created&after=12', 'sort=created&after=' + 'g' * 81):
        assert p.get('/ollacache/cache?' + bad).status == 400, bad


def entries_in_order_embedded(s):
    entries_in_order(s, {})


def entries_in_order_redis(s):
    entries_in_order(s, {'cache.store': 'redis', 'redis.url': s.redis().url, 'redis.timeout': '1s'})


def health_names_what_is_not_well(s):
    f = s.fake()
    p = s.proxy(f)
    assert p.get('/ollacache/health').json()['dictionaries'] in ('loading', 'loaded')
    p.ready()
    o = p.get('/ollacache/health').json()
    assert o['draining'] is False and o['dictionaries'] == 'loaded', o


TESTS = [failures_are_no_misses, every_way_to_fail, refused_is_not_failed, who_leaves_fails_nothing, the_last_requests_say_why,
         entries_in_order_embedded, entries_in_order_redis, health_names_what_is_not_well]
if __name__ == '__main__':
    sys.exit(main(TESTS))
