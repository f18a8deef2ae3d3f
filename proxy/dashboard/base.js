
// ---- the page: everything that came from outside is put into it as text nodes and never parsed as HTML ----
const $ = id => document.getElementById(id)
const KINDS = ['exact', 'semantic', 'joined', 'miss', 'bypass', 'refused', 'failed']
const SVG = 'http://www.w3.org/2000/svg'

function h(tag, props, ...children) {
	const e = document.createElement(tag)
	for (const [k, v] of Object.entries(props || {})) {
		if (k === 'on') for (const [event, f] of Object.entries(v)) e.addEventListener(event, f)
		else if (k === 'class') e.className = v
		else if (v === true) e.setAttribute(k, '')
		else if (v !== false && v != null) e.setAttribute(k, v)
	}
	e.append(...children.flat().filter(c => c != null && c !== false).map(c => c instanceof Node ? c : String(c)))
	return e
}
function s(tag, props, ...children) {
	const e = document.createElementNS(SVG, tag)
	for (const [k, v] of Object.entries(props || {})) e.setAttribute(k, v)
	e.append(...children)
	return e
}
const fill = (where, ...what) => where.replaceChildren(...what.flat().filter(x => x != null && x !== false))

// ---- what is remembered: the language, the span and the order; never the token ----
const remembered = {
	get(name) { try { return localStorage.getItem('ollacache.' + name) } catch { return null } },
	set(name, value) { try { localStorage.setItem('ollacache.' + name, value) } catch { /* a browser that keeps nothing */ } },
}

// ---- words ----
let lang = TEXTS[remembered.get('lang')] ? remembered.get('lang') : (navigator.languages || [navigator.language]).map(l => l.slice(0, 2)).find(l => TEXTS[l]) || 'en'
const locale = () => lang === 'uk' ? 'uk-UA' : 'en-US'
function t(key, values = {}) {
	let text = TEXTS[lang][key]
	if (text && typeof text === 'object') text = text[new Intl.PluralRules(lang).select(values.count ?? values.n)] || text.other
	return text == null ? key : text.replace(/\{(\w+)\}/g, (all, name) => name in values ? values[name] : all)
}
// {n} with the form that goes with it
const many = (key, n, values = {}) => t(key, { ...values, count: n, n: group(n) })
// A word of the proxy's own as a sentence; a word that is not known is shown as it is.
const step = word => STEPS[word] ? STEPS[word][lang === 'uk' ? 1 : 0] : word
const reason = word => !word ? '' : REASONS[word] ? REASONS[word][lang === 'uk' ? 1 : 0] : word

