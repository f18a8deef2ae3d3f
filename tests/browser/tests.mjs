// tests.mjs - the dashboard, as a person uses it: it loads under its own policy, shows what is going on, searches, pages,
// explains, deletes, purges, asks for the token, and never takes what somebody typed for markup. Every page is watched: a
// console error, a request to another place, or a policy violation fails the test in which it happened.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import http from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'

const { OLLACACHE, FAKE_OLLAMA, CHROMIUM, SHOTS, MODE } = process.env
const LATE = MODE ? 60000 : 20000
const dir = mkdtempSync(join(tmpdir(), 'browser-'))
const started = []
const tests = []
const test = (name, run) => tests.push({ name, run })
const THREE = ['Які є факультети в ХДУ?', 'Скільки факультетів у Херсонському університеті?', 'Які факультети є в ХДУ?']
const XSS = `<script>document.title='owned'</script><img src=x onerror="document.title='owned'">"'&`

const freePort = () => new Promise((ok, no) => {
  const s = createServer().once('error', no).listen(0, '127.0.0.1', () => { const { port } = s.address(); s.close(() => ok(port)) })
})
async function until(what, why) {
  const end = Date.now() + LATE
  for (;;) {
    const v = await what()
    if (v) return v
    assert.ok(Date.now() < end, `in vain: ${why}`)
    await new Promise(ok => setTimeout(ok, 50))
  }
}
function start(program, ...args) {
  const p = spawn(program, args, { stdio: 'ignore', cwd: dir })
  started.push(p)
  return p
}
async function startFake(name = 'fake') {
  const file = join(dir, 'port-' + name)
  const control = `127.0.0.1:${await freePort()}`
  start(FAKE_OLLAMA, '--listen', '127.0.0.1:0', '--port-file', file, '--control', control)
  await until(() => existsSync(file) && readFileSync(file, 'utf8').trim(), 'the fake upstream starts')
  const url = `http://127.0.0.1:${readFileSync(file, 'utf8').trim()}`
  orders.set(url, order => fetch(`http://${control}/fake/${order}`, { method: 'POST' }).then(r => assert.equal(r.status, 200, order)))
  return url
}
const orders = new Map()                                 // how to reach a fake that refuses everybody else
async function startProxy(name, fake, ...options) {
  const url = options[0]?.startsWith('http') ? options.shift() : `http://127.0.0.1:${await freePort()}`
  const p = start(OLLACACHE, `--server.listen=${url.slice(7)}`, `--upstream.url=${fake}`, `--cache.path=${join(dir, name)}`, '--server.workers=2', ...options)
  await until(async () => {
    assert.equal(p.exitCode, null, 'the proxy ended')
    return (await fetch(`${url}/ollacache/ready`).catch(() => null))?.status === 200
  }, 'the proxy is ready')
  return { url, process: p }
}
async function ask(url, text, headers = {}, stream = false) {
  const r = await fetch(`${url}/api/chat`, { method: 'POST', headers, body: JSON.stringify({ model: 'llama3.2', stream, messages: [{ role: 'user', content: text }] }) })
  await r.text()
  return r.headers.get('x-cache')
}
const stats = async url => (await fetch(`${url}/ollacache/stats`)).json()
const stored = (url, n) => until(async () => (await stats(url)).stored_answers >= n, `${n} answers are stored`)

let browser, fake, wrong
async function open(url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 1000 }, ...options })
  const page = await context.newPage()
  page.setDefaultTimeout(LATE)
  page.on('console', m => { if (['error', 'warning'].includes(m.type()) && !(options.refusals && /status of 40[13]/.test(m.text()))) wrong.push(`console: ${m.text()}`) })
  page.on('pageerror', e => wrong.push(`page: ${e.message}`))
  page.on('request', r => { if (!r.url().startsWith(url) && !r.url().startsWith('data:')) wrong.push(`asked for ${r.url()}`) })
  await page.addInitScript(() => document.addEventListener('securitypolicyviolation', e => console.error('policy: ' + e.violatedDirective + ' ' + e.blockedURI)))
  await page.goto(url + (options.path || '/ollacache/'))
  return page
}
const text = (page, id) => page.locator(id).innerText()
const shows = (page, id, what) => until(async () => { const t = await text(page, id); return what instanceof RegExp ? what.test(t) : t.includes(what) }, `${id} shows ${what}`)

test('loads under its policy, alone, light and dark, wide and narrow', async () => {
  const { url } = await startProxy('looks', fake)
  await ask(url, THREE[0])
  await stored(url, 1)
  for (const [colorScheme, width] of [['light', 1360], ['dark', 1360], ['light', 390], ['dark', 320]]) {
    const page = await open(url, { colorScheme, viewport: { width, height: 900 } })
    await shows(page, '#version', 'up')
    await shows(page, '#pills', 'embedded store')
    await shows(page, '#entries', THREE[0])
    const { wide, background } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, background: getComputedStyle(document.body).backgroundColor }))
    assert.ok(wide <= width, `${width} px wide, and the page needs ${wide}`)
    const light = background.match(/\d+/g).slice(0, 3).every(c => +c > 128)
    assert.equal(light, colorScheme === 'light', background)
    if (SHOTS) await page.screenshot({ path: join(SHOTS, `page-${colorScheme}-${width}.png`), fullPage: true })
    await page.context().close()
  }
  const r = await fetch(`${url}/ollacache`, { redirect: 'manual' })
  assert.equal(r.headers.get('location'), 'ollacache/')
})

