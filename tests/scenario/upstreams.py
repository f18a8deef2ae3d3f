#!/usr/bin/env python3
"""Upstreams that are down, slow, dying or talking nonsense; and several of them."""
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

OFF = {'semantic.enabled': 'off'}


def broken_after_start(r):
    """After the first byte: one last line {"error":…}, and no clean end."""
    assert r.status == 200 and not r.whole, 'a broken stream looks complete: %r' % r
    last = json.loads(r.body.rstrip(b'\n').split(b'\n')[-1])
    assert list(last) == ['error'] and isinstance(last['error'], str), last
    return last['error']


def down_is_502(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'upstream.health_interval': '200ms'}))
    f.order('down?mode=refuse')
    for path in ('/api/generate', '/api/chat', '/api/embed'):
        for stream in (True, False):
            b = {'model': 'llama3.2', 'prompt': 'q', 'messages': [{'role': 'user', 'content': 'q'}], 'input': 'q', 'stream': stream}
            r = p.post(path, b)
            assert r.status == 502 and 'upstream' in r.error(), r
            assert r.get('Content-Type', '').startswith('application/json'), r.headers
    r = p.get('/api/version')
    assert r.status == 502 and r.error(), r
    r = p.get('/ollacache/health')
    assert r.status == 200
    p.wait_stat('upstream_up', 0)
    assert p.get('/ollacache/ready').status == 503
    f.order('up')
    p.wait_stat('upstream_up', 1)
    p.ready()
    assert p.generate('q').cache == 'miss'


def down_from_the_start(s):
    p = s.proxy('http://127.0.0.1:%d' % free_port(), OFF)
    r = p.generate('q')
    assert r.status == 502 and r.error(), r


def dies_before_its_first_byte(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for how in ('rst', 'fin'):
        for stream in (True, False):
            r = p.generate('[[die_after=0 die_how=%s]]' % how, stream=stream)
            assert r.status == 502 and r.error(), r


def seen_then_dead(p, f, how='rst', prompt=''):
    """Four tokens reach the client, then the upstream dies."""
    c = p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': '[[tokens=9 die_after=4 die_how=%s barrier=%s barrier_at=4]]' % (how, how)})
    r = c.head()
    r.chunks = [c.chunk() for _ in range(4)]
    f.release(how, all=1)
    return c.rest(r)


def dies_inside_a_stream(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for how in ('rst', 'fin'):
        r = seen_then_dead(p, f, how)
        broken_after_start(r)
        assert len(r.lines()) == 5, r.body
        r = p.generate('[[tokens=9 die_after=4 die_how=%s]]' % how, stream=False)
        assert r.status == 502 and r.error(), r
    assert p.stats()['stored_answers'] == 0
    assert p.stats()['upstream_errors'] >= 2


def its_own_error_line_stays_as_it_came(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    r = p.generate('[[tokens=9 fail_after=3]]')
    assert r.status == 200 and r.whole and list(r.lines()[-1]) == ['error'], r
    r = p.generate('[[fail_after=0]]')
    assert r.status == 500 and r.get('Content-Type') == 'application/json' and r.framing == 'chunked' and not r.body.endswith(b'\n'), r


def followers_of_a_dead_leader(s):
    """Those that have sent nothing start again, once; those that have, end visibly broken."""
    f = s.fake()
    p = s.proxy(f, OFF)
    b = {'model': 'llama3.2', 'prompt': 'who dies', 'stream': False}
    lead = p.open('POST', '/api/generate', b, {'X-Fake': 'die_after=1 barrier=b barrier_at=1'})
    f.wait('waiting')
    rest = [p.open('POST', '/api/generate', b) for _ in range(5)]
    p.arrived(6)
    f.release('b')
    replies = [c.reply() for c in rest]
    assert all(r.status == 200 and r.json()['done'] for r in replies), replies
    r = lead.reply()
    assert r.status in (200, 502), r
    again = [x for x in f.log('/api/generate') if not any(h.startswith('X-Fake') for h in x['headers'])]
    assert len(again) == 1, 'the followers started %d generations' % len(again)

    b = {'model': 'llama3.2', 'prompt': 'who dies in the middle'}
    lead = p.open('POST', '/api/generate', b, {'X-Fake': 'tokens=9 die_after=3 barrier=c barrier_at=3'})
    f.wait('waiting')
    c = p.open('POST', '/api/generate', b)
    h = c.head()
    c.chunk()
    f.release('c')
    c.rest(h)
    broken_after_start(h)
    broken_after_start(lead.reply())


def silent_before_the_first_byte(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'upstream.first_byte_timeout': '300ms', 'upstream.answer_timeout': '600ms'}))
    r = p.generate('[[barrier=never barrier_at=0]]')
    assert r.status == 504 and f.url in r.error() and 'first_byte_timeout' in r.error(), r
    f.wait('cancelled')
    r = p.generate('[[barrier=never barrier_at=0]] plain', stream=False)
    assert r.status == 504 and 'answer_timeout' in r.error(), r


def silent_inside_an_answer(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'upstream.idle_timeout': '300ms'}))
    r = p.generate('[[tokens=5 barrier=never barrier_at=2]]')
    broken_after_start(r)
    f.wait('cancelled')
    for where in ('before_done', 'after_done'):
        r = p.generate('[[tokens=5 never_end=%s]]' % where)
        assert r.status == 200, r
        if where == 'before_done':
            assert not r.whole, r
    p.wait_stat('streams_open', 0)


