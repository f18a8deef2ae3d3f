"""Answers around and past cache.max_entry: whole to everybody, never stored, nobody left waiting."""
import os, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

ENTRY = 64 << 10
SMALL = {'cache.max_entry': '64KiB'}
SLACK = 64 << 10          # fetch.c reads a plain reply this far past the limit


def text_of(n):
    return {'fake_text': 'word ' * (n // 5), 'fake_token_bytes': 1000}


def ask(where, prompt, stream, fake, headers=None, model='llama3.2'):
    return where.generate(prompt, headers=headers, model=model, stream=stream, options=fake)


def stream_past_the_limit_is_not_stored(s):
    f = s.fake()
    p = s.proxy(f, SMALL)
    fake = text_of(4 * ENTRY)
    first = ask(p, 'long one', True, fake)
    assert first.whole and first.cache == 'miss', first
    assert len(told(first)['text']) > 2 * ENTRY, len(told(first)['text'])
    second = ask(p, 'long one', True, fake)
    assert second.cache == 'miss', second
    assert told(second)['text'] == told(first)['text']
    assert p.stats()['stored_answers'] == 0


def plain_just_past_the_limit_is_not_stored(s):
    f = s.fake()
    p = s.proxy(f, SMALL)
    fake = text_of(ENTRY + SLACK // 2)
    first = ask(p, 'just past', False, fake)
    assert first.whole and first.cache == 'miss' and len(told(first)['text']) > ENTRY, first
    second = ask(p, 'just past', False, fake)
    assert second.cache == 'miss' and told(second)['text'] == told(first)['text'], second
    assert p.stats()['stored_answers'] == 0


def plain_just_past_the_limit_with_a_tagged_name(s):
    f = s.fake()
    p = s.proxy(f, SMALL)
    fake = text_of(ENTRY + SLACK // 2)
    first = ask(p, 'just past, tagged', False, fake, model='llama3.2@complex=1')
    assert first.status == 200 and len(told(first)['text']) > ENTRY, first
    assert p.stats()['stored_answers'] == 0


def candidates_just_past_the_limit(s):
    f = s.fake()
    p = s.proxy(f, SMALL)
    fake = text_of(ENTRY + SLACK // 2)
    for stream in (True, False):
        first = ask(p, 'just past, complex %s' % stream, stream, fake, headers={'X-Complex': '2'})
        assert first.status == 200 and first.whole and len(told(first)['text']) > ENTRY, first
    assert p.stats()['stored_answers'] == 0


def followers_of_a_plain_one_past_all_limits(s):
    """The leader's passes through; each follower then gets one of its own, not an error."""
    f = s.fake()
    p = s.proxy(f, SMALL)
    fake = dict(text_of(ENTRY + 4 * SLACK), fake_barrier='go', fake_barrier_at=0)
    def one(i):
        if i == 3:
            f.wait('started', 1)
            p.wait_stat('requests', 3)
            f.release('go')
            return None
        return ask(p, 'far past', False, fake)
    replies = [r for r in together(4, one) if r]
    assert [r.status for r in replies] == [200] * 3, replies
    assert len({told(r)['text'] for r in replies}) == 1 and len(told(replies[0])['text']) > ENTRY + SLACK


def follower_of_a_long_stream_after_short_thinking(s):
    """A first piece shorter than what is worth cutting must not keep the second one's read part for ever."""
    f = s.fake()
    p = s.proxy(f, SMALL)
    body = {'model': 'qwen3', 'messages': [{'role': 'user', 'content': 'think, then talk for long'}], 'stream': True,
            'options': dict(text_of(12 * ENTRY), fake_think_tokens=3, fake_barrier='go', fake_barrier_at=1)}
    def one(i):
        if i == 2:
            f.wait('started', 1)
            p.wait_stat('requests', lambda n: n >= 2)
            f.release('go')
            return None
        return p.post('/api/chat', body)
    replies = [r for r in together(3, one) if r]
    assert all(r.whole and r.status == 200 for r in replies), replies
    assert told(replies[0])['text'] == told(replies[1])['text'] and len(told(replies[0])['text']) > 6 * ENTRY
    assert sorted(r.cache for r in replies) == ['joined', 'miss'], [r.cache for r in replies]


def hit_on_a_long_text_comes_in_lines_clients_can_read(s):
    """Ollama's own Go client reads lines of 512 KB at most."""
    f = s.fake()
    p = s.proxy(f)
    fake = text_of(700 << 10)
    first = ask(p, 'a very long text', False, fake)
    assert first.cache == 'miss'
    hit = ask(p, 'a very long text', True, fake)
    assert hit.cache == 'exact' and told(hit)['text'] == told(first)['text'] and len(told(hit)['text']) > 600 << 10
    assert max(len(line) for line in hit.body.split(b'\n')) < 512 << 10


TESTS = [stream_past_the_limit_is_not_stored, plain_just_past_the_limit_is_not_stored, plain_just_past_the_limit_with_a_tagged_name,
         candidates_just_past_the_limit, followers_of_a_plain_one_past_all_limits, follower_of_a_long_stream_after_short_thinking,
         hit_on_a_long_text_comes_in_lines_clients_can_read]
if __name__ == '__main__':
    sys.exit(main(TESTS))
