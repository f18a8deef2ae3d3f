#!/usr/bin/env python3
"""Redis and several workers: what one worker's connection brings late must not stand in place of what is newer."""
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

QUESTION = {'model': 'llama3.2', 'prompt': '[[fresh=1 tokens=1]] which one?', 'stream': False}


class SlowDoor:
    """Between the program and Redis: the first SET after hold() keeps its connection from being passed on until let_go()."""

    def __init__(self, path):
        self.path, self.holds, self.held, self.passed = path, False, None, []
        self.may = threading.Event()
        self.door = socket.create_server(('127.0.0.1', 0))
        self.url = 'redis://127.0.0.1:%d' % self.door.getsockname()[1]
        threading.Thread(target=self.open, daemon=True).start()

    def hold(self):
        self.may.clear()
        self.held, self.passed, self.holds = None, [], True

    def let_go(self):
        self.holds = False
        self.may.set()

    def open(self):
        while True:
            a = self.door.accept()[0]
            b = socket.socket(socket.AF_UNIX)
            try:
                b.connect(self.path)
            except OSError:
                break
            for x in ((a, b, True), (b, a, False)):
                threading.Thread(target=self.pass_on, args=x, daemon=True).start()

    def pass_on(self, a, b, orders):
        try:
            while True:
                data = a.recv(1 << 16)
                if orders and self.holds and b'\r\nSET\r\n' in data:
                    if self.held in (None, a):
                        self.held = a
                        self.may.wait()
                    else:
                        self.passed.append(a)
                if not data:
                    break
                b.sendall(data)
        except OSError:
            pass
        for x in (a, b):
            try:
                x.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def text(r):
    assert r.status == 200, r
    return r.json()['response']


def until(what, late=10):
    end = time.monotonic() + late
    while not what():
        assert time.monotonic() < end, 'it does not come'
        time.sleep(.02)


def stage(s, **more):
    f, r = s.fake(), s.redis()
    door = SlowDoor(r.sock)
    p = s.proxy(f, {'cache.store': 'redis', 'redis.url': door.url, 'redis.timeout': '20s', 'server.workers': 2, 'semantic.enabled': 'off', **more})
    p.ready()
    p.wait_stat('store_up', 1)
    return f, r, door, p


def ask(p, **headers):
    return p.post('/api/generate', QUESTION, headers or None)


def refresh(p):
    return text(ask(p, **{'Cache-Control': 'no-cache'}))


def a_refreshed_answer_is_never_followed_by_the_old_one(s):
    """The client has the new answer, and Redis not yet: every worker gives the new one, also for bytes just seen."""
    f, r, door, p = stage(s)
    old = text(ask(p))
    p.settled()
    for _ in range(20):
        assert text(ask(p)) == old           # both workers remember these bytes
    door.hold()
    new = refresh(p)
    assert new != old
    until(lambda: door.held)
    for i in range(40):
        x = ask(p)
        assert text(x) == new and x.cache in ('exact', 'joined'), (i, x, old, new)
    door.let_go()
    p.settled()
    for i in range(40):
        assert text(ask(p)) == new, i
    assert f.asked() == 2


def of_two_on_their_way_the_later_stays(s):
    """Two answers to one question, on two workers' connections, of which the first is slow."""
    f, r, door, p = stage(s)
    for _ in range(3):
        door.hold()
        last = refresh(p)
        until(lambda: door.held)
        for _ in range(16):
            last = refresh(p)
            time.sleep(.05)
            if door.passed:
                break                        # it came by the other connection, before the first one
        door.let_go()
        p.settled()
        time.sleep(.3)
        for i in range(20):
            assert text(ask(p)) == last, (i, last)


def a_refresh_that_cannot_be_kept_leaves_nothing_old(s):
    f, r, door, p = stage(s)
    old = text(ask(p))
    p.settled()
    r.command('CONFIG', 'SET', 'maxmemory', '1')
    with p.moved(requests=1, bypassed_requests=1, unstored_answers__store=1):
        new = refresh(p)
    until(lambda: text(ask(p)) != old)
    assert text(ask(p)) != old


def it_stops_with_some_on_their_way(s):
    f, r, door, p = stage(s, **{'server.drain_timeout': '1s'})
    door.hold()
    for _ in range(12):
        refresh(p)
    until(lambda: door.held)
    assert p.stop() == 0
    assert 'Assertion' not in p.said() and 'ERROR' not in p.said(), p.said()


if __name__ == '__main__':
    main([a_refreshed_answer_is_never_followed_by_the_old_one, of_two_on_their_way_the_later_stays,
          a_refresh_that_cannot_be_kept_leaves_nothing_old, it_stops_with_some_on_their_way])