test('shows live numbers, what runs, and charts', async () => {
  const { url } = await startProxy('live', fake)
  const page = await open(url)
  await shows(page, '#k-requests', '0')
  await shows(page, '#running', 'Nothing runs')
  for (let i = 0; i < 3; i++) await ask(url, 'What is the capital of France?', { 'X-Fake': 'eval_ns=30000000000' })
  await shows(page, '#k-requests', '3')
  await shows(page, '#k-rate', '66.7')
  await shows(page, '#k-gpu', /1\.0\s*min/)
  await shows(page, '#k-hit', /(µs|ms)/)
  const slow = ask(url, 'a slow one', { 'X-Fake': 'barrier=slow' }, true)
  await shows(page, '#running', 'llama3.2')
  await shows(page, '#running', 'miss')
  await fetch(`${fake}/fake/release?barrier=slow`, { method: 'POST' })
  await slow
  await shows(page, '#running', 'Nothing runs')
  await until(() => page.locator('#chart-kinds rect.exact').count(), 'the chart has a bar')
  await page.locator('#seg-mode button[data-v=share]').click()
  assert.match(await page.locator('#chart-kinds svg').textContent(), /100%/)
  const box = await page.locator('#chart-kinds svg').boundingBox()
  await page.mouse.move(box.x + box.width - 10, box.y + 60)
  await shows(page, '#chart-kinds .tip', 'exact')
})

test('tells when the proxy has gone, and goes on when it is back', async () => {
  const { url, process: p } = await startProxy('gone', fake)
  const page = await open(url)
  await shows(page, '#version', 'up')
  p.kill('SIGKILL')
  await until(() => page.locator('#lost').isVisible(), 'it says so')
  await startProxy('gone', fake, url)
  await until(async () => !await page.locator('#lost').isVisible(), 'it is well again')
  wrong = wrong.filter(w => !/ERR_CONNECTION|ERR_EMPTY/.test(w))
})

test('searches, filters, pages', async () => {
  const { url } = await startProxy('search', fake)
  for (let i = 0; i < 60; i++) await ask(url, `Запитання номер ${i} про їжаків`, i < 5 ? { 'X-Cache-Namespace': 'team-a' } : {})
  await stored(url, 60)
  const page = await open(url)
  await until(async () => await page.locator('#entries tbody tr').count() === 25, 'the first page')
  const seen = new Set()
  for (let n = 0; n < 3; n++) {
    for (const id of await page.locator('#entries tbody tr').evaluateAll(rows => rows.map(r => r.dataset.id))) seen.add(id)
    if (n < 2) {
      await page.locator('#next').click()
      await shows(page, '#pager-note', `${25 * n + 26}–${Math.min(60, 25 * n + 50)} of 60`)
    }
  }
  assert.equal(seen.size, 60)
  assert.equal(await page.locator('#next').isDisabled(), true)
  await page.locator('#prev').click()
  await shows(page, '#pager-note', '26–50 of 60')
  await page.locator('#first').click()
  await shows(page, '#pager-note', '1–25 of 60')
  await page.locator('#s-q').fill('НОМЕР 17 ПРО')
  await page.locator('#s-q').press('Enter')
  await until(async () => await page.locator('#entries tbody tr').count() === 1, 'one is found')
  await shows(page, '#entries', 'номер 17')
  await page.locator('#s-q').fill('')
  await page.locator('#s-space').fill('team-*')
  await page.locator('#s-space').press('Enter')
  await until(async () => await page.locator('#entries tbody tr').count() === 5, 'a namespace')
  await page.locator('#s-q').fill('немає такого')
  await page.locator('#s-q').press('Enter')
  await shows(page, '#entries', 'Nothing matches')
})

