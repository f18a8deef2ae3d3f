#!/usr/bin/env python3
"""The upstream killed at every point of an answer, frozen, resetting, talking nonsense, never ending, down and back; one of
three flapping. What it answered is never lost, what it did not is told, and nothing half is ever kept."""
from world import *


def every_byte(s):
    """The connection ends after n bytes of the reply, for n over all of it: head, lines, between lines, after the last."""
    f = s.fake()
    w = Wire(f.where)
    p = s.proxy(w.url, OFF)
    base, n = Base(p), 10000
    for kind in KINDS:
        n += 1
        whole = len(f.generate(question(n), stream=kind.endswith('stream')).body) + 400
        for how in ('rst', 'fin'):
            for cut in list(range(0, whole, 97 if QUICK else 11)) + [0, 1, 5, 17]:
                n += 1
                w.how, w.cut_after = how, cut
                r, verdict = ask(p.where, n, kind)
                w.cut_after = None
                again, verdict = ask(p.where, n, kind)
                assert verdict == 'good', (cut, how, again)
    base.back()
    w.end()


def killed_under_load(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    base = Base(p)
    with Load(p) as load:
        for _ in range(2 if QUICK else 6):
            f.process.kill()
            f.process.wait()
            load.during(flowing=False)
            r, verdict = ask(p.where, 900000 + _, 'generate')
            assert verdict == 'error' and r.status == 502, r
            f.start()
            p.wait_stat('upstream_up', 1)
            load.flows(30)
    assert load.errors, 'nobody noticed'
    base.back()


def frozen_under_load(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'upstream.first_byte_timeout': '500ms', 'upstream.idle_timeout': '500ms'}))
    base = Base(p)
    with Load(p) as load:
        for _ in range(2 if QUICK else 5):
            f.process.send_signal(signal.SIGSTOP)
            load.during(flowing=False)
            r, verdict = ask(p.where, 900000 + _, 'chat')
            assert verdict == 'error' and r.status in (502, 504), r
            f.process.send_signal(signal.SIGCONT)
            load.flows(30)
    base.back()


def frozen_inside_answers(s):
    """Silence after some pieces: cut after idle_timeout, visibly; and kept hits go on meanwhile."""
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'upstream.idle_timeout': '500ms'}))
    base = Base(p)
    assert ask(p.where, 1, 'chat')[1] == 'good'
    p.wait_stat('stored_answers', lambda n: n >= 1)
    for where in ('barrier=never barrier_at=3', 'never_end=before_done'):
        body = {'model': 'llama3.2', 'prompt': 'x [[tokens=8 %s]]' % where}
        conns = [p.open('POST', '/api/generate', body) for _ in range(5)]
        assert ask(p.where, 1, 'chat')[0].cache == 'exact'
        for c in conns:
            r = c.reply()
            assert r.status == 200 and not r.whole and 'error' in json.loads(r.body.rstrip(b'\n').split(b'\n')[-1]), r
            c.close()
    base.back()


def nonsense(s):
    """500, 503, HTML, broken JSON, lying chunks, for all at once, then well again."""
    f = s.fake()
    p = s.proxy(f, OFF)
    base = Base(p)
    for i, d in enumerate(('status=500 error=+broken', 'status=503 error=+busy', 'status=429', 'html=1', 'garbage=1', 'bad_json=2', 'half_line=2', 'bad_chunk=short', 'bad_chunk=long',
                           'bad_chunk=hex', 'bad_chunk=huge', 'bad_chunk=negative', 'no_done=1', 'fail_after=2', 'fail_after=0', 'die_after=2', 'die_after=0', 'line_bytes=3000000', 'shape=delta')):
        for stream in (True, False):
            q = 'n%d [[tokens=5 %s]]' % (i, d)
            got = together(4, lambda _: p.generate(q, stream=stream))
            try:
                plain = f.post('/api/generate', {'model': 'llama3.2', 'prompt': q, 'stream': stream}, timeout=2)
            except (Gone, OSError, ValueError, IndexError, AssertionError):
                assert not any(r.status == 200 and r.whole and 'error' not in told_or_empty(r) for r in got), (d, stream, got)
                continue
            for r in got:
                if r.status == 200 and r.whole and plain.whole and plain.status == 200 and 'error' not in told_or_empty(r):
                    assert r.body.count(b'"done":true') == plain.body.count(b'"done":true'), (d, stream, r, plain)
                elif plain.status != 200:
                    assert r.status == plain.status and r.body == plain.body, (d, stream, r, plain)
        n = 20000 + i
        assert ask(p.where, n, 'chat stream')[1] == 'good' and ask(p.where, n, 'chat')[1] == 'good'
    base.back(kib=96 << 10)


def told_or_empty(r):
    try:
        return {'error'} if told(r)['error'] else set()
    except (ValueError, AttributeError):
        return set()


def all_down_and_back(s):
    fakes = [s.fake(name='fake%d' % i) for i in range(3)]
    p = s.proxy(fakes, OFF)
    base = Base(p)
    with Load(p) as load:
        for _ in range(1 if QUICK else 4):
            for f in fakes:
                f.process.kill()
                f.process.wait()
            load.during(flowing=False)
            assert p.get('/ollacache/health').status == 200
            for f in fakes:
                f.start()
            p.wait_stat('upstream_up', 3)
            load.flows(30)
    base.back()


def one_of_three_flaps(s):
    """Killed and restarted again and again: what fails before its first byte is asked elsewhere, so few questions fail, and
    those visibly; the two others carry on."""
    fakes = [s.fake(name='fake%d' % i) for i in range(3)]
    p = s.proxy(fakes, OFF)
    base = Base(p)
    with Load(p) as load:
        end = time.monotonic() + SPELL * 2
        while time.monotonic() < end:
            fakes[1].process.kill()
            fakes[1].process.wait()
            load.flows(15)
            fakes[1].start()
            load.flows(15)
        p.wait_stat('upstream_up', 3)
    assert load.errors * 10 <= load.good, '%d errors to %d good' % (load.errors, load.good)
    base.back()


def network_flaps(s):
    f = s.fake()
    w = Wire(f.where)
    p = s.proxy(w.url, dict(OFF, **{'upstream.first_byte_timeout': '1s', 'upstream.idle_timeout': '1s'}))
    base = Base(p)
    with Load(p) as load:
        for mode in ('cut', 'stall', 'junk') * (1 if QUICK else 4):
            if mode == 'cut':
                w.cut()
            w.mode, w.junk = mode, b'SSH-2.0-OpenSSH_9.2p1\r\n'
            load.during(flowing=False)
            w.mode = 'flow'
            load.flows(30)
    base.back()
    w.end()


TESTS = [every_byte, killed_under_load, frozen_under_load, frozen_inside_answers, nonsense, all_down_and_back, one_of_three_flaps, network_flaps]

if __name__ == '__main__':
    sys.exit(main(TESTS))
