#!/usr/bin/env python3
"""transparency.py [--direct] [FOLDER] [NAME…] - replays recorded requests through the proxy, in front of an upstream
that answers with the recorded bytes, and compares.

Every NAME.req with a NAME.http is sent raw, but for two headers put in: X-Fake-Case tells the playing upstream which
recording to answer with, X-Cache-Namespace keeps cases apart. Checked:
  miss    status, headers, framing, body; where the recording is a chunked stream of lines, every chunk as it was sent
  again   what may be cached is a hit and says the same: text, thinking, tool calls, logprobs, the last object but for
          created_at; what may not be cached is asked of the upstream again and comes back as recorded
  other   the same question with the other `stream`: a hit that says the same
OWN lists the cases in which a proxy cannot be the same, why, and what its own answer must be.
--direct asks the playing upstream itself, which proves the tool. Ends with `N passed, N failed`."""
import json, os, re, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from e2e import *

ASKED = {'/api/chat', '/api/generate', '/api/embed', '/api/embeddings'}


def last_logged(fake):
    return max((x['id'] for x in fake.log()[-1:]), default=0)


def questions(fake, since):
    """What clients asked of models since then. What a hit hands on in the background, its keep_alive, names no case."""
    return [x for x in fake.log(since=since) if x['id'] > since and x['target'] in ASKED and
            any(h.startswith('X-Fake-Case:') for h in x['headers'])]


OURS = {'x-cache', 'cache-status', 'age', 'x-cache-similarity', 'x-candidates', 'x-prompt-truncated'}
CORS = {'access-control-allow-origin', 'access-control-allow-headers', 'access-control-allow-methods', 'access-control-max-age',
        'access-control-expose-headers', 'access-control-allow-credentials', 'vary'}
ASIDE = OURS | CORS | {'date', 'connection', 'keep-alive'}
MATTER = ('Content-Type', 'Content-Length', 'Allow', 'Location', 'Cache-Control', 'Transfer-Encoding')
# Lines longer than a chunk the proxy's server can make are split; see ARCHITECTURE.md.
CHUNK_MAX = 8000


# ---- what the proxy answers itself ----
def refused(r, want):
    """Foreign origins and hosts: an empty 403."""
    assert r.status == 403 and r.body == b'' and r.get('Allow') == want.get('Allow'), r.headers
    assert not r.get('Access-Control-Allow-Origin'), r.headers


def preflight(r, want):
    """Ours allows more headers than Ollama's; all of Ollama's must be among them."""
    assert r.status == 204 and r.body == b'', r
    for name in ('Access-Control-Allow-Origin', 'Access-Control-Max-Age', 'Allow'):
        assert r.get(name) == want.get(name), (name, r.get(name), want.get(name))
    for name in ('Access-Control-Allow-Headers', 'Access-Control-Allow-Methods'):
        words = lambda x: {w.strip().lower() for w in x.get(name, '').split(',')}
        assert words(want) <= words(r), '%s lacks %s' % (name, words(want) - words(r))
    assert 'origin' in r.get('Vary', '').lower(), r.headers


def bad_request(r, want):
    assert r is not None and r.status == 400, r


def too_large_head(r, want):
    assert r is not None and r.status in (431, 400, 413), r


def no_answer(r, want):
    """A body that breaks off: nothing, or a 400, and the end of the connection; never an answer."""
    assert r is None or r.status == 400, r


def old_http(r, want):
    """HTTP/1.0: the same words, not chunked, and an end that may be the connection's."""
    assert r.line == want.line and r.framing in ('length', 'close'), (r.line, r)
    assert r.get('Content-Type') == want.get('Content-Type'), r.headers
    assert r.body == want.body, diff(r.body, want.body)


def not_found_after_continue(r, want):
    """Go answers a 404 without asking for the body; a proxy asks for it first, and need not close then."""
    assert r.status == want.status and r.body == want.body and r.get('Content-Type') == want.get('Content-Type'), r


def options_plain(r, want):
    assert r.status == want.status and r.body == want.body and r.get('Allow') == want.get('Allow'), r


def cut_short(r, want):
    """The recorder left out the middle, so the bytes are no HTTP from there on: what came before is as recorded, and the
    end is visibly broken."""
    n = len(want.chunks) - 1               # the cut is inside the last chunk that could be read
    assert r.status == want.status and not r.whole, r
    assert n > 0 and r.chunks[:n] == want.chunks[:n], 'the chunks before the cut differ'