test('shows, deletes and purges', async () => {
  const { url } = await startProxy('purge', fake)
  await ask(url, 'keep me', { 'X-Fake': 'text=+kept_answer' })
  await ask(url, 'drop me', { 'X-Cache-Namespace': 'team-a' })
  await ask(url, 'drop me too', { 'X-Cache-Namespace': 'team-a' })
  await ask(url, 'delete me')
  await stored(url, 4)
  const page = await open(url)
  await page.locator('#entries button.link', { hasText: 'keep me' }).click()
  await shows(page, '#dialog', 'kept answer')
  await page.locator('#dialog button', { hasText: 'Close' }).click()
  await page.locator('#entries tr', { hasText: 'delete me' }).locator('td.act button').click()
  await shows(page, '#dialog', 'delete me')
  await page.locator('#dialog button', { hasText: 'Cancel' }).click()
  assert.equal((await stats(url)).store_entries, 4, 'nothing is deleted without a yes')
  await page.locator('#entries tr', { hasText: 'delete me' }).locator('td.act button').click()
  await page.locator('#delete-yes').click()
  await until(async () => await page.locator('#entries tbody tr').count() === 3, 'one less')
  assert.equal(await ask(url, 'delete me', { 'Cache-Control': 'only-if-cached' }), 'miss')
  await page.locator('#s-space').fill('team-a')
  await page.locator('#purge').click()
  await shows(page, '#dialog', 'namespace team-a')
  await page.locator('#dialog button', { hasText: 'Cancel' }).click()
  assert.equal((await stats(url)).store_entries, 3)
  await page.locator('#purge').click()
  await page.locator('#purge-yes').click()
  await shows(page, '#purged', '2 entries')
  await page.locator('#dialog button', { hasText: 'Close' }).click()
  await page.locator('#s-space').fill('')
  await page.locator('#search button[type=submit]').click()
  await until(async () => await page.locator('#entries tbody tr').count() === 1, 'what is left')
  await page.locator('#purge').click()
  await shows(page, '#dialog', 'every stored entry')
  await page.locator('#purge-yes').click()
  await shows(page, '#purged', '1 entry')
  await shows(page, '#entries', 'Nothing is stored')
})

test('explains a hit, a guard and a bypass', async () => {
  const { url } = await startProxy('explain', fake)
  await ask(url, THREE[0])
  await ask(url, 'How do I enable the firewall on Debian?')
  await stored(url, 2)
  const page = await open(url)
  const explain = async (question, would) => {
    await page.locator('#x-question').fill(question)
    await page.locator('#explain button[type=submit]').click()
    await shows(page, '#would', would)
  }
  await explain(THREE[1], 'semantic')
  await shows(page, '#explained', THREE[0])
  await shows(page, '#explained', 'no guard forbids')
  if (SHOTS) await page.locator('#explain').locator('..').screenshot({ path: join(SHOTS, 'explain.png') })
  await explain(THREE[0], 'exact')
  await explain('How do I disable the firewall on Debian?', 'miss')
  await shows(page, '#explained', 'opposites')
  await page.locator('#explain summary').click()
  await page.locator('#x-headers').fill('Cache-Control: no-store')
  await page.locator('#explain button[type=submit]').click()
  await shows(page, '#would', 'bypass')
  await page.locator('#x-headers').fill('')
  await page.locator('#x-body').fill('{"model": 3')
  await page.locator('#explain button[type=submit]').click()
  await shows(page, '#explained', 'the body is not JSON')
  assert.equal((await stats(url)).requests, 2, 'explaining counts as no request')
})

test('recent semantic hits', async () => {
  const { url } = await startProxy('recent', fake)
  const page = await open(url)
  await shows(page, '#recent', 'None yet')
  await ask(url, THREE[0])
  await stored(url, 1)
  assert.equal(await ask(url, THREE[1]), 'semantic')
  await shows(page, '#recent', THREE[1])
  await shows(page, '#recent', '0.9')
  await page.locator('#recent button.link').click()
  await shows(page, '#dialog h2', THREE[0])
})

test('asks for the token, and keeps it for the session only', async () => {
  const { url } = await startProxy('token', fake, '--admin.token=open-sesame-42')
  await ask(url, 'behind the token')
  await stored(url, 1)
  const page = await open(url, { refusals: true })
  await shows(page, '#ask-why', 'need the admin token')
  await shows(page, '#k-requests', '1')
  assert.ok(!(await text(page, '#entries')).includes('behind'))
  await page.locator('#ask-token').fill('wrong')
  await page.locator('#ask-form button').click()
  await shows(page, '#ask-why', 'not accepted')
  await page.locator('#ask-token').fill('open-sesame-42')
  await page.locator('#ask-form button').click()
  await shows(page, '#entries', 'behind the token')
  await until(async () => !await page.locator('#ask').isVisible(), 'it asks no more')
  await shows(page, '#running', 'Nothing runs')
  await page.reload()
  await shows(page, '#entries', 'behind the token')
  const kept = await page.evaluate(() => [Object.keys(localStorage).length, document.cookie, Object.values(sessionStorage)])
  assert.deepEqual(kept, [0, '', ['open-sesame-42']])
  await page.locator('#x-question').fill('behind the token')
  await page.locator('#explain button[type=submit]').click()
  await shows(page, '#would', 'exact')
  await page.context().close()
  const other = await open(url, { refusals: true })
  await shows(other, '#ask-why', 'need the admin token')
})

