"""What the end-to-end tests share: the fake upstream, the proxy, Redis, an HTTP client that sees every chunk,
and a runner. Standard library only. No test sleeps to wait for something: it waits for a counter of the fake's or
the proxy's (`fake.wait`, `moved`), bounded by LATE seconds, within which nothing on a working machine fails to happen."""
import contextlib, http.client, json, os, re, select, shutil, signal, socket, subprocess, sys, tempfile, threading, time, traceback

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLLACACHE = os.environ.get('OLLACACHE') or os.path.join(ROOT, 'ollacache')
FAKE = os.environ.get('FAKE_OLLAMA') or os.path.join(ROOT, 'build', 'fake_ollama')
SANITIZED = os.environ.get('MODE') in ('asan', 'tsan')
LATE = int(os.environ.get('LATE', 60 if SANITIZED else 20))


def free_port(host='127.0.0.1'):
    with socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET) as s:
        s.bind((host, 0))
        return s.getsockname()[1]


class Gone(Exception):
    """The peer ended the connection where an answer should have come."""


class Reply:
    def __init__(self):
        self.line, self.status, self.headers, self.chunks, self.body = '', 0, [], [], b''
        self.framing, self.whole, self.interim = 'none', False, []

    def get(self, name, otherwise=None):
        """One header; several of the same name are joined by commas."""
        found = [v for k, v in self.headers if k.lower() == name.lower()]
        return ', '.join(found) if found else otherwise

    def json(self):
        return json.loads(self.body)

    def lines(self):
        return [json.loads(x) for x in self.body.split(b'\n') if x.strip()]

    @property
    def cache(self):
        return self.get('X-Cache')

    def error(self):
        """The text of an error in the native shape."""
        o = self.json()
        assert isinstance(o, dict) and list(o) == ['error'] and isinstance(o['error'], str), 'not an error: %r' % self.body[:200]
        return o['error']

    def __repr__(self):
        return '<%s %s cache=%s %r%s>' % (self.status, self.framing, self.cache, self.body[:120], '' if self.whole else ' BROKEN')


def parse_head(raw):
    r = Reply()
    lines = raw.decode('latin-1').split('\r\n')
    r.line = lines[0]
    r.status = int(lines[0].split(' ')[1])
    r.headers = [(k.strip(), v.strip()) for k, _, v in (x.partition(':') for x in lines[1:] if x)]
    return r


