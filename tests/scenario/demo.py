"""`make demo`: its script shows every kind of answer with the command that brought it, and leaves nothing behind."""
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

DEMO = os.path.join(ROOT, 'tests', 'demo', 'run.sh')


def run(s, **env):
    return subprocess.Popen([DEMO], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
                            env=dict(os.environ, OLLACACHE=OLLACACHE, FAKE_OLLAMA=FAKE, TMPDIR=s.dir, **env))


def until(process, mark):
    """What it prints up to the line with the mark."""
    said = ''
    timer = threading.Timer(LATE * 3, process.kill)
    timer.start()
    for line in process.stdout:
        said += line
        if mark in line:
            timer.cancel()
            return said
    timer.cancel()
    raise AssertionError('the demo ended before %r: %s' % (mark, said[-1500:]))


def shows_every_kind_of_answer_and_leaves_nothing_behind(s):
    port = free_port()
    demo = run(s, DEMO_PORT=str(port))
    try:
        said = until(demo, 'Ctrl-C')
        came = [l.split(': ')[1] for l in said.splitlines() if l.startswith('     X-Cache: ')]
        assert came == ['miss', 'exact', 'miss', 'semantic', 'miss', 'joined', 'miss', 'miss', 'exact'], came
        assert re.search(r'X-Candidates: 3; winner=\d; score=', said), said
        assert said.count('HTTP/1.1 200 OK') == 9, said
        steps = [l for l in said.splitlines() if re.match(r'\d\. ', l)]
        assert len(steps) == 6 and all('stand-in' in l for l in steps), steps
        numbers = re.findall(r'a model\. #(\d)', said)
        assert numbers[:6] == ['1', '1', '2', '2', '3', '3'], numbers
        assert said.count('3 vectors') == 2, said
        page = 'http://127.0.0.1:%d/ollacache/' % port
        assert page in said, said
        c = Conn(('127.0.0.1', port))
        c.send(build('GET', '/ollacache/'))
        r = c.reply()
        c.close()
        assert r.status == 200 and b'<html' in r.body, r
        demo.send_signal(signal.SIGINT)
        assert demo.wait(LATE * 2) == 0, demo.stdout.read()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(demo.pid, signal.SIGKILL)
    assert not os.listdir(s.dir), os.listdir(s.dir)
    with contextlib.suppress(ConnectionRefusedError):
        Conn(('127.0.0.1', port))
        raise AssertionError('the proxy still listens')


def a_port_in_use_is_said(s):
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        port = other.getsockname()[1]
        demo = run(s, DEMO_PORT=str(port))
        said = demo.communicate(timeout=LATE * 2)[0]
    assert demo.returncode == 1 and 'port %d is in use' % port in said, (demo.returncode, said)
    assert not os.listdir(s.dir), os.listdir(s.dir)


if __name__ == '__main__':
    sys.exit(main([shows_every_kind_of_answer_and_leaves_nothing_behind, a_port_in_use_is_said]))
