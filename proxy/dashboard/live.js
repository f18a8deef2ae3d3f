
// ---- what changes by itself ----
// Whoever has the keyboard's focus in a table, or has marked something in it, keeps it: it is drawn anew afterwards.
const busy = where => where.contains(document.activeElement) || (!getSelection().isCollapsed && where.contains(getSelection().anchorNode))
const refresh = (id, ...what) => { if (!busy($(id))) fill($(id), ...what) }
const seen = {}                                  // the last answer of each endpoint, to be drawn again in another language

// ---- figures ----
async function history() {
	past = await ask('history', { open: true })
	drawFigures()
	drawCharts()
}
function drawFigures() {
	if (!past) return
	const o = past.spans[spanName], hits = o.exact + o.semantic + o.joined, could = hits + o.miss + o.failed, all = total(o)
	const ran = (past.now_ms - past.started_ms) / 1000, of = t('span.' + spanName + '.of')
	fill($('span-note'), t('span.note', { span: ran < o.seconds * .95 ? t('span.short', { span: of, time: span(ran) }) : of }))
	set('k-rate', could ? [number(100 * hits / could, 1), '%'] : '–')
	fill($('k-rate-note'), t('k.rate.note', { exact: short(o.exact), semantic: short(o.semantic), joined: short(o.joined) }))
	set('k-requests', short(all))
	fill($('k-requests-note'), t('k.requests.note', { miss: short(o.miss), bypass: short(o.bypass) }))
	set('k-failed', short(o.failed))
	$('kpi-failed').classList.toggle('bad', o.failed > 0)
	fill($('k-failed-note'), t(o.failed ? 'k.failed.note' : 'k.failed.none', { share: percent(o.failed, all, o.failed < all / 10 ? 1 : 0), refused: short(o.refused) }))
	const hit = o.first_byte_hit_ms, miss = o.first_byte_miss_ms
	set('k-hit', millis(hit))
	fill($('k-hit-note'), miss == null ? t('k.hit.none') : t(hit ? 'k.hit.times' : 'k.hit.note', { miss: said(millis(miss)), times: hit ? number(miss / hit, miss / hit < 10 ? 1 : 0) : '' }))
	set('k-gpu', seconds(o.gpu_seconds_saved))
	fill($('k-gpu-note'), many('k.gpu.note', hits, { tokens: short(o.tokens_saved) }))
}
async function stats() {
	seen.stats = await ask('stats', { open: true })
	drawStore()
}
function drawStore() {
	const o = seen.stats
	if (!o) return
	set('k-store', short(o.store_entries))
	fill($('k-store-note'), t('k.store.note', { bytes: bytes(o.store_bytes), guarded: short(Object.values(o.semantic_guarded).reduce((a, b) => a + b, 0)) }))
	fill($('entries-note'), many('entries.total', o.store_entries, { bytes: bytes(o.store_bytes) }))
}

