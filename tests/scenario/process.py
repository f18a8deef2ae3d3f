#!/usr/bin/env python3
"""The program as a process: options, exit codes, reload, sockets, kill -9, and Redis coming and going."""
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

OFF = {'semantic.enabled': 'off'}


def ran(*args, env=None, cwd=None):
    return subprocess.run([OLLACACHE, *args], capture_output=True, text=True, timeout=LATE * 2, env=dict(os.environ, **(env or {})), cwd=cwd)


def says_what_it_is(s):
    r = ran('--version')
    assert r.returncode == 0 and re.search(r'ollacache.*\d+\.\d+', r.stdout), r
    r = ran('--help')
    assert r.returncode == 0 and '--print-config' in r.stdout and '--health' in r.stdout, r
    r = ran('--print-config')
    assert r.returncode == 0 and re.search(r'(?m)^listen = 127\.0\.0\.1:11436$', r.stdout), r.stdout[:300]
    with open(os.path.join(ROOT, 'proxy.conf')) as conf:
        assert r.stdout == conf.read(), 'proxy.conf is not what --print-config says'
    r = ran('--admin.token=sesame', '--print-config')
    assert 'sesame' not in r.stdout and '***' in r.stdout


def order_of_force(s):
    conf = os.path.join(s.dir, 'a.conf')
    open(conf, 'w').write('[cache]\nttl = 2h\nmax_entry = 2MiB\n# a comment\n[server]\nworkers = 3\n')
    text = ran('-c', conf, '--cache.ttl=4h', '--cache.ttl=5h', '--print-config', env={'OLLACACHE_CACHE_TTL': '3h', 'OLLACACHE_CACHE_MAX_ENTRY': '3MiB'}).stdout
    for line in ('ttl = 5h', 'max_entry = 3MiB', 'workers = 3'):
        assert re.search('(?m)^%s$' % line, text), line


def bad_configuration_is_1(s):
    conf = os.path.join(s.dir, 'bad.conf')
    open(conf, 'w').write('[server]\nlisten = 127.0.0.1:0\nworkerz = 2\n[cache]\nttl = 12parsecs\nstore = floppy\n')
    for args in (['-t', '-c', conf], ['-c', conf]):
        r = ran(*args)
        said = r.stdout + r.stderr
        assert r.returncode == 1, r
        lines = [x for x in said.splitlines() if 'bad.conf' in x]
        assert len(lines) >= 3, said
        assert re.search(r'bad\.conf:3.*workerz.*workers', said), said
        assert re.search(r'bad\.conf:5.*ttl', said) and re.search(r'bad\.conf:6.*store', said), said
    for arg in ('--server.workerz=2', '--cache.ttl=-1', '--nonsense', '--server.workers=9999', '--redis.url=gopher://x', '--upstream.url=nothing'):
        r = ran(arg, '-t')
        assert r.returncode == 1 and (r.stdout + r.stderr).strip(), (arg, r)
    assert ran('-t', '-c', os.path.join(s.dir, 'absent.conf')).returncode == 1
    assert ran('-t', env={'OLLACACHE_CACHE_TTL': 'soon'}).returncode == 1
    r = ran('-t', '-c', os.path.join(ROOT, 'proxy.conf'))
    assert r.returncode == 0, r