test('what somebody typed is text wherever it shows', async () => {
  const { url } = await startProxy('xss', fake)
  const model = { 'X-Cache-Namespace': '<b>team</b>', 'X-Fake': `text=+${XSS.replace(/ /g, '_')}` }
  await ask(url, XSS, model)
  await stored(url, 1)
  const page = await open(url)
  await shows(page, '#entries', XSS)
  await page.locator('#entries button.link').click()
  await shows(page, '#dialog h2', XSS)
  await shows(page, '#answer', '<script>')
  await shows(page, '#dialog', '<b>team</b>')
  await page.locator('#dialog button', { hasText: 'Close' }).click()
  await page.locator('#x-question').fill(XSS)
  await page.locator('#explain button[type=submit]').click()
  await until(() => page.locator('#would').count(), 'explained')
  await page.locator('#s-q').fill('<img')
  await page.locator('#s-q').press('Enter')
  await shows(page, '#entries', XSS)
  await page.locator('#s-model').fill(XSS)
  await page.locator('#purge').click()
  await shows(page, '#dialog', '<script>')
  await page.locator('#dialog button', { hasText: 'Cancel' }).click()
  await fetch(`${url}/api/chat`, { method: 'POST', body: JSON.stringify({ model: XSS, messages: [{ role: 'user', content: 'x' }] }) }).then(r => r.text())
  assert.equal(await page.title(), 'ollacache')
  assert.equal(await page.locator('main img, dialog img, main script, main b:not([id]):not(.legend b):not(.tip b)').count(), 0)
})

// ---- when something is down ----

test('failures are a figure and a series of their own, and a banner says what is down, since when and why', async () => {
  const other = await startFake('doomed')
  const { url } = await startProxy('down', other, '--upstream.health_interval=1s')
  const page = await open(url)
  for (let i = 0; i < 3; i++) await ask(url, `before ${i}`, { 'X-Fake': 'first_ms=300' })
  await shows(page, '#k-requests', '3')
  await shows(page, '#k-hit-note', 'miss')
  const misses = async () => (await (await fetch(`${url}/ollacache/history`)).json()).spans['1h'].first_byte_miss_ms
  const slow = await misses()
  assert.equal(await page.locator('#banners .banner').count(), 0)
  assert.ok(!await page.locator('#kpi-failed.bad').count())
  await orders.get(other)('down?mode=refuse')
  for (let i = 0; i < 9; i++) await ask(url, `after ${i}`)
  await shows(page, '#k-failed', /^9$/)
  await until(() => page.locator('#kpi-failed.bad').count(), 'the figure is red')
  await shows(page, '#k-failed-note', '75% of requests')
  await until(() => page.locator('#chart-kinds rect.failed').count(), 'the chart has a red bar')
  await shows(page, '#legend-kinds', /miss\s*3[^]*failed\s*9/)
  assert.equal(await misses(), slow, 'misses do not look quicker')
  await shows(page, '#banners', `Upstream ${other} is down`)
  await shows(page, '#banners', 'No upstream is left')
  await shows(page, '#banners', /since \d\d:\d\d:\d\d[^]*cause: the connection was refused/)
  await page.locator('#seg-lang button[data-v=uk]').click()
  await shows(page, '#banners', /з \d\d:\d\d:\d\d[^]*причина: у з’єднанні відмовлено/)
  await page.locator('#seg-lang button[data-v=en]').click()
  await shows(page, '#announce', 'is down')
  await shows(page, '#pills', 'down')
  await shows(page, '#last', 'the upstream could not be reached')
  await shows(page, '#by-upstream', 'down')
  await page.locator('#seg-last button[data-v=failed]').click()
  await until(async () => await page.locator('#last tbody tr').count() === 8 && await page.locator('#last .tag.failed').count() === 8, 'only what failed')
  await contrast(page)
  if (SHOTS) await page.screenshot({ path: join(SHOTS, 'down.png') })
  await orders.get(other)('up')
  await until(async () => await page.locator('#banners .banner').count() === 0, 'all is well again')
})

test('one of two upstreams is down: the banner names it, and says that the other goes on', async () => {
  const other = await startFake('half')
  const { url } = await startProxy('half', `${fake},${other}`, '--upstream.health_interval=1s')
  const page = await open(url)
  await orders.get(other)('down?mode=refuse')
  await shows(page, '#banners', `Upstream ${other} is down`)
  await shows(page, '#banners', 'Requests go to the others')
  assert.equal(await page.locator('#banners .banner').count(), 1)
})

test('says that nothing has been asked yet', async () => {
  const { url } = await startProxy('empty', fake)
  const page = await open(url)
  for (const [id, what] of [['#k-requests', /^0$/], ['#k-rate', '–'], ['#chart-kinds', 'No requests in this time'], ['#running', 'Nothing runs'], ['#last', 'No request yet'], ['#by-model', 'No model was asked yet'], ['#recent', 'None yet'], ['#entries', 'Nothing is stored'], ['#k-failed', /^0$/]]) await shows(page, id, what)
  assert.ok(!/NaN|undefined|null|Infinity/.test(await page.locator('body').innerText()))
})

