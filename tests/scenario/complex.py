#!/usr/bin/env python3
"""Complex requests: several generations for one question, and the best answer back."""
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

OFF = {'semantic.enabled': 'off'}


def bodies(f, path='/api/generate', since=0):
    return [json.loads(x['body']) for x in f.log(path)[since:]]


def at_once(s):
    """With one slot a candidate they run at the same time: three wait together before any of them has ended."""
    f = s.fake('--slots', '3')
    p = s.proxy(f, OFF)
    c = p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': '[[tokens=5 barrier=b barrier_at=0]]', 'stream': False},
               {'X-Complex': '3'})
    f.wait('waiting', 3)
    f.release('b')
    r = c.reply()
    assert r.status == 200 and r.get('X-Candidates', '').startswith('3; winner='), r.headers
    assert r.json()['done'] and told(r)['text'], r
    f.wait('running', 0, 'le')


def tags_in_order_of_force(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    n = 0
    for header, field, model, asked in (('2', None, 'llama3.2', 2), (None, 3, 'llama3.2', 3), (None, None, 'llama3.2@complex=2', 2),
                                        (None, None, 'llama3.2@complex', 3), ('false', 3, 'llama3.2@complex', 1),
                                        (None, False, 'llama3.2@complex', 1), ('2', False, 'llama3.2@complex=4', 2), ('1', None, 'llama3.2', 1)):
        n += 1
        more = {} if field is None else {'complex': field}
        since = len(f.log('/api/generate'))
        r = p.generate('tag %d' % n, {'X-Complex': header} if header else None, model=model, stream=False, **more)
        seen = bodies(f, since=since)
        assert r.status == 200 and len(seen) == asked, (header, field, model, len(seen), r)
        assert r.json()['model'] == model, r.json()['model']
        assert all('complex' not in b and b['model'] == 'llama3.2' for b in seen), seen
        assert (r.get('X-Candidates') is not None) == (asked > 1), r.headers


def bad_numbers(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for header in ('0', '-1', '9', 'many', '1.5', '99999999999999999999', ''):
        r = p.generate('x', {'X-Complex': header})
        assert r.status == 400 and r.error(), (header, r)
    for field in (0, -1, 9, 'three', 1.5, 1e300, [3], {}):
        r = p.generate('x', complex=field)
        assert r.status == 400 and r.error(), (field, r)
    for model in ('llama3.2@complex=0', 'llama3.2@complex=x', 'llama3.2@complex=', 'llama3.2@complex=9'):
        r = p.generate('x', model=model)
        assert r.status == 400 and r.error(), (model, r)
    assert f.asked() == 0
    r = p.post('/api/embed', {'model': 'nomic-embed-text', 'input': 'x', 'complex': 3}, {'X-Complex': '3'})
    assert r.status == 200 and r.get('X-Candidates') is None, r       # a tag where nothing is generated says nothing


def each_varies(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'complex.num_predicts': '700'}))
    p.generate('vary me', {'X-Complex': '4'}, options={'temperature': 0.2, 'top_k': 7}, stream=False)
    seen = sorted((b['options'] for b in bodies(f)), key=lambda o: o.get('seed', -1))
    assert seen[0] == {'temperature': 0.2, 'top_k': 7}, seen                  # the first is the client's own
    assert len({o['seed'] for o in seen[1:]}) == 3 and all(o['top_k'] == 7 for o in seen), seen
    assert sorted(o['temperature'] for o in seen[1:]) == [0.6, 0.8, 1.0], seen
    assert all('top_p' in o and o['num_predict'] == 700 for o in seen[1:]), seen
    assert all(b['stream'] is False for b in bodies(f))


