"""What strangers can take: memory and time of requests that announce much and send little, of clients that read slowly, of
bodies and heads made to be dear to read."""
import os, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

OFF = {'semantic.enabled': 'off'}
MIB = 1 << 20
MEASURED = not os.environ.get('MODE')             # times and sizes mean something only without a sanitizer


def announce(p, length, sent):
    """A connection whose body is announced with `length` bytes and comes with those in `sent`."""
    c = Conn(p.where)
    c.send(b'POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n' % length + sent)
    return c


def prompt_of(n):
    return {'model': 'llama3.2', 'prompt': 'x' * n, 'stream': False}


def took(run):
    begun = time.monotonic()
    r = run()
    return r, time.monotonic() - begun


# ---- server.max_buffered ----

def who_announces_holds_nothing(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    assert p.post('/api/generate', prompt_of(5000)).cache == 'miss'
    p.settled()
    idle = [announce(p, 64 * MIB, b'{') for _ in range(16)]
    p.arrived(17)
    for _ in range(3):
        for c in idle:
            c.send(b' ')
        r, seconds = took(lambda: p.post('/api/generate', prompt_of(5000)))
        assert r.cache == 'exact' and seconds < 1, (r, seconds)
    r, seconds = took(lambda: p.post('/api/generate', prompt_of(3 * MIB)))
    assert r.cache == 'miss' and seconds < 5, (r, seconds)


def who_holds_much_leaves_room(s):
    """One client's bodies fill its half of the budget: what is small goes on as ever, what is not waits a moment, and then
    streams through."""
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.max_buffered': '10MiB', 'server.max_body': '4MiB'}))
    assert p.post('/api/generate', prompt_of(5000)).cache == 'miss'
    p.settled()
    start = b'{"model":"llama3.2","stream":false,"prompt":"'
    held = Conn(p.where)
    sent = 4 * MIB - 10000
    held.send(b'POST /api/generate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n' % sent + start + b'y' * (sent - len(start)) + b'\r\n')
    p.wait_stat('connections_open', 2)
    time.sleep(0.5)
    other = Conn(p.where)
    other.send(build('POST', '/api/generate', None, prompt_of(400000)))
    r, seconds = took(other.reply)
    assert r.status == 200 and r.cache == 'bypass' and 'detail=too-large' in r.get('Cache-Status').replace('_', '-'), r
    assert seconds < 4, seconds
    assert p.post('/api/generate', prompt_of(5000)).cache == 'exact'
    held.send(b'2\r\n"}\r\n0\r\n\r\n')
    r = held.reply()
    assert r.status == 200, r
    assert p.post('/api/generate', prompt_of(400000)).cache == 'miss'


def who_is_slow_with_much_streams_through(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    start = b'{"model":"llama3.2","stream":false,"prompt":"'
    c = announce(p, MIB, start + b'y' * 200000)
    f.wait('body_bytes', 200000, late=20)          # the upstream has what came so far
    c.send(b'y' * (MIB - 200000 - len(start) - 2) + b'"}')
    r = c.reply()
    assert r.status == 200 and r.cache == 'bypass', r
    assert f.log('/api/generate')[0]['body_bytes'] == MIB


def a_share_ends_with_the_body(s):
    """What streams through gives its share back when it has been sent on, not when its answer ends."""
    f = s.fake('--keep', str(64 * MIB))
    p = s.proxy(f, dict(OFF, **{'server.max_buffered': '128MiB', 'server.max_body': '8MiB'}))
    odd = b'{"model":"llama3.2","Prompt":"","prompt":"[[barrier=b]] ' + b'y' * (7 * MIB) + b'"}'
    c = Conn(p.where, 60)
    c.send(build('POST', '/api/generate', None, odd))
    f.wait('waiting', 1)
    r, seconds = took(lambda: p.post('/api/generate', prompt_of(6 * MIB)))
    assert r.cache == 'miss' and seconds < 3, (r, seconds)
    f.release('b')
    assert c.reply().cache == 'bypass'


def bodies_around_every_limit(s):
    """Whatever its size and framing a body is answered; over server.max_body as bypass."""
    f = s.fake()
    for limit in (1 << 10, 128 << 10):
        p = s.proxy(f, dict(OFF, **{'server.max_body': str(limit)}), name='p%d' % limit)
        for around in (limit, 2 * limit, 4096, 65536):
            for n in (around - 1, around, around + 1):
                start = b'{"model":"llama3.2","stream":false,"prompt":"'
                body = start + b'x' * (n - len(start) - 2) + b'"}'
                chunked = b''.join(b'%x\r\n%s\r\n' % (len(body[i:i + 1000]), body[i:i + 1000]) for i in range(0, n, 1000)) + b'0\r\n\r\n'
                c = Conn(p.where)
                c.send(b'POST /api/generate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n' + chunked)
                for r in (c.reply(), p.post('/api/generate', body)):
                    assert r.status == 200, (limit, n, r)
                    assert (r.cache == 'bypass') == (n > limit), (limit, n, r)


# ---- replies ----

def lines_of(r):
    return [json.loads(x) for x in r.body.split(b'\n') if x]


def stored_answers_come_in_whole_lines(s):
    """Of every length, behind heads of every length: no chunk ends inside a line, and no line is longer than 8 KiB."""
    f = s.fake()
    p = s.proxy(f, OFF)
    sizes = [10, 1000, 3000, 5000, 5900, 6200, 7000, 8000, 8700, 9500, 12000, 17000, 40000, 70000, 300000]
    for n in sizes:
        body = {'model': 'llama3.2', 'prompt': 'of %d' % n, 'options': {'fake_text': 'word ' * (n // 5), 'fake_token_bytes': 1000}}
        first = p.post('/api/generate', body)
        assert first.cache == 'miss', first
        p.settled()
        for head in (0, 500, 2000, 4000, 5500, 6500):
            for _ in range(2):                     # the second may be a reply that was kept
                r = p.post('/api/generate', body, {'X-Long-%d' % i: 'h' * 480 for i in range(head // 500)})
                assert r.cache == 'exact' and r.whole, (n, head, r)
                assert all(c.endswith(b'\n') for c in r.chunks), (n, head, [len(c) for c in r.chunks])
                assert max(len(line) for line in r.body.split(b'\n')) <= 8 << 10, (n, head)
                assert told(r)['text'] == told(first)['text'] and told(r)['last'] == told(first)['last'], (n, head)
        plain = p.post('/api/generate', dict(body, stream=False))
        assert plain.cache == 'exact' and plain.whole and plain.json()['response'] == told(first)['text'], plain


def with_logprobs_and_thinking(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    body = {'model': 'tiny-think', 'messages': [{'role': 'user', 'content': 'q'}], 'logprobs': True, 'top_logprobs': 5,
            'options': {'fake_tokens': 3000, 'fake_think': 'thought ' * 4000}}
    first = p.post('/api/chat', body)
    p.settled()
    hit, plain = p.post('/api/chat', body), p.post('/api/chat', dict(body, stream=False))
    assert (first.cache, hit.cache, plain.cache) == ('miss', 'exact', 'exact')
    assert told(hit) == told(first) and all(c.endswith(b'\n') for c in hit.chunks)
    assert max(len(line) for line in hit.body.split(b'\n')) <= 8 << 10
    m = plain.json()
    assert m['message']['content'] == told(first)['text'] and m['message']['thinking'] == told(first)['thinking']
    assert m.get('logprobs', []) == told(first)['logprobs'] and m['eval_count'] == told(first)['last']['eval_count']


def do_not_read(p, bodies):
    cs = []
    for i, body in enumerate(bodies):
        c = socket.socket()
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.connect(p.where)
        c.settimeout(LATE)
        c.sendall(build('POST', '/api/generate', None, body))
        cs.append(c)
        p.wait_stat('streams_open', i + 1)
    return cs


def who_does_not_read_holds_no_copy(s, store=None, semantic=False):
    """A hundred readers of one stored answer of 3.9 MB that do not read share one copy of it, streams and whole ones, and
    what they get is whole when they read at last."""
    f = s.fake()
    options = dict({} if semantic else OFF, **(store or {}))
    p = s.proxy(f, options)
    p.ready()
    if semantic:
        p.wait_stat('store_up', 1)
    for stream in (True, False):
        question = 'Які факультети є в ХДУ?'
        body = {'model': 'llama3.2', 'prompt': question, 'stream': stream, 'options': {'fake_line_bytes': 3900000}}
        first = p.post('/api/generate', body)
        assert first.cache == ('miss' if stream else 'exact'), first
        p.settled()
        if semantic:
            body['prompt'] = 'Які є факультети в ХДУ?'
        r = p.post('/api/generate', body)
        assert r.cache == ('semantic' if semantic else 'exact') and len(r.body) > 3900000, r
        before = p.peak_kib('VmRSS')
        cs = do_not_read(p, [body] * 100)
        time.sleep(0.5)
        grown = (p.peak_kib('VmRSS') - before) / 1024
        print('        %s: 100 readers that do not read cost %.1f MiB' % ('streams' if stream else 'objects', grown))
        assert not MEASURED or grown < 60, grown
        late = Conn.__new__(Conn)
        late.sock, late.buf, late.eof = cs[7], b'', False
        read = late.reply()
        assert read.whole and told(read)['text'] == told(first)['text'], read
        for c in cs:
            c.close()
        p.wait_stat('streams_open', 0)


def who_does_not_read_from_redis(s):
    who_does_not_read_holds_no_copy(s, {'cache.store': 'redis', 'redis.url': s.redis().url, 'redis.timeout': '9s'})


def who_does_not_read_what_is_near(s):
    who_does_not_read_holds_no_copy(s, semantic=True)


def replies_have_a_bound(s):
    """Different large answers at once: those beyond the bound are refused in good words, and there is room again afterwards."""
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.max_buffered': '16MiB', 'server.max_body': '1MiB'}))
    bodies = [{'model': 'llama3.2', 'prompt': 'n %d' % i, 'stream': False, 'options': {'fake_line_bytes': 3900000}}
              for i in range(4)]
    for b in bodies:
        assert p.post('/api/generate', dict(b, stream=True)).cache == 'miss'
    p.settled()
    held = do_not_read(p, bodies[:2])
    r = p.post('/api/generate', bodies[2])
    assert r.status == 503 and 'max_buffered' in r.error() and r.get('Retry-After'), r
    assert p.post('/api/generate', bodies[0]).cache == 'exact'       # of this there is a copy
    for c in held:
        c.close()
    p.wait_stat('streams_open', 0)
    assert p.post('/api/generate', bodies[2]).cache == 'exact'


# ---- bodies and heads that are dear to read ----

def others_wait(p, run):
    """The longest that GET /ollacache/health took while run() ran."""
    worst, done = [0], threading.Event()

    def poll():
        while not done.is_set():
            _, seconds = took(lambda: p.get('/ollacache/health'))
            worst[0] = max(worst[0], seconds)
            time.sleep(0.002)
    t = threading.Thread(target=poll)
    t.start()
    r = run()
    done.set()
    t.join()
    return r, worst[0]


def long_bodies_are_read_beside_the_loop(s):
    f = s.fake('--keep', str(16 * MIB))
    p = s.proxy(f, dict(OFF, **{'server.workers': 1}))
    p.ready()
    n = 8 * MIB
    for name, inner in (('numbers', b'0,' * (n // 2) + b'0'), ('objects', b'{},' * (n // 3) + b'0'), ('text', b'"' + b'word ' * (n // 5) + b'"')):
        body = b'{"model":"llama3.2","prompt":"q","stream":false,"options":{"x":[' + inner + b']}}'
        c = Conn(p.where)
        c.send(build('POST', '/api/generate', None, body[:-1]).replace(b'Content-Length: %d' % (len(body) - 1), b'Content-Length: %d' % len(body)))
        time.sleep(0.3)
        r, worst = others_wait(p, lambda: (c.send(b'}'), c.reply())[1])
        print('        %s: others waited %.3f s' % (name, worst))
        assert r.status == 200 and r.cache == 'miss', r
        p.settled()
        assert p.post('/api/generate', body).cache == 'exact'
        assert not MEASURED or worst < 0.15, worst


def names_have_a_bound(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for n, cache in ((4096, 'miss'), (4097, 'bypass')):
        body = {'model': 'llama3.2', 'prompt': 'q', 'stream': False, 'format': {'x%d' % i: 0 for i in range(n)}}
        assert p.post('/api/generate', body).cache == cache


def a_client_may_leave_while_its_body_is_read(s):
    f = s.fake('--keep', str(16 * MIB))
    p = s.proxy(f, dict(OFF, **{'server.workers': 1}))
    body = b'{"model":"llama3.2","prompt":"q","options":{"x":[' + b'0,' * (2 * MIB) + b'0]}}'
    for i in range(12):
        c = Conn(p.where)
        c.send(build('POST', '/api/generate', None, body))
        time.sleep(0.004 * i)
        c.close(reset=True)
    p.wait_stat('connections_open', 1)
    assert p.post('/api/generate', body).status == 200


def connection_names_have_a_bound(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for n, status in ((512, 200), (513, 400)):
        c = Conn(p.where)
        c.send(b'GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: ' + b'x,' * (n // 2 - 1) + b'x' * (n - 2 * (n // 2 - 1)) + b'\r\n\r\n')
        assert c.reply().status == status, n


if __name__ == '__main__':
    sys.exit(main([who_announces_holds_nothing, who_holds_much_leaves_room, who_is_slow_with_much_streams_through,
                   a_share_ends_with_the_body, bodies_around_every_limit,
                   stored_answers_come_in_whole_lines, with_logprobs_and_thinking, who_does_not_read_holds_no_copy,
                   who_does_not_read_from_redis, who_does_not_read_what_is_near, replies_have_a_bound,
                   long_bodies_are_read_beside_the_loop, names_have_a_bound, a_client_may_leave_while_its_body_is_read,
                   connection_names_have_a_bound]))
