#!/usr/bin/env python3
"""Clients that leave at random moments, close half, read a byte at a time, pipeline, put two requests into one packet, and
come in their tens of thousands. Whoever behaves gets the right answer meanwhile."""
from world import *

LEAVERS = int(os.environ.get('LEAVERS') or (600 if QUICK else 6000))
CONNECTIONS = int(os.environ.get('CONNECTIONS') or (3000 if QUICK else 100000))


def leaving_at_random(s):
    """MHD may miss a FIN that comes with the last bytes: such a connection is held until its timeout, which is short here."""
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.idle_timeout': '2s', 'server.header_timeout': '2s'}))
    base = Base(p)
    slow = ' [[tokens=20 pace_ms=3]]'

    def leave(i):
        rnd = random.Random(i)
        for k in range(LEAVERS // 8):
            stream = rnd.random() < 0.7
            body = {'model': 'llama3.2', 'prompt': 'leave %d' % rnd.randrange(30) + slow, 'stream': stream}
            raw = build('POST', '/api/generate', {'X-Complex': '3'} if rnd.random() < 0.1 else None, body)
            with contextlib.suppress(OSError, Gone):
                c = Conn(p.where)
                raw = raw[:rnd.randrange(1, len(raw) + 1)] if rnd.random() < 0.3 else raw
                c.send(raw)
                if rnd.random() < 0.7:
                    c.sock.settimeout(rnd.random() * 0.05 + 0.001)
                    for _ in range(rnd.randrange(1, 8)):
                        if not c.more():
                            break
                c.close(reset=rnd.random() < 0.5)
            with contextlib.suppress(OSError):
                c.close()
    with Load(p, 3) as load:
        together(8, leave)
    load.none_failed()
    f.wait('running', 0, op='le')
    base.back()


def closing_half(s):
    """As in Ollama: who closes its side is gone, and what ran for it is cancelled."""
    f = s.fake()
    p = s.proxy(f, OFF)
    base = Base(p)
    for i in range(10 if QUICK else 100):
        c = p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': 'half %d [[barrier=half barrier_at=2 tokens=4]]' % i})
        f.wait('running', 1)
        c.sock.shutdown(socket.SHUT_WR)
        f.wait('running', 0, op='le')
        c.ended()
        c.close()
    base.back()


def a_byte_at_a_time(s):
    """Slow readers of one answer, and quick ones beside them; the slow get it whole, too."""
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.idle_timeout': '20s'}))
    base = Base(p)
    slow = []
    for i in range(20):
        c = socket.socket()
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        c.connect(p.where)
        c.sendall(build('POST', '/api/generate', {'Connection': 'close'}, {'model': 'llama3.2', 'prompt': 'slow [[tokens=400 line_bytes=300]]'}))
        slow.append((c, bytearray()))
    with Load(p, 3) as load:
        end = time.monotonic() + SPELL
        while time.monotonic() < end:
            for c, got in slow:
                if select.select([c], [], [], 0)[0]:
                    got += c.recv(1)
            time.sleep(0.01)
        load.flows()
    load.none_failed()
    bodies = set()
    for c, got in slow:
        c.settimeout(LATE)
        while True:
            more = c.recv(65536)
            if not more:
                break
            got += more
        c.close()
        assert got.endswith(b'0\r\n\r\n') and b'"done":true' in got, got[-200:]
        r = Conn.__new__(Conn)
        r.buf, r.eof = bytes(got), True
        reply = r.rest(r.head())
        bodies.add(told(reply)['text'])
    assert len(bodies) == 1, 'slow readers of one answer got %d' % len(bodies)
    base.back()


def pipelined(s):
    """Many requests in one packet, cut anywhere: the answers come in order, each to its own question."""
    f = s.fake()
    p = s.proxy(f, OFF)
    base = Base(p)
    rnd = random.Random(3)
    for turn in range(10 if QUICK else 150):
        asks = [(rnd.randrange(60), rnd.choice(KINDS)) for _ in range(rnd.randrange(2, 12))]
        raw = b''
        for n, kind in asks:
            body = {'model': 'llama3.2', 'stream': kind.endswith('stream')}
            if kind.startswith('chat'):
                body['messages'] = [{'role': 'user', 'content': question(n)}]
            else:
                body['prompt'] = question(n)
            raw += build('POST', '/api/chat' if kind.startswith('chat') else '/api/generate', None, body)
        c = Conn(p.where)
        at = rnd.randrange(len(raw))
        c.send(raw[:at])
        c.send(raw[at:])
        for n, kind in asks:
            assert judge(n, c.reply(), kind) == 'good'
        c.close()
    base.back()


def split_anywhere(s):
    """One request in two packets, split at every byte."""
    f = s.fake()
    p = s.proxy(f, OFF)
    raw = build('POST', '/api/generate', None, {'model': 'llama3.2', 'prompt': question(5), 'stream': False})
    c = Conn(p.where)
    for at in range(1, len(raw), 7 if QUICK else 1):
        c.send(raw[:at])
        assert not select.select([c.sock], [], [], 0.001)[0]
        c.send(raw[at:])
        assert judge(5, c.reply(), 'generate') == 'good'
    c.close()


def very_many_connections(s):
    """An hour's worth of connections in minutes; a tenth never says a word."""
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.idle_timeout': '5s', 'server.header_timeout': '5s'}))
    base = Base(p)
    for n in range(20):
        ask(p.where, n, 'generate')
    began, most = time.monotonic(), max(CONNECTIONS // 4, 1500)

    def come(i):
        rnd, bad = random.Random(i), 0
        for k in range(most // 8):
            c = Conn(p.where)
            if rnd.random() < 0.1:
                c.close(reset=rnd.random() < 0.5)
                continue
            try:
                assert ask(p.where, rnd.randrange(20), 'generate', c)[1] == 'good'
            finally:
                c.close()
    together(8, come, late=None)                       # so many at once need their memory: what counts is that it stays at that
    base.rss = base.rest()[0]
    most = CONNECTIONS
    together(8, come, late=None)
    took = time.monotonic() - began
    print('        %d connections in %.1f s' % (CONNECTIONS, took))
    base.back(kib=16 << 10)


TESTS = [leaving_at_random, closing_half, a_byte_at_a_time, pipelined, split_anywhere, very_many_connections]

if __name__ == '__main__':
    sys.exit(main(TESTS))
