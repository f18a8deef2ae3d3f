#!/usr/bin/env python3
"""What the dashboard is told: requests that failed are no misses, its figures are those of the span, nothing secret without the token."""
import os, sys
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


TESTS = [failures_are_no_misses, every_way_to_fail, refused_is_not_failed, who_leaves_fails_nothing]
if __name__ == '__main__':
    sys.exit(main(TESTS))
