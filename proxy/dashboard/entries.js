
// ---- stored entries: a page at a time, in the order wanted ----
const PAGE = 25
const ORDERS = ['-created', 'created', 'expires', '-expires', '-hits', 'hits', '-bytes', 'bytes']
let order = ORDERS.includes(remembered.get('order')) ? remembered.get('order') : '-created'
let filters = {}, pages = [''], shownEntries = null, listedAt = 0
function query(o) {
	const q = new URLSearchParams()
	for (const [k, v] of Object.entries(o)) if (v) q.set(k, v)
	return q.toString()
}
// from: the cursor of a page before, '' for the first one. pages holds the cursors of all pages up to this one.
async function list(from) {
	const at = pages.indexOf(from)
	pages = at < 0 ? [...pages, from] : pages.slice(0, at + 1)
	$('entries').classList.add('stale')
	try {
		shownEntries = await ask('cache?' + query({ ...filters, sort: order, limit: PAGE, after: from }))
		listedAt = Date.now()
		drawEntries()
	} catch (e) {
		if (!(e instanceof Refused)) {
			fill($('entries'), h('p', { class: 'err' }, e.message))
			fill($('pager-note'))
		}
	}
	$('entries').classList.remove('stale')
}
function drawEntries() {
	const o = shownEntries
	if (!o || locked) return
	offer(o.entries)
	// the first click on a column wants the newest, the largest, the most used, or what ends first
	const change = by => { order = order.replace('-', '') === by ? (order[0] === '-' ? by : '-' + by) : by === 'expires' ? by : '-' + by; remembered.set('order', order); list('').then(() => focusOrder(by)) }
	// age grows as creation falls: the arrow speaks of what the column shows
	const heads = [['c.question'], ['c.model'], ['c.age', 'num', 'created'], ['c.left', 'num', 'expires'], ['c.hits', 'num', 'hits'], ['c.size', 'num', 'bytes'], ['c.act', 'num']]
	fill($('entries'), table(heads, o.entries.map(entry), t(Object.values(filters).some(Boolean) ? 'entries.nomatch' : 'entries.none'), { by: order.endsWith('created') ? (order[0] === '-' ? 'created' : '-created') : order, change }))
	const first = (pages.length - 1) * PAGE
	fill($('pager-note'), o.entries.length ? t(o.complete ? 'entries.range' : 'entries.cut', { from: group(first + 1), to: group(first + o.entries.length), n: group(o.matched) }) : '')
	$('next').disabled = !o.after
	$('first').disabled = $('prev').disabled = pages.length < 2
}
const focusOrder = by => { const b = $('entries').querySelector('[data-by=' + by + ']'); if (b) b.focus() }
const told = r => r.question || t('entries.notext', { family: r.family })
function entry(r) {
	return h('tr', { 'data-id': r.id },
		h('td', { class: 'q' }, h('button', { class: 'link', type: 'button', on: { click: () => show(r.id) } }, told(r)), r.namespace ? h('span', { class: 'sub' }, t('x.space') + ' ' + r.namespace) : null),
		h('td', { class: 'bare' }, tagless(r.model), h('small', {}, ' ' + r.family)),
		h('td', { class: 'num' }, span(r.age)), h('td', { class: 'num' }, span(r.ttl)), h('td', { class: 'num' }, r.hits == null ? '–' : group(r.hits)), h('td', { class: 'num' }, bytes(r.bytes)),
		h('td', { class: 'num bare act' }, h('button', { class: 'btn quiet', type: 'button', 'aria-label': t('entries.delete.label', { what: told(r).slice(0, 80) }), on: { click: () => wantDelete(r.id, told(r)) } }, t('entries.delete'))))
}
// Entries come and go: the first page follows, as long as nobody is at work in it.
async function entriesJob() {
	const stored = seen.stats ? seen.stats.stored_answers + ':' + seen.stats.store_entries : ''
	if (stored === entriesJob.stored || locked || pages.length > 1 || $('dialog').open || busy($('entries')) || $('entries').matches(':hover')) return
	entriesJob.stored = stored
	await list('')
}
$('search').addEventListener('submit', e => {
	e.preventDefault()
	filters = { q: $('s-q').value.trim(), model: $('s-model').value.trim(), namespace: $('s-space').value.trim() }
	list('')
})
$('next').addEventListener('click', () => list(shownEntries.after))
$('prev').addEventListener('click', () => list(pages[pages.length - 2]))
$('first').addEventListener('click', () => list(''))

