#!/usr/bin/env python3
"""Answers on their way: what a message finds that arrives late, and who of several askers may be given the one answer."""
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

OFF = {'semantic.enabled': 'off', 'server.workers': 1}
MODEL = 'llama3.2'


def body(prompt, **more):
    return dict({'model': MODEL, 'prompt': prompt}, **more)


def opened(p, prompt, headers=None, **more):
    return p.open('POST', '/api/generate', body(prompt, **more), headers)


def settled(p):
    p.wait_stat('streams_open', 0)


def while_it_stands_still(p, *acts):
    """What they do reaches the program in one turn of its loop, in this order."""
    p.process.send_signal(signal.SIGSTOP)
    for act in acts:
        act()
        time.sleep(.05)
    p.process.send_signal(signal.SIGCONT)


def the_last_reader_leaves_as_the_answer_ends(s):
    """The leader is told that nobody reads when its answer has landed already, but its upstream has not ended the reply. Its
    last text and its last line come in two chunks of one turn: giving the first to the client shows that it has left."""
    f = s.fake()
    p = s.proxy(f, OFF)
    for fake in ({'X-Fake': 'never_end=after_done'}, {}):
        for at in ('3', 'done'):
            for first in ('upstream', 'client'):
                for reset in (True, False):
                    name = 'b-%s-%s-%d-%d' % (at, first, reset, len(fake))
                    prompt = '[[tokens=3 barrier=%s barrier_at=%s]]' % (name, at)
                    c = opened(p, prompt, fake)
                    c.head()
                    c.chunk()
                    f.wait('waiting', 1)
                    acts = [lambda: c.close(reset=reset), lambda: f.release(name)]
                    while_it_stands_still(p, *(acts if first == 'client' else acts[::-1]))
                    settled(p)
                    again = p.generate(prompt)
                    assert again.status == 200 and again.whole, (name, again)


def the_last_reader_leaves_as_the_upstream_fails(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for how in ('die_after=3', 'die_after=3 die_how=fin', 'fail_after=3', 'bad_json=4', 'half_line=4'):
        for first in ('client', 'upstream'):
            name = 'b%s%s' % (how.replace(' ', ''), first)
            c = opened(p, '[[tokens=6 barrier=%s barrier_at=3 %s]] %s' % (name, how, name))
            c.head()
            for _ in range(2):
                c.chunk()
            f.wait('waiting', 1)
            acts = [lambda: c.close(), lambda: f.release(name)]
            while_it_stands_still(p, *(acts if first == 'client' else acts[::-1]))
            settled(p)
            assert p.process.poll() is None, (how, first, p.said())
    assert p.generate('well').status == 200


def an_upstream_that_does_not_end_is_not_waited_for(s):
    """All of the answer is there: the client has its end a moment later, and a stopping program is not held up."""
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'upstream.idle_timeout': '5m'}))
    began = time.monotonic()
    r = p.generate('[[tokens=3 never_end=after_done]]')
    assert r.whole and r.status == 200 and time.monotonic() - began < 10, (r, time.monotonic() - began)
    c = opened(p, '[[tokens=3 barrier=end barrier_at=done never_end=after_done]]')
    c.head()
    f.release('end')
    p.wait_stat('stored_answers', 2)
    c.close()
    p.stop()


# ---- who may be given what a flight turned out to be ----

STORED, ASKED = 'Які є факультети в ХДУ?', 'Які факультети є в ХДУ?'
ALIKE = 'Скільки факультетів у Херсонському університеті?'


