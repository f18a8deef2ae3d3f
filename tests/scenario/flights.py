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


if __name__ == '__main__':
    main([the_last_reader_leaves_as_the_answer_ends, the_last_reader_leaves_as_the_upstream_fails,
          an_upstream_that_does_not_end_is_not_waited_for])