test('who waits in line for an upstream is seen', async () => {
  const { url } = await startProxy('queue', fake, '--upstream.max_in_flight=1')
  const page = await open(url)
  const both = [ask(url, 'first in line', { 'X-Fake': 'barrier=line' }, true), ask(url, 'second in line', { 'X-Fake': 'barrier=line' }, true)]
  await shows(page, '#running-note', '1 waiting in line')
  await shows(page, '#running', 'waits in line')
  await fetch(`${fake}/fake/release?barrier=line`, { method: 'POST' })
  await Promise.all(both)
  await until(async () => !await page.locator('#queue').count(), 'nobody waits')
})

// ---- what it shows ----

test('one span for figures and charts, with round and honest axes', async () => {
  const { url } = await startProxy('span', fake)
  const page = await open(url)
  for (let i = 0; i < 27; i++) await ask(url, `q ${i % 20}`)
  await shows(page, '#k-requests', '27')
  for (const [span, says, per] of [['15m', 'last 15 minutes', /requests per (10|30)\ss/], ['1h', 'last hour', /requests per (30\ss|1\smin)/], ['24h', 'last 24 hours', /requests per (5|15|30)\smin/]]) {
    await page.locator(`#seg-span button[data-v="${span}"]`).click()
    await shows(page, '#span-note', says)
    await shows(page, '#k-requests', '27')
    await shows(page, '#legend-kinds', /exact\s*7[^]*miss\s*20/)
    assert.match(await page.locator('#chart-kinds svg').getAttribute('aria-label'), new RegExp(`${says}: exact 7`))
    assert.match(await page.locator('#chart-kinds svg').textContent(), per)
    const ticks = (await page.locator('#chart-kinds svg text').allTextContents()).filter(x => /^\d+$/.test(x)).map(Number)
    const step = ticks[1] - ticks[0]
    assert.ok([1, 2, 5, 10, 20, 25, 50].includes(step) && ticks.every((v, i) => v === i * step), `the scale has ${ticks}`)
    const times = (await page.locator('#chart-kinds svg text').allTextContents()).filter(x => /^\d\d:\d\d$/.test(x))
    assert.ok(times.length >= 2 && times.every(x => +x.slice(3) % { '15m': 1, '1h': 5, '24h': 60 }[span] === 0), `the times are ${times}`)
  }
  await page.reload()
  await shows(page, '#span-note', 'last 24 hours')
})

test('the last requests with result and why, by model and by upstream, and an embedding by its text', async () => {
  const { url } = await startProxy('last', fake)
  const page = await open(url)
  await ask(url, 'once')
  await stored(url, 1)
  await ask(url, 'once')
  await ask(url, 'once', { 'Cache-Control': 'no-store' })
  await fetch(`${url}/api/embed`, { method: 'POST', body: JSON.stringify({ model: 'nomic-embed-text', input: ['a text to embed', 'another'] }) }).then(r => r.text())
  await fetch(`${url}/api/chat`, { method: 'POST', body: JSON.stringify({ model: '<i>hostile</i>', messages: [{ role: 'user', content: 'x' }] }) }).then(r => r.text())
  await fetch(`${url}/api/version`).then(r => r.text())
  const rows = () => page.locator('#last tbody tr').evaluateAll(all => all.map(r => [...r.children].slice(1, 6).map(c => c.textContent).join(' | ')))
  await until(async () => (await rows()).length === 6, 'six rows')
  assert.deepEqual(await rows(), [
    'GET /api/version |  | passed | 200 | ',
    'POST /api/chat | <i>hostile</i> | refused | 404 | no upstream is known to have this model',
    'POST /api/embed | nomic-embed-text | miss | 200 | ',
    'POST /api/chat | llama3.2 | bypass | 200 | the client asked for no-store',
    'POST /api/chat | llama3.2 | exact | 200 | ',
    'POST /api/chat | llama3.2 | miss | 200 | ',
  ])
  await page.locator('#seg-last button[data-v=asked]').click()
  await until(async () => (await rows()).length === 5, 'without what was passed')
  const models = await page.locator('#by-model tbody tr').evaluateAll(all => all.map(r => [...r.children].slice(0, 5).map(c => c.textContent).join(' | ')))
  assert.deepEqual(models, ['llama3.2 | 3 | 50% | 1 | 0', 'nomic-embed-text | 1 | 0% | 1 | 0', 'others, or never served | 1 | – | 0 | 0'])
  await shows(page, '#by-upstream', /127\.0\.0\.1:\d+[^]*up/)
  await stored(url, 2)
  await page.locator('#search button[type=submit]').click()
  await shows(page, '#entries', 'a text to embed')
  await page.locator('#entries button.link', { hasText: 'a text to embed' }).click()
  await shows(page, '#dialog h2', 'a text to embed')
})