class Crowd:
    """Requests that all find nothing under their own key before the first of them, who leads, has heard of near questions: the
    store is a Redis that stands still until all of them have come."""

    def __init__(self, s, **options):
        self.f, self.r = s.fake(), s.redis()
        self.p = s.proxy(self.f, dict({'cache.store': 'redis', 'redis.url': self.r.url, 'redis.timeout': '10s', 'server.workers': 1}, **options))
        self.p.ready()
        self.p.wait_stat('store_up', lambda v: v)

    def stored(self, prompt, space):
        r = self.p.generate(prompt, {'X-Cache-Namespace': space}, stream=False)
        assert r.cache == 'miss', r
        self.p.settled()

    def ask(self, prompt, space, *headers, stream=False):
        """The replies to the same question with each of these headers, the first being the leader's. No two bodies have the
        same bytes: bytes that were seen before are looked up on a shorter way."""
        n = self.p.stats()['requests']
        self.r.process.send_signal(signal.SIGSTOP)
        try:
            conns = []
            for i, h in enumerate(headers):
                text = json.dumps(body(prompt, stream=stream), indent=i + 1)
                conns.append(self.p.open('POST', '/api/generate', text, dict(h, **{'X-Cache-Namespace': space})))
                self.p.arrived(n + len(conns))
        finally:
            self.r.process.send_signal(signal.SIGCONT)
        return [c.reply() for c in conns]


def whole_texts(replies):
    assert all(r.status == 200 and r.whole for r in replies), replies
    return [told(r)['text'] for r in replies]


def a_near_answer_is_for_those_who_want_one(s):
    c = Crowd(s)
    for k, (stored, leader, follower) in enumerate((
            (STORED, {}, {'X-Cache-Semantic': 'off'}),
            (ALIKE, {'X-Cache-Semantic': '0.5'}, {'X-Cache-Semantic': '1.0'}))):
        for stream in (False, True):
            space = 'near%d%s' % (k, stream)
            c.stored(stored, space)
            n = c.f.asked()
            plain, strict, too, again = c.ask(ASKED, space, leader, follower, follower, leader, stream=stream)
            assert plain.cache == again.cache == 'semantic', (plain, again)
            assert sorted([strict.cache, too.cache]) == ['joined', 'miss'], (strict.cache, too.cache)
            whole_texts([plain, strict, too, again])
            assert c.f.asked() == n + 1, 'those that were refused are answered by one generation'


def a_near_answer_is_for_those_who_take_its_age(s):
    c = Crowd(s)
    c.stored(STORED, 'age')
    time.sleep(2.1)
    plain, young, none = c.ask(ASKED, 'age', {}, {'Cache-Control': 'max-age=1'}, {'Cache-Control': 'max-age=0'})
    assert plain.cache == 'semantic' and int(plain.get('Age')) >= 2, plain
    assert young.cache in ('miss', 'joined') and none.cache in ('miss', 'joined'), (young, none)
    whole_texts([plain, young, none])


def only_if_cached_is_waited_for_by_nobody(s):
    c = Crowd(s)
    cached = {'Cache-Control': 'only-if-cached'}
    for stream in (False, True):
        first, plain, last = c.ask('something new', 'oic%s' % stream, cached, {}, cached, stream=stream)
        assert first.status == last.status == 504, (first, last)
        assert plain.cache == 'miss', plain
        whole_texts([plain])
    c.stored(STORED, 'oic')
    first, plain, strict = c.ask(ASKED, 'oic', cached, {}, dict(cached, **{'X-Cache-Semantic': 'off'}))
    assert first.cache == 'semantic' and plain.cache == 'semantic', (first, plain)
    assert strict.status == 504, strict


def the_longest_ttl_counts(s):
    """Each says how long the one answer is to be kept. Whoever came first decides it for nobody else."""
    f = s.fake()
    p = s.proxy(f, OFF)
    for k, (leader, follower, ttl) in enumerate((('0', None, 86400), (None, '0', 86400), ('2', '500', 500), ('500', '2', 500),
                                                 ('0', '0', 0), ('7', None, 86400))):
        headers = [{'X-Cache-TTL': t} if t else {} for t in (leader, follower)]
        prompt = '[[barrier=ttl%d]]' % k
        a = opened(p, prompt, headers[0], stream=False)
        f.wait('waiting', 1)
        n = p.stats()['requests']
        b = opened(p, prompt, headers[1], stream=False)
        p.arrived(n + 1)
        f.release('ttl%d' % k)
        assert [a.reply().cache, b.reply().cache] == ['miss', 'joined']
        p.settled()
        r = p.generate(prompt, stream=False)
        if ttl == 0:
            assert r.cache == 'miss', r
            continue
        left = int(re.search(r'ttl=(\d+)', r.get('Cache-Status')).group(1))
        assert r.cache == 'exact' and ttl - 5 <= left <= ttl, (leader, follower, left)


