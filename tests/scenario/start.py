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


def ran(*args, env=None, cwd=None):
    return subprocess.run([OLLACACHE, *args], capture_output=True, text=True, timeout=LATE * 2, env=dict(os.environ, **(env or {})), cwd=cwd)


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


# ---- where it listens ----

def opens(where):
    try:
        socket.create_connection(where, LATE).close()
        return True
    except ConnectionRefusedError:
        return False


@contextlib.contextmanager
def running(s, f, listen, before=(), **how):
    """The program, run by another command, until it says that it listens."""
    log = os.path.join(s.dir, 'run.log')
    with open(log, 'wb') as out:
        p = subprocess.Popen([*before, OLLACACHE, '--server.listen=' + listen, '--upstream.url=' + f.url, '--cache.store=off', '--server.workers=2',
                              '--semantic.enabled=off'], stdout=out, stderr=out, cwd='/', **how)
    try:
        until(lambda: 'listen' in open(log).read() or p.poll() is not None, 'it does not start')
        yield p, (lambda: open(log).read())
    finally:
        if p.poll() is None:
            p.terminate()
        assert p.wait(LATE) in (0, 2), open(log).read()


def has_six():
    with contextlib.suppress(OSError):
        free_port('::1')
        return True


def every_address_of_a_name(s):
    """With localhost of two addresses, as Debian has it, only ::1 was bound. /etc/hosts is of the test's own."""
    f, port = s.fake(), free_port()
    hosts = os.path.join(s.dir, 'hosts')
    open(hosts, 'w').write('127.0.0.1 localhost twice\n::1 localhost\n127.0.0.2 twice\n')
    before = ['unshare', '-m', 'sh', '-c', 'mount --bind %s /etc/hosts && exec "$0" "$@"' % hosts]
    if subprocess.run(before + ['true'], capture_output=True).returncode:
        before = ['unshare', '-rm'] + before[2:]
    want = [('localhost', '127.0.0.1')] + [('localhost', '::1')] * bool(has_six()) + [('twice', '127.0.0.1'), ('twice', '127.0.0.2')]
    if subprocess.run(before + ['true'], capture_output=True).returncode:
        before, want = (), [('localhost', x[4][0]) for x in socket.getaddrinfo('localhost', 0, type=socket.SOCK_STREAM)]
    for name in dict(want):
        with running(s, f, '%s:%d' % (name, port), before) as (p, said):
            for n, address in want:
                assert n != name or opens((address, port)), (name, address, said())
    with running(s, f, 'localhost:%d,127.0.0.1:%d' % (port, port), before) as (p, said):     # named twice is no fault
        assert opens(('127.0.0.1', port)), said()


def both_families_as_ollama(s):
    f, port, other = s.fake(), free_port(), free_port()
    for listen in ('[::]:%d', '0.0.0.0:%d,[::]:%d', '[::]:%d,127.0.0.1:%d'):
        with running(s, f, listen.replace('%d', str(port))) as (p, said):
            assert opens(('127.0.0.1', port)), (listen, said())
            assert not has_six() or opens(('::1', port)), (listen, said())
    with running(s, f, '[::]:0') as (p, said):
        ports = set(re.findall(r':(\d+)(?:,|\s)', said().split('listen', 1)[1].split('\n')[0] + ' ')) - {'0'}
        assert len(ports) == 1, said()
        assert opens(('127.0.0.1', int(ports.pop())))


def without_ipv6(s):
    """A network namespace whose only address is 127.0.0.1: what is left of a name, and 0.0.0.0 of [::], is enough."""
    hosts = os.path.join(s.dir, 'hosts')
    open(hosts, 'w').write('::1 localhost\n127.0.0.1 localhost\n')
    f = s.fake()
    before = ['unshare', '-nm', 'sh', '-c', 'mount --bind %s /etc/hosts && ip link set lo up && ip -6 addr flush dev lo; exec "$0" "$@"' % hosts]
    if subprocess.run(before + ['true'], capture_output=True).returncode or not has_six():
        return                               # namespaces are not to be had: no root, or a root that is no mount of its own
    with running(s, f, 'localhost:11436', before) as (p, said):
        assert p.poll() is None and '127.0.0.1:11436' in said() and '::1' not in said(), said()
    with running(s, f, '[::1]:11436', before) as (p, said):
        assert p.wait(LATE) == 2 and 'server.listen' in said() and '[::1]:11436' in said(), said()