test('entries: newest first, and by every column either way', async () => {
  const { url } = await startProxy('sort', fake)
  for (const [text, tokens, ttl] of [['first', 9, 3000], ['second', 200, 9000], ['third', 50, 600]]) {
    await ask(url, text, { 'X-Fake': `tokens=${tokens}`, 'X-Cache-TTL': String(ttl) })
    await stored(url, ['first', 'second', 'third'].indexOf(text) + 1)
  }
  await ask(url, 'first')
  const page = await open(url)
  const names = () => page.locator('#entries td.q button').allTextContents()
  const ordered = (...want) => until(async () => JSON.stringify(await names()) === JSON.stringify(want), want.join())
  await ordered('third', 'second', 'first')
  await shows(page, '#entries-note', '3 entries')
  assert.equal(await page.locator('#entries th[aria-sort]').getAttribute('aria-sort'), 'ascending')
  const by = name => page.locator(`#entries th button[data-by=${name}]`).click()
  await by('bytes')
  await ordered('second', 'third', 'first')
  await by('bytes')
  await ordered('first', 'third', 'second')
  await by('expires')
  await ordered('third', 'first', 'second')
  await by('hits')
  await until(async () => (await names())[0] === 'first', 'the one that was hit')
  assert.equal(await page.evaluate(() => document.activeElement.dataset.by), 'hits', 'the focus stays where it was')
  await by('created')
  await ordered('third', 'second', 'first')
  await by('created')
  await ordered('first', 'second', 'third')
})

// ---- for everybody ----

// Every visible text against what is behind it (WCAG 2.1, 1.4.3); what is disabled is exempt.
async function contrast(page) {
  const poor = await page.evaluate(() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true })
    const read = text => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data] }
    const light = c => [0, 1, 2].map(i => c[i] / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0)
    const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05) }
    const behind = e => {
      for (let at = e; at; at = at.parentElement) {
        const style = getComputedStyle(at), stops = style.backgroundImage.match(/rgba?\([^)]*\)/g)
        if (stops) return stops.map(read)
        const c = read(style.backgroundColor)
        if (c[3] === 255) return [c]
      }
      return [[255, 255, 255, 255]]
    }
    const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    let n = 0
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const e = node.parentElement, style = getComputedStyle(e)
      if (!node.textContent.trim() || e.closest('script, option, [hidden], :disabled, .sr, .skip') || !e.getClientRects().length) continue
      const ink = read(e instanceof SVGElement ? style.fill : style.color), worst = Math.min(...behind(e).map(b => ratio(ink, b)))
      n++
      if (worst < 4.5) found.push(`${worst.toFixed(2)} ${e.tagName}.${e.className.baseVal ?? e.className}: ${node.textContent.trim().slice(0, 40)}`)
    }
    // marks in charts: 3 to 1 (1.4.11)
    for (const mark of document.querySelectorAll('.legend i')) {
      const r = Math.min(...behind(mark.closest('.card')).map(b => ratio(read(getComputedStyle(mark).backgroundColor), b)))
      if (r < 3) found.push(`${r.toFixed(2)} mark ${mark.className}`)
    }
    return n < 60 ? [`only ${n} texts were looked at`] : found
  })
  assert.deepEqual(poor, [])
}

// What a screen reader needs: every control has a name, every id is there once, tables have heads, the language is said.
async function readable(page) {
  const wrong = await page.evaluate(() => {
    const found = [], ids = new Set()
    for (const e of document.querySelectorAll('[id]')) {
      if (ids.has(e.id)) found.push('twice: ' + e.id)
      ids.add(e.id)
    }
    for (const e of document.querySelectorAll('button, input, select, textarea, svg[role=img]')) if (!(e.getAttribute('aria-label') || e.textContent.trim())) found.push('without a name: ' + e.outerHTML.slice(0, 80))
    for (const e of document.querySelectorAll('[aria-labelledby]')) if (e.tagName !== 'DIALOG' && !document.getElementById(e.getAttribute('aria-labelledby')).textContent.trim()) found.push('label: ' + e.outerHTML.slice(0, 80))
    for (const e of document.querySelectorAll('table')) if (e.querySelectorAll('th[scope=col]').length !== e.querySelector('tbody tr').children.length) found.push('a table without heads')
    for (const e of document.querySelectorAll('[data-t]')) if (!e.textContent || e.textContent === e.dataset.t) found.push('no text: ' + e.dataset.t)
    return found
  })
  assert.deepEqual(wrong, [])
}

async function busy(name) {
  const proxy = await startProxy(name, fake)
  await ask(proxy.url, THREE[0], { 'X-Fake': 'eval_ns=20000000000' })
  await stored(proxy.url, 1)
  await ask(proxy.url, THREE[0])
  await ask(proxy.url, THREE[1])
  await ask(proxy.url, 'x', { 'Cache-Control': 'no-store' })
  await ask(proxy.url, 'x', { 'X-Fake': 'status=500' })
  await ask(proxy.url, 'x', { 'Cache-Control': 'only-if-cached' })
  return proxy
}