# ---- who shares ----

def another_scope_gives_nothing_away(s):
    """What was kept under one cache.scope is given to nobody under another, and a value in one header is not one in another."""
    f = s.fake()
    conf = os.path.join(s.dir, 'scope.conf')

    def scope(name):
        with open(conf, 'w') as c:
            c.write('[cache]\nscope = %s\n' % name)

    def again(name):
        scope(name)
        n = p.said().count('read again')
        p.process.send_signal(signal.SIGHUP)
        while p.said().count('read again') == n:
            time.sleep(.02)

    scope('shared')
    p = Proxy(s.dir, f.url, OFF, start=False)
    s.things.append(p)
    argv = p.argv()
    p.argv = lambda: argv[:1] + ['-c', conf] + argv[1:]
    p.start()
    ask = lambda **h: p.generate('what', {k.replace('_', '-'): v for k, v in h.items()}, stream=False).cache
    alice = {'Authorization': 'Bearer alice'}
    assert ask(**alice) == 'miss' and ask() == 'exact'
    again('authorization')
    assert ask() == 'miss' and ask(**alice) == 'miss', 'given what was shared'
    assert ask() == 'exact' and ask(**alice) == 'exact'
    again('header:X-User')
    assert ask(X_User='Bearer bob') == 'miss' and ask(X_User='Bearer alice') == 'miss' and ask() == 'miss'
    again('authorization')
    assert ask(Authorization='Bearer bob') == 'miss', 'given what another header keeps'
    for name in ('x_api_key', 'api_key'):
        assert ask(**{name: 'Bearer alice'}) == 'miss', name
        assert ask(**{name: 'Bearer alice'}) == 'exact', name
        assert ask(**{name: 'Bearer alice', 'Authorization': 'Bearer alice'}) == 'miss', name
        assert ask(**{name: 'Bearer bob'}) == 'miss', name
    assert ask(**alice) == 'exact'


# ---- what is kept ----

