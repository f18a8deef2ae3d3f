#!/usr/bin/env python3
"""The program as somebody meets it who starts it: what it prints, what it refuses, where it listens, and a log that
nobody reads."""
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

OFF = {'semantic.enabled': 'off'}


def until(test, what):
    end = time.monotonic() + LATE
    while not test():
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.02)


def started(s, f, options=None, **how):
    """The program with descriptors of the test's own; waits until it answers."""
    p = Proxy(s.dir, f.url, dict(OFF, **(options or {})), start=False)
    s.things.append(p)
    p.log_file = open(p.log_path, 'ab')
    p.process = subprocess.Popen(p.argv(), cwd=s.dir, **how)

    def answers():
        with contextlib.suppress(OSError, Gone):
            return p.get('/ollacache/health').status == 200
    until(answers, 'it does not answer')
    return p


# ---- the log ----

def a_log_nobody_reads_holds_nothing_up(s):
    f = s.fake()
    r, w = os.pipe()
    p = started(s, f, {'log.format': 'json'}, stdout=w, stderr=w)
    os.close(w)
    seen = b''
    try:
        c = Conn(p.where)
        asked = build('POST', '/api/generate', None, {'model': 'llama3.2', 'prompt': 'x', 'stream': False})
        for i in range(300):                         # 1.5 MB of lines: more than a pipe and two rings hold
            c.send(asked * 20)
            assert all(c.reply().status == 200 for _ in range(20))
        assert p.stats()['log_lines_lost'] > 0
        kept = lost = 0
        while kept + lost < 6000:                    # somebody reads again, and hears how many he has missed
            assert select.select([r], [], [], LATE)[0], (kept, lost)
            seen += os.read(r, 1 << 16)
            lines = seen[:seen.rindex(b'\n') + 1].splitlines()
            told = [json.loads(x) for x in lines]    # every line is whole
            kept = sum(x['component'] == 'request' for x in told)
            lost = sum(int(re.match(r'(\d+) log lines? w(?:as|ere) lost', x['message'])[1]) for x in told if x['component'] == 'log')
        assert kept + lost == 6000 and kept and lost, (kept, lost)
    finally:
        os.close(r)
    assert p.stop() == 0


def ends_while_nobody_reads_its_log(s):
    f = s.fake()
    r, w = os.pipe()
    p = started(s, f, stdout=w, stderr=w)
    try:
        c = Conn(p.where)
        for i in range(300):
            c.send(build('POST', '/api/generate', None, {'model': 'llama3.2', 'prompt': 'x', 'stream': False}) * 20)
            assert all(c.reply().status == 200 for _ in range(20))
        c.close()
        assert p.stop() == 0
    finally:
        os.close(r), os.close(w)


