#!/usr/bin/env python3
"""What packaging/ ships is fit for those who read it: make, systemd, man, Prometheus, Grafana. A test whose tool is
not on this machine says so and is not counted; `make packaging` installs them all first."""
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from e2e import *

PACKAGING = os.path.join(ROOT, 'packaging')


def ran(*args, **more):
    r = subprocess.run(args, capture_output=True, text=True, timeout=LATE * 3, **more)
    assert r.returncode == 0, '%s: %s%s' % (' '.join(args), r.stdout, r.stderr)
    return r.stdout + r.stderr


def read(*path):
    with open(os.path.join(*path)) as f:
        return f.read()


def install(dest, *more):
    """make install of the program under test, which is not built again: it counts as old as can be."""
    return ran('make', '--no-print-directory', '-C', ROOT, 'MODE=', '-o', 'ollacache', '-o', os.path.basename(OLLACACHE), *more,
               'DESTDIR=' + dest, env={k: v for k, v in os.environ.items() if k not in ('MAKEFLAGS', 'MAKELEVEL', 'MFLAGS')})


def options():
    """Every option, as section.key."""
    return re.findall(r'(?m)^  --([a-z_]+\.[a-z_]+)=', ran(OLLACACHE, '--help'))


def files(dest):
    return sorted(os.path.relpath(os.path.join(d, f), dest) for d, _, fs in os.walk(dest) for f in fs)


def install_and_uninstall(s):
    dest = os.path.join(s.dir, 'dest')
    install(dest, 'PREFIX=/usr', 'install')
    assert files(dest) == ['etc/ollacache/proxy.conf', 'usr/bin/ollacache', 'usr/lib/systemd/system/ollacache.service',
                           'usr/share/man/man1/ollacache.1'], files(dest)
    conf = os.path.join(dest, 'etc/ollacache/proxy.conf')
    assert re.search('(?m)^path = /var/lib/ollacache$', read(conf))
    ran(os.path.join(dest, 'usr/bin/ollacache'), '-t', '-c', conf)
    assert re.search('(?m)^ExecStart=/usr/bin/ollacache ', read(dest, 'usr/lib/systemd/system/ollacache.service'))
    with open(conf, 'a') as f:
        f.write('# mine\n')
    install(dest, 'PREFIX=/usr', 'install')
    assert read(conf).endswith('# mine\n'), 'a second install wrote over the configuration'
    install(dest, 'PREFIX=/usr', 'uninstall')
    assert files(dest) == ['etc/ollacache/proxy.conf'], files(dest)


def unit_is_sound(s):
    """The unit, with a program that exists behind it, and how much of the machine it could still touch."""
    unit = os.path.join(s.dir, 'ollacache.service')
    text = re.sub('(?m)^ExecStart=\\S+', 'ExecStart=' + OLLACACHE, read(PACKAGING, 'ollacache.service'))
    with open(unit, 'w') as f:
        f.write(text)
    said = ran('systemd-analyze', 'verify', '--man=no', unit)
    assert not [x for x in said.splitlines() if 'ollacache.service' in x], said
    exposure = re.search(r'exposure level for \S+ (\d+\.\d+)', ran('systemd-analyze', 'security', '--offline=true', unit))
    assert exposure and float(exposure.group(1)) < 2, exposure
    stop = int(re.search('(?m)^TimeoutStopSec=(\\d+)$', text).group(1))
    drain = re.search('(?m)^drain_timeout = (\\d+)s$', read(ROOT, 'proxy.conf')).group(1)
    assert stop > int(drain), 'systemd would kill it before it has drained'