# pattern: (why it cannot be the same, what to check instead)
OWN = [
    (r'.*-preflight-(localhost|unknown-path)$|.*-preflight-allowed.*', 'the proxy answers preflights itself', preflight),
    (r'.*-preflight-foreign$|.*-origin-(foreign|null|ext)$|.*-host-(foreign.*|public-ip)$', 'the proxy alone judges Origin and Host', refused),
    (r'.*-no-host$', 'the words are the server library\'s', bad_request),
    (r'.*-bad-request-line$', 'libmicrohttpd closes the connection of who does not speak HTTP without a word', no_answer),
    (r'.*-huge-header$', 'a head over the proxy\'s own limit', too_large_head),
    (r'.*-short-body$', 'the request never becomes whole', no_answer),
    (r'.*-http10-.*', 'HTTP/1.0 in, HTTP/1.1 to the upstream', old_http),
    (r'.*-expect-100-unknown-path$', 'the proxy asks for the body before it knows the path is unknown', not_found_after_continue),
]

# Answers whose caching CONTRACT leaves open: compared, but either X-Cache will do.
OPEN = re.compile(r'.*(-null-fields|-embed-empty-.*|-embed-no-input|-embeddings-legacy-empty|-format-empty-string)$')


def diff(got, want):
    n = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
    return 'differs at byte %d of %d (got %d): %r, recorded %r' % (n, len(want), len(got), got[max(0, n - 40):n + 60], want[max(0, n - 40):n + 60])


def parse_recorded(raw, method):
    """The final reply in recorded bytes; a Reply or None."""
    class Bytes(Conn):
        def __init__(self, data):
            self.buf, self.eof = data, True

        def more(self):
            return False
    c = Bytes(raw)
    try:
        r = c.head(method)
    except Gone:
        return None, b''
    try:
        c.rest(r)
    except (AssertionError, ValueError):      # cut by the recorder
        r.body = b''.join(r.chunks)
    return r, c.buf


class Case:
    def __init__(self, folder, name):
        self.name = name
        self.req = open(os.path.join(folder, name + '.req'), 'rb').read()
        self.http = open(os.path.join(folder, name + '.http'), 'rb').read()
        line, _, rest = self.req.partition(b'\r\n')
        words = line.split(b' ')
        self.proper = len(words) == 3 and words[2].startswith(b'HTTP/')
        self.method = words[0].decode('latin-1')
        self.target = words[1].decode('latin-1') if len(words) > 1 else ''
        self.path = self.target.split('?')[0]
        head, _, self.body = self.req.partition(b'\r\n\r\n')
        self.origin = re.search(rb'(?mi)^origin: *(.*?)\r?$', head)
        if re.search(rb'(?mi)^transfer-encoding: *chunked', head):
            out, rest = b'', self.body
            while rest:
                size, _, rest = rest.partition(b'\r\n')
                out, rest = out + rest[:int(size, 16)], rest[int(size, 16) + 2:]
            self.body = out
        self.want, self.extra = parse_recorded(self.http, self.method)
        self.cut = b'cut by the recorder' in self.http
        self.own = ('', 'the recording is cut', cut_short) if self.cut else next((o for o in OWN if re.match(o[0], name)), None)

    def raw(self, body=None):
        """The request bytes, with our two headers; with another body if one is given."""
        ours = b'X-Fake-Case: %s\r\nX-Cache-Namespace: %s\r\n' % ((self.name.encode(),) * 2)
        if not self.proper:
            return self.req
        line, _, rest = self.req.partition(b'\r\n')
        if self.extra:                        # pipelined: each of them
            return re.sub(rb'(?m)^([A-Z]+ \S+ HTTP/1\.1\r\n)', lambda m: m.group(1) + ours, self.req)
        if body is not None:
            head = rest.partition(b'\r\n\r\n')[0]
            head = re.sub(rb'(?mi)^(content-length|transfer-encoding|expect):.*\r?\n?', b'', head + b'\r\n')
            rest = head + b'Content-Length: %d\r\n\r\n' % len(body) + body
        return line + b'\r\n' + ours + rest

    def prompt_cut(self):
        """Did the engine read far fewer tokens than the text must have?"""
        try:
            tokens = json.loads(self.want.body.strip().split(b'\n')[-1]).get('prompt_eval_count') or 0
            o = json.loads(self.body)
        except (AttributeError, ValueError):
            return False
        text = o.get('prompt') or ''.join(m.get('content') or '' for m in o.get('messages') or [] if isinstance(m, dict))
        return tokens > 0 and isinstance(text, str) and len(text) > 8 * (tokens + 32)

    def cacheable(self):
        """By CONTRACT: may this recorded answer be kept for this request?"""
        if self.method != 'POST' or self.path not in ASKED or not self.want or self.want.status != 200:
            return False
        pairs = []

        def note(p):
            pairs.append(p)
            return dict(p)
        try:
            o = json.loads(self.body.decode('utf-8'), object_pairs_hook=note)
        except ValueError:
            return False
        for p in pairs:
            if len({k for k, _ in p}) < len(p):
                return False
        known = {'model', 'prompt', 'messages', 'stream', 'options', 'input', 'images', 'format', 'system', 'template', 'context', 'raw', 'think', 'tools', 'suffix', 'keep_alive', 'logprobs', 'top_logprobs', 'dimensions', 'truncate'}
        if not isinstance(o, dict) or any(k not in known and k.lower() in known for k in o) or o.get('_debug_render_only'):
            return False
        if self.path in ('/api/embed', '/api/embeddings'):
            return True
        said = told(self.want)
        if said['error'] or not said['last']:
            return False
        why = said['last'].get('done_reason')
        return why == 'stop' or (why == 'length' and 'num_predict' in (o.get('options') or {}))


