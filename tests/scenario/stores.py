#!/usr/bin/env python3
"""What a store refuses or does slowly: what goes on without it, what is said of it, and what it costs."""
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

NEAR = ('Which moons orbit the planet Saturn?', 'planet Saturn: which moons orbit?')


def health(p):
    return p.get('/ollacache/health').json()['store']


def lines(p, word):
    return [l for l in p.said().splitlines() if ' store: ' in l and word in l]


def until(what, ok):
    end = time.monotonic() + LATE
    while not ok():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def with_user(s, *rules, **more):
    """The proxy as a Redis user with these rights."""
    f, r = s.fake(), s.redis()
    r.command('ACL', 'SETUSER', 'oc', 'reset', 'on', '>pw', *rules)
    o = {'cache.store': 'redis', 'redis.url': r.url.replace('unix://', 'unix://oc:pw@'), 'redis.timeout': '2s', 'server.workers': 2}
    p = s.proxy(f, o | more, name='as%d' % len(s.things))
    p.ready()
    p.wait_stat('store_up', 1)
    return f, r, p


def refused_keys_are_said_once_per_kind(s):
    f, r, p = with_user(s, '~other:*', '&*', '+@all')
    assert 'cause' not in health(p) or health(p)['up'], health(p)
    for i in range(6):
        x = p.chat('question %d' % i, stream=False)
        assert x.status == 200 and x.cache == 'miss', x
    p.wait_stat('store_up', 0)
    state = health(p)
    assert not state['up'] and 'NOPERM' in state['cause'] and abs(state['since_ms'] / 1000 - time.time()) < 600, state
    for part in ('refuses to give answers', 'refuses to keep answers', 'refuses near questions', 'refuses the index'):
        until('nothing is said', lambda: lines(p, part))
        said = lines(p, part)
        assert len(said) == 1 and ' warn ' in said[0] and 'NOPERM' in said[0] and 'ACL SETUSER' in said[0], said
    # given the right, it works again and says so
    r.command('ACL', 'SETUSER', 'oc', '~*')
    assert [p.chat('again', stream=False).cache for _ in range(1)] == ['miss']
    until('it is not kept', lambda: p.chat('again', stream=False).cache == 'exact')
    p.wait_stat('store_up', 1)
    until('nothing is said', lambda: len(lines(p, 'keeps answers again')) == 1)


def near_questions_refused_cost_no_more_than_that(s):
    for rules in (['-fcall', '-fcall_ro'], ['-function|load']):
        f, r, p = with_user(s, '~ollacache:*', '&*', '+@all', *rules)
        assert p.chat(NEAR[0], stream=False).cache == 'miss'
        until('it is not kept', lambda: p.chat(NEAR[0], stream=False).cache == 'exact')
        for i in range(5):
            assert p.chat('%s %d' % (NEAR[1], i), stream=False).cache == 'miss'
        assert p.stats()['store_up'] == 1 and p.stats()['store_errors'] <= 2, p.stats()['store_errors']
        until('nothing is said', lambda: lines(p, 'refuses near questions'))
        assert len(lines(p, 'refuses near questions')) == 1, p.said()
        assert health(p)['up'] and 'near questions' in health(p)['cause'], health(p)
        p.stop()
        r.stop()


def get_set_and_del_are_enough(s):
    f, r, p = with_user(s, '~ollacache:*', '+get', '+set', '+del')
    assert p.chat(NEAR[0], stream=False).cache == 'miss'
    until('it is not kept', lambda: p.chat(NEAR[0], stream=False).cache == 'exact')
    time.sleep(2.5)                                  # what is asked now and then had its turn
    before = p.stats()['store_errors']
    for i in range(10):
        p.chat('question %d' % i, stream=False)
    time.sleep(2.5)
    assert p.stats()['store_errors'] == before and before <= 4, (before, p.stats()['store_errors'])
    assert p.stats()['store_up'] == 1
    for part in ('refuses near questions', 'refuses the index'):
        assert len(lines(p, part)) == 1, p.said()
    assert len(lines(p, 'warn')) == 2, lines(p, 'warn')