def kept_under_its_number(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    with p.moved(requests=4, parallel_requests=2, cache_misses=2, exact_cache_hits=2, stored_answers=2, streaming_requests=1):
        a = p.generate('keep', {'X-Complex': '2'}, stream=False)
        b = p.generate('keep', {'X-Complex': '2'})
        c = p.generate('keep', {'X-Complex': '3'}, stream=False)
        d = p.generate('keep', model='llama3.2@complex=3', stream=False)
    assert (a.cache, b.cache, c.cache, d.cache) == ('miss', 'exact', 'miss', 'exact')
    assert told(a)['text'] == told(b)['text'] and told(c)['text'] == told(d)['text']
    assert f.asked() == 5, f.asked()


def agreement_ends_it(s):
    """Two of five say the same: the other three are cancelled, and the answer is theirs."""
    f = s.fake()
    p = s.proxy(f, OFF)
    p.ready()                                             # the scorer needs its dictionaries
    # a candidate is told from the others by nothing but its parameters: two are let through, three wait for ever
    c = p.open('POST', '/api/generate', {'model': 'llama3.2', 'stream': False,
                                         'prompt': 'How much is 6 times 7? [[text=+The_answer_is_42. barrier=b barrier_at=0]]'}, {'X-Complex': '5'})
    f.wait('waiting', 5)
    f.release('b', n=2)
    r = c.reply()
    assert r.status == 200 and told(r)['text'].strip() == 'The answer is 42.', r
    f.wait('cancelled', 3)
    assert p.stats()['early_stops'] == 1 and p.stats()['candidates_cancelled'] == 3, p.stats()
    assert r.get('X-Candidates', '').startswith('5; winner='), r.headers


def no_early_stop_when_off(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'complex.early_stop': 'off'}))
    r = p.generate('How much is 6 times 7? [[text=+The_answer_is_42.]]', {'X-Complex': '5'}, stream=False)
    assert r.status == 200 and f.asked() == 5
    assert p.stats()['early_stops'] == 0 and p.stats()['candidates_cancelled'] == 0


def deadline_takes_what_there_is(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'complex.deadline': '400ms', 'complex.early_stop': 'off'}))
    c = p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': '[[tokens=5 barrier=b barrier_at=0]]', 'stream': False},
               {'X-Complex': '3'})
    f.wait('waiting', 3)
    f.release('b', n=1)
    r = c.reply()
    assert r.status == 200 and r.get('X-Candidates', '').startswith('3; winner='), r
    f.wait('cancelled', 2)


def alive_while_they_run(s):
    """stream: valid empty lines until the winner comes, then a normal stream."""
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'complex.heartbeat': '50ms'}))
    for path, b in (('/api/generate', {'model': 'llama3.2', 'prompt': '[[tokens=5 barrier=b barrier_at=0]]'}),
                    ('/api/chat', {'model': 'llama3.2', 'messages': [{'role': 'user', 'content': '[[tokens=5 barrier=c barrier_at=0]]'}]})):
        n = f.state()['waiting']
        c = p.open('POST', path, b, {'X-Complex': '3'})
        r = c.head()
        assert r.status == 200 and r.get('Content-Type') == 'application/x-ndjson', r.headers
        for _ in range(3):
            o = json.loads(c.chunk())
            text = o['message']['content'] if 'message' in o else o['response']
            assert text == '' and o['done'] is False and o['model'] == 'llama3.2', o
        f.wait('waiting', n + 3)
        f.release('b' if 'prompt' in b else 'c')
        c.rest(r)
        assert r.whole and told(r)['text'] and told(r)['last']['done_reason'] == 'stop', r


def some_fail(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    f.order('rule?path=/api/generate&status=500&n=2')
    r = p.generate('[[tokens=4]] one is enough', {'X-Complex': '3'}, stream=False)
    f.order('rule?path=/api/generate')
    if r.status == 200:
        assert told(r)['text'] and p.stats()['candidates_failed'] <= 2, r
    # none survives: the upstream's own word, as it came
    for stream in (True, False):
        r = p.generate('[[status=503 error=busy]]', {'X-Complex': '3'}, stream=stream)
        assert r.status == 503 and r.error() == 'busy' and r.get('X-Candidates') is None, r
    assert p.generate('[[status=503 error=busy]]', {'X-Complex': '3'}, stream=False).cache == 'miss'
    assert p.stats()['stored_answers'] <= 1


def none_survives_a_stream_already_begun(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'complex.heartbeat': '50ms'}))
    c = p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': '[[tokens=5 barrier=b barrier_at=0 die_after=2]]'}, {'X-Complex': '2'})
    r = c.head()
    assert json.loads(c.chunk())['done'] is False
    f.wait('waiting', 2)
    f.release('b')
    c.rest(r)
    assert not r.whole and 'error' in r.lines()[-1], r                   # visibly broken, and it says why