test('contrast and labels, light and dark, in both languages', async () => {
  const { url } = await busy('contrast')
  for (const colorScheme of ['light', 'dark']) for (const locale of ['en-US', 'uk-UA']) {
    const page = await open(url, { colorScheme, locale })
    await until(() => page.locator('#entries tbody tr').count(), 'entries')
    await until(() => page.locator('#recent tbody tr').count(), 'hits')
    await until(() => page.locator('#chart-kinds rect.failed').count(), 'charts')
    await page.locator('#x-question').fill('Скільки кафедр у ХДУ?')
    await page.locator('#explain button[type=submit]').click()
    await until(() => page.locator('#would').count(), 'explained')
    await until(() => page.locator('#explained .nearest').count(), 'what is near')
    await page.locator('#chart-kinds svg').focus()
    await page.keyboard.press('End')
    await until(() => page.locator('#chart-kinds .tip').isVisible(), 'the tip')
    await contrast(page)
    await readable(page)
    await page.locator('#entries button.link').first().click()
    await until(() => page.locator('#answer').isVisible(), 'the answer')
    await contrast(page)
    await page.context().close()
  }
})

test('Ukrainian and English: by the browser, by a switch, and remembered', async () => {
  const { url } = await busy('languages')
  const page = await open(url, { locale: 'uk-UA' })
  assert.equal(await page.evaluate(() => document.documentElement.lang), 'uk')
  await shows(page, '#h-kinds', 'Запити за результатом')
  await shows(page, '#k-rate', /\d,\d/)
  await shows(page, '#last', 'клієнт попросив no-store')
  await shows(page, '#last', 'помилка самого сервера')
  await shows(page, '#by-upstream', 'працює')
  await page.locator('#x-question').fill(THREE[2])
  await page.locator('#explain button[type=submit]').click()
  await shows(page, '#would', 'схоже')
  await shows(page, '#explained', 'запобіжники не заперечують')
  // no English word is left but names, units and what was typed
  const english = await page.evaluate(() => [...document.querySelectorAll('h2, .note, dt, th, label, button, .kpi em, .legend li, summary, #span-note, #pager-note')].map(e => e.textContent).filter(x => /[a-z]{4,}/i.test(x.replace(/ollacache|GPU|API|JSON|KiB/g, ''))).filter(x => !/english|ENG/i.test(x)))
  assert.deepEqual(english, [])
  await page.locator('#seg-lang button[data-v=en]').click()
  await shows(page, '#h-kinds', 'Requests by result')
  await shows(page, '#would', 'semantic')
  await shows(page, '#last', 'the client asked for no-store')
  await page.reload()
  await shows(page, '#h-kinds', 'Requests by result')
  const kept = await page.evaluate(() => Object.entries(localStorage))
  assert.deepEqual(kept, [['ollacache.lang', 'en']])
  // every text is there in both languages, with the same values in it
  const differ = await page.evaluate(() => {
    const names = x => JSON.stringify([...new Set([...JSON.stringify(x).matchAll(/\{(\w+)\}/g)].map(m => m[1]))].sort())
    return [...new Set([...Object.keys(TEXTS.en), ...Object.keys(TEXTS.uk)])].filter(k => !TEXTS.en[k] || !TEXTS.uk[k] || names(TEXTS.en[k]) !== names(TEXTS.uk[k]))
  })
  assert.deepEqual(differ, [])
})

test('on a phone, in both languages, light and dark', async () => {
  const { url } = await busy('phone')
  for (const [width, locale, colorScheme] of [[390, 'uk-UA', 'light'], [320, 'en-US', 'dark'], [360, 'uk-UA', 'dark']]) {
    const page = await open(url, { locale, colorScheme, viewport: { width, height: 800 } })
    await until(() => page.locator('#entries tbody tr').count(), 'entries')
    await until(() => page.locator('#last tbody tr').count(), 'requests')
    await page.locator('#x-question').fill('Скільки кафедр у ХДУ?')
    await page.locator('#explain button[type=submit]').click()
    await until(() => page.locator('#would').count(), 'explained')
    const wide = await page.evaluate(() => document.documentElement.scrollWidth)
    assert.ok(wide <= width, `${width} px wide, and the page needs ${wide}`)
    const cut = await page.evaluate(() => [...document.querySelectorAll('.kpi b, h2, .seg, .btn')].filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth).map(e => e.outerHTML.slice(0, 90)))
    assert.deepEqual(cut, [], 'something is cut off')
    await contrast(page)
    if (SHOTS) await page.screenshot({ path: join(SHOTS, `phone-${locale}-${width}.png`), fullPage: true })
    await page.context().close()
  }
})

