#!/usr/bin/env python3
"""Streams: what comes when, who shares an answer, who leaves, and how the program ends."""
import os, struct, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

FOLLOWERS = int(os.environ.get('FOLLOWERS', 200 if SANITIZED else 1000))


def body(prompt, **more):
    return dict({'model': 'llama3.2', 'prompt': prompt}, **more)


def opened(p, b, path='/api/generate', headers=None):
    return p.open('POST', path, b, headers)


def first_chunk_before_the_second(s):
    f = s.fake()
    p = s.proxy(f)
    for path, b in (('/api/generate', body('[[tokens=4 barrier=b1]]')),
                    ('/api/chat', {'model': 'llama3.2', 'messages': [{'role': 'user', 'content': '[[tokens=4 barrier=b2]]'}]}),
                    ('/api/pull', {'model': 'phi9', 'options': {'fake_barrier': 'b3'}})):
        c = opened(p, b, path)
        r = c.head()
        first = c.chunk()
        assert first.endswith(b'\n') and json.loads(first), first
        assert f.state()['waiting'] == 1, 'the upstream went on before the first chunk was here'
        f.release('b1' if path == '/api/generate' else 'b2' if path == '/api/chat' else 'b3')
        c.rest(r)
        assert r.whole and len(r.chunks) >= 4, r


def every_line_is_a_chunk(s):
    f = s.fake()
    p = s.proxy(f)
    r = p.generate('[[tokens=50]]')
    assert r.framing == 'chunked' and len(r.chunks) == 51 and all(c.endswith(b'\n') for c in r.chunks), len(r.chunks)
    with p.moved(requests=1, streaming_requests=1, exact_cache_hits=1):
        r = p.generate('[[tokens=50]]')
        assert r.cache == 'exact' and r.chunks and all(c.endswith(b'\n') for c in r.chunks)


def data_segments(sock):
    """Segments with data that have come (struct tcp_info: tcpi_data_segs_in)."""
    return struct.unpack_from('I', sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192), 152)[0]


def a_stored_stream_comes_in_one_packet(s):
    """Head, lines and last chunk: each by itself would cost the client a wake-up."""
    p = s.proxy(s.fake())
    for n in (1, 50):
        hit = body('[[tokens=%d]]' % n)
        p.generate('[[tokens=%d]]' % n)
        c = opened(p, hit)
        assert c.reply().cache == 'exact'
        for _ in range(5):                               # made anew, and given again
            before = data_segments(c.sock)
            c.send(build('POST', '/api/generate', None, hit))
            r = c.reply()
            assert r.cache == 'exact' and r.framing == 'chunked' and r.whole, r
            assert data_segments(c.sock) - before == 1, (n, data_segments(c.sock) - before)
        c.close()


def followers_join_live(s):
    """A follower gets everything from the first byte while the leader is still being answered, also on another worker."""
    f = s.fake()
    p = s.proxy(f, {'server.workers': 2})
    b = body('[[tokens=6 barrier=b barrier_at=3]]')
    with p.moved(requests=9, cache_misses=1, joined_requests=8, stored_answers=1, streaming_requests=9):
        lead = opened(p, b)
        r0 = lead.head()
        part = [lead.chunk() for _ in range(3)]
        conns = [opened(p, b) for _ in range(8)]
        heads = [c.head() for c in conns]
        for c, h in zip(conns, heads):
            assert h.cache == 'joined' and 'collapsed' in h.get('Cache-Status'), h.headers
            text = ''
            while len(text.split()) < 3:             # what came so far, however its lines break
                text += told_line(c.chunk())
            assert text == ''.join(told_line(x) for x in part), text
        assert f.state()['waiting'] == 1
        f.release('b')
        lead.rest(r0)
        whole = ''.join(told_line(x) for x in part) + ''.join(told_line(x) for x in r0.chunks)
        for c, h in zip(conns, heads):
            c.rest(h)
            assert h.whole and h.lines()[-1]['done']
    assert f.asked() == 1
    assert told(p.generate('[[tokens=6 barrier=b barrier_at=3]]'))['text'] == whole