def accepts_and_says_nothing(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'upstream.first_byte_timeout': '300ms', 'upstream.connect_timeout': '300ms'}))
    f.order('down?mode=hang')
    assert p.generate('q').status in (502, 504)
    f.order('down?mode=reset')
    assert p.generate('q').status == 502


def nonsense(s):
    """Nothing of it is kept, nothing of it looks like a whole answer, and the next question is answered."""
    f = s.fake()
    p = s.proxy(f, OFF)
    wild = {'bytes that are not HTTP': 'garbage=1', 'a line that is not JSON': 'tokens=5 bad_json=2', 'half a line': 'tokens=5 half_line=2',
            'a short chunk': 'tokens=5 bad_chunk=short', 'a long chunk': 'tokens=5 bad_chunk=long', 'no number': 'tokens=5 bad_chunk=hex',
            'a huge number': 'tokens=5 bad_chunk=huge', 'a negative one': 'tokens=5 bad_chunk=negative', 'no done': 'tokens=5 no_done=1'}
    for name, how in wild.items():
        for stream in (True, False):
            if not stream and name not in ('bytes that are not HTTP',):
                continue
            n = f.asked()
            for _ in range(2):
                r = p.generate('[[%s]]' % how, stream=stream)
                said = [x for x in r.body.split(b'\n') if b'"done":true' in x]
                if name != 'a line that is not JSON':
                    assert not (r.whole and said), '%s: looks whole: %r' % (name, r)
                if name == 'bytes that are not HTTP':
                    assert r.status == 502 and r.error(), r
                if name in ('a short chunk', 'a long chunk', 'no number', 'a huge number', 'a negative one'):
                    assert not r.whole, '%s: ends cleanly' % name
            assert f.asked() == n + 2, '%s: was kept' % name
    assert p.stats()['stored_answers'] == 0
    # whole is what has its done line, however the connection ends after it
    for how, text in (('no_newline=last', True), ('bad_chunk=no_last', True), ('split_bytes=1', True), ('per_chunk=3', True), ('until_close=1', True), ('after_done=1', None)):
        r = p.generate('[[tokens=4 text=+Four_words_are_here. %s]]' % how)
        assert told(r)['text'] == 'Four words are here.' and (r.whole or 'no_last' in how), (how, r)
    assert p.generate('fine').whole