def lines_leave_soon_and_at_the_end(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    for i in range(3):
        p.generate('q%d' % i)
        until(lambda: p.said().count('path=/api/generate') == i + 1, p.said)
    for i in range(40):
        p.generate('many')
    assert p.stop() == 0
    assert p.said().count('path=/api/generate') == 43, p.said()
    assert p.said().endswith('stopped\n'), p.said()


def a_crash_leaves_its_lines(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    c = Conn(p.where)
    c.send(build('POST', '/api/generate', None, {'model': 'llama3.2', 'prompt': 'x', 'stream': False}) * 50)
    assert all(c.reply().status == 200 for _ in range(50))
    p.process.send_signal(signal.SIGABRT)
    assert p.process.wait(LATE) == -signal.SIGABRT
    assert p.said().count('path=/api/generate') >= 49, p.said()      # the last one's reply may be ahead of its line
    p.process = None



def a_full_disk_is_no_reason_to_stop(s):
    f = s.fake()
    with open('/dev/full', 'w') as full:
        p = started(s, f, stdout=full, stderr=full)
    for i in range(5):
        assert p.generate('q').status == 200
    until(lambda: p.stats()['log_lines_lost'] >= 5, 'lines that could not be written are not counted')
    assert p.stop() == 0


def closed_descriptors_are_nobody_elses(s):
    """Without this the store's files got numbers 0 to 2, and log lines were written into them."""
    f = s.fake()
    p = started(s, f, {'log.level': 'debug'}, preexec_fn=lambda: os.closerange(0, 3))
    for fd in range(3):
        at = os.readlink('/proc/%d/fd/%d' % (p.process.pid, fd))
        assert at == '/dev/null', (fd, at)
    assert [p.generate('q').cache for _ in range(2)] == ['miss', 'exact']
    p.wait_stat('stored_answers', 1)
    assert p.stop() == 0
    for name in os.listdir(p.options['cache.path']):
        raw = open(os.path.join(p.options['cache.path'], name), 'rb').read(1 << 20)
        assert b' debug ' not in raw and b' info ' not in raw, name


def a_request_is_a_short_line(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'server.workers': 1}))
    p.generate('q')
    p.wait_stat('stored_answers', 1)
    p.chat('q')
    p.generate('q')
    p.generate('q', {'Cache-Control': 'no-store'})
    p.get('/api/version')
    p.generate('[[status=500]] q')
    p.generate('q', model='nowhere')
    until(lambda: p.said().count(' request: ') == 7, p.said)
    lines = [x for x in p.said().splitlines() if ' request: ' in x]
    shape = r'20..-..-..T..:..:..\....Z (info  |warn  )request: path=\S+ status=\d+( result=\S+)?( why=\S+)?( model=\S+)?( end=\S+)? ms=\d+\.\d{3}'
    for x in lines:
        assert re.fullmatch(shape, x) and len(x) <= 120, (len(x), x)
    assert sum(map(len, lines)) / len(lines) <= 105, lines
    assert 'result=miss model=llama3.2 ms=' in lines[0] and 'result=exact' in lines[2] and 'result=bypass why=no-store' in lines[3], lines
    assert [' warn ' in x for x in lines] == [False] * 5 + [True, False], lines


def machines_and_debug_are_told_everything(s):
    f = s.fake()
    every = {'n', 'client', 'method', 'path', 'status', 'result', 'model', 'in', 'out', 'total_ms', 'first_byte_ms', 'route_ms',
             'body_ms', 'lookup_ms', 'forward_ms', 'stream_ms'}
    p = s.proxy(f, dict(OFF, **{'log.format': 'json'}), name='json')
    p.generate('q')
    until(lambda: '"request"' in p.said(), p.said)
    line = next(json.loads(x) for x in p.said().splitlines() if '"component":"request"' in x)
    assert every <= set(line), every - set(line)
    p = s.proxy(f, dict(OFF, **{'log.level': 'debug'}), name='debug')
    p.generate('q')
    until(lambda: ' path=/api/generate' in p.said(), p.said)
    line = next(x for x in p.said().splitlines() if ' path=/api/generate' in x)
    assert every <= set(re.findall(r' (\w+)=', line)), line


def every_reason_is_explained(s):
    """Whatever `end=` can say in the log stands in docs/troubleshooting.md."""
    names = re.findall(r'^ERR\((\w+),', open(os.path.join(ROOT, 'proxy/base/err.def')).read(), re.M)
    docs = open(os.path.join(ROOT, 'docs/troubleshooting.md')).read()
    assert len(names) > 20
    missing = [n for n in names if n not in ('OK', 'PASSED') and '`%s`' % n not in docs]
    assert not missing, missing


TESTS = [a_log_nobody_reads_holds_nothing_up, ends_while_nobody_reads_its_log, lines_leave_soon_and_at_the_end, a_crash_leaves_its_lines,
         a_full_disk_is_no_reason_to_stop, closed_descriptors_are_nobody_elses, a_request_is_a_short_line,
         machines_and_debug_are_told_everything, every_reason_is_explained]

if __name__ == '__main__':
    sys.exit(main(TESTS))