def told_line(raw):
    return ''.join(json.loads(x).get('response', '') for x in raw.split(b'\n') if x)


def plain_and_streamed_share(s):
    f = s.fake()
    p = s.proxy(f)
    a, b = body('[[tokens=5 barrier=b barrier_at=0]]', stream=False), body('[[tokens=5 barrier=b barrier_at=0]]')
    with p.moved(requests=3, cache_misses=1, joined_requests=2, stored_answers=1):
        c1 = opened(p, a)
        f.wait('waiting', 1)
        c2, c3 = opened(p, b), opened(p, a)
        p.arrived(3)
        f.release('b')
        r1, r2, r3 = c1.reply(), c2.reply(), c3.reply()
    assert told(r1) == told(r2) == told(r3)
    assert r1.framing == 'length' and r3.framing == 'length' and 'ndjson' in r2.get('Content-Type')
    assert f.asked() == 1


def a_thousand_followers_one_generation(s):
    f = s.fake()
    p = s.proxy(f, {'server.workers': 2})
    b = body('[[tokens=20 barrier=b barrier_at=10]]')
    lead = opened(p, b)
    f.wait('waiting')
    with p.moved(requests=FOLLOWERS, cache_misses=1, joined_requests=FOLLOWERS, stored_answers=1, streaming_requests=FOLLOWERS + 1):
        conns = [opened(p, b) for _ in range(FOLLOWERS)]
        heads = [c.head() for c in conns]
        assert f.state()['waiting'] == 1
        f.release('b')
        want = told(lead.reply())
        for c, r in zip(conns, heads):
            c.rest(r)
            assert r.whole and r.cache == 'joined' and told(r) == want, r
            c.close()
    assert f.asked() == 1


def the_last_to_leave_cancels(s):
    f = s.fake()
    p = s.proxy(f)
    b = body('[[tokens=9 barrier=b barrier_at=2]]')
    conns = [opened(p, b)]
    f.wait('waiting')
    conns += [opened(p, b) for _ in range(4)]
    p.arrived(5)
    for c in conns[:-1]:                                # the leader first
        c.close()
    p.wait_stat('streams_open', lambda v: v <= 1)
    assert f.state()['cancelled'] == 0 and f.state()['running'] == 1, 'one was still reading'
    conns[-1].close()
    f.wait('cancelled', 1)
    p.wait_stat('upstream_cancelled', 1)
    assert p.stats()['stored_answers'] == 0


def the_leader_leaves_the_follower_stays(s):
    f = s.fake()
    p = s.proxy(f)
    b = body('[[tokens=6 barrier=b barrier_at=2]]')
    lead = opened(p, b)
    f.wait('waiting')
    c = opened(p, b)
    h = c.head()
    lead.close(reset=True)
    p.wait_stat('streams_open', 1)
    f.release('b')
    c.rest(h)
    assert h.whole and h.lines()[-1]['done']
    assert f.state()['cancelled'] == 0
    p.wait_stat('stored_answers', 1)


def gone_cancels_at_once(s, *more):
    """In each place where a request can wait: within 100 ms, in at least one of a few tries (the machine may be busy)."""
    f = s.fake('--slots', '1')
    p = s.proxy(f)
    cases = {
        'between two tokens': body('[[tokens=9 barrier=never]]'),
        'before the first byte': body('[[tokens=9 barrier=never barrier_at=0]]'),
        'a plain answer': body('[[tokens=9 barrier=never]]', stream=False),
        'an embedding': {'model': 'nomic-embed-text', 'input': '[[barrier=never]]'},
        'a pass': {'model': 'phi9', 'options': {'fake_barrier': 'never'}},
    }
    paths = {'an embedding': '/api/embed', 'a pass': '/api/pull'}
    for name, b in cases.items():
        best = 9e9
        for attempt in range(5):
            n = f.state()['cancelled']
            c = opened(p, b, paths.get(name, '/api/generate'))
            f.wait('waiting')
            t = time.monotonic()
            c.close()
            f.wait('cancelled', n + 1)
            best = min(best, [x for x in f.log() if x['state'] == 'cancelled'][-1]['ended_us'] / 1e6 - t)
            f.wait('waiting', 0, 'le')
            if best < 0.1:
                break
        assert best < 0.1, '%s: cancelled after %.0f ms' % (name, best * 1000)