def full_memory_is_said_and_reading_goes_on(s):
    f, r = s.fake(), s.redis()
    p = s.proxy(f, {'cache.store': 'redis', 'redis.url': r.url, 'redis.timeout': '2s'})
    p.wait_stat('store_up', 1)
    p.chat('kept', stream=False)
    until('it is not kept', lambda: p.chat('kept', stream=False).cache == 'exact')
    r.command('CONFIG', 'SET', 'maxmemory', '1')
    for i in range(4):
        p.chat('more %d' % i, stream=False)
    p.wait_stat('store_up', 0)
    assert 'OOM' in health(p)['cause'] and p.chat('kept', stream=False).cache == 'exact'
    until('nothing is said', lambda: lines(p, 'refuses to keep answers'))
    said = lines(p, 'refuses to keep answers')
    assert len(said) == 1 and 'maxmemory' in said[0], p.said()
    r.command('CONFIG', 'SET', 'maxmemory', '0')
    p.chat('room again', stream=False)
    p.wait_stat('store_up', 1)
    assert 'cause' not in health(p), health(p)


def a_change_of_redis_is_one_line_with_its_cause(s):
    """However many workers notice."""
    f, r = s.fake(), s.redis()
    p = s.proxy(f, {'cache.store': 'redis', 'redis.url': r.url, 'redis.retry': '200ms', 'server.workers': 4})
    p.wait_stat('store_up', 1)
    r.stop()
    p.wait_stat('store_up', 0)
    until('no cause', lambda: 'cause' in health(p))
    time.sleep(1)
    r.start()
    p.wait_stat('store_up', 1)
    time.sleep(1)
    said = lines(p, 'redis: ')
    assert len(said) == 2 and 'is away' in said[0] and r.sock in said[0] and 'connected again' in said[1], said
    assert 'cause' not in health(p), health(p)


class HalfRedis:
    """Gives and takes strings; a function is loaded, and never answered while `frozen`."""

    def __init__(self):
        self.kept, self.frozen, self.finds, self.open = {}, False, 0, []
        self.door = socket.create_server(('127.0.0.1', 0))
        self.url = 'redis://127.0.0.1:%d' % self.door.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                c, _ = self.door.accept()
                threading.Thread(target=self.talk, args=(c,), daemon=True).start()

    def talk(self, c):
        lines = c.makefile('rb')
        with contextlib.suppress(OSError, ValueError):
            while True:
                n = lines.readline()
                if not n:
                    return
                words = []
                for _ in range(int(n[1:])):
                    words.append(lines.read(int(lines.readline()[1:])))
                    lines.read(2)
                said = self.answer(*words)
                if said:
                    c.sendall(said)

    def answer(self, name, *words):
        name = name.upper()
        if name == b'GET':
            value = self.kept.get(words[0])
            return b'$-1\r\n' if value is None else b'$%d\r\n%s\r\n' % (len(value), value)
        if name == b'SET':
            self.kept[words[0]] = words[1]
            return b'+OK\r\n'
        if name == b'FCALL' and b'find' in words[0]:
            self.finds += 1
            return None if self.frozen else b'*1\r\n:0\r\n'
        return {b'PING': b'+PONG\r\n', b'FUNCTION': b'$1\r\nx\r\n', b'INFO': b'$0\r\n\r\n', b'CLIENT': b'-ERR unknown command\r\n'}.get(name, b':1\r\n')


def a_slow_near_look_up_never_costs_an_exact_one(s):
    f, r = s.fake(), HalfRedis()
    p = s.proxy(f, {'cache.store': 'redis', 'redis.url': r.url, 'redis.timeout': '1s', 'server.workers': 1})
    p.ready()
    p.wait_stat('store_up', 1)
    assert p.chat('hot', stream=False).cache == 'miss'
    until('it is not kept', lambda: p.chat('hot', stream=False).cache == 'exact')
    r.frozen = True
    asking = [threading.Thread(target=lambda i=i: p.chat('A long question about number %d and other things' % i, stream=False)) for i in range(8)]
    for t in asking:
        t.start()
    until('nobody looks for near ones', lambda: r.finds > 0)
    for i in range(30):
        x = p.post('/api/chat', {'model': 'llama3.2', 'stream': False, 'messages': [{'role': 'user', 'content': 'hot'}], 'keep_alive': i + 1})
        assert x.cache == 'exact', (i, x)
        time.sleep(0.05)
    for t in asking:
        t.join()
    st = p.stats()
    assert st['store_up'] == 1 and st['near_bounded'] >= 8, st['near_bounded']
    assert f.asked('/api/chat') == 9, 'each was answered all the same'
    assert not lines(p, 'is away'), p.said()
    r.frozen = False
    before = r.finds
    p.chat('Another question about the planet Saturn and its moons', stream=False)
    until('near ones are looked for again', lambda: p.chat('Yet another question of %d words or more' % r.finds, stream=False) and r.finds > before)