def could_not_start_is_2(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    r = ran('--server.listen=127.0.0.1:%d' % p.where[1], '--upstream.url=' + f.url, '--cache.path=' + s.dir + '/else')
    assert r.returncode == 2 and str(p.where[1]) in r.stdout + r.stderr, r
    r = ran('--server.listen=127.0.0.1:%d' % free_port(), '--upstream.url=' + f.url, '--cache.path=' + p.options['cache.path'])
    assert r.returncode == 2 and os.path.basename(p.options['cache.path']) in r.stdout + r.stderr, r
    r = ran('--server.listen=unix:/no/such/folder/sock', '--cache.path=' + s.dir + '/else')
    assert r.returncode == 2, r


def health_option(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    r = ran('--server.listen=127.0.0.1:%d' % p.where[1], '--health')
    assert r.returncode == 0, r
    p.stop()
    assert ran('--server.listen=127.0.0.1:%d' % p.where[1], '--health').returncode == 1


def reload(s):
    f = s.fake()
    conf = os.path.join(s.dir, 'r.conf')
    write = lambda text: open(conf, 'w').write(text)
    write('[server]\norigins =\n')
    p = Proxy(s.dir, f.url, OFF, start=False)
    s.things.append(p)
    p.argv = (lambda old: lambda: old()[:1] + ['-c', conf] + old()[1:])(p.argv)
    p.start()
    page = lambda: p.get('/api/version', {'Origin': 'https://new.example'}).status

    def until(test, what):
        end = time.monotonic() + LATE
        while not test():
            assert time.monotonic() < end, what
            time.sleep(0.02)
    assert page() == 403
    write('[server]\norigins = https://new.example\n')
    p.process.send_signal(signal.SIGHUP)
    until(lambda: page() == 200, 'SIGHUP changed nothing')
    write('[server]\norigins =\nbogus = 1\n')
    p.process.send_signal(signal.SIGHUP)
    until(lambda: 'bogus' in p.said(), 'a bad configuration was not told')
    assert page() == 200, 'a bad configuration came into force'
    said = len(p.said())
    write('[server]\norigins = https://new.example\nmax_connections = 777\n')
    p.process.send_signal(signal.SIGHUP)
    until(lambda: re.search(r'server\.max_connections', p.said()[said:]), 'the key that needs a restart is not named')
    assert page() == 200


def unix_socket(s):
    f = s.fake(listen='unix:' + s.dir + '/up.sock')
    tcp = s.fake(name='tcp')
    path = os.path.join(s.dir, 'p.sock')
    p = s.proxy(tcp, OFF, listen='unix:' + path)
    assert [p.generate('q').cache for _ in range(2)] == ['miss', 'exact']
    assert p.stop() == 0
    assert not os.path.exists(path), 'the socket is left behind'
    open(path, 'w').close()
    os.unlink(path)
    p.start()
    p.stop(signal.SIGKILL)
    assert os.path.exists(path)
    p.start()                                             # a dead one's socket is taken over
    assert p.generate('q').cache == 'exact'


def ipv6(s):
    try:
        port = free_port('::1')
    except OSError:
        return
    f = s.fake()
    p = s.proxy(f, OFF, listen='[::1]:%d' % port)
    assert [p.generate('q', stream=x).cache for x in (True, False)] == ['miss', 'exact']


def several_addresses(s):
    f = s.fake()
    port = free_port()
    path = os.path.join(s.dir, 'p.sock')
    p = Proxy(s.dir, f.url, dict(OFF, **{'server.listen': '127.0.0.1:%d,unix:%s' % (port, path)}), start=False)
    s.things.append(p)
    p.where = ('127.0.0.1', port)
    p.start()
    assert p.generate('q').cache == 'miss'
    p.where = path
    assert p.generate('q').cache == 'exact'


def kept_over_a_restart(s):
    f = s.fake()
    p = s.proxy(f, OFF)
    want = told(p.generate('q'))
    p.wait_stat('stored_answers', 1)
    assert p.stop() == 0
    p.start()
    r = p.generate('q')
    assert r.cache == 'exact' and told(r) == want and f.asked() == 1, r


def kill_9_under_load(s):
    """Whatever was being written: the cache opens, and every answer it has is whole and the right one."""
    f = s.fake()
    p = s.proxy(f, OFF)
    for turn in range(3):
        halt = threading.Event()
        seen = {}

        def client(k):
            i = 0
            while not halt.is_set():
                q = 'q%d-%d [[tokens=%d]]' % (k, i % 200, 20 + i % 200)
                i += 1
                try:
                    r = p.generate(q, stream=i % 2 == 0)
                    if r.whole and r.status == 200:
                        seen[q] = told(r)['text']
                except (OSError, Gone, ValueError):
                    pass
        threads = [threading.Thread(target=client, args=(k,), daemon=True) for k in range(6)]
        for t in threads:
            t.start()
        p.wait_stat('stored_answers', lambda v: v >= 150)
        p.stop(signal.SIGKILL)
        halt.set()
        for t in threads:
            t.join(LATE)
        p.start()
        hits = 0
        for q, text in list(seen.items())[:300]:
            r = p.generate(q)
            assert r.whole and told(r)['text'] == text and told(r)['last'], (q, r)
            hits += r.cache == 'exact'
        assert hits > 0, 'nothing survived'


# ---- Redis ----
def redis_pair(s, **more):
    f, r = s.fake(), s.redis()
    o = dict(OFF, **{'cache.store': 'redis', 'redis.url': r.url, 'redis.retry': '200ms', 'redis.timeout': '2s' if SANITIZED else '200ms'})
    o.update(more)
    p = s.proxy(f, o)
    p.wait_stat('store_up', 1)
    return f, r, p


def redis_shared_by_two(s):
    f, r, p = redis_pair(s)
    q = s.proxy(f, p.options | {'server.listen': None, 'cache.path': s.dir + '/two'} | {'server.listen': 'unix:' + s.dir + '/q.sock'}, listen='unix:' + s.dir + '/q.sock', name='second')
    want = told(p.generate('q'))
    p.wait_stat('stored_answers', 1)
    end = time.monotonic() + LATE
    while True:
        got = q.generate('q')
        if got.cache == 'exact':
            break
        assert time.monotonic() < end, got
    assert told(got) == want


def redis_down_and_back(s):
    f, r, p = redis_pair(s)
    assert [p.generate('q').cache for _ in range(2)] == ['miss', 'exact']
    r.stop()
    for i in range(3):
        x = p.generate('down %d' % i)
        assert x.status == 200 and x.whole and x.cache in ('miss', 'bypass'), x
    p.wait_stat('store_up', 0)
    assert p.get('/ollacache/health').status == 200
    assert p.stats()['store_errors'] > 0
    r.start()
    p.wait_stat('store_up', 1)                     # all workers' links: whichever is asked has it back
    assert p.said().count('connected again') == 1, p.said()   # one line for Redis, however many workers
    assert p.generate('back').cache == 'miss'
    p.wait_stat('stored_answers', lambda v: v >= 2)
    assert p.generate('back').cache == 'exact'


def redis_down_from_the_start(s):
    f = s.fake()
    p = s.proxy(f, dict(OFF, **{'cache.store': 'redis', 'redis.url': 'unix://' + s.dir + '/none.sock', 'redis.retry': '200ms'}))
    for _ in range(2):
        r = p.generate('q')
        assert r.status == 200 and r.whole and r.cache in ('miss', 'bypass'), r
    assert f.asked() == 2


def redis_in_protected_mode(s):
    """It says so to whoever comes from another machine, hears nothing and hangs up; here somebody plays it."""
    def deny(door):
        with contextlib.suppress(OSError):
            while True:
                c, _ = door.accept()
                c.sendall(b'-DENIED Redis is running in protected mode.\r\n')
                c.close()
    f = s.fake()
    with socket.create_server(('127.0.0.1', 0)) as door:
        threading.Thread(target=deny, args=(door,), daemon=True).start()
        p = s.proxy(f, dict(OFF, **{'cache.store': 'redis', 'redis.url': 'redis://127.0.0.1:%d' % door.getsockname()[1], 'redis.retry': '200ms'}))
        end = time.monotonic() + LATE
        while 'protected mode' not in p.said():
            assert time.monotonic() < end, p.said()
            time.sleep(0.02)
        assert 'in time' not in p.said(), p.said()
        assert p.generate('answered all the same').cache == 'miss'
        door.shutdown(socket.SHUT_RDWR)


def redis_frozen(s):
    f, r, p = redis_pair(s)
    assert [p.generate('q').cache for _ in range(2)] == ['miss', 'exact']
    r.process.send_signal(signal.SIGSTOP)
    try:
        for i in range(3):
            x = p.generate('frozen %d' % i)
            assert x.status == 200 and x.whole, x
        x = p.generate('q')
        assert x.whole and x.cache in ('miss', 'bypass'), x
        assert p.stats()['store_errors'] > 0
    finally:
        r.process.send_signal(signal.SIGCONT)
    p.wait_stat('store_up', 1)
    end = time.monotonic() + LATE
    while p.generate('q').cache != 'exact':
        assert time.monotonic() < end, 'it never recovers'


def redis_loses_everything(s):
    f, r, p = redis_pair(s)
    assert [p.generate('q').cache for _ in range(2)] == ['miss', 'exact']
    p.wait_stat('stored_answers', 1)                 # until its worker has heard that, an answer that has landed is still given
    r.command('FLUSHALL')
    r.command('PING')                                # once this is answered, whoever is to hear of the flush has been told
    assert p.generate('q').cache == 'miss'


def redis_entry_corrupt(s):
    f, r, p = redis_pair(s)
    want = told(p.generate('q'))
    p.wait_stat('stored_answers', 1)
    keys = [k for k in r.command('KEYS', 'ollacache:*').decode('latin-1').split('\r\n') if k.startswith('ollacache:')]
    for k in keys:
        if r.command('TYPE', k) == b'+string\r\n':
            r.command('SETRANGE', k, '40', 'XXXXXXXX')
    got = p.generate('q')
    assert got.cache == 'miss' and told(got) == want, got


TESTS = [says_what_it_is, order_of_force, bad_configuration_is_1, could_not_start_is_2, health_option, reload, unix_socket, ipv6, several_addresses,
         kept_over_a_restart, kill_9_under_load, redis_shared_by_two, redis_down_and_back, redis_down_from_the_start, redis_in_protected_mode, redis_frozen, redis_loses_everything, redis_entry_corrupt]

if __name__ == '__main__':
    sys.exit(main(TESTS))
