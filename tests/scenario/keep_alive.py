#!/usr/bin/env python3
"""keep_alive on a hit: the model's host hears of it, in the background; and what the engines are asked for it and for their contexts."""
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

OFF = {'semantic.enabled': 'off', 'server.workers': 1}
MODEL = 'llama3.2'


def told(f, path='/api/generate'):
    """What was handed on: bodies of requests without a prompt."""
    bodies = [json.loads(r['body']) for r in f.log(path) if r['body']]
    return [b for b in bodies if 'keep_alive' in b and not b.get('prompt') and not b.get('input')]


def loaded(f):
    return [m['name'] for m in f.get('/api/ps').json()['models']]


def until(what, late=10):
    end = time.monotonic() + late
    while not what():
        assert time.monotonic() < end, what
        time.sleep(.02)


def quiet(f, n, path='/api/generate', s=.4):
    """No more than n come."""
    until(lambda: len(told(f, path)) >= n)
    time.sleep(s)
    assert len(told(f, path)) == n, told(f, path)


def a_hit_hands_it_on(s):
    for workers in (1, 2):
        f = s.fake(name='fake%d' % workers)
        p = s.proxy(f, dict(OFF, **{'server.workers': workers}), name='proxy%d' % workers)
        assert p.generate('q', stream=False).cache == 'miss'
        assert loaded(f) == [MODEL + ':latest']
        p.settled()
        with p.moved(requests=1, exact_cache_hits=1, upstream_requests=1):
            assert p.generate('q', stream=False, keep_alive=0).cache == 'exact'
            until(lambda: told(f))
        assert told(f) == [{'model': MODEL + ':latest', 'keep_alive': 0}], told(f)
        until(lambda: loaded(f) == [])
        # it is not loaded for a hit's sake
        assert p.generate('q', stream=False, keep_alive='24h').cache == 'exact'
        f.wait('path:/api/ps', 3)
        quiet(f, 1)
        assert loaded(f) == []
        # but kept loaded where it is
        assert p.generate('other', stream=False, options={'num_ctx': 4096, 'seed': 1, 'use_mmap': True}).cache == 'miss'
        time.sleep(2.1)                      # the last look is over
        for value in ('24h', -1):
            assert p.generate('other', keep_alive=value, options={'num_ctx': 4096, 'seed': 1, 'use_mmap': True}).cache == 'exact'
            until(lambda: told(f)[-1]['keep_alive'] == value)
            # with what it is loaded with: for other options the engine would load it anew
            assert told(f)[-1] == {'model': MODEL + ':latest', 'keep_alive': value, 'options': {'num_ctx': 4096, 'use_mmap': True}}, told(f)
        # a null is none, and what is the engine's own to count is not ours
        n = len(told(f))
        assert p.generate('q', stream=False, keep_alive=None).cache == 'exact'
        quiet(f, n)


def many_hits_hand_it_on_once_a_second(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    p.generate('q', stream=False)
    p.settled()
    begun = time.monotonic()
    for i in range(200):
        assert p.generate('q', stream=False, keep_alive=600 + i).cache == 'exact'
    took = time.monotonic() - begun
    until(lambda: told(f) and told(f)[-1]['keep_alive'] == 799)
    assert len(told(f)) <= took + 3, (took, told(f))
    quiet(f, len(told(f)), s=1.2)


def one_at_a_time_and_no_place(s):
    """The host is slow to answer what is handed on: hits do not wait, nothing piles up, and no place at the host is taken."""
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'upstream.max_in_flight': 1}))
    p.generate('q', stream=False)
    p.settled()
    f.order('rule?path=/api/generate&mode=hang')
    for i in range(30):
        begun = time.monotonic()
        assert p.generate('q', stream=False, keep_alive=0).cache == 'exact'
        assert time.monotonic() - begun < 2, 'it has waited'
        time.sleep(.05)
    assert len(told(f)) == 1, told(f)
    f.order('rule?path=/api/generate')
    assert p.chat('new', stream=False).cache == 'miss', 'the one place is free'


def an_upstream_that_is_down_is_told_nothing(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'upstream.health_interval': '200ms'}))
    p.generate('q', stream=False)
    p.settled()
    f.order('down?mode=refuse')
    p.wait_stat('upstream_up.' + f.url, 0)
    with p.moved(requests=2, exact_cache_hits=2):
        assert p.generate('q', stream=False, keep_alive=0).cache == 'exact'
        assert p.generate('q', stream=False, keep_alive='1h').cache == 'exact'
    f.order('up')
    p.wait_stat('upstream_up.' + f.url, 1)
    quiet(f, 0)


def a_near_hit_and_a_joined_one(s):
    f = s.fake()
    p = s.proxy(f, {'server.workers': 1})
    p.ready()
    assert p.chat('Які є факультети в ХДУ?', stream=False).cache == 'miss'
    p.settled()
    assert p.chat('Скільки факультетів у Херсонському університеті?', stream=False, keep_alive=0).cache == 'semantic'
    until(lambda: told(f))
    assert told(f) == [{'model': MODEL + ':latest', 'keep_alive': 0}]
    time.sleep(1)
    a = p.open('POST', '/api/generate', {'model': MODEL, 'prompt': '[[barrier=j tokens=3]]'})
    f.wait('waiting', 1)
    b = p.open('POST', '/api/generate', {'model': MODEL, 'prompt': '[[barrier=j tokens=3]]', 'keep_alive': '0s'})
    p.wait_stat('streams_open', 2)
    f.release('j')
    assert b.reply().cache == 'joined' and a.reply().cache == 'miss'
    until(lambda: len(told(f)) == 2)
    assert told(f)[1]['keep_alive'] == '0s'