class Conn:
    """A client connection that shows what comes as it comes."""

    def __init__(self, where, timeout=LATE):
        if isinstance(where, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(timeout)
            self.sock.connect(where)
        else:
            self.sock = socket.create_connection(where, timeout)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf, self.eof = b'', False

    def send(self, raw):
        self.sock.sendall(raw)

    def close(self, reset=False):
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
        self.sock.close()

    def more(self):
        """Reads once; False at the end."""
        got = self.sock.recv(1 << 18)
        self.eof = not got
        self.buf += got
        return bool(got)

    def until(self, mark):
        while mark not in self.buf:
            if not self.more():
                raise Gone('connection ended after %r' % self.buf[-200:])
        head, _, self.buf = self.buf.partition(mark)
        return head

    def exactly(self, n):
        while len(self.buf) < n:
            if not self.more():
                raise Gone('connection ended after %r' % self.buf[-200:])
        out, self.buf = self.buf[:n], self.buf[n:]
        return out

    def head(self, method='GET'):
        interim = []
        while True:
            raw = self.until(b'\r\n\r\n')
            r = parse_head(raw)
            if r.status != 100:
                break
            interim.append(r.line)
        r.interim = interim
        te, cl = r.get('Transfer-Encoding'), r.get('Content-Length')
        r.framing = ('none' if method == 'HEAD' or r.status in (204, 304) else 'chunked' if te else
                     'length' if cl is not None else 'close')
        return r

    def chunk(self):
        """One HTTP chunk, or b'' for the last."""
        n = int(self.until(b'\r\n').split(b';')[0], 16)
        data = self.exactly(n)
        end = self.exactly(2)
        assert end == b'\r\n', 'a chunk that does not end in CRLF: %r' % end
        return data

    def rest(self, r):
        """Reads the body to its end. r.whole tells whether it came to it."""
        try:
            if r.framing == 'none':
                r.whole = True
            elif r.framing == 'length':
                n = int(r.get('Content-Length'))
                while len(self.buf) < n and self.more():
                    pass
                r.body, self.buf = self.buf[:n], self.buf[n:]
                r.whole = len(r.body) == n
            elif r.framing == 'close':
                while self.more():
                    pass
                r.body, self.buf, r.whole = self.buf, b'', True
            else:
                while True:
                    data = self.chunk()
                    if not data:
                        r.whole = True
                        break
                    r.chunks.append(data)
        except (Gone, ConnectionError):
            pass
        if r.framing == 'chunked':
            r.body = b''.join(r.chunks)
        return r

    def reply(self, method='GET'):
        return self.rest(self.head(method))

    def nothing_follows(self, r):
        """Behind a head that has no body: the next bytes on the connection are the next reply, unless it said that it closes."""
        if 'close' in r.get('Connection', '').lower():
            self.ended()
            assert self.buf == b'', 'bytes behind a head without a body: %r' % self.buf[:200]
            return
        self.send(build('GET', '/api/version'))
        while len(self.buf) < 12 and self.more():
            pass
        assert self.buf.startswith((b'HTTP/1.1 ', b'HTTP/1.0 ')), 'bytes behind a head without a body: %r' % self.buf[:200]
        after = self.reply()
        assert after.whole, 'the next reply on the connection: %r' % after

    def ended(self):
        """Waits for the other side to end the connection; what it sent is in self.buf."""
        try:
            while self.more():
                pass
        except ConnectionError:
            self.eof = True
        return True


def build(method, path, headers=None, body=None, host='localhost', version='1.1'):
    if isinstance(body, (dict, list)):
        body = json.dumps(body).encode()
    if isinstance(body, str):
        body = body.encode()
    h = {'Host': host, 'User-Agent': 'e2e', 'Accept': '*/*'}
    if body is not None:
        h['Content-Type'] = 'application/json'
        h['Content-Length'] = str(len(body))
    h.update(headers or {})
    head = '%s %s HTTP/%s\r\n' % (method, path, version) + ''.join('%s: %s\r\n' % x for x in h.items() if x[1] is not None)
    return head.encode('latin-1') + b'\r\n' + (body or b'')


class Server:
    """Something that answers HTTP at self.where."""

    def open(self, method, path, body=None, headers=None, **more):
        """A connection on which the request was sent and nothing read yet."""
        c = Conn(self.where, more.pop('timeout', LATE))
        c.send(build(method, path, headers, body, **more))
        return c

    def ask(self, method, path, body=None, headers=None, **more):
        c = self.open(method, path, body, headers, **more)
        try:
            r = c.reply(method)
            if method == 'HEAD':
                c.nothing_follows(r)
            return r
        finally:
            c.close()

    def get(self, path, headers=None, **more):
        return self.ask('GET', path, None, headers, **more)

    def post(self, path, body, headers=None, **more):
        return self.ask('POST', path, body, headers, **more)

    def generate(self, prompt, headers=None, model='llama3.2', **more):
        return self.post('/api/generate', dict({'model': model, 'prompt': prompt}, **more), headers)

    def chat(self, text, headers=None, model='llama3.2', **more):
        return self.post('/api/chat', dict({'model': model, 'messages': [{'role': 'user', 'content': text}]}, **more), headers)


def stop(process, sig=signal.SIGTERM, timeout=LATE):
    if process.poll() is None:
        process.send_signal(sig)
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


class Fake(Server):
    def __init__(self, dir, *args, name='fake', listen=None):
        self.control = os.path.join(dir, name + '.ctl')
        port_file = os.path.join(dir, name + '.port')
        self.listen = listen or '127.0.0.1:0'
        self.args = [FAKE, '--control', 'unix:' + self.control, '--port-file', port_file] + list(args)
        self.port_file = port_file
        self.start()

    def start(self):
        if os.path.exists(self.port_file):
            os.unlink(self.port_file)
        self.process = subprocess.Popen(self.args + ['--listen', self.listen], stdout=subprocess.DEVNULL)
        end = time.monotonic() + LATE
        while not os.path.exists(self.port_file):
            assert self.process.poll() is None and time.monotonic() < end, 'the fake did not start'
            time.sleep(0.01)
        if self.listen.startswith('unix:'):
            self.where, self.url = self.listen[5:], self.listen
        else:
            port = int(open(self.port_file).read())
            self.where, self.url = ('127.0.0.1', port), 'http://127.0.0.1:%d' % port
            self.listen = '127.0.0.1:%d' % port

    def order(self, path, timeout=LATE + 30):
        c = Conn(self.control, timeout)
        c.send(build('POST', '/fake/' + path))
        r = c.reply()
        c.close()
        return r

    def state(self):
        return self.order('state').json()

    def wait(self, event, n=1, op='ge', late=LATE):
        r = self.order('wait?event=%s&n=%d&op=%s&timeout_ms=%d' % (event, n, op, late * 1000))
        assert r.status == 200, 'the upstream never saw %s reach %d: %s' % (event, n, r.body.decode())
        return r.json()

    def release(self, name, **how):
        self.order('release?barrier=%s%s' % (name, ''.join('&%s=%s' % x for x in how.items())))

    def log(self, path=None, since=0):
        return self.order('log?since=%d%s' % (since, '&path=' + path if path else '')).json()

    def asked(self, *paths):
        """How many requests of these paths came."""
        seen = self.state()['paths']
        return sum(seen.get(p, 0) for p in paths or ('/api/chat', '/api/generate', '/api/embed', '/api/embeddings'))

    def stop(self):
        stop(self.process)


def flat(stats):
    """Counters by name; of a labelled one also the sum."""
    out = {}
    for k, v in stats.items():
        if isinstance(v, dict):
            if 'count' in v and 'buckets' in v:
                out[k] = v['count']
                continue
            for label, x in v.items():
                if isinstance(x, (int, float)):
                    out['%s.%s' % (k, label)] = x
            nums = [x for x in v.values() if isinstance(x, (int, float)) and not isinstance(x, bool)]
            if nums:
                out[k] = sum(nums)
        elif isinstance(v, (int, float)):
            out[k] = v
    return out


COUNTED = ('requests', 'exact_cache_hits', 'semantic_cache_hits', 'cache_misses', 'joined_requests', 'bypassed_requests',
           'passed_requests', 'stored_answers')


class Proxy(Server):
    """The program under test. Options as {'server.workers': 2}; listens on a free port, keeps its data in dir."""

    def __init__(self, dir, upstream, options=None, listen=None, name='proxy', start=True, env=None):
        self.dir, self.name, self.env = dir, name, env
        if listen is None:
            port = free_port()
            listen, self.where = '127.0.0.1:%d' % port, ('127.0.0.1', port)
        elif listen.startswith('unix:'):
            self.where = listen[5:]
        else:
            host, _, port = listen.rpartition(':')
            self.where = (host.strip('[]'), int(port))
        self.log_path = os.path.join(dir, name + '.log')
        self.options = {'server.listen': listen, 'upstream.url': upstream, 'cache.path': os.path.join(dir, name + '-data'),
                        'server.workers': 2}
        self.options.update(options or {})
        self.process = None
        if start:
            self.start()

    def argv(self):
        return [OLLACACHE] + ['--%s=%s' % x for x in self.options.items() if x[1] is not None]

    def start(self, ready=True):
        self.log_file = open(self.log_path, 'ab')
        self.process = subprocess.Popen(self.argv(), stdout=self.log_file, stderr=self.log_file, cwd=self.dir,
                                        env=dict(os.environ, **(self.env or {})))
        end = time.monotonic() + LATE
        while ready:
            assert self.process.poll() is None, 'the proxy ended with %s: %s' % (self.process.returncode, self.said()[-2000:])
            assert time.monotonic() < end, 'the proxy does not listen: %s' % self.said()[-2000:]
            try:
                if self.get('/ollacache/health').status == 200:
                    break
            except (OSError, Gone):
                pass
            time.sleep(0.02)
        return self

    def said(self):
        with open(self.log_path, errors='replace') as f:
            return f.read()

    def stats(self):
        r = self.get('/ollacache/stats')
        assert r.status == 200, r
        return flat(r.json())

    def stop(self, sig=signal.SIGTERM, timeout=LATE):
        if not self.process:
            return None
        code = stop(self.process, sig, timeout)
        self.log_file.close()
        return code

    def peak_kib(self, key='VmHWM'):
        with open('/proc/%d/status' % self.process.pid) as f:
            return int(re.search(key + r':\s+(\d+) kB', f.read()).group(1))

    def ready(self):
        """Until its dictionaries are loaded, which takes a moment and 40 MB; before that memory tells nothing."""
        end = time.monotonic() + LATE
        while self.get('/ollacache/ready').status != 200:
            assert time.monotonic() < end, 'it never gets ready: %s' % self.get('/ollacache/ready')
            time.sleep(0.05)

    def wait_stat(self, name, value, late=LATE):
        """Until a counter or gauge has the value (a number, or a test of one)."""
        end = time.monotonic() + late
        while True:
            now = self.stats().get(name)
            if now is not None and (value(now) if callable(value) else now == value):
                return now
            assert time.monotonic() < end, '%s is %s and stays there' % (name, now)
            time.sleep(0.02)

    def arrived(self, n):
        """Until n requests of the four endpoints have come since the start, and the last has found its place: it is
        counted in the turn of the loop in which it is looked up, and two more requests take longer than that turn."""
        self.wait_stat('requests', n)
        for _ in range(3):
            self.stats()

    def settled(self):
        """The counters, once two looks in a row see the same: what came before may still be on its way to the store, where
        puts are gathered for 20 ms."""
        now = self.stats()
        while True:
            time.sleep(0.08)
            last, now = now, self.stats()
            if all(now.get(k) == last.get(k) for k in COUNTED):
                return now

    @contextlib.contextmanager
    def moved(self, **by):
        """The block moves these counters by so much, and of COUNTED no other. `labels__x` means labels.x."""
        by = {k.replace('__', '.'): v for k, v in by.items()}
        before = self.settled()
        yield
        want = {k: 0 for k in COUNTED}
        want.update(by)
        end = time.monotonic() + min(LATE, 10)
        while True:
            after = self.stats()
            got = {k: after.get(k, 0) - before.get(k, 0) for k in want}
            if got == want:
                return
            if time.monotonic() > end:
                wrong = {k: (got[k], want[k]) for k in want if got[k] != want[k]}
                raise AssertionError('counters moved otherwise, {name: (got, wanted)}: %s' % wrong)
            time.sleep(0.02)


class Redis:
    def __init__(self, dir, *args):
        self.sock = os.path.join(dir, 'redis.sock')
        self.argv = ['redis-server', '--port', '0', '--unixsocket', self.sock, '--save', '', '--appendonly', 'no', '--dir', dir] + list(args)
        self.url = 'unix://' + self.sock
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.argv, stdout=subprocess.DEVNULL)
        end = time.monotonic() + LATE
        while True:
            with contextlib.suppress(OSError):
                if self.command('PING') == b'+PONG\r\n':
                    return
            assert time.monotonic() < end, 'redis-server did not start'
            time.sleep(0.02)

    def command(self, *words):
        c = Conn(self.sock)
        c.send(('*%d\r\n' % len(words) + ''.join('$%d\r\n%s\r\n' % (len(w), w) for w in words)).encode())
        out = c.sock.recv(1 << 16)
        c.close()
        return out

    def stop(self):
        stop(self.process, signal.SIGKILL)


