#!/usr/bin/env python3
"""hostile.py SECONDS [SEED] - a hostile client on the whole program, with the fake upstream behind: requests that are whole,
mutated, cut, joined, slow or left midway, over several connections at once. Every so often an honest request has to be
answered right, and at the end the program has to stop cleanly, with no word from a sanitizer. The seed is printed."""
import os, random, socket, sys, threading, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import Stage, Conn, Gone, SANITIZED, told

CLIENTS = 6
PATHS = ['/api/generate', '/api/chat', '/api/embed', '/api/embeddings', '/api/tags', '/api/show', '/v1/chat/completions', '/', '/metrics',
         '/ollacache/stats', '/ollacache/explain', '/ollacache/cache?limit=3', '/ollacache/requests', '/api/%67enerate', '//api/chat', '*', '/fake/none',
         'http://localhost/api/tags', '/api/pull', '/api/blobs/sha256:0']
METHODS = ['POST'] * 6 + ['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'PATCH', 'CONNECT', 'G E T', 'post', '']
HEADERS = ['Cache-Control: no-cache', 'Cache-Control: no-store', 'Cache-Control: only-if-cached', 'Cache-Control: max-age=0', 'Cache-Control: max-age=x',
           'X-Complex: 2', 'X-Complex: true', 'X-Complex: 0', 'X-Complex-Explain: 1', 'X-Cache-Semantic: off', 'X-Cache-Semantic: 0.9', 'X-Cache-Semantic: nan',
           'X-Cache-TTL: 1', 'X-Cache-TTL: -1', 'X-Cache-Namespace: a', 'X-Cache-Namespace: ' + 'x' * 300, 'Origin: http://localhost', 'Origin: null',
           'Origin: http://evil.example', 'Authorization: Bearer x', 'Expect: 100-continue', 'Connection: close', 'Connection: keep-alive, X-Complex',
           'Transfer-Encoding: chunked', 'Transfer-Encoding: gzip', 'Content-Length: 5', 'Content-Length: -1', 'Content-Length: 99999999999999999999',
           'Host: a', 'X: ' + 'y' * 5000, 'X: ' + 'y' * 20000, ': empty', 'no colon', ' folded: x', 'X-Null: \0', 'Accept-Encoding: gzip']
FAKES = [{}, {}, {}, {'fake_tokens': 300}, {'fake_die_after': 3}, {'fake_fail_after': 2}, {'fake_no_done': 1}, {'fake_status': 500}, {'fake_status': 404},
         {'fake_garbage': 1}, {'fake_html': 1}, {'fake_half_line': 2}, {'fake_bad_json': 2}, {'fake_bad_chunk': 'short'}, {'fake_bad_chunk': 'huge'},
         {'fake_bad_chunk': 'no_last'}, {'fake_split_bytes': 7}, {'fake_line_bytes': 200000}, {'fake_after_done': 1}, {'fake_shape': 'delta'},
         {'fake_pace_ms': 5, 'fake_tokens': 40}, {'fake_no_model': 1}, {'fake_extra': 2}, {'fake_first_ms': 30}, {'fake_cut_body': 1}, {'fake_until_close': 1}]


def body_of(rnd, path):
    import json
    fake = dict(rnd.choice(FAKES))
    if rnd.random() < 0.1:
        fake['fake_text'] = 'word ' * rnd.choice([20, 3000, 30000])
    question = rnd.choice(['What is red?', 'What is the colour red?', 'q%d' % rnd.randrange(30), 'Які є факультети в ХДУ?', '', 'x' * rnd.choice([10, 5000, 200000])])
    o = {'model': rnd.choice(['llama3.2', 'Llama3.2:latest', 'qwen3', 'llama3.2@complex', 'llama3.2@complex=2', 'none', '', 'nomic-embed-text']), 'options': fake}
    if path == '/api/chat':
        o['messages'] = [{'role': 'user', 'content': question}]
        if rnd.random() < 0.2:
            o['tools'] = [{'type': 'function', 'function': {'name': 'f', 'parameters': {}}}]
    elif path == '/api/embed':
        o['input'] = rnd.choice([question, [question, 'b']])
    else:
        o['prompt'] = question
    if rnd.random() < 0.6:
        o['stream'] = rnd.random() < 0.5
    if rnd.random() < 0.1:
        o['complex'] = rnd.choice([True, 2, 0, 'x'])
    return json.dumps(o, ensure_ascii=rnd.random() < 0.5).encode()


def mutate(rnd, raw):
    raw = bytearray(raw)
    for _ in range(rnd.choice([1, 1, 2, 5, 20])):
        at = rnd.randrange(len(raw) + 1)
        how = rnd.random()
        if how < 0.3 and at < len(raw):
            raw[at] = rnd.randrange(256)
        elif how < 0.5:
            del raw[at:at + rnd.choice([1, 1, 2, 30])]
        elif how < 0.7:
            raw[at:at] = rnd.choice([b'\r\n', b'\n', b'\0', b'"', b'{', b'}', b',', b'0', b'\xff', b'\\', b' '])
        elif how < 0.85:
            to = rnd.randrange(len(raw) + 1)
            raw[at:at] = raw[to:to + rnd.choice([1, 10, 200])]
        else:
            del raw[at:]
        if not raw:
            break
    return bytes(raw)


def request(rnd):
    path = rnd.choice(PATHS[:4] if rnd.random() < 0.7 else PATHS)
    method = rnd.choice(METHODS)
    body = body_of(rnd, path) if method not in ('GET', 'HEAD', 'OPTIONS') or rnd.random() < 0.1 else b''
    if rnd.random() < 0.15 and body:
        body = mutate(rnd, body)
    lines = ['%s %s HTTP/%s' % (method, path, rnd.choice(['1.1'] * 8 + ['1.0', '2.0', '1.1 '])), 'Host: localhost']
    for _ in range(rnd.choice([0, 0, 0, 1, 2, 4])):
        lines.append(rnd.choice(HEADERS))
    if body and rnd.random() < 0.3:
        lines.append('Transfer-Encoding: chunked')
        out, at = b'', 0
        while at < len(body):
            n = rnd.choice([1, 7, 100, 5000, 100000])
            part = body[at:at + n]
            out += b'%x\r\n%s\r\n' % (len(part), part)
            at += n
        body = out + b'0\r\n\r\n'
    elif body:
        lines.append('Content-Length: %d' % (len(body) + rnd.choice([0] * 20 + [-1, 1])))
    raw = '\r\n'.join(lines).encode('utf-8', 'replace') + b'\r\n\r\n' + body
    return mutate(rnd, raw) if rnd.random() < 0.2 else raw


def attack(where, rnd, until, told_us):
    while time.monotonic() < until:
        try:
            c = Conn(where, timeout=rnd.choice([0.05, 0.3, 1]))
        except OSError:
            continue
        try:
            for _ in range(rnd.choice([1, 1, 2, 4])):
                raw = request(rnd)
                told_us[0] += 1
                if rnd.random() < 0.1:                 # a bit at a time
                    for at in range(0, min(len(raw), 400), 13):
                        c.send(raw[at:at + 13])
                    c.send(raw[min(len(raw), 403):] if len(raw) > 400 else b'')
                else:
                    c.send(raw)
                how = rnd.random()
                if how < 0.15:
                    break                              # leaves at once
                if how < 0.25:
                    c.sock.shutdown(socket.SHUT_WR)
                c.sock.recv(rnd.choice([1, 100, 65536]))
                if how < 0.7:
                    while c.sock.recv(1 << 16):
                        pass
        except (OSError, Gone):
            pass
        finally:
            try:
                c.close(reset=rnd.random() < 0.3)
            except OSError:
                pass


def honest(p, n):
    """A request nobody else makes is answered right, whatever goes on beside it."""
    text = 'nobody asks this but number %d' % n
    first = p.generate(text, stream=True, options={'fake_text': 'the answer to %d' % n})
    assert first.status == 200 and first.whole and told(first)['text'] == 'the answer to %d' % n, first
    again = p.generate(text, stream=False, headers={'X-Cache-Semantic': 'off'}, options={'fake_text': 'the answer to %d' % n})
    assert again.status == 200 and told(again)['text'] == 'the answer to %d' % n, again


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 30)
    print('seed %d' % seed, flush=True)
    stage = Stage()
    sent = [0]
    try:
        f = stage.fake()
        p = stage.proxy(f, {'cache.max_entry': '64KiB', 'server.max_body': '150KiB', 'server.max_buffered': '1MiB', 'server.idle_timeout': '3s',
                            'server.header_timeout': '2s', 'upstream.first_byte_timeout': '5s', 'upstream.idle_timeout': '3s', 'complex.deadline': '3s',
                            'complex.heartbeat': '1s', 'server.drain_timeout': '3s', 'log.level': 'warn'})
        until = time.monotonic() + seconds
        clients = [threading.Thread(target=attack, args=(p.where, random.Random(seed + i), until, sent), daemon=True) for i in range(CLIENTS)]
        for c in clients:
            c.start()
        n = 0
        while time.monotonic() < until:
            time.sleep(0.3)
            assert p.process.poll() is None, 'the program ended with %s: %s' % (p.process.returncode, p.said()[-6000:])
            honest(p, n)
            n += 1
        for c in clients:
            c.join(60)
            assert not c.is_alive(), 'a client hangs'
        honest(p, n)
        p.wait_stat('streams_open', 0)
        p.wait_stat('connections_open', lambda c: c <= 1, late=30)      # the one that asks
        assert f.state()['running'] == 0 or f.order('/fake/wait?event=running&n=0&op=le&timeout_ms=15000'), 'the upstream still works for nobody'
    finally:
        complaints = stage.end()
        said = [x.said() for x in stage.things if hasattr(x, 'said')]
    for c in complaints:
        print(c)
        print(said[-1][-6000:])
    print('%d requests%s' % (sent[0], ', sanitized' if SANITIZED else ''))
    stage.clean()
    return 1 if complaints else 0


if __name__ == '__main__':
    sys.exit(main())