def a_page_instead(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for _ in range(2):
        r = p.generate('[[html=1]]')
        assert r.status == 502 or (r.status == 200 and b'<html>' in r.body and r.get('Content-Type').startswith('text/html')), r
    assert f.asked() == 2


def a_line_of_100_mb(s):
    n = 20_000_000 if SANITIZED else 100_000_000
    f = s.fake()
    p = s.proxy(f, OFF)
    p.ready()
    p.generate('warm')
    before = p.peak_kib()
    r = p.generate('[[tokens=3 line_bytes=%d]]' % n)
    assert r.status == 200, r
    if r.whole:
        assert len(r.body) > n, 'it looks whole but is not all there: %d' % len(r.body)
    grown = p.peak_kib() - before
    assert SANITIZED or grown < 65536, 'it grew by %d KiB' % grown
    assert p.generate('after').whole and p.generate('after').cache == 'exact'


def queue_before_the_upstream(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'upstream.max_in_flight': 1}))
    first = p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': '[[tokens=2 barrier=b]]'})
    f.wait('waiting')
    others = []
    for i in range(3):
        others.append(p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': 'number %d' % i}))
        p.wait_stat('requests', i + 2)
    assert f.asked() == 1
    others.pop(1).close()
    p.wait_stat('client_gone', 1)
    f.release('b')
    assert first.reply().whole and all(c.reply().whole for c in others)
    assert [json.loads(x['body'])['prompt'] for x in f.log('/api/generate')[1:]] == ['number 0', 'number 2'], 'not in order'


# ---- several ----
def least_busy_first(s):
    a, b = s.fake(name='a'), s.fake(name='b')
    p = s.proxy([a, b], OFF)
    p.wait_stat('upstream_up', 2)
    held = [p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': '[[tokens=3 barrier=b]] %d' % i}) for i in range(1)]
    end = time.monotonic() + LATE
    for i in range(1, 6):
        while a.state()['waiting'] + b.state()['waiting'] < i:
            assert time.monotonic() < end
            time.sleep(0.01)
        held.append(p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': '[[tokens=3 barrier=b]] %d' % i}))
    a.wait('waiting', 3)
    b.wait('waiting', 3)
    a.release('b')
    b.release('b')
    assert all(c.reply().whole for c in held)


def failover_before_the_first_byte(s):
    a, b = s.fake(name='a'), s.fake(name='b')
    p = s.proxy([a, b], dict(OFF, **{'upstream.health_interval': '1h'}))
    p.wait_stat('upstream_up', 2)
    a.order('down?mode=refuse')
    for i in range(6):
        r = p.generate('q%d' % i)
        assert r.status == 200 and r.whole, r
    assert b.asked() == 6
    a.order('up')
    b.order('down?mode=reset')
    for i in range(6):
        r = p.generate('r%d' % i)
        assert r.status == 200 and r.whole, r


def no_failover_after_the_first_byte(s):
    a, b = s.fake(name='a'), s.fake(name='b')
    p = s.proxy([a, b], OFF)
    p.wait_stat('upstream_up', 2)
    c = p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': '[[tokens=9 die_after=3 barrier=b barrier_at=3]]'})
    r = c.head()
    r.chunks = [c.chunk() for _ in range(3)]
    a.release('b')
    b.release('b')
    broken_after_start(c.rest(r))
    assert a.asked() + b.asked() == 1, 'asked twice for one answer'


def only_those_with_its_digest(s):
    a, b = s.fake(name='a'), s.fake(name='b')
    b.order('digest?model=llama3.2&digest=other')
    b.order('digest?model=only-b&digest=x')
    p = s.proxy([a, b], OFF)
    p.wait_stat('upstream_up', 2)
    first = p.generate('q0')
    mine, other = (a, b) if a.asked() else (b, a)
    for i in range(1, 6):
        assert p.generate('q%d' % i).whole
    assert (mine.asked(), other.asked()) == (6, 0), (mine.asked(), other.asked())
    n = b.asked()
    for i in range(3):
        assert p.generate('q%d' % i, model='only-b').status == 200
    assert b.asked() == n + 3


def an_upstream_on_a_unix_like_list_with_ipv6(s):
    try:
        f = s.fake(listen='[::1]:0')
    except AssertionError:
        return
    f.url = 'http://[::1]:%d' % int(open(f.port_file).read())
    p = s.proxy(f, OFF)
    assert p.generate('q').whole


TESTS = [down_is_502, down_from_the_start, dies_before_its_first_byte, dies_inside_a_stream, its_own_error_line_stays_as_it_came, followers_of_a_dead_leader,
         silent_before_the_first_byte, silent_inside_an_answer, accepts_and_says_nothing, nonsense, a_page_instead, a_line_of_100_mb, queue_before_the_upstream,
         least_busy_first, failover_before_the_first_byte, no_failover_after_the_first_byte, only_those_with_its_digest, an_upstream_on_a_unix_like_list_with_ipv6]

if __name__ == '__main__':
    sys.exit(main(TESTS))