// ---- what is up, and what is not: since when and why ----
async function health() {
	seen.health = await ask('health', { open: true })
	drawHealth()
}
const plain = url => url.replace(/^http:\/\//, '')
// since (seconds) or since_ms; why is a sentence, cause a word that stands for it
function since(o) {
	const parts = [], at = o.since_ms || 1000 * (o.since || 0), cause = lang === 'uk' && CAUSES_IN_UKRAINIAN[o.cause] || o.why || o.cause
	if (at) parts.push(t('down.since', { time: moment(at), span: span((Date.now() - at) / 1000) }))
	if (cause) parts.push(t('down.cause', { cause }))
	return parts.length ? ' ' + parts.join(' · ') : ''
}
const unasked = u => !u.up && u.cause === 'not-asked-yet'      // just started: neither up nor down
function drawHealth() {
	const o = seen.health
	if (!o) return
	const off = o.store.kind === 'off', store = t('store.' + o.store.kind), down = o.upstreams.filter(u => !u.up && !unasked(u))
	fill($('version'), o.version + ' · ' + t('up', { time: span(o.uptime_s) }))
	const pill = (text, state, title) => h('li', { class: 'pill ' + (state || ''), title }, h('i', { class: 'dot' }), h('span', {}, text))
	fill($('pills'), pill(store + (off || o.store.up ? '' : ' · ' + t('is.down')), off || o.store.up ? '' : 'down', store),
		o.upstreams.map(u => pill(plain(u.url) + (u.up || unasked(u) ? '' : ' · ' + t('is.down')), u.up ? '' : unasked(u) ? 'wait' : 'down', u.url + ' · ' + t(u.up ? 'is.up' : unasked(u) ? 'is.unasked' : 'is.down'))),
		o.dictionaries === 'loading' ? pill(t('is.loading'), 'wait', t('is.loading')) : null, o.draining ? pill(t('is.draining'), 'wait', t('is.draining')) : null)
	const banners = []
	const banner = (kind, title, more, after) => banners.push(h('div', { class: 'banner ' + kind }, h('strong', {}, title), h('span', {}, more), after ? h('span', {}, after) : null))
	if (o.draining) banner('warn', t('down.drain'), '', t('down.drain.more'))
	down.forEach((u, i) => banner('bad', t('down.upstream', { url: u.url }), since(u), i < down.length - 1 ? '' : t(down.length === o.upstreams.length ? 'down.all' : 'down.some')))
	if (!off && !o.store.up) banner('bad', t('down.store', { kind: store }), since(o.store), t('down.store.more'))
	else if (o.store.cause) banner('warn', t('ill.store', { kind: store }), since(o.store))
	if (o.dictionaries === 'failed') banner('warn', t('down.words'), '', t('down.words.more'))
	if (lostAt) banners.unshift(h('div', { class: 'banner bad', id: 'lost' }, h('strong', {}, t('lost')), h('span', {}, t('lost.more', { time: clock(lostAt, true) }))))
	fill($('banners'), banners)
	// a screen reader is told of what changed, not of how long it has been
	const titles = banners.map(b => b.firstChild.textContent).join('. ')
	if (titles !== $('announce').textContent) fill($('announce'), titles)
}

// ---- what needs the token ----
async function running() {
	seen.running = await ask('requests')
	drawRunning()
}
const RUNNING_FEW = 4                            // the longest; the card keeps the room for them, so that nothing below it jumps
function drawRunning() {
	const o = seen.running
	if (!o || locked) return
	const queue = seen.stats && seen.stats.queue_length
	fill($('running-note'), many('running.note', o.running), queue ? h('span', { id: 'queue' }, ' · ', t('running.queue', { n: group(queue) })) : null)
	const rows = [...o.requests].sort((a, b) => b.since_ms - a.since_ms).slice(0, RUNNING_FEW)
	refresh('running', table([['c.request'], ['c.step'], ['c.since', 'num'], ['c.out', 'num']], rows.map(r => h('tr', {},
		h('td', { class: 'q' }, (r.model || r.what) + (r.candidates ? ' × ' + r.candidates : ''), h('span', { class: 'sub' }, r.client_gone ? t('running.gone') : t('running.from', r))),
		h('td', { class: 'nowrap bare' }, tag(r.result || r.what), ' ', step(r.step), h('span', { class: 'sub' }, t('running.for', { time: said(millis(r.step_ms)) }))),
		h('td', { class: 'num' }, said(millis(r.since_ms))), h('td', { class: 'num' }, bytes(r.out)))), t('running.none')),
	o.running > rows.length ? h('p', { class: 'empty' }, t('running.more', { n: group(o.running - rows.length) })) : null)
}
function similarity(v, threshold) {
	const svg = s('svg', { viewBox: '0 0 100 6', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, s('rect', { class: 'semantic', width: 100 * v, height: 6, rx: 2 }))
	if (threshold) svg.append(s('line', { x1: 100 * threshold, x2: 100 * threshold, y1: -2, y2: 8, stroke: 'currentColor', 'stroke-width': 1.5 }))
	return [number(v, 2), h('span', { class: 'bar' }, svg)]
}
async function recent() {
	seen.recent = await ask('recent')
	drawRecent()
}
let lastShown = 'all', lastWhole = false
const LAST_FEW = 8
function drawRecent() {
	const o = seen.recent
	if (!o || locked) return
	offer(o.semantic_hits)
	offer(o.models)
	drawLast(o.requests)
	drawModels(o.models)
	drawUpstreams(o.upstreams)
	for (const e of document.querySelectorAll('.since')) fill(e, t('since', { time: span((Date.now() - o.since_ms) / 1000) }))
	refresh('recent', table([['c.asked'], ['c.stored'], ['c.when', 'num'], ['c.similarity', 'num']], o.semantic_hits.slice(0, 6).map(r => h('tr', {},
		h('td', { class: 'q' }, r.asked, h('span', { class: 'sub' }, tagless(r.model))),
		h('td', { class: 'q' }, h('button', { class: 'link', type: 'button', on: { click: () => show(r.id) } }, r.stored)),
		h('td', { class: 'nowrap num bare' }, moment(r.at_ms)),
		h('td', { class: 'num bare nowrap' }, similarity(r.similarity)))), t('near.none')))
}
function drawLast(all) {
	const rows = all.filter(r => lastShown === 'all' || (lastShown === 'failed' ? r.outcome === 'failed' : r.outcome !== 'pass' && r.cache))
	fill($('last-note'), all.length ? many('last.note', all.length) : '')
	const toggle = h('button', { class: 'btn more', type: 'button', id: 'last-more', on: { click: () => { lastWhole = !lastWhole; document.activeElement.blur(); drawLast(all) } } }, lastWhole ? t('last.less') : t('last.more', { n: group(rows.length) }))
	refresh('last', table([['c.time'], ['c.request'], ['c.model'], ['c.result'], ['c.status', 'num'], ['c.why'], ['c.took', 'num']], rows.slice(0, lastWhole ? 100 : LAST_FEW).map(r => h('tr', {},
		h('td', { class: 'nowrap bare' }, moment(r.at_ms)),
		h('td', { class: 'bare' }, r.method + ' ' + r.path),
		h('td', { class: 'bare' }, r.model),
		h('td', { class: 'bare' }, tag(r.outcome)),
		h('td', { class: 'num' + (r.outcome === 'failed' ? ' bad-text' : '') }, r.status || '–'),
		h('td', { class: 'q' }, reason(r.why), r.outcome === 'failed' && r.upstream ? h('span', { class: 'sub' }, r.upstream) : null),
		h('td', { class: 'num', title: r.first_byte_ms == null ? null : t('last.first', { time: said(millis(r.first_byte_ms)) }) }, said(millis(r.total_ms))))), t(lastShown === 'failed' ? 'last.nofail' : 'last.none')),
	rows.length > LAST_FEW ? toggle : null)
}
const mean = o => o.miss + o.bypass ? said(millis(1000 * o.generated_seconds / (o.miss + o.bypass))) : '–'
const tagless = model => model.replace(/:latest$/, '')
function drawModels(models) {
	const rows = [...models].sort((a, b) => !a.model - !b.model || total(b) - total(a)).map(m => {
		const hits = m.exact + m.semantic + m.joined, could = hits + m.miss + m.failed
		return h('tr', {}, h('td', { class: 'q' }, m.model || h('em', {}, t('models.other'))), h('td', { class: 'num' }, group(total(m))), h('td', { class: 'num' }, could ? percent(hits, could) : '–'), h('td', { class: 'num' }, group(m.miss)),
			h('td', { class: 'num' + (m.failed ? ' bad-text' : '') }, group(m.failed)), h('td', { class: 'num' }, mean(m)), h('td', { class: 'num' }, said(seconds(m.gpu_seconds_saved))))
	})
	refresh('by-model', table([['c.model'], ['c.requests', 'num'], ['c.rate', 'num'], ['c.misses', 'num'], ['c.failed', 'num'], ['c.mean', 'num'], ['c.saved', 'num']], rows, t('models.none')))
}
function drawUpstreams(upstreams) {
	const states = new Map((seen.health ? seen.health.upstreams : []).map(u => [u.url, u]))
	refresh('by-upstream', table([['c.upstream'], ['c.answered', 'num'], ['c.failed', 'num'], ['c.mean', 'num']], upstreams.map(u => {
		const state = states.get(u.url) || { up: true }
		const more = [state.models == null ? '' : many('u.models', Array.isArray(state.models) ? state.models.length : state.models), state.running ? t('u.running', { n: group(state.running) }) : '', state.waiting ? t('u.queue', { n: group(state.waiting) }) : ''].filter(Boolean).join(' · ')
		return h('tr', {}, h('td', { class: 'q' }, h('i', { class: state.up ? 'dot in-table' : 'dot in-table down' }), ' ', plain(u.url), h('span', { class: 'sub' + (state.up ? '' : ' bad-text') }, state.up ? t('is.up') + (more ? ' · ' + more : '') : t('is.down') + since(state))),
			h('td', { class: 'num' }, group(u.miss + u.bypass + u.pass)), h('td', { class: 'num' + (u.failed ? ' bad-text' : '') }, group(u.failed)), h('td', { class: 'num' }, mean(u)))
	}), ''))
}
const offered = new Set()
function offer(rows) {                           // model names, for the fields that want one
	for (const r of rows) if (r.model && !offered.has(r.model) && offered.size < 200) {
		offered.add(r.model)
		$('models').append(h('option', { value: r.model }))
	}
}