test('with the keyboard alone', async () => {
  const { url } = await busy('keyboard')
  const page = await open(url)
  await until(() => page.locator('#entries tbody tr').count(), 'entries')
  const focus = () => page.evaluate(() => { const e = document.activeElement; return e.id || e.dataset.v || e.textContent.trim() || e.tagName })
  await page.keyboard.press('Tab')
  assert.equal(await focus(), 'Skip to the figures')
  await page.keyboard.press('Enter')
  await page.keyboard.press('Tab')
  assert.equal(await focus(), '15m')
  await page.keyboard.press('Enter')
  await shows(page, '#span-note', 'last 15 minutes')
  // a chart is walked through with arrows
  await page.locator('#chart-kinds svg').focus()
  await page.keyboard.press('End')
  await shows(page, '#chart-kinds .tip', 'exact')
  await page.keyboard.press('ArrowLeft')
  await page.keyboard.press('Escape')
  assert.equal(await page.locator('#chart-kinds .tip').isVisible(), false)
  await page.waitForTimeout(5500)
  assert.equal(await page.evaluate(() => document.activeElement.tagName), 'svg', 'what is drawn anew keeps the focus')
  // a table in which somebody works is left alone
  await page.locator('#recent button.link').focus()
  await page.waitForTimeout(4500)
  assert.equal(await focus(), THREE[0])
  await page.keyboard.press('Enter')
  await until(() => page.locator('#dialog').isVisible(), 'the entry')
  await page.keyboard.press('Escape')
  assert.equal(await page.locator('#dialog').isVisible(), false)
  await page.locator('#entries th button[data-by=bytes]').focus()
  await page.keyboard.press('Enter')
  await until(() => page.locator('#entries th[aria-sort=descending] button[data-by=bytes]').count(), 'sorted')
  await page.locator('#entries td.act button').first().focus()
  await page.keyboard.press('Enter')
  await until(() => page.locator('#delete-yes').isVisible(), 'it asks')
  await page.keyboard.press('Tab')
  await page.keyboard.press('Enter')
  await until(async () => await page.locator('#entries tbody tr').count() === 0, 'deleted')
})

// A front that takes a prefix off, as nginx does with `location /ollama/ { proxy_pass http://…/; }`.
async function startFront(url, prefix) {
  const server = http.createServer((q, r) => {
    if (!q.url.startsWith(prefix + '/')) { r.writeHead(404); return r.end('nothing here') }
    const up = http.request(url + q.url.slice(prefix.length), { method: q.method, headers: { ...q.headers, 'X-Forwarded-For': '203.0.113.7' } }, a => { r.writeHead(a.statusCode, a.headers); a.pipe(r) })
    up.on('error', () => r.destroy())
    q.pipe(up)
  })
  const port = await freePort()
  await new Promise(ok => server.listen(port, '127.0.0.1', ok))
  fronts.push(server)
  return `http://127.0.0.1:${port}`
}
const fronts = []

test('works behind a prefix', async () => {
  const { url } = await startProxy('prefix', fake, '--admin.token=open-sesame-42')
  await ask(url, 'behind a prefix')
  await stored(url, 1)
  const front = await startFront(url, '/ai/ollama')
  const page = await open(front, { refusals: true, path: '/ai/ollama/ollacache' })
  assert.equal(new URL(page.url()).pathname, '/ai/ollama/ollacache/')
  await shows(page, '#k-requests', '1')
  await page.locator('#ask-token').fill('open-sesame-42')
  await page.locator('#ask-form button').click()
  await shows(page, '#entries', 'behind a prefix')
  await page.locator('#entries button.link').click()
  await until(() => page.locator('#answer').isVisible(), 'the answer')
  await page.keyboard.press('Escape')
  await page.locator('#x-question').fill('behind a prefix')
  await page.locator('#explain button[type=submit]').click()
  await shows(page, '#would', 'exact')
  await page.locator('#entries td.act button').click()
  await page.locator('#delete-yes').click()
  await shows(page, '#entries', 'Nothing is stored')
})

const words = process.argv.slice(2)
let passed = 0, failed = 0
try {
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'] })
  fake = await startFake()
  for (const t of tests.filter(x => words.every(w => x.name.includes(w)))) {
    const began = Date.now()
    wrong = []
    let why = null
    try { await t.run() } catch (e) { why = e }
    for (const c of browser.contexts()) await c.close()
    if (why || wrong.length) {
      failed++
      console.log(`not ok  ${t.name} (${((Date.now() - began) / 1000).toFixed(1)} s)`)
      if (why) console.log('        ' + String(why.stack).split('\n').slice(0, 6).join('\n        '))
      for (const w of wrong.slice(0, 8)) console.log('        ' + w)
    } else {
      passed++
      console.log(`ok      ${t.name} (${((Date.now() - began) / 1000).toFixed(1)} s)`)
    }
  }
} catch (e) {
  failed++
  console.log('not ok  ' + e.stack)
}
await browser?.close()
for (const f of fronts) f.close()
for (const p of started) p.kill()
await Promise.all(started.map(p => p.exitCode !== null || p.signalCode ? null : new Promise(ok => p.once('exit', ok))))
rmSync(dir, { recursive: true, force: true })
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed || !passed ? 1 : 0)
