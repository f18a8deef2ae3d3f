"""What the chaos drivers share: questions whose answers are known, clients that ask them all the while and judge every
byte that comes back, a wire that can be stalled, cut and bent, and the base line a program has to come back to.

The answer to question n is made of words that carry n, so an answer that is foreign, mixed, torn or corrupt shows. A reply
is good if it is the whole answer; visible as an error if it has a status and an error of its own, or a last line that says
so and no clean end; everything else is a violation, and one violation fails the test."""
import os, random, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

QUICK = bool(os.environ.get('QUICK'))
SPELL = float(os.environ.get('CHAOS_SECONDS') or (0.7 if QUICK else 4))       # how long one fault lasts
OFF = {'semantic.enabled': 'off', 'redis.retry': '200ms', 'upstream.health_interval': '1s'}
WORDS = 'red green blue amber violet ochre teal pink gray cyan lime plum rust jade onyx'.split()


def answer(n):
    return ' '.join('%s-%d' % (WORDS[(n + i) % len(WORDS)], n) for i in range(6 + n % 40))


def question(n):
    return 'question %d [[text=+%s]]' % (n, answer(n).replace(' ', '_'))


class Violation(Exception):
    pass


def judge(n, r, kind):
    """'good', 'error' (a visible one), or a Violation."""
    if r.status != 200:
        if not (r.whole and r.status in (500, 502, 503, 504)):
            raise Violation('question %d (%s): %r' % (n, kind, r))
        r.error()
        return 'error'
    text, ended, failed = '', False, None
    want = answer(n)
    raw = r.body.split(b'\n')
    for i, line in enumerate(raw):
        if not line.strip():
            continue
        try:
            o = json.loads(line)
        except ValueError:
            if i == len(raw) - 1 and not r.whole:
                break                                  # torn, in a reply that does not pretend to be whole
            raise Violation('question %d (%s): not JSON: %r' % (n, kind, line[:200])) from None
        if 'error' in o:
            failed = o['error']
            continue
        text += (o.get('message') or {}).get('content', '') if kind.startswith('chat') else o.get('response', '')
        ended = ended or bool(o.get('done'))
    if not want.startswith(text):
        raise Violation('question %d (%s): somebody else\'s words: %r instead of %r' % (n, kind, text[:300], want[:300]))
    if ended and text != want:
        raise Violation('question %d (%s): done, but not whole: %r' % (n, kind, text[:300]))
    if ended and r.whole:
        return 'good'
    if r.whole and not failed:
        raise Violation('question %d (%s): half an answer that looks whole: %r' % (n, kind, r.body[-300:]))
    return 'error'


def ask(where, n, kind, conn=None, headers=None):
    """Asks question n; the reply and its verdict. On a given connection if there is one."""
    stream = kind.endswith('stream')
    body = {'model': 'llama3.2', 'stream': stream}
    if kind.startswith('chat'):
        body['messages'] = [{'role': 'user', 'content': question(n)}]
    else:
        body['prompt'] = question(n)
    c = conn or Conn(where, LATE * 2)
    try:
        c.send(build('POST', '/api/chat' if kind.startswith('chat') else '/api/generate', headers, body))
        r = c.reply()
    finally:
        if not conn:
            c.close()
    return r, judge(n, r, kind)


KINDS = ('chat stream', 'chat', 'generate stream', 'generate')