def man_page_reads_well(s):
    page = os.path.join(PACKAGING, 'ollacache.1')
    assert ran('tests/docs.sh', OLLACACHE, page, cwd=ROOT) == read(page), 'make docs'
    # a page without a mistake makes groff say nothing
    env = dict(os.environ, MANROFFSEQ='', MANWIDTH='80', LC_ALL='C.UTF-8')
    said = subprocess.run(['man', '--warnings', '-l', '-Tutf8', page], capture_output=True, text=True, env=env)
    assert said.returncode == 0 and not said.stderr.strip(), said.stderr
    text = re.sub('.\b|\x1b\\[[0-9;]*m', '', said.stdout)
    lines = text.split('\n')
    assert max(map(len, lines)) <= 80, max(lines, key=len)
    for option in options():
        assert re.search('(?m)^ +%s$' % re.escape(option), text), option + ' is not on the page'


def stats_under_load(s):
    """A running instance that has counted at least a miss and a hit of each kind a single client can make."""
    p = s.proxy(s.fake())
    with p.moved(requests=2, cache_misses=1, exact_cache_hits=1, stored_answers=1):
        for _ in range(2):
            assert p.generate('Why is the sky blue?').status == 200
    return p


def metrics_are_prometheus(s):
    text = stats_under_load(s).get('/metrics').body.decode()
    r = subprocess.run(['promtool', 'check', 'metrics'], input=text, capture_output=True, text=True, timeout=LATE)
    assert r.returncode == 0 and not (r.stdout + r.stderr).strip(), r.stdout + r.stderr


def rules_are_sound(s):
    said = ran('promtool', 'check', 'rules', 'alerts.yml', cwd=PACKAGING)
    assert 'SUCCESS: 9 rules found' in said, said
    assert 'SUCCESS' in ran('promtool', 'test', 'rules', 'alerts_test.yml', cwd=PACKAGING)


def series(text):
    """Names of all time series of an exposition, and the labels each has."""
    out = {}
    for line in text.splitlines():
        m = re.match(r'(ollacache_\w+)(?:\{(.*)\})? ', line)
        if m:
            out.setdefault(m.group(1), set()).update(re.findall(r'(\w+)=', m.group(2) or ''))
    return out


def dashboard_and_rules_name_what_exists(s):
    there = series(stats_under_load(s).get('/metrics').body.decode())
    assert len(there) > 30, there
    board = json.loads(read(PACKAGING, 'grafana.json'))
    exprs = [t['expr'] for p in board['panels'] for t in p.get('targets', [])]
    assert len(exprs) > 25 and all(p.get('targets') for p in board['panels'] if p['type'] != 'row')
    exprs += re.findall(r'(?m)^ +expr: (.*(?:\n {10,}.*)*)', read(PACKAGING, 'alerts.yml'))
    variables = {v['name'] for v in board['templating']['list']} | {'__rate_interval', '__range'}
    for e in exprs:
        for name in re.findall(r'\bollacache_\w+', e):
            assert name in there, '%s is not in /metrics: %s' % (name, e)
        for by, name in re.findall(r'by \(([\w, ]+)\) \((?:rate\()?(ollacache_\w+)', e):
            assert set(by.replace(' ', '').split(',')) <= there[name] | {'instance'}, e
        assert set(re.findall(r'\$\{?(\w+)', e)) <= variables, e
        assert e.count('(') == e.count(')'), e
    query = board['templating']['list'][1]['query']['query']
    assert re.search(r'ollacache_\w+', query).group(0) in there
    assert len({p['id'] for p in board['panels']}) == len(board['panels'])


def dashboard_expressions_parse(s):
    """promtool reads rules only: each expression of the dashboard becomes one."""
    board = json.loads(read(PACKAGING, 'grafana.json'))
    rules = [{'record': 'panel:%d:%s' % (p['id'], t['refId']),
              'expr': t['expr'].replace('$__rate_interval', '5m').replace('$__range', '6h')}
             for p in board['panels'] for t in p.get('targets', [])]
    path = os.path.join(s.dir, 'rules.yml')
    with open(path, 'w') as f:
        json.dump({'groups': [{'name': 'dashboard', 'rules': rules}]}, f)
    assert 'SUCCESS: %d rules found' % len(rules) in ran('promtool', 'check', 'rules', path)