def half_close_counts_as_gone(s):
    f = s.fake()
    p = s.proxy(f)
    c = opened(p, body('[[tokens=9 barrier=never]]'))
    f.wait('waiting')
    c.sock.shutdown(socket.SHUT_WR)
    f.wait('cancelled')


def gone_while_queued_upstream(s):
    f = s.fake('--slots', '1')
    p = s.proxy(f)
    first = opened(p, body('[[tokens=3 barrier=b]]'))
    f.wait('waiting')
    second = opened(p, body('[[tokens=3]] another'))
    f.wait('queued')
    second.close()
    f.wait('queued', 0, 'le')
    f.release('b')
    assert first.reply().whole


def gone_while_digests_are_fetched(s):
    f = s.fake()
    f.order('rule?path=/api/tags&mode=hang')
    p = s.proxy(f, {'server.workers': 1})
    c = opened(p, body('[[tokens=9]] early leaver'))
    p.wait_stat('requests', 1)
    c.close()
    p.wait_stat('connections_open', lambda v: v <= 1)
    f.order('rule?path=/api/tags')
    assert p.generate('later').whole
    assert f.asked() <= 1, 'a question whose client had gone was asked'


def a_reader_that_does_not_read(s):
    """It costs a bounded amount, and the others of its flight go on."""
    f = s.fake()
    p = s.proxy(f, {'server.idle_timeout': '2s', 'cache.max_entry': '64MiB'})
    b = body('[[tokens=6 line_bytes=30000000 line_at=2 barrier=b barrier_at=1]]')
    slow = opened(p, b)
    f.wait('waiting')
    fast = opened(p, b)
    p.arrived(2)
    f.release('b')
    r = fast.reply()
    assert r.status == 200
    assert p.generate('next').whole
    slow.close()


def drain_finishes_what_streams(s):
    f = s.fake()
    p = s.proxy(f, {'server.drain_timeout': '60s'})
    c = opened(p, body('[[tokens=5 barrier=b]]'))
    h = c.head()
    c.chunk()
    p.process.send_signal(signal.SIGTERM)
    refused = False
    end = time.monotonic() + LATE
    while not refused and time.monotonic() < end:
        try:
            r = p.generate('too late')
            refused = r.status == 503 and r.get('Retry-After') is not None
        except (OSError, Gone):
            refused = True
    assert refused, 'still answering after SIGTERM'
    assert p.process.poll() is None, 'it left a stream behind'
    f.release('b')
    c.rest(h)
    assert h.whole and h.lines()[-1]['done'], h
    assert p.process.wait(LATE) == 0


def drain_has_an_end(s):
    f = s.fake()
    p = s.proxy(f, {'server.drain_timeout': '200ms'})
    c = opened(p, body('[[tokens=5 barrier=never]]'))
    h = c.head()
    p.process.send_signal(signal.SIGTERM)
    c.rest(h)
    assert not h.whole, 'a cut stream looks complete: %r' % h.body[-100:]
    assert p.process.wait(LATE) == 0
    f.wait('cancelled')


def stop_without_work(s):
    f = s.fake()
    for sig in (signal.SIGTERM, signal.SIGINT):
        p = s.proxy(f, name='stop%d' % sig)
        idle = Conn(p.where)                            # a connection without a request does not hold it
        keep = p.open('GET', '/api/version')
        keep.reply()
        assert p.stop(sig) == 0
        idle.close()


