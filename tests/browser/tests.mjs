// tests.mjs - the dashboard, as a person uses it: it loads under its own policy, shows what is going on, searches, pages,
// explains, deletes, purges, asks for the token, and never takes what somebody typed for markup. Every page is watched: a
// console error, a request to another place, or a policy violation fails the test in which it happened.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
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
async function startFake() {
  const file = join(dir, 'fake')
  start(FAKE_OLLAMA, '--listen', '127.0.0.1:0', '--port-file', file)
  await until(() => existsSync(file) && readFileSync(file, 'utf8').trim(), 'the fake upstream starts')
  return `http://127.0.0.1:${readFileSync(file, 'utf8').trim()}`
}
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
  await page.goto(`${url}/ollacache/`)
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
    await shows(page, '#pills', 'store embedded')
    await shows(page, '#entries', THREE[0])
    const { wide, background } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, background: getComputedStyle(document.body).backgroundColor }))
    assert.ok(wide <= width, `${width} px wide, and the page needs ${wide}`)
    const light = background.match(/\d+/g).slice(0, 3).every(c => +c > 128)
    assert.equal(light, colorScheme === 'light', background)
    if (SHOTS) await page.screenshot({ path: join(SHOTS, `page-${colorScheme}-${width}.png`), fullPage: true })
    await page.context().close()
  }
  const r = await fetch(`${url}/ollacache`, { redirect: 'manual' })
  assert.equal(r.headers.get('location'), '/ollacache/')
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
  await until(() => page.locator('#chart-kinds rect.f-exact').count(), 'the chart has a bar')
  await page.locator('#seg-mode button[data-v=share]').click()
  assert.match(await page.locator('#chart-kinds svg').textContent(), /100 %/)
  await page.locator('#seg-span button[data-v=day]').click()
  await shows(page, '#chart-kinds', 'first numbers')
  await page.locator('#seg-span button[data-v=hour]').click()
  const box = await page.locator('#chart-kinds svg').boundingBox()
  await page.mouse.move(box.x + box.width - 12, box.y + 60)
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
      await shows(page, '#pager-note', `page ${n + 2}`)
    }
  }
  assert.equal(seen.size, 60)
  assert.equal(await page.locator('#next').isDisabled(), true)
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
  await page.locator('#entries tr', { hasText: 'delete me' }).locator('button.danger').click()
  await until(async () => await page.locator('#entries tbody tr').count() === 3, 'one less')
  assert.equal(await ask(url, 'delete me', { 'Cache-Control': 'only-if-cached' }), null)
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
  await shows(page, '#explained', 'passed on as it came')
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
  assert.equal(await page.locator('main img, dialog img, main script, main b:not([id]):not(.legend b)').count(), 0)
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
for (const p of started) p.kill()
await Promise.all(started.map(p => p.exitCode !== null || p.signalCode ? null : new Promise(ok => p.once('exit', ok))))
rmSync(dir, { recursive: true, force: true })
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed || !passed ? 1 : 0)
