"""Long bodies and everybody else: while one of tens of MiB is read, understood, sent on and given back, the others of the same
worker are answered, whatever it is made of; and it arrives as it was meant."""
import hashlib, os, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

MIB = 1 << 20
MEASURED = not os.environ.get('MODE')             # times mean something only without a sanitizer
KEPT = 64 << 10                                  # bodies in the fake's log
LONG = (32 if MEASURED else 4) * MIB
START = b'{"model":"llama3.2","stream":false,"prompt":"'


def meanwhile(p, body, path='/api/generate'):
    """The reply to a long body, how many others were answered while it was under way, and how long the slowest of them took
    as a part of the whole."""
    got, c, other = [], Conn(p.where, 120), Conn(p.where, 120)
    raw = build('POST', path, None, body)

    def ask():
        c.send(raw)
        got.append(c.reply())

    thread, times, begun = threading.Thread(target=ask), [], time.monotonic()
    thread.start()
    while thread.is_alive():
        at = time.monotonic()
        other.send(build('GET', '/ollacache/health'))
        assert other.reply().status == 200
        times.append(time.monotonic() - at)
    thread.join()
    return got[0], len(times), max(times) / (time.monotonic() - begun)


def others_are_answered(s):
    """One turn of the loop that takes a second is a sixth of the whole, or more, each time it is tried; waiting for a processor
    is so now and then."""
    f = s.fake('--keep', '65536')
    p = s.proxy(f, {'server.workers': 1, 'complex.auto': 'on'})
    shapes = {
        'plain': START + b'word ' * (LONG // 5) + b'"}',
        'escapes': START + b'\\u00e9' * (LONG // 6) + b'"}',
        'one name': b'{"prompt":"q","model":"' + b'm' * LONG + b'"}',
        'options': START + b'q","complex":3,"options":{"x":[' + b'0,' * (LONG // 2) + b'0]}}',
        'several': START + b'word ' * (LONG // 5) + b'","complex":3}',
        'nothing understood': START + b'word ' * (LONG // 5),
    }
    for name, body in shapes.items():
        seen = []
        for _ in range(3):
            r, n, worst = meanwhile(p, body)
            assert r.status in (200, 400), (name, r)
            seen.append((n, worst))
            if not MEASURED or (n > 50 and worst < 0.15):
                break
        else:
            raise AssertionError('%s: others were answered, and the longest wait of the whole: %s' % (name, seen))


def several_bodies_arrive_whole(s):
    """They share what all begin with, and are written piece by piece."""
    f = s.fake()
    p = s.proxy(f, {'server.workers': 1, 'complex.temperatures': '0.7', 'semantic.enabled': 'off'})
    for size in (1, 60 << 10, 300 << 10, 3 * MIB):
        prompt = b'"' + b'q' * size + b'"'
        seen = len(f.log('/api/generate'))
        r = p.post('/api/generate', b'{"model":"llama3.2","options":{"temperature":0.2,"stop":["a}","\\""],"top_k":4},"complex":3,"prompt":' + prompt + b'}')
        assert r.status == 200, r
        own = b'{"model":"llama3.2","prompt":' + prompt + b',"stream":false,"options":{"stop":["a}","\\""],"top_k":4,"temperature":0.2}}'
        asked = f.log('/api/generate')[seen:]
        assert len(asked) == 3 and len({e['body_sha256'] for e in asked}) == 3, asked
        assert hashlib.sha256(own).hexdigest() in [e['body_sha256'] for e in asked]
        assert all(e['status'] == 200 and e['body_bytes'] >= len(own) for e in asked), asked
        if size > KEPT:
            continue                              # the fake has read it, and keeps its length
        bodies = [json.loads(e['body']) for e in asked]
        for b in bodies:
            assert b['prompt'] == 'q' * size and b['stream'] is False and 'complex' not in b
            assert b['options']['top_k'] == 4 and b['options']['stop'] == ['a}', '"'], b['options']
        assert sorted(b['options']['temperature'] for b in bodies) == [0.2, 0.7, 0.7]
        assert [b['options'].get('seed') for b in bodies].count(None) == 1


def what_is_handed_on_is_short(s):
    """Of something longer the upstream says what it thinks of it, whatever its length."""
    f = s.fake()
    p = s.proxy(f)
    for value, cache in ((0, 'miss'), ([0] * 100, 'miss'), ([0] * 300, 'bypass')):
        assert p.generate('q', stream=False, options={'temperature': value}).cache == cache, value
    for minutes, cache in ((1, 'exact'), (80, 'exact'), (200, 'bypass')):
        assert p.generate('q', stream=False, options={'temperature': 0}, keep_alive='1m' * minutes).cache == cache, minutes


def explained_beside_the_loop(s):
    """What is to be explained may be 1 MiB of anything; its client may leave meanwhile, and so may the proxy."""
    f = s.fake()
    p = s.proxy(f, {'server.workers': 1})
    body = START + b'q","options":{"x":[' + b'0,' * (MIB // 2 - 100) + b'0]}}'
    where = '/ollacache/explain?endpoint=generate'
    assert p.post(where, body).status == 200
    for i in range(10):
        c = Conn(p.where)
        c.send(build('POST', where, None, body))
        time.sleep(0.003 * i)
        c.close(reset=True)
    p.wait_stat('connections_open', 1)
    assert p.post(where, body).status == 200
    c = Conn(p.where)
    c.send(build('POST', where, None, body) + build('POST', '/api/generate', None, body))
    assert p.stop() == 0


if __name__ == '__main__':
    sys.exit(main([others_are_answered, several_bodies_arrive_whole, what_is_handed_on_is_short,
                   explained_beside_the_loop]))