def state_on_sigusr1(s):
    f = s.fake()
    p = s.proxy(f)
    before = len(p.said())
    p.process.send_signal(signal.SIGUSR1)
    end = time.monotonic() + LATE
    while ' flights ' not in p.said()[before:]:
        assert time.monotonic() < end, 'SIGUSR1 wrote nothing'
        time.sleep(0.02)
    said = p.said()[before:]
    assert re.search(r'info  state: ollacache_\w+\{\w+="', said) and '\\' not in said, said
    assert p.generate('still here').whole


def many_streams_at_once(s):
    n = 200 if SANITIZED else 1000
    f = s.fake()
    p = s.proxy(f)
    conns = [opened(p, body('[[tokens=5 barrier=b]] %d' % i)) for i in range(n)]
    f.wait('waiting', n)
    p.wait_stat('streams_open', n)
    f.release('b')
    for c in conns:
        r = c.reply()
        assert r.whole and len(r.lines()) == 6, r
        c.close()
    assert f.asked() == n
    p.wait_stat('streams_open', 0)


def clients_that_leave_anywhere(s):
    """Readers of shared and single answers leave at every moment; nothing leaks and nobody else notices."""
    f = s.fake()
    p = s.proxy(f)
    import random
    rnd = random.Random(7)
    for turn in range(30 if SANITIZED else 60):
        conns = []
        for i in range(8):
            c = opened(p, body('[[tokens=%d pace_ms=1]] %d' % (rnd.randrange(1, 12), turn // 2), stream=rnd.random() < 0.7))
            if rnd.random() < 0.4:
                c.close(reset=rnd.random() < 0.5)
            else:
                conns.append(c)
        for c in conns:
            c.sock.settimeout(LATE)
            if rnd.random() < 0.3:
                try:
                    c.sock.recv(rnd.randrange(1, 300))
                except ConnectionError:
                    pass
                c.close(reset=rnd.random() < 0.5)
            else:
                r = c.reply()
                assert r.whole and r.lines()[-1].get('done'), r
                c.close()
    p.wait_stat('streams_open', 0)
    f.wait('running', 0, 'le')
    p.wait_stat('connections_open', lambda v: v <= 1)


def the_left_go_though_others_stay(s):
    """Connections whose clients left in the middle of an answer, or whose answer broke off, are let go of; that older ones
    stay open for their next request does not keep them."""
    f = s.fake()
    p = s.proxy(f, {'server.workers': 1})
    stay = [Conn(p.where) for _ in range(40)]
    for c in stay:
        c.send(build('GET', '/api/version'))
        assert c.reply().status == 200
    for turn in range(3):
        left = [opened(p, body('%d %d [[tokens=4 barrier=b barrier_at=2]]' % (turn, i))) for i in range(40)]
        for c in left:
            c.head()
        for i, c in enumerate(left):
            c.close(reset=i % 2 == 0)
        f.wait('running', 0, 'le')
        broken = [opened(p, body('%d broken %d [[tokens=4 die_after=2]]' % (turn, i))) for i in range(20)]
        for c in broken:
            assert not c.reply().whole
            c.close()
    p.wait_stat('connections_open', 41)
    for c in stay:
        c.send(build('GET', '/api/version'))
        assert c.reply().status == 200


if __name__ == '__main__':
    sys.exit(main([first_chunk_before_the_second, every_line_is_a_chunk, a_stored_stream_comes_in_one_packet, followers_join_live, plain_and_streamed_share,
                   a_thousand_followers_one_generation, the_last_to_leave_cancels, the_leader_leaves_the_follower_stays,
                   gone_cancels_at_once, half_close_counts_as_gone, gone_while_queued_upstream, gone_while_digests_are_fetched,
                   a_reader_that_does_not_read, drain_finishes_what_streams, drain_has_an_end, stop_without_work,
                   state_on_sigusr1, many_streams_at_once, clients_that_leave_anywhere,
                   the_left_go_though_others_stay]))