def what_says_nothing_is_not_kept(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    says_nothing = ['[[tokens=0 n=1]]', '[[text=+_ n=2]]', '[[text=+__ n=3]]']
    for stream in (False, True):
        for prompt in says_nothing:
            with p.moved(requests=2, cache_misses=2, streaming_requests=2 * stream, unstored_answers__empty=2):
                for _ in range(2):
                    r = p.generate(prompt + str(stream), stream=stream)
                    assert r.status == 200 and r.cache == 'miss' and not told(r)['text'].strip(), r
    for b in (dict(body('x'), options={'fake_tokens': 0, 'fake_think': '+deep', 'fake_think_tokens': 3}, model='qwen3', think=True, stream=False),):
        assert [p.post('/api/generate', b).cache for _ in range(2)] == ['miss', 'exact'], 'a thought is something'
    tools = [{'type': 'function', 'function': {'name': 'look', 'parameters': {'type': 'object', 'properties': {}}}}]
    b = {'model': MODEL, 'stream': False, 'tools': tools, 'messages': [{'role': 'user', 'content': '[[tools=1 tokens=0]] call'}]}
    assert [p.post('/api/chat', b).cache for _ in range(2)] == ['miss', 'exact'], 'a tool call is something'
    b = {'model': 'nomic-embed-text', 'input': 'x'}
    assert [p.post('/api/embed', b).cache for _ in range(2)] == ['miss', 'exact'], 'a vector is something'


def an_answer_to_half_a_prompt_is_not_kept(s):
    """The engine says how many tokens it has read; a prompt that must have more was cut."""
    f = s.fake()
    p = s.proxy(f, OFF)
    long = 'a question that goes on and on. ' * 1200
    cut = {'X-Fake': 'prompt_tokens=1027'}
    whole = {'X-Fake': 'prompt_tokens=8000'}
    for path, b in (('/api/generate', body(long)), ('/api/chat', {'model': MODEL, 'messages': [{'role': 'user', 'content': long}]})):
        for stream in (False, True):
            ask = lambda h, **more: p.post(path, dict(b, stream=stream, **more), h)
            with p.moved(requests=2, cache_misses=2, streaming_requests=2 * stream, unstored_answers__prompt_cut=2):
                for _ in range(2):
                    r = ask(cut)
                    assert r.status == 200 and r.cache == 'miss', r
                    assert r.get('X-Prompt-Truncated') == (None if stream else '1'), r.headers
            assert 'longer than its context' in p.said()
            r = ask(whole, keep_alive='%dm' % (5 + stream))
            assert r.cache == 'miss' and not r.get('X-Prompt-Truncated')
            assert ask(cut).cache == 'exact'
            p.ask('DELETE', '/ollacache/cache?all=1')
            # the context is what the request itself has asked for
            for read, cache in ((6000, 'miss'), (5999, 'exact')):
                small = lambda: ask({'X-Fake': 'prompt_tokens=%d' % read}, options={'num_ctx': 6000, 'seed': read})
                assert [small().cache, small().cache] == ['miss', cache], read
            p.ask('DELETE', '/ollacache/cache?all=1')
    r = p.post('/api/generate', dict(body(long), stream=False), dict(cut, **{'X-Complex': '2'}))
    assert r.cache == 'miss' and r.get('X-Prompt-Truncated') == '1' and r.get('X-Candidates'), r.headers


def keep_alive_is_understood_as_the_upstream_does(s):
    """A bad value is the upstream's to refuse, also where the answer is known; a good one changes nothing."""
    f = s.fake()
    p = s.proxy(f, OFF)
    assert p.generate('q', stream=False).cache == 'miss'
    for good in ('5m', '1h30m', '-1s', '1.5h', '.5s', '3600000ms', '0', '+10ms', '10\u00b5s', 0, -1, 3.5, 300, None):
        assert p.generate('q', stream=False, keep_alive=good).cache == 'exact', good
    for bad in ('abc', '', '5', '5 m', 'm', '1h30', '--1s', '1..5s', '5d', '1e3s', '9999999999h', ' 5m', True, [1], {'a': 1}):
        n = f.asked()
        r = p.generate('q', stream=False, keep_alive=bad)
        assert r.cache == 'bypass' and f.asked() == n + 1, (bad, r)


def what_ages_is_kept_for_less(s):
    f = s.fake()
    p = s.proxy(f, {'cache.volatile_ttl': '90s', 'server.workers': 1})
    p.ready()

    def ttl(question, headers=None, **more):
        p.chat(question, headers, stream=False, **more)
        p.settled()
        r = p.chat(question, headers, stream=False, **more)
        assert r.cache == 'exact', r
        return int(re.search(r'ttl=(\d+)', r.get('Cache-Status')).group(1))

    for ages in ('What is the weather in Kherson today?', 'Яка сьогодні погода в Херсоні?', 'Who is the president of France now?'):
        assert 60 <= ttl(ages) <= 90, ages
    assert ttl('What is the weather in Kherson today?', {'X-Cache-TTL': '30', 'X-Cache-Namespace': 'short'}) <= 30
    for stays in ('What is the capital of France?', 'Яка столиця Франції?'):
        assert ttl(stays) > 80000, stays


if __name__ == '__main__':
    main([the_last_reader_leaves_as_the_answer_ends, the_last_reader_leaves_as_the_upstream_fails,
          an_upstream_that_does_not_end_is_not_waited_for, a_near_answer_is_for_those_who_want_one,
          a_near_answer_is_for_those_who_take_its_age, only_if_cached_is_waited_for_by_nobody, the_longest_ttl_counts, another_scope_gives_nothing_away,
          what_says_nothing_is_not_kept, an_answer_to_half_a_prompt_is_not_kept,
          keep_alive_is_understood_as_the_upstream_does, what_ages_is_kept_for_less])