def compose_agrees_with_the_program(s):
    """Every OLLACACHE_… of the container files is an option, and containers are killed later than they drain."""
    known = {'OLLACACHE_' + o.replace('.', '_').upper() for o in options()}
    compose, docker = read(ROOT, 'compose.yaml'), read(ROOT, 'Dockerfile')
    used = set(re.findall(r'(OLLACACHE_[A-Z_]+)[:=]', docker)) | set(re.findall(r'(?m)^ +(OLLACACHE_[A-Z_]+):', compose))
    assert len(used) >= 6 and used <= known, used - known
    grace = int(re.search(r'stop_grace_period: (\d+)s', compose).group(1))
    assert grace > int(re.search(r'OLLACACHE_SERVER_DRAIN_TIMEOUT: (\d+)s', compose).group(1))


def compose_publishes_each_address_once(s):
    """Whatever profiles are chosen, no two services want the same port, and every image has a version."""
    compose = read(ROOT, 'compose.yaml')
    published = re.findall(r'- "\$\{\w+:-([0-9.]+:\d+)\}:\d+"', compose)
    assert len(published) >= 2 and len(set(published)) == len(published), published
    images = [i for i in re.findall(r'(?m)^    image: (.*)$', compose) if i != 'ollacache']
    assert len(images) == 3 and all(re.search(r':v?\d[\w.]*(-\w+)?\}?"?$', i) for i in images), images


def a_container_makes_its_token_once(s):
    """container.sh: none is given, so one is made, kept from others, and used again; one that is given counts."""
    data, bin, seen = (os.path.join(s.dir, x) for x in ('data', 'bin', 'seen'))
    os.mkdir(data), os.mkdir(bin)
    with open(os.path.join(bin, 'ollacache'), 'w') as f:
        f.write('#!/bin/sh\nprintf "%%s\\n" "$OLLACACHE_ADMIN_TOKEN" "$@" >%s\n' % seen)
    os.chmod(os.path.join(bin, 'ollacache'), 0o755)
    env = {'PATH': bin + ':' + os.environ['PATH'], 'OLLACACHE_CACHE_PATH': data, 'OLLACACHE_ADMIN_TOKEN': ''}
    token = os.path.join(data, 'admin-token')

    def start(*args, **more):
        said = ran(os.path.join(PACKAGING, 'container.sh'), *args, env=dict(env, **more))
        return said, read(seen).splitlines()
    said, got = start('--log.level=warn')
    assert re.fullmatch('[0-9a-f]{48}', read(token)) and got == [read(token), '-c', '/etc/ollacache/proxy.conf', '--log.level=warn'], got
    assert os.stat(token).st_mode & 0o777 == 0o600 and token in said and read(token) not in said, said
    said, again = start()
    assert again[0] == got[0] and said == '', (said, again)
    said, given = start(OLLACACHE_ADMIN_TOKEN='mine')
    assert given[0] == 'mine' and said == '', (said, given)
    said, none = start(OLLACACHE_CACHE_PATH=os.path.join(s.dir, 'nowhere'))
    assert none[0] == '' and 'OLLACACHE_ADMIN_TOKEN' in said, (said, none)


needs = {'systemd-analyze': [unit_is_sound], 'man': [man_page_reads_well],
         'promtool': [metrics_are_prometheus, rules_are_sound, dashboard_expressions_parse]}
missing = {t: tool for tool, ts in needs.items() for t in ts if not shutil.which(tool)}
for test, tool in missing.items():
    print('not run, for want of %s (make packaging): %s' % (tool, test.__name__))
main([t for t in (install_and_uninstall, unit_is_sound, man_page_reads_well, metrics_are_prometheus, rules_are_sound,
                  dashboard_and_rules_name_what_exists, dashboard_expressions_parse, compose_agrees_with_the_program,
                  compose_publishes_each_address_once, a_container_makes_its_token_once)
      if t not in missing])