// ---- dialogs: an entry, and nothing is removed without a question ----
const button = (text, kind, click, id) => h('button', { class: 'btn ' + kind, type: 'button', id, on: { click } }, text)
function dialog(title, content, buttons) {
	fill($('dialog'), h('h2', { id: 'dialog-title' }, title), ...content, h('div', { class: 'foot' }, buttons))
	if (!$('dialog').open) $('dialog').showModal()
}
const close = () => $('dialog').close()
const tell = (title, ...content) => dialog(title, content, [button(t('d.close'), '', close)])
const fact = (name, value) => h('div', {}, h('dt', {}, name), h('dd', {}, value))
function wantDelete(id, what) {
	dialog(t('d.delete'), [h('p', {}, t('d.delete.more', { what }))], [button(t('d.cancel'), '', close), button(t('entries.delete'), 'danger', () => remove(id), 'delete-yes')])
}
async function remove(id) {
	try {
		await ask('cache/' + id, { method: 'DELETE', any: true })
		close()
	} catch (e) {
		if (e instanceof Refused) close()
		else tell(t('d.failed'), h('p', { class: 'err' }, e.message))
	}
	list(pages[pages.length - 1])
}
async function show(id) {
	let o
	try { o = await ask('cache/' + id) } catch (e) { return e instanceof Refused ? null : tell(t('d.noshow'), h('p', { class: 'err' }, e.message)) }
	const a = o.answer
	dialog(told(o), [
		h('dl', { class: 'facts' }, fact(t('model'), o.model), fact(t('endpoint'), o.family), fact(t('d.stored'), t('d.ago', { time: span(o.age) })), fact(t('d.kept'), span(o.ttl)), fact(t('c.size'), bytes(o.bytes)), fact(t('d.gpu'), said(seconds(o.gpu_seconds))), fact(t('d.tokens'), group(o.eval_count)), o.namespace ? fact(t('x.space'), o.namespace) : null),
		a.thinking ? h('pre', { class: 'code', tabindex: 0, role: 'region', 'aria-label': t('d.thinking') }, a.thinking) : null,
		a.text != null ? h('pre', { id: 'answer', tabindex: 0, role: 'region', 'aria-label': t('d.answer') }, a.text) : null,
		a.tool_calls ? h('pre', { class: 'code' }, JSON.stringify(a.tool_calls, null, 2)) : null,
		a.body ? h('pre', { class: 'code', tabindex: 0, role: 'region', 'aria-label': t('d.answer') }, JSON.stringify(a.body).slice(0, 2000)) : null,
		h('p', { class: 'mono' }, o.id)].filter(Boolean),
	[button(t('entries.delete'), 'danger', () => wantDelete(id, told(o))), button(t('d.close'), '', close)])
}
$('purge').addEventListener('click', () => {
	const model = $('s-model').value.trim(), namespace = $('s-space').value.trim()
	const what = model || namespace ? t('d.purge.some', { model: model ? t('d.purge.model', { model }) : '', space: namespace ? t('d.purge.space', { space: namespace }) : '' }) : t('d.purge.all')
	dialog(t('d.purge', { what }), [h('p', {}, t('d.purge.more'))], [button(t('d.cancel'), '', close), button(t('d.purge.go'), 'danger', () => purge(model, namespace), 'purge-yes')])
})
async function purge(model, namespace) {
	try {
		const o = await ask('cache?' + query(model || namespace ? { model, namespace } : { all: '1' }), { method: 'DELETE' })
		tell(t('d.purged'), h('p', { id: 'purged' }, many('d.purged.n', o.removed)))
	} catch (e) {
		if (e instanceof Refused) close()
		else tell(t('d.failed'), h('p', { class: 'err' }, e.message))
	}
	list('')
	hurry()
}
