#!/usr/bin/env python3
"""Everything at once for SOAK_SECONDS: three upstreams of which one flaps, a Redis that comes and goes (and once more with the
embedded store), clients that leave, complex requests, reloads. Meant for sanitizer builds: whatever they say is a failure."""
from world import *

SECONDS = float(os.environ.get('SOAK_SECONDS') or (6 if QUICK else 120))


def rude(p, stop):
    rnd = random.Random(9)
    while not stop.is_set():
        body = {'model': 'llama3.2', 'prompt': 'rude %d [[tokens=30 pace_ms=2]]' % rnd.randrange(20), 'stream': rnd.random() < 0.7}
        with contextlib.suppress(OSError, Gone):
            c = Conn(p.where)
            c.send(build('POST', '/api/generate', {'X-Complex': '3'} if rnd.random() < 0.3 else None, body))
            c.sock.settimeout(rnd.random() * 0.1 + 0.001)
            with contextlib.suppress(OSError):
                c.more()
            c.close(reset=rnd.random() < 0.5)


def curious(p, stop):
    rnd = random.Random(10)
    while not stop.is_set():
        with contextlib.suppress(OSError, Gone, ValueError):
            p.get(rnd.choice(('/metrics', '/ollacache/stats', '/ollacache/health', '/ollacache/ready', '/ollacache/requests', '/ollacache/cache?limit=5', '/api/tags', '/nope')))
        time.sleep(0.01)


def soak(s, options, between):
    fakes = [s.fake(name='fake%d' % i) for i in range(3)]
    p = s.proxy(fakes, dict(OFF, **options))
    base = Base(p)
    stop = threading.Event()
    others = [threading.Thread(target=t, args=(p, stop), daemon=True) for t in (rude, rude, curious)]
    for t in others:
        t.start()
    with Load(p, 5) as load:
        end, turn = time.monotonic() + SECONDS, 0
        while time.monotonic() < end:
            turn += 1
            fakes[1].process.kill()
            fakes[1].process.wait()
            load.during(0.3)
            fakes[1].start()
            p.process.send_signal(signal.SIGHUP)
            between(turn, load)
            load.during(0.3)
    stop.set()
    for t in others:
        t.join(LATE)
    assert load.errors * 5 <= load.good, '%d errors to %d good; the first: %s' % (load.errors, load.good, load.first_error)
    print('        %d good answers, %d visible errors, %d connections lost in %.0f s' % (load.good, load.errors, load.lost, SECONDS))
    # connections whose FIN came with their last bytes go with server.idle_timeout
    base.back(kib=128 << 10)
    assert p.stop() == 0, 'it does not end well: %s' % p.said()[-1500:]


def with_the_embedded_store(s):
    soak(s, {'server.idle_timeout': '3s', 'server.header_timeout': '3s', 'semantic.enabled': 'off'}, lambda turn, load: None)


def with_redis(s):
    r = s.redis()

    def between(turn, load):
        if turn % 3 == 0:
            r.process.kill()
            r.process.wait()
            load.during(0.2)
            r.start()
        elif turn % 3 == 1:
            r.process.send_signal(signal.SIGSTOP)
            load.during(0.2)
            r.process.send_signal(signal.SIGCONT)
        else:
            r.command('FLUSHALL')
    soak(s, {'server.idle_timeout': '3s', 'server.header_timeout': '3s', 'cache.store': 'redis', 'redis.url': r.url}, between)


TESTS = [with_the_embedded_store, with_redis]

if __name__ == '__main__':
    sys.exit(main(TESTS))