class Load:
    """Clients that ask all the time, on kept connections; half of the questions are old ones. `with Load(p) as load:`"""

    def __init__(self, p, clients=6, pool=40, seed=1):
        self.p, self.n, self.pool, self.seed = p, clients, pool, seed
        self.good = self.errors = self.lost = 0
        self.violations, self.over, self.lock, self.results = [], False, threading.Lock(), {}
        self.next, self.first_error = 1000, None

    def client(self, i):
        rnd, conn = random.Random(self.seed * 100 + i), None
        while not self.over:
            with self.lock:
                self.next += 1
                n = rnd.randrange(self.pool) if rnd.random() < 0.5 else self.next
            try:
                conn = conn or Conn(self.p.where, LATE * 2)
                r, verdict = ask(self.p.where, n, rnd.choice(KINDS), conn)
                with self.lock:
                    self.results[r.cache] = self.results.get(r.cache, 0) + 1
                    if verdict == 'good':
                        self.good += 1
                    else:
                        self.errors += 1
                        self.first_error = self.first_error or 'question %d: %r' % (n, r)
                if not r.whole or (r.get('Connection') or '').lower() == 'close':
                    conn.close()
                    conn = None
            except (Gone, OSError) as e:
                with self.lock:
                    self.lost += 1
                    if not self.over and self.lost > 5000:
                        self.violations.append('thousands of connections without a reply: %r' % e)
                        return
                if conn:
                    conn.close()
                conn = None
                time.sleep(0.01)                       # a client's own pause; nothing waits for it
            except Exception as e:
                self.violations.append('%s: %s' % (type(e).__name__, e))
                return
        if conn:
            conn.close()

    def __enter__(self):
        self.threads = [threading.Thread(target=self.client, args=(i,), daemon=True) for i in range(self.n)]
        for t in self.threads:
            t.start()
        self.flows(5 * self.n)
        return self

    def flows(self, more=20, late=LATE):
        """Waits until so many more good answers have come: they keep flowing."""
        goal, end = self.good + more, time.monotonic() + late
        while self.good < goal:
            assert not self.violations, self.violations[0]
            assert time.monotonic() < end, 'answers do not flow: %d good, %d errors, %d lost, %s' % (self.good, self.errors, self.lost, self.results)
            time.sleep(0.01)

    def during(self, seconds=None, flowing=True):
        """Lets a fault last; with flowing, good answers must come all the while."""
        before, end = self.good, time.monotonic() + (SPELL if seconds is None else seconds)
        while time.monotonic() < end:
            assert not self.violations, self.violations[0]
            time.sleep(0.02)
        if flowing and self.good == before:
            self.flows(1)

    def __exit__(self, kind, e, tb):
        self.over = True
        for t in self.threads:
            t.join(LATE * 2)
            assert not t.is_alive() or e, 'a client waits for ever'
        if self.violations and not e:
            raise AssertionError(self.violations[0])

    def none_failed(self):
        assert not self.errors and not self.lost, '%d errors and %d lost of %d, with an upstream that was well: %s, the first: %s' % (self.errors, self.lost, self.errors + self.good, self.results, self.first_error)


# ---- the base line ----

def descriptors(p):
    """Those it holds, but for connections to its upstreams: these it keeps for the next request, as many as were once
    wanted at the same time."""
    mine, upstreams, own = '/proc/%d/' % p.process.pid, set(), set()
    for url in p.options['upstream.url'].split(','):
        port = url.rpartition(':')[2].strip('/')
        upstreams.add(int(port) if port.isdigit() else -1)
    with open(mine + 'net/tcp') as f:
        for fields in map(str.split, list(f)[1:]):
            if int(fields[2].rpartition(':')[2], 16) in upstreams:
                own.add('socket:[%s]' % fields[9])
    held = 0
    for fd in os.listdir(mine + 'fd'):
        with contextlib.suppress(FileNotFoundError):
            held += os.readlink(mine + 'fd/' + fd) not in own
    return held


def flights(p):
    """As the program prints them on SIGUSR1."""
    seen = p.said().count(' flights ')
    p.process.send_signal(signal.SIGUSR1)
    end = time.monotonic() + LATE
    while True:
        found = re.findall(r' flights (\d+), connections (\d+)', p.said())
        if len(found) > seen:
            return int(found[-1][0]), int(found[-1][1])
        assert time.monotonic() < end, 'no state in the log'
        time.sleep(0.02)