// ---- numbers for people ----
const number = (x, digits = 0) => x.toLocaleString(locale(), { minimumFractionDigits: digits, maximumFractionDigits: digits })
const group = n => number(Math.round(n)).replace(/[,\u00a0]/g, '\u202f')
const percent = (part, all, digits = 0) => number(all ? 100 * part / all : 0, digits) + (lang === 'uk' ? '\u00a0%' : '%')
function short(n) {
	for (const [size, unit] of [[1e9, 'G'], [1e6, 'M'], [1e4, 'k']]) {
		const x = n / (unit === 'k' ? 1e3 : size)
		if (n >= size) return number(x, x < 100 ? 1 : 0) + unit
	}
	return group(n)
}
// A value and its unit, the unit by its key
function seconds(x) {
	if (x < 60) return [number(x, x < 10 ? 1 : 0), 's']
	return x < 3600 ? [number(x / 60, 1), 'min'] : [number(x / 3600, 1), 'h']
}
function millis(x) {
	if (x == null) return ['–', '']
	if (x < .95) return [number(Math.max(1, x * 1000)), 'us']
	if (x < 1000) return [number(x, x < 10 ? 1 : 0), 'ms']
	return [number(x / 1000, x < 10000 ? 2 : 1), 's']
}
function bytes(n) {
	for (const [size, unit] of [[2 ** 30, 'GiB'], [2 ** 20, 'MiB'], [2 ** 10, 'KiB']]) if (n >= size) return said([number(n / size, 1), unit])
	return said([number(n), 'B'])
}
function span(sec) {
	if (sec < 60) return said([number(Math.max(0, sec)), 's'])
	if (sec < 3600) return said([number(sec / 60), 'min'])
	if (sec < 86400 * 2) return said([number(sec / 3600, sec < 36000 ? 1 : 0), 'h'])
	return said([number(sec / 86400), 'd'])
}
const said = ([n, unit]) => unit ? n + '\u00a0' + t('unit.' + unit) : n
const clock = (ms, withSeconds) => new Date(ms).toLocaleTimeString('en-GB', withSeconds ? {} : { hour: '2-digit', minute: '2-digit' })
const moment = ms => Date.now() - ms < 20 * 3600000 ? clock(ms, true) : new Date(ms).toLocaleString(locale(), { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', hour12: false })
function set(id, value) {
	const [n, unit] = Array.isArray(value) ? value : [value, '']
	fill($(id), n, unit ? h('small', {}, TEXTS[lang]['unit.' + unit] || unit) : null)
}

// ---- talking to the proxy: relative addresses only, so that it may stand behind a prefix ----
let token = sessionStorage.getItem('ollacache.token') || ''
let locked = null                                // why, as the proxy's reply said: { status, why }
class Refused extends Error {}
async function ask(path, options = {}) {
	const headers = new Headers(options.headers)
	if (token && !options.open) headers.set('Authorization', 'Bearer ' + token)
	const r = await fetch(path, { method: options.method || 'GET', body: options.body, headers })
	const o = await r.json().catch(() => ({ error: t('bad.json', { status: r.status }) }))
	if (r.status === 401 || r.status === 403) {
		lock(r.status, o.error)
		throw new Refused(o.error)
	}
	if (!r.ok && !options.any) throw new Error(o.error || String(r.status))
	if (!options.open) unlock()
	return o
}
function lock(status, why) {
	if (!locked) {
		for (const id of ['running', 'recent', 'last', 'by-model', 'by-upstream', 'entries']) fill($(id), h('p', { class: 'empty' }, t('locked')))
		for (const id of ['running-note', 'last-note', 'pager-note']) fill($(id))
		fill($('explained'))
	}
	locked = { status, why }
	sayLocked()
}
function sayLocked() {
	$('ask').hidden = !locked
	if (!locked) return
	$('ask-form').hidden = locked.status !== 401
	fill($('ask-why'), locked.status !== 401 ? t('token.local', { why: locked.why }) : t(token ? 'token.wrong' : 'token.needed'))
}
function unlock() {
	if (!locked) return
	locked = null
	sayLocked()
	list('')
}
$('ask-form').addEventListener('submit', e => {
	e.preventDefault()
	token = $('ask-token').value.trim()
	$('ask-token').value = ''
	sessionStorage.setItem('ollacache.token', token)
	hurry()
})

// ---- a row of buttons of which one is pressed ----
function choice(id, value, change) {
	const press = v => { for (const b of $(id).children) b.setAttribute('aria-pressed', b.dataset.v === v) }
	press(value)
	$(id).addEventListener('click', e => {
		const b = e.target.closest('button')
		if (!b) return
		press(b.dataset.v)
		change(b.dataset.v)
	})
}

// ---- tables; on a narrow screen a row becomes a block, and each cell says itself what it is ----
// heads: [key of the name, class of the cells, what it is sorted by]
function table(heads, rows, none, order) {
	if (!rows.length) return h('p', { class: 'empty' }, none)
	for (const row of rows) [...row.children].forEach((cell, i) => {
		if (!cell.matches('.q, .bare')) cell.setAttribute('data-name', t(heads[i][0]))
	})
	const head = ([key, kind, by]) => {
		const at = order && by && order.by.replace('-', '') === by
		return h('th', { class: kind || '', scope: 'col', 'aria-sort': at ? (order.by[0] === '-' ? 'descending' : 'ascending') : null },
			by ? h('button', { type: 'button', 'data-by': by, 'aria-label': t('entries.sort', { column: t(key) }), on: { click: () => order.change(by) } }, t(key), at ? (order.by[0] === '-' ? ' ↓' : ' ↑') : '') : t(key))
	}
	return h('table', { class: order ? 'stack sorts' : 'stack' }, h('thead', {}, h('tr', {}, heads.map(head))), h('tbody', {}, rows))
}
const tag = (kind, text) => h('span', { class: 'tag ' + (TEXTS.en[kind] ? kind : '') }, text || t(kind))