def like_questions_end_at_their_bound(s):
    """A thousand questions of one pattern: the look-up is cut, counted, and what is asked meanwhile is found."""
    f, r = s.fake(), s.redis()
    p = s.proxy(f, {'cache.store': 'redis', 'redis.url': r.url, 'redis.timeout': '2s', 'server.workers': 1})
    p.ready()
    p.wait_stat('store_up', 1)
    text = 'What is the average population of the city number %d in the northern region of the country?'
    def some(k):
        c = Conn(p.where, 60)
        for i in range(k, 1600, 8):
            c.send(build('POST', '/api/generate', None, {'model': 'llama3.2', 'prompt': text % i, 'stream': False, 'options': {'fake_text': 'ok'}}))
            assert c.reply().status == 200
    together(8, some)
    assert p.stats()['store_up'] == 1
    before = p.stats()['near_bounded']
    for i in range(5):
        assert p.post('/api/generate', {'model': 'llama3.2', 'prompt': text % (5000 + i), 'stream': False, 'options': {'fake_text': 'ok'}}).cache == 'miss'
    assert p.stats()['near_bounded'] > before, 'nothing was cut'
    assert not lines(p, 'warn'), lines(p, 'warn')


def stops_while_redis_is_frozen(s):
    """One answer waits to be looked up, one to be kept, with a redis.timeout far longer than the drain."""
    f, r = s.fake(), s.redis()
    p = s.proxy(f, {'cache.store': 'redis', 'redis.url': r.url, 'redis.timeout': '60s', 'server.workers': 1, 'server.drain_timeout': '1s'})
    p.ready()
    p.wait_stat('store_up', 1)
    assert p.generate('warm', stream=False).cache == 'miss'
    c = p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': '[[barrier=b]] x', 'stream': False})
    f.wait('running', 1)
    r.process.send_signal(signal.SIGSTOP)
    try:
        f.release('b')
        assert c.reply().status == 200
        p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': 'a second look at many words', 'stream': False})
        time.sleep(0.3)
        p.process.send_signal(signal.SIGTERM)
        assert p.process.wait(LATE) == 0, p.said()
    finally:
        r.process.send_signal(signal.SIGCONT)


def stops_while_the_upstream_is_frozen(s):
    f = s.fake()
    p = s.proxy(f, {'server.workers': 2, 'server.drain_timeout': '1s'})
    p.ready()
    assert p.generate('warm', stream=False).cache == 'miss'
    f.process.send_signal(signal.SIGSTOP)
    try:
        waiting = [p.open('POST', path, {'model': 'llama3.2', 'prompt': 'frozen %s' % path, 'stream': stream})
                   for path in ('/api/generate', '/api/show') for stream in (True, False)]
        time.sleep(0.3)
        p.process.send_signal(signal.SIGTERM)
        assert p.process.wait(LATE) == 0, p.said()
    finally:
        f.process.send_signal(signal.SIGCONT)
    assert waiting


TESTS = [stops_while_redis_is_frozen, stops_while_the_upstream_is_frozen, refused_keys_are_said_once_per_kind, near_questions_refused_cost_no_more_than_that, get_set_and_del_are_enough,
         full_memory_is_said_and_reading_goes_on, a_change_of_redis_is_one_line_with_its_cause, a_slow_near_look_up_never_costs_an_exact_one,
         like_questions_end_at_their_bound]

if __name__ == '__main__':
    sys.exit(main(TESTS))