class Stage:
    """What one test has around it: a folder of its own, and everything it started stopped at the end."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix='e2e-')
        self.things = []

    def fake(self, *args, **more):
        f = Fake(self.dir, *args, **more)
        self.things.append(f)
        return f

    def proxy(self, upstream=None, options=None, **more):
        urls = ','.join(u.url for u in upstream) if isinstance(upstream, (list, tuple)) else upstream if isinstance(upstream, str) else upstream.url
        p = Proxy(self.dir, urls, options, start=False, **more)
        self.things.append(p)
        return p.start()

    def redis(self, *args):
        r = Redis(self.dir, *args)
        self.things.append(r)
        return r

    def end(self):
        for t in reversed(self.things):
            with contextlib.suppress(Exception):
                if isinstance(t, (Fake, Redis)):
                    t.stop()
        bad = []
        for t in self.things:
            if isinstance(t, Proxy) and t.process:
                code = t.process.poll()
                if code is None:
                    with contextlib.suppress(ProcessLookupError):
                        t.process.send_signal(signal.SIGCONT)
                    t.process.terminate()
                    try:
                        code = t.process.wait(LATE)
                    except subprocess.TimeoutExpired:
                        t.process.kill()
                        t.process.wait()
                        code = 'none: it hangs'
                if code not in (0, None):
                    bad.append('the proxy ended with %s' % code)
                if 'ERROR: AddressSanitizer' in t.said() or 'runtime error:' in t.said() or 'WARNING: ThreadSanitizer' in t.said() or 'ERROR: LeakSanitizer' in t.said():
                    bad.append('a sanitizer complains')
        return bad

    def clean(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def library(name):
    """The version, as numbers, of a library the program runs with."""
    said = subprocess.run([OLLACACHE, '--version'], capture_output=True, text=True, check=True).stdout
    return tuple(int(x) for x in re.search('^' + name + r' ([0-9.]+)', said, re.M).group(1).split('.'))


def together(n, run, late=max(600, LATE * 6)):
    """run(i) in n threads at once; their results in order. The first exception is raised; one must be back within late
    seconds after the one before it, None: whenever it likes."""
    out, wrong = [None] * n, []

    def one(i):
        try:
            out[i] = run(i)
        except BaseException as e:
            wrong.append(e)
    threads = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(late)
        assert not t.is_alive(), 'a client never got its answer'
    if wrong:
        raise wrong[0]
    return out


def told(reply):
    """What a native answer says, however its lines break: text, thinking, tool calls, logprobs, and the last object
    without what lines carry and without created_at."""
    said = {'text': '', 'thinking': '', 'tool_calls': [], 'logprobs': [], 'error': None, 'model': None, 'last': None}
    for o in reply.lines():
        if 'error' in o:
            said['error'] = o['error']
            continue
        m = o.get('message') if isinstance(o.get('message'), dict) else o.get('delta') if isinstance(o.get('delta'), dict) else o
        said['text'] += (m.get('content') if m is not o else o.get('response') or (o.get('delta') if isinstance(o.get('delta'), str) else '')) or ''
        said['thinking'] += m.get('thinking') or ''
        said['tool_calls'] += m.get('tool_calls') or []
        said['logprobs'] += o.get('logprobs') or []
        said['model'] = o.get('model', said['model'])
        if o.get('done'):
            said['last'] = {k: v for k, v in o.items() if k not in ('created_at', 'message', 'delta', 'response', 'thinking', 'tool_calls', 'logprobs', 'model')}
    return said


def main(tests, argv=None):
    """Runs the named tests, or all; prints a line each and `N passed, N failed`."""
    argv = sys.argv[1:] if argv is None else argv
    wanted = [t for t in tests if not argv or any(a in t.__name__ for a in argv)]
    passed = failed = 0
    for t in wanted:
        stage = Stage()
        started = time.monotonic()
        why = []
        try:
            t(stage)
        except Exception as e:
            where = [f for f in traceback.extract_tb(e.__traceback__) if f.filename == t.__code__.co_filename]
            why.append('%s: %s%s' % (type(e).__name__, str(e)[:1500], ''.join(' [line %d: %s]' % (f.lineno, f.line) for f in where[-2:])))
        why += stage.end()
        took = time.monotonic() - started
        if why:
            failed += 1
            print('not ok  %s (%.1f s)' % (t.__name__, took))
            for w in why:
                print('        ' + w.replace('\n', '\n        '))
            for p in stage.things:
                if isinstance(p, Proxy) and os.path.exists(p.log_path):
                    tail = p.said().splitlines()[-int(os.environ.get('TAIL', 12)):]
                    print(''.join('        | %s\n' % x[:300] for x in tail), end='')
        else:
            passed += 1
            print('ok      %s (%.1f s)' % (t.__name__, took))
        sys.stdout.flush()
        if os.environ.get('KEEP') and why:
            print('        kept in', stage.dir)
        else:
            stage.clean()
    print('%d passed, %d failed' % (passed, failed))
    return 1 if failed or not passed else 0