def gone_cancels_all(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for stream in (True, False):
        n = f.state()['cancelled']
        c = p.open('POST', '/api/generate', {'model': 'llama3.2', 'prompt': '[[tokens=5 barrier=never%d barrier_at=0]]' % stream, 'stream': stream},
                   {'X-Complex': '4'})
        f.wait('waiting', 4)
        c.close()
        f.wait('cancelled', n + 4)
    p.wait_stat('candidates_cancelled', 8)


def shared_by_identical_requests(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    b = {'model': 'llama3.2', 'prompt': '[[tokens=5 barrier=b barrier_at=0]]', 'stream': False}
    conns = [p.open('POST', '/api/generate', b, {'X-Complex': '3'}) for _ in range(4)]
    f.wait('waiting', 3)
    p.arrived(4)
    f.release('b')
    replies = [c.reply() for c in conns]
    assert len({told(r)['text'] for r in replies}) == 1 and f.asked() == 3
    assert sorted(r.cache for r in replies) == ['joined', 'joined', 'joined', 'miss'], [r.cache for r in replies]


def explained(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    r = p.generate('why', {'X-Complex': '2', 'X-Complex-Explain': '1'}, stream=False)
    said = json.loads(r.get('X-Complex-Explain'))
    assert len(said['candidates']) == 2 and 1 <= said['winner'] <= 2, said
    for name in ('length', 'keywords', 'structure', 'forbidden', 'agreement', 'consensus', 'complete', 'repetition'):
        assert all(name in c for c in said['candidates']), (name, said)
    assert 'winner=%d' % said['winner'] in r.get('X-Candidates'), (said, r.headers)


def tools_and_thinking_survive(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    tools = [{'type': 'function', 'function': {'name': 'get_weather', 'parameters': {'type': 'object', 'properties': {'city': {'type': 'string'}}}}}]
    for stream in (True, False):
        r = p.chat('weather %s' % stream, {'X-Complex': '2'}, tools=tools, stream=stream)
        assert r.status == 200 and told(r)['tool_calls'], r
    r = p.chat('[[think=+Let_me_see. text=+Done.]]', {'X-Complex': '2'}, model='qwen3', think=True)
    assert told(r)['thinking'] == 'Let me see.' and told(r)['text'] == 'Done.', told(r)


def auto(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'complex.auto': 'on'}))
    for text, asked in (('hello there', 1), ('порівняй ціни на навчання', 3), ('Яка вартість навчання?', 3), ('compare red and blue', 3),
                        ('pros and cons of tea', 3), ('ї' * 99, 1), ('ї' * 101, 3)):
        since = f.asked()
        r = p.generate(text, stream=False)
        assert r.status == 200 and f.asked() - since == asked, (text[:20], f.asked() - since)
    since = f.asked()
    p.generate('compare green and blue', {'X-Complex': 'false'}, stream=False)
    assert f.asked() - since == 1


def listed_and_shown(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'complex.list_models': 'on'}))
    names = [m['name'] for m in p.get('/api/tags').json()['models']]
    assert 'llama3.2:latest' in names and 'llama3.2:latest@complex' in names, names
    assert 'nomic-embed-text:latest@complex' not in names, names
    ids = [m['id'] for m in p.get('/v1/models').json()['data']]
    assert 'llama3.2:latest@complex' in ids, ids
    a, b = (p.post('/api/show', {'model': m}) for m in ('llama3.2', 'llama3.2@complex=3'))
    assert a.status == b.status == 200
    assert all(a.json()[k] == b.json()[k] for k in ('modelfile', 'template', 'details')), (a, b)
    assert 'llama3.2:latest@complex' not in [m['name'] for m in s.proxy(f, OFF, name='plain').get('/api/tags').json()['models']]


if __name__ == '__main__':
    sys.exit(main([at_once, tags_in_order_of_force, bad_numbers, each_varies, kept_under_its_number, agreement_ends_it,
                   no_early_stop_when_off, deadline_takes_what_there_is, alive_while_they_run, some_fail,
                   none_survives_a_stream_already_begun, gone_cancels_all, shared_by_identical_requests, explained,
                   tools_and_thinking_survive, auto, listed_and_shown]))