def what_is_in_the_way_is_named(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    where = '127.0.0.1:%d' % p.where[1]
    r = ran('--server.listen=' + where, '--cache.path=' + s.dir + '/other')
    assert r.returncode == 2 and 'server.listen: ' + where + ' is in use by another process' in r.stderr, r
    r = ran('--server.listen=127.0.0.1:0', '--admin.listen=' + where, '--cache.path=' + s.dir + '/other')
    assert r.returncode == 2 and 'admin.listen: ' + where in r.stderr, r
    r = ran('--server.listen=0.0.0.0:%d,127.0.0.1:%d' % ((free_port(),) * 2), '--cache.path=' + s.dir + '/other')
    assert r.returncode == 2 and 'overlap' in r.stderr, r
    r = ran('--server.listen=127.0.0.1:%d' % p.where[1], '--admin.listen=127.0.0.1:%d' % p.where[1], '--cache.path=' + s.dir + '/other')
    assert r.returncode == 2 and 'admin.listen' in r.stderr and 'server.listen already' in r.stderr, r
    r = ran('--server.listen=192.0.2.1:1436', '--cache.path=' + s.dir + '/other')
    assert r.returncode == 2 and 'server.listen: this machine does not have the address of 192.0.2.1:1436' in r.stderr, r
    r = ran('--server.listen=no-such-host.invalid:1436', '--cache.path=' + s.dir + '/other')
    assert r.returncode == 2 and "server.listen: no address is known for 'no-such-host.invalid'" in r.stderr, r
    assert 'descriptors' not in r.stderr and len(r.stderr.splitlines()) == 1, r.stderr


def who_may_connect_to_the_socket(s):
    """Its mode was what the umask left of 0777: nobody but the service's own user could connect."""
    if os.getuid():
        return
    f = s.fake()
    os.chmod(s.dir, 0o755)
    for umask, mode, folder, group in ((0o022, None, 0o755, 65534), (0o077, None, 0o755, 65534), (0o077, '0666', 0o755, 65534), (0o022, '0600', 0o755, 65534),
                                       (0o077, None, 0o2755, 33)):
        d = tempfile.mkdtemp(dir=s.dir)
        os.chown(d, 65534, group)
        os.chmod(d, folder)
        listen = 'unix:%s/sock' % d
        more = ['sh', '-c', 'exec "$0" "$@" --server.socket_mode=%s' % mode] if mode else []
        with running(s, f, listen, more, user=65534, group=65534, extra_groups=[], umask=umask) as (p, said):
            until(lambda: os.path.exists(d + '/sock'), said)
            st = os.stat(d + '/sock')
            assert st.st_mode & 0o777 == int(mode or '0660', 8) and st.st_gid == group, (oct(st.st_mode), st.st_gid)
            asks = lambda gid, *groups: subprocess.run(['curl', '-sS', '--unix-socket', d + '/sock', 'http://localhost/api/version'], user=33, group=gid,
                                                       extra_groups=groups, capture_output=True, cwd='/').returncode == 0
            assert asks(33) == (mode == '0666' or group == 33), (mode, said())
            assert asks(33, 65534) == (mode != '0600'), (mode, said())
        assert not os.path.exists(d + '/sock')
    for bad in ('rw', '999', '1777', '0o660', '-660'):
        r = ran('--server.socket_mode=' + bad, '-t')
        assert r.returncode == 1 and 'server.socket_mode' in r.stderr, r


# ---- what it says when it starts ----

def lines_of(said, component='main'):
    return [x.split(': ', 1)[1] for x in said.splitlines() if re.match(r'\S+ \w+ +%s: ' % component, x)]


def a_start_is_told_in_a_few_lines(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    until(lambda: 'dashboard' in p.said(), p.said)
    where = 'http://127.0.0.1:%d' % p.where[1]
    want = [r'ollacache \d\S* \(built-in defaults\) listens on %s, 2 workers' % where, r'upstream %s: (\d+) models' % f.url,
            r'store: %s with 0 answers' % p.options['cache.path'], 'dashboard: %s/ollacache/' % where]
    got = lines_of(p.said())
    assert len(got) == 4 and all(re.fullmatch(w, g) for w, g in zip(want, got)), p.said()
    assert int(re.search(r'(\d+) models', got[1])[1]) == len(p.get('/api/tags').json()['models'])
    assert not [x for x in p.said().splitlines() if ' warn ' in x or ' error ' in x], p.said()
    p.generate('q')
    p.wait_stat('stored_answers', 1)
    assert p.stop() == 0
    os.unlink(p.log_path)
    p.start()
    until(lambda: 'dashboard' in p.said(), p.said)
    assert 'with 1 answer' in p.said() and 'answers' not in p.said(), p.said()


def what_is_missing_at_the_start_is_named(s):
    down = 'http://127.0.0.1:%d' % free_port()
    p = s.proxy(down, dict(OFF, **{'cache.store': 'redis', 'redis.url': 'unix://' + s.dir + '/none.sock'}))
    until(lambda: 'dashboard' in p.said(), p.said)
    said = p.said()
    assert re.search(r'warn +main: no upstream answers: .*upstream\.url', said) and re.search(r'warn +upstream: %s is down: ' % down, said), said
    assert re.search(r'warn +main: store: Redis does not answer', said), said
    with contextlib.suppress(OSError):
        socket.create_connection(('127.0.0.1', 11434), 1).close()
        return                                       # somebody has an Ollama here
    p = s.proxy('http://127.0.0.1:11434', dict(OFF, **{'cache.store': 'off'}), name='default')
    until(lambda: 'dashboard' in p.said(), p.said)
    line = next(x for x in lines_of(p.said()) if x.startswith('no Ollama at http://127.0.0.1:11434'))
    assert '`ollama serve`' in line and '`make demo`' in line and 'container' in line, line


def too_few_descriptors_are_told_last(s):
    f = s.fake()
    for limit, warned in ((1000, True), (12000, False)):
        p = Proxy(s.dir, f.url, OFF, start=False, name='n%d' % limit)
        s.things.append(p)
        argv = p.argv()
        p.argv = lambda: ['sh', '-c', 'ulimit -n %d; exec "$0" "$@"' % limit] + argv
        p.start()
        until(lambda: 'dashboard' in p.said() and ('files may be open' in p.said() or not warned), p.said)
        assert ('files may be open' in lines_of(p.said())[-1]) == warned, p.said()


def a_check_says_what_it_has_read(s):
    conf = os.path.join(s.dir, 'proxy.conf')
    open(conf, 'w').write('[server]\nworkers = 3\nbroken = 1\n')
    r = ran('-t', cwd=s.dir)
    assert r.returncode == 0 and 'no file' in r.stdout and 'proxy.conf in this directory was not looked at' in r.stdout, r
    r = ran('-t', '-c', 'proxy.conf', cwd=s.dir)
    assert r.returncode == 1 and 'proxy.conf:3' in r.stderr, r
    open(conf, 'w').write('[server]\nworkers = 3\n')
    r = ran('-t', '-c', 'proxy.conf', '--log.level=warn', cwd=s.dir, env={'OLLACACHE_CACHE_TTL': '3h'})
    assert r.returncode == 0 and r.stdout == 'proxy.conf: 1 option, 1 from the environment, 1 from the command line: good\n', r


def make_run_prefers_a_file_of_ones_own(s):
    """Only which file it would take: make -n."""
    for name in ('Makefile', 'deps.sh', 'deps.txt'):
        shutil.copy(os.path.join(ROOT, name), s.dir)
    said = lambda: subprocess.run(['make', '-n', 'run'], cwd=s.dir, capture_output=True, text=True).stdout
    assert './ollacache -c proxy.conf' in said(), said()
    open(os.path.join(s.dir, 'proxy.local.conf'), 'w').close()
    assert './ollacache -c proxy.local.conf' in said(), said()


def other_services_variables_are_left_alone(s):
    for name in ('OLLACACHE', 'OLLACACHE_REDIS', 'OLLACACHE_SERVER', 'OLLACACHE_CACHE', 'OLLACACHE_MY_UPSTREAM'):
        links = {'SERVICE_HOST': '10.0.0.1', 'SERVICE_PORT': '6379', 'SERVICE_PORT_HTTP_METRICS': '9090', 'PORT': 'tcp://10.0.0.1:6379', 'PORT_6379_TCP': 'tcp://10.0.0.1:6379',
                 'PORT_6379_TCP_ADDR': '10.0.0.1', 'PORT_53_UDP_PROTO': 'udp'}
        r = ran('-t', env={name + '_' + k: v for k, v in links.items()})
        assert r.returncode == 0, r
    for name, value in (('OLLACACHE_SERVER_PORT', '11436'), ('OLLACACHE_PORT', '11436'), ('OLLACACHE_CACHE_TLT', '1h'), ('OLLACACHE_CACHE_SERVICE', 'x')):
        r = ran('-t', env={name: value})
        assert r.returncode == 1 and name in r.stderr, r


def usual_flags_and_plain_numbers(s):
    assert ran('-v').stdout == ran('--version').stdout and ran('-h').stdout == ran('--help').stdout
    assert not re.search(r'\de[+-]?\d', ran('--print-config').stdout)
    r = ran('--complex.num_predicts=2000000', '--scoring.weight_length=0.0000001', '-t')
    assert 'from 1 to 1000000 tokens' in r.stderr, r
    r = ran('--scoring.weight_length=0.0000001', '--print-config')
    assert '\nweight_length = 0.0000001\n' in r.stdout


def the_state_is_what_is_not_zero(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    p.generate('q')
    p.wait_stat('stored_answers', 1)
    p.process.send_signal(signal.SIGUSR1)
    until(lambda: ' flights ' in p.said(), p.said)
    state = lines_of(p.said(), 'state')
    assert any(x.startswith('ollacache_requests_total 1') for x in state), state
    assert not [x for x in state if re.search(r'\w [0.]+$', x) and not x.startswith('flights') and '_up' not in x] and len(state) < 40, state


def a_secret_for_all_to_read_is_told(s):
    conf = os.path.join(s.dir, 'a.conf')
    f = s.fake()
    for text, mode, told in (('[admin]\ntoken = abc\n', 0o644, 'admin.token'), ('[redis]\nurl = redis://:geheim@127.0.0.1:1/0\n', 0o644, 'redis.url'),
                             ('[admin]\ntoken = abc\n', 0o600, None), ('[redis]\nurl = redis://127.0.0.1:1/0\n', 0o644, None)):
        open(conf, 'w').write(text)
        os.chmod(conf, mode)
        r = ran('-t', '-c', conf)
        assert r.returncode == 0 and ('can read the secret in %s' % told in r.stdout if told else 'secret' not in r.stdout), r
        assert 'geheim' not in r.stdout
    open(conf, 'w').write('[admin]\ntoken = abc\n')
    os.chmod(conf, 0o644)
    p = Proxy(s.dir, f.url, OFF, start=False)
    s.things.append(p)
    argv = p.argv()
    p.argv = lambda: argv + ['-c', conf]
    p.start()
    until(lambda: 'can read the secret in admin.token' in p.said(), p.said)


def a_check_refuses_what_a_start_would(s):
    """Each was good to -t, and at a start dropped with a word in the log, or without one."""
    def file(name, text):
        path = os.path.join(s.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, 'w').write(text)
        return path
    empty, words = file('empty.txt', '# nothing\n\n'), file('words/de.txt', 'der\n')
    for option, value, says in (
            ('semantic.aliases', '/etc/passwd', 'line 1'), ('semantic.aliases', file('none.json', '{}'), 'has no alias'), ('semantic.aliases', file('list.json', '["a"]'), 'not a JSON object'),
            ('semantic.languages', 'uk,xx', 'xx: there is no such language'), ('server.allowed_hosts', 'http://x', 'http://x'), ('server.allowed_hosts', 'x:80', 'x:80'),
            ('server.allowed_hosts', 'a/b', 'a/b'), ('semantic.stopwords', os.path.dirname(words), 'uk.txt en.txt'), ('semantic.stopwords', '/nonexistent', 'No such'),
            ('complex.auto_markers', empty, 'comments'), ('scoring.forbidden', empty, 'comments'), ('scoring.forbidden', '/nonexistent', 'No such'), ('cache.path', words, 'not a directory')):
        for check in (['-t'], []):
            r = ran('--%s=%s' % (option, value), '--server.listen=127.0.0.1:0', *check, cwd=s.dir)
            assert r.returncode == 1 and option in r.stderr and says in r.stderr, (option, value, r)
    long_alias = file('long.json', '{"ab": "' + 'one two three four five six seven eight nine ten eleven twelve thirteen' + '"}')
    for option, value, says in (('semantic.aliases', long_alias, 'one to six words'), ('server.listen', 'no-such-host.invalid:1436', 'no-such-host.invalid')):
        r = ran('--%s=%s' % (option, value), '-t')
        assert r.returncode == 1 and says in r.stderr, (option, value, r)
    for option, value in (('semantic.aliases', file('good.json', '{"KSU": "Kherson State University"}')), ('server.allowed_hosts', '*.example,::1,10.0.0.1,a_b'),
                          ('semantic.languages', 'uk,en,de,haw'), ('semantic.stopwords', os.path.dirname(file('more/en.txt', 'the\n'))), ('scoring.forbidden', words)):
        r = ran('--%s=%s' % (option, value), '-t')
        assert r.returncode == 0 and ': good' in r.stdout, (option, value, r)


TESTS = [a_log_nobody_reads_holds_nothing_up, ends_while_nobody_reads_its_log, lines_leave_soon_and_at_the_end, a_crash_leaves_its_lines,
         a_full_disk_is_no_reason_to_stop, closed_descriptors_are_nobody_elses, a_request_is_a_short_line,
         machines_and_debug_are_told_everything, every_reason_is_explained, every_address_of_a_name,
         both_families_as_ollama, without_ipv6, what_is_in_the_way_is_named, who_may_connect_to_the_socket,
         a_start_is_told_in_a_few_lines, what_is_missing_at_the_start_is_named, too_few_descriptors_are_told_last, a_check_says_what_it_has_read,
         make_run_prefers_a_file_of_ones_own, other_services_variables_are_left_alone, usual_flags_and_plain_numbers, the_state_is_what_is_not_zero,
         a_secret_for_all_to_read_is_told, a_check_refuses_what_a_start_would]

if __name__ == '__main__':
    sys.exit(main(TESTS))