def same_reply(case, r, want):
    assert r is not None, 'no answer'
    assert r.whole == want.whole, 'the end of the body: got %s, recorded %s' % (r.whole, want.whole)
    assert r.status == want.status, 'status %d, recorded %d' % (r.status, want.status)
    for name in MATTER:
        assert r.get(name) == want.get(name), '%s: %s, recorded %s' % (name, r.get(name), want.get(name))
    if case.method == 'HEAD':
        assert r.get('Connection') == want.get('Connection'), 'Connection: %s' % r.get('Connection')
    had = {k.lower() for k, _ in want.headers}
    more = [k for k, _ in r.headers if k.lower() not in ASIDE | had]
    assert not more, 'headers the recording does not have: %s' % more
    assert r.get('Access-Control-Allow-Origin') == want.get('Access-Control-Allow-Origin'), r.headers
    if want.get('Vary'):
        assert 'origin' in r.get('Vary', '').lower(), r.headers
    assert r.body == want.body, diff(r.body, want.body)
    if want.framing == 'chunked' and re.search('ndjson|event-stream', want.get('Content-Type', '')) and all(len(c) <= CHUNK_MAX for c in want.chunks):
        assert r.chunks == want.chunks, 'sent in %d chunks, recorded %d; the first that differs, and the recorded: %s' % (
            len(r.chunks), len(want.chunks), next(((a[-80:], b[-80:]) for a, b in zip(r.chunks, want.chunks) if a != b), ''))


def same_words(case, r, stream=None):
    """A hit: the same words, however the lines break."""
    assert r.status == 200 and r.whole, r
    if case.path in ('/api/embed', '/api/embeddings'):
        assert r.json() == case.want.json(), diff(r.body, case.want.body)
    else:
        got, want = told(r), told(case.want)
        for k in want:
            assert got[k] == want[k], '%s: %r, recorded %r' % (k, got[k], want[k])
    if stream is None:
        stream = 'ndjson' in case.want.get('Content-Type', '')
    kind = 'application/x-ndjson' if stream else 'application/json; charset=utf-8'
    assert r.get('Content-Type') == kind, 'Content-Type: %s' % r.get('Content-Type')
    if not stream and case.path not in ('/api/embed', '/api/embeddings'):
        assert len(r.lines()) == 1 and not r.body.endswith(b'\n'), r.body[-40:]
    if stream:
        lines = r.lines()
        assert r.framing == 'chunked' and all(c.endswith(b'\n') for c in r.chunks if len(c) <= CHUNK_MAX), r.chunks[-1:]
        assert [bool(o.get('done')) for o in lines] == [False] * (len(lines) - 1) + [True], 'done comes once, last'
        last = lines[-1]
        assert (last.get('message', {}).get('content', '') or last.get('response', '')) == '', 'the last object has text: %s' % last
    for o in r.lines():
        if 'created_at' in o:
            assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?(Z|[+-]\d\d:\d\d)', o['created_at']), o['created_at']