def the_short_way_hands_it_on(s):
    """The same bytes again and again: the memory of raw requests must not leave it out."""
    f = s.fake()
    p = s.proxy(f, OFF)
    p.generate('q', stream=False, keep_alive='0m')
    p.settled()
    for n in (1, 2, 3):
        assert p.generate('q', stream=False, keep_alive='0m').cache == 'exact'
        until(lambda: len(told(f)) == n)
        time.sleep(1.1)


def a_model_of_vectors(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    ask = lambda **more: p.post('/api/embed', dict({'model': 'nomic-embed-text', 'input': 'x'}, **more)).cache
    assert ask() == 'miss'
    p.settled()
    assert ask(keep_alive='2h') == 'exact'
    until(lambda: told(f, '/api/embed'))
    assert told(f, '/api/embed') == [{'model': 'nomic-embed-text:latest', 'keep_alive': '2h', 'input': []}]
    assert ask(keep_alive=0) == 'exact'
    until(lambda: loaded(f) == [])


def each_host_that_has_it_hears(s):
    fs = [s.fake(name='one'), s.fake(name='two')]
    p = s.proxy(fs, OFF)
    p.generate('q', stream=False)
    p.settled()
    first = [f for f in fs if loaded(f)]
    assert len(first) == 1
    assert p.generate('q', stream=False, keep_alive='3h').cache == 'exact'
    until(lambda: told(first[0]))
    time.sleep(.3)
    assert [len(told(f)) for f in fs] == [int(f is first[0]) for f in fs], 'only where it is loaded'
    time.sleep(1)
    assert p.generate('q', stream=False, keep_alive=0).cache == 'exact'
    until(lambda: all(told(f) and told(f)[-1]['keep_alive'] == 0 for f in fs))


# ---- contexts ----

LONG = 'a question that goes on and on. ' * 200


def cut(p, tokens, question=LONG, n=[0], **more):
    """Is an answer with so many tokens read kept? Each time another question."""
    n[0] += 1
    b = dict({'model': MODEL, 'prompt': '%d %s' % (n[0], question), 'stream': False}, **more)
    h = {'X-Fake': 'prompt_tokens=%d' % tokens}
    r = p.post('/api/generate', b, h)
    assert r.cache == 'miss', r
    p.settled()
    again = p.post('/api/generate', b, h)
    assert (again.cache == 'exact') == (r.get('X-Prompt-Truncated') is None), (r.headers, again)
    return again.cache != 'exact'


def an_engine_that_cuts_to_its_context(s):
    """It says that it has read as many tokens as its context has; how many that are /api/ps tells."""
    f = s.fake()
    f.order('digest?model=%s&context=1500' % MODEL)
    p = s.proxy(f, OFF)
    cut(p, 1400)                             # nothing is known before the first look
    f.wait('path:/api/ps', 1)
    time.sleep(2.1)
    cut(p, 1400)
    until(lambda: f.asked('/api/ps') >= 2)
    time.sleep(.1)
    with p.moved(requests=2, cache_misses=2, upstream_requests=2, unstored_answers__prompt_cut=2):
        assert p.post('/api/generate', {'model': MODEL, 'prompt': LONG, 'stream': False}, {'X-Fake': 'prompt_tokens=1500'}).get('X-Prompt-Truncated') == '1'
        p.post('/api/generate', {'model': MODEL, 'prompt': LONG}, {'X-Fake': 'prompt_tokens=1500'})
    assert cut(p, 1500)
    assert not cut(p, 1499) and not cut(p, 1600), 'neither less, nor more: then the context was another'
    assert not cut(p, 1500, options={'num_ctx': 8000}), 'the request sets its own'
    assert not cut(p, 1500, question='short'), 'it cannot have so many'
    assert f.asked('/api/ps') < 8 and f.asked('/api/show') <= 1


def a_model_that_is_not_loaded_is_shown(s):
    """What /api/ps does not tell of, /api/show does; who asks for nothing long costs no look."""
    f = s.fake()
    f.order('digest?model=%s&context=1700' % MODEL)
    f.order('rule?path=/api/ps&mode=empty')
    p = s.proxy(f, OFF)
    assert not cut(p, 900, question='short')
    assert f.asked('/api/ps', '/api/show') == 0
    cut(p, 1600)
    f.wait('path:/api/show', 1)
    until(lambda: cut(p, 1700))
    for broken in ('ms=1&mode=garbage', 'status=500', 'ms=1&mode=hang', 'ms=1&mode=reset', 'ms=1&mode=html'):
        f.order('rule?path=/api/ps&' + broken)
        time.sleep(2.1)
        assert cut(p, 1700) and not cut(p, 1600), broken
    assert f.asked('/api/show') == 1


if __name__ == '__main__':
    main([a_hit_hands_it_on, many_hits_hand_it_on_once_a_second, one_at_a_time_and_no_place, an_upstream_that_is_down_is_told_nothing,
          a_near_hit_and_a_joined_one, the_short_way_hands_it_on, a_model_of_vectors, each_host_that_has_it_hears,
          an_engine_that_cuts_to_its_context, a_model_that_is_not_loaded_is_shown])