class Base:
    """What the program holds at rest; `back()` waits until it is there again. The memory that allocators keep is allowed
    for."""

    def __init__(self, p):
        self.p = p
        end = time.monotonic() + LATE
        while p.get('/ollacache/ready').status != 200:   # dictionaries load beside the first answers
            assert time.monotonic() < end, 'never ready: %s' % p.get('/ollacache/ready')
            time.sleep(0.02)
        with Load(p, 4):
            pass
        self.rss, self.fds = self.rest()

    def rest(self):
        end = time.monotonic() + LATE
        while True:
            s = self.p.stats()
            f, conns = flights(self.p)
            if f == 0 and s['streams_open'] == 0 and s['connections_open'] <= 1 and conns <= 1:
                return self.p.peak_kib('RssAnon'), descriptors(self.p)
            assert time.monotonic() < end, 'something is left: %d flights, %d connections, %s' % (f, conns, {k: s[k] for k in ('streams_open', 'connections_open')})
            time.sleep(0.05)

    def back(self, fds=10, kib=48 << 10):
        assert self.p.process.poll() is None, 'the program ended with %s' % self.p.process.returncode
        rss, now = self.rest()
        assert now <= self.fds + fds, 'descriptors: %d at rest, %d afterwards' % (self.fds, now)
        assert SANITIZED or rss <= self.rss + kib, 'memory: %d KiB of its own at rest, %d afterwards' % (self.rss, rss)


# ---- a wire that misbehaves ----

class Wire:
    """Relays connections from a port of its own to `to`. `mode`: flow; stall (nothing moves); cut (what is open is reset,
    what is new is refused); junk (the other side speaks nonsense). cut_after: a connection whose client sends a POST is
    ended after so many bytes of the reply, by `how` (rst, fin)."""

    def __init__(self, to):
        self.to, self.mode, self.cut_after, self.how, self.junk = to, 'flow', None, 'rst', b'\xff\x00junk\r\n*9999999999\r\n$-7\r\n'
        self.listener = socket.create_server(('127.0.0.1', 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.url = 'http://127.0.0.1:%d' % self.port
        self.open, self.lock, self.over, self.ends = set(), threading.Lock(), False, 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while not self.over:
            try:
                a, _ = self.listener.accept()
            except OSError:
                return
            if self.mode == 'cut':
                self.reset(a)
                continue
            threading.Thread(target=self.carry, args=(a,), daemon=True).start()

    @staticmethod
    def reset(s, how='rst'):
        with contextlib.suppress(OSError):
            if how == 'rst':
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
            else:
                s.shutdown(socket.SHUT_RDWR)
        s.close()

    def carry(self, a):
        if self.mode == 'junk':
            with contextlib.suppress(OSError):
                a.sendall(self.junk * 20)
                a.settimeout(0.2)
                a.recv(65536)
            self.reset(a)
            return
        try:
            b = socket.create_connection(self.to) if isinstance(self.to, tuple) else socket.socket(socket.AF_UNIX)
            if not isinstance(self.to, tuple):
                b.connect(self.to)
        except OSError:
            self.reset(a)
            return
        with self.lock:
            self.open |= {a, b}
        sent, cut = 0, None
        try:
            while not self.over:
                if self.mode == 'stall':
                    time.sleep(0.01)
                    continue
                ready = select.select([a, b], [], [], 0.2)[0]
                if self.mode == 'stall':
                    continue
                for s in ready:
                    data = s.recv(65536)
                    if not data:
                        return
                    if s is a:
                        if data.startswith(b'POST /api/'):
                            sent, cut = 0, self.cut_after
                            if cut == 0:
                                return
                        b.sendall(data)
                        continue
                    if cut is not None and sent + len(data) >= cut:
                        a.sendall(data[:cut - sent])
                        return
                    sent += len(data)
                    a.sendall(data)
        except (OSError, ValueError):
            pass
        finally:
            with self.lock:
                self.open -= {a, b}
                self.ends += 1
            self.reset(a, self.how if cut is not None else 'rst')
            b.close()

    def cut(self):
        self.mode = 'cut'
        with self.lock:
            for s in list(self.open):
                with contextlib.suppress(OSError):
                    s.shutdown(socket.SHUT_RDWR)

    def end(self):
        self.over = True
        self.cut()
        self.listener.close()


class Limited(Proxy):
    """The program under limits of a shell (`ulimit -n 60`), or with other things before it on the command line."""
    before = ()

    def argv(self):
        return list(self.before) + super().argv()


def limited(s, f, limits, options, **more):
    p = Limited(s.dir, f.url, options, start=False, **more)
    p.before = ['bash', '-c', limits + '; exec "$@"', '-']
    s.things.append(p)
    return p