def send(where, case, body=None):
    c = Conn(where, LATE)
    try:
        try:
            c.send(case.raw(body))
            if case.name.endswith('-short-body'):
                c.sock.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass
        try:
            r = c.reply(case.method)
            if r.framing == 'none':
                c.nothing_follows(r)
        except (Gone, ConnectionError):
            return None
        if case.extra and not case.cut:
            r.after = c.reply(case.method)
        return r
    finally:
        c.close()


def run(case, where, direct, fake):
    if direct and case.cut:
        return
    r = send(where, case)
    if case.own and not direct:
        case.own[2](r, case.want)
        return
    if direct and case.want is None:
        assert r is None, r
        return
    if direct and case.name.endswith(('-no-host', '-bad-request-line', '-huge-header')):
        return                            # answered before there is a case
    same_reply(case, r, case.want)
    if case.extra:
        second, _ = parse_recorded(case.extra, case.method)
        same_reply(case, r.after, second)
    if direct:
        return
    asked = case.method == 'POST' and case.path in ASKED
    assert asked == (r.cache is not None) or case.path.startswith('/v1/'), 'X-Cache: %s' % r.cache
    if not asked:
        return
    keep = case.cacheable() and not case.prompt_cut()
    assert not r.get('X-Prompt-Truncated') or case.prompt_cut(), 'the prompt was not cut'
    open_ = OPEN.match(case.name)
    assert r.cache in ('miss', 'bypass'), 'first answer: X-Cache: %s' % r.cache
    if keep and not open_:
        assert r.cache == 'miss', 'first answer: X-Cache: %s' % r.cache
    logged = last_logged(fake)
    again = send(where, case)
    if again.cache == 'exact' and (keep or open_):
        assert not questions(fake, logged), 'a hit asked the upstream'
        assert again.get('Age') is not None and 'hit' in again.get('Cache-Status', ''), again.headers
        same_words(case, again)
    else:
        assert not keep or open_, 'again: X-Cache: %s, wanted exact (%s)' % (again.cache, again.get('Cache-Status'))
        assert again.cache in ('miss', 'bypass'), 'again: X-Cache: %s' % again.cache
        assert len(questions(fake, logged)) == 1, 'the upstream was not asked again'
        same_reply(case, again, case.want)
        return
    if case.path in ('/api/embed', '/api/embeddings'):
        return
    o = json.loads(case.body)
    o['stream'] = not (o.get('stream') is not False)
    other = send(where, case, json.dumps(o).encode())
    assert other.cache == 'exact', 'stream %s: X-Cache: %s' % (o['stream'], other.cache)
    assert not questions(fake, logged), 'a hit asked the upstream'
    same_words(case, other, o['stream'])


def main_():
    args = sys.argv[1:]
    direct = '--direct' in args
    args = [a for a in args if a != '--direct']
    folder = args[0] if args else os.path.join(os.path.dirname(os.path.abspath(__file__)), 'wire_cases')
    names = sorted(f[:-4] for f in os.listdir(folder) if f.endswith('.req') and os.path.exists(os.path.join(folder, f[:-4] + '.http')))
    names = [n for n in names if not args[1:] or any(a in n for a in args[1:])]
    stage = Stage()
    passed = failed = 0
    try:
        fake = stage.fake('--play', folder, '--keep', str(256 << 20))
        if not direct:
            proxy = stage.proxy(fake, {'semantic.enabled': 'off', 'server.workers': 1})
        where = fake.where if direct else proxy.where
        for name in names:
            try:
                run(Case(folder, name), where, direct, fake)
                passed += 1
            except Exception as e:
                failed += 1
                print('not ok  %s: %s%s' % (name, '' if isinstance(e, AssertionError) else type(e).__name__ + ' ', str(e)[:700]))
            if not direct and proxy.process.poll() is not None:
                failed += 1
                print('not ok  the proxy ended with %s at %s\n%s' % (proxy.process.returncode, name, proxy.said()[-1500:]))
                proxy.start()
    finally:
        for why in stage.end():
            failed += 1
            print('not ok ', why)
        stage.clean()
    print('%d passed, %d failed' % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == '__main__':
    sys.exit(main_())
