
// ---- charts: time runs to the right, to now; a bar is as wide as the time it tells of ----
const SPANS = { '15m': { part: 'hour', ms: 900e3 }, '1h': { part: 'hour', ms: 3600e3 }, '24h': { part: 'day', ms: 86400e3 } }
const GROUPS = [1, 3, 6, 12, 30]                 // how many steps a bar may tell of
const BAR_LEAST = 5, HOVER_NEAR = 6              // pixels
const CLOCK_TICKS = [60e3, 120e3, 180e3, 300e3, 600e3, 900e3, 1800e3, 3600e3, 7200e3, 10800e3, 14400e3, 21600e3, 43200e3]
let spanName = SPANS[remembered.get('span')] ? remembered.get('span') : '1h'
let mode = 'count', past = null

// Steps put together to bars. They are told apart by their number since the start, so that a bar stays what it is while time
// goes on. Of medians the mean by how many requests they are of.
function barsOf(width) {
	const { part, ms } = SPANS[spanName], series = past[part], stepMs = series.step_s * 1000
	const per = GROUPS.find(n => width * n * stepMs / ms >= BAR_LEAST) || GROUPS[GROUPS.length - 1]
	const from = past.now_ms - ms, last = series.end_ms.length - 1, bars = []
	let bar = null
	for (let i = 0; i <= last; i++) {
		const end = series.end_ms[i], start = i ? series.end_ms[i - 1] : Math.max(end - stepMs, past.started_ms)
		if (end <= from) continue
		const group = Math.floor((series.first + i) / per)
		if (!bar || bar.group !== group) {
			bars.push(bar = { group, start, medians: {} })
			for (const k of [...KINDS, 'tokens_saved', 'gpu_seconds_saved']) bar[k] = 0
		}
		bar.end = end
		bar.open = i === last
		for (const k of [...KINDS, 'tokens_saved', 'gpu_seconds_saved']) bar[k] += series[k][i]
		weigh(bar, 'first_byte_hit_ms', series.first_byte_hit_ms[i], series.exact[i] + series.semantic[i])
		weigh(bar, 'first_byte_miss_ms', series.first_byte_miss_ms[i], series.miss[i])
	}
	for (const b of bars) for (const [k, m] of Object.entries(b.medians)) b[k] = m.weight ? m.sum / m.weight : null
	return { bars, from, per: per * stepMs }
}
function weigh(bar, name, median, weight) {
	const m = bar.medians[name] = bar.medians[name] || { sum: 0, weight: 0 }
	if (median == null) return
	m.sum += median * Math.max(1, weight)
	m.weight += Math.max(1, weight)
}

// Round values from 0 to at least most: steps of 1, 2, 2.5 or 5 times a power of ten.
function roundTicks(most, whole) {
	const least = (most || 1) / 5, size = 10 ** Math.floor(Math.log10(least))
	const step = Math.max(whole ? 1 : 0, [1, 2, 2.5, 5, 10].map(f => f * size).find(v => v >= least * .9999 && (!whole || v % 1 === 0)))
	const n = Math.max(1, Math.ceil(most / step - 1e-9)), digits = [0, 1, 2, 3].find(d => Math.abs(step * 10 ** d - Math.round(step * 10 ** d)) < 1e-6)
	return { top: n * step, ticks: Array.from({ length: n + 1 }, (_, i) => [i * step, step >= 1000 ? short(i * step) : number(i * step, digits)]) }
}
function clockTicks(from, to, width) {
	const every = CLOCK_TICKS.find(x => width * x / (to - from) >= 64) || CLOCK_TICKS[CLOCK_TICKS.length - 1]
	const offset = new Date(to).getTimezoneOffset() * 60e3, ticks = []
	for (let at = Math.ceil((from - offset) / every) * every + offset; at < to; at += every) ticks.push(at)
	return ticks
}

// A frame with a scale on the left and times below. scale(bars): { top, ticks: [[value, text]…], at: v → 0…1 }; draw() puts
// marks in; rows(bar): what the tip says, [kind, name, value] each.
function frame(id, { axis, scale, draw, rows, label }) {
	const where = $(id), width = Math.max(240, where.clientWidth), height = 230, left = 46, right = 8, top = 24, bottom = 22
	const w = width - left - right, tall = height - top - bottom
	const { bars, from, per } = barsOf(w), to = past.now_ms
	const svg = s('svg', { viewBox: '0 0 ' + width + ' ' + height, height, role: 'img', tabindex: 0, 'aria-label': label })
	const { ticks, at } = scale(bars)
	const x = time => left + w * Math.max(0, time - from) / (to - from), y = v => top + tall * (1 - at(v))
	svg.append(s('text', { x: 0, y: 11 }, axis(said(millisSpan(per)))))
	for (const [v, text] of ticks) svg.append(s('line', { class: 'rule', x1: left, x2: width - right, y1: y(v), y2: y(v) }), s('text', { x: left - 7, y: y(v) + 4, 'text-anchor': 'end' }, text))
	svg.append(s('text', { x: width - right, y: height - 4, 'text-anchor': 'end' }, t('chart.now')))
	for (const time of clockTicks(from, to, w)) if (x(time) - left > 14 && width - right - x(time) > 62) {
		svg.append(s('line', { class: 'rule', x1: x(time), x2: x(time), y1: top + tall, y2: top + tall + 4 }), s('text', { x: x(time), y: height - 4, 'text-anchor': 'middle' }, clock(time)))
	}
	draw(svg, bars, x, y)
	const tip = h('div', { class: 'tip', hidden: true, role: 'status' }), cross = s('line', { class: 'cross', y1: top, y2: top + tall, visibility: 'hidden' })
	svg.append(cross)
	const show = bar => {
		where.shown = bar ? bar.group : null
		tip.hidden = !bar
		cross.setAttribute('visibility', bar ? 'visible' : 'hidden')
		if (!bar) return
		const mid = (x(bar.start) + x(bar.end)) / 2, real = mid * svg.getBoundingClientRect().width / width
		cross.setAttribute('x1', mid)
		cross.setAttribute('x2', mid)
		const times = { from: clock(bar.start, true), to: clock(bar.end, true) }
		fill(tip, h('strong', {}, bar.open ? t('chart.far', times) : times.from + ' – ' + times.to), rows(bar).map(([kind, name, v]) => h('div', {}, h('i', { class: kind }), name, h('b', {}, v))))
		tip.style.transform = 'translate(' + Math.max(0, Math.min(where.clientWidth - tip.offsetWidth, mid > width / 2 ? real - tip.offsetWidth - 12 : real + 12)) + 'px, 26px)'
	}
	svg.addEventListener('pointermove', e => {
		const box = svg.getBoundingClientRect(), px = (e.clientX - box.left) * width / box.width
		const far = b => Math.max(x(b.start) - px, px - x(b.end), 0), nearest = bars.reduce((best, b) => !best || far(b) < far(best) ? b : best, null)
		show(nearest && far(nearest) <= HOVER_NEAR ? nearest : null)
	})
	svg.addEventListener('pointerleave', () => show(null))
	svg.addEventListener('blur', () => show(null))
	svg.addEventListener('keydown', e => {
		const now = bars.findIndex(b => b.group === where.shown), last = bars.length - 1
		const next = { ArrowLeft: now < 0 ? last : Math.max(0, now - 1), ArrowRight: now < 0 ? last : Math.min(last, now + 1), Home: 0, End: last, Escape: -1 }[e.key]
		if (next == null) return
		e.preventDefault()
		show(bars[next])
	})
	const focused = where.contains(document.activeElement), shown = where.shown
	fill(where, svg, tip, bars.some(b => total(b)) ? null : h('p', { class: 'empty' }, t('chart.empty')))
	if (focused) svg.focus({ preventScroll: true })
	show(bars.find(b => b.group === shown))
}
const total = o => KINDS.reduce((n, k) => n + o[k], 0)
const millisSpan = ms => ms < 60e3 ? [number(ms / 1000), 's'] : ms < 3600e3 ? [number(ms / 60e3), 'min'] : [number(ms / 3600e3), 'h']
function stack(svg, bars, x, y, kinds, share) {
	for (const bar of bars) {
		const all = share ? total(bar) || 1 : 1, wide = x(bar.end) - x(bar.start), gap = wide > 4 ? 1 : 0
		let base = 0
		for (const [k, kind] of kinds) {
			const v = bar[k] / all
			if (v) svg.append(s('rect', { class: kind + (bar.open ? ' open' : ''), x: x(bar.start).toFixed(2), width: Math.max(.8, wide - gap).toFixed(2), y: y(base + v).toFixed(2), height: Math.max(0, y(base) - y(base + v)).toFixed(2) }))
			base += v
		}
	}
}
function line(svg, bars, x, y, k, kind) {
	let path = '', pen = false
	for (const bar of bars) {
		if (bar[k] == null || bar[k] <= 0) { pen = false; continue }
		path += (pen ? 'L' : 'M') + ((x(bar.start) + x(bar.end)) / 2).toFixed(1) + ' ' + y(bar[k]).toFixed(1) + (pen ? '' : 'l.01 0')
		pen = true
	}
	svg.append(s('path', { class: 'line ' + kind, d: path || 'M0 0' }))
}
const logText = power => said(power >= 3 ? [number(10 ** (power - 3)), 's'] : power >= 0 ? [number(10 ** power), 'ms'] : [number(10 ** (power + 3)), 'us'])

function drawCharts() {
	if (!past) return
	const o = past.spans[spanName], of = t('span.' + spanName + '.of'), share = mode === 'share'
	frame('chart-kinds', {
		label: t('kinds.label', { span: of, list: KINDS.map(k => t(k) + ' ' + group(o[k])).join(', ') }),
		axis: step => share ? t('kinds.share.axis') : t('kinds.axis', { step }),
		scale: bars => {
			if (share) return { ticks: [0, .25, .5, .75, 1].map(f => [f, percent(f, 1)]), at: v => v }
			const { top, ticks } = roundTicks(Math.max(0, ...bars.map(total)), true)
			return { ticks, at: v => v / top }
		},
		draw: (svg, bars, x, y) => stack(svg, bars, x, y, KINDS.map(k => [k, k]), share),
		rows: bar => KINDS.filter(k => bar[k] || !['refused', 'failed'].includes(k)).map(k => [k, t(k), share ? percent(bar[k], total(bar)) : group(bar[k])]),
	})
	fill($('legend-kinds'), KINDS.map(k => h('li', {}, h('i', { class: k }), t(k), ' ', h('b', {}, group(o[k])))))
	frame('chart-first', {
		label: t('first.label', { span: of, hit: said(millis(o.first_byte_hit_ms)), miss: said(millis(o.first_byte_miss_ms)) }),
		axis: () => '',
		scale: bars => {
			const all = bars.flatMap(b => [b.first_byte_hit_ms, b.first_byte_miss_ms]).filter(v => v > 0)
			const low = all.length ? Math.floor(Math.log10(Math.min(...all))) : -1, high = all.length ? Math.max(low + 1, Math.ceil(Math.log10(Math.max(...all)))) : 3
			return { ticks: Array.from({ length: high - low + 1 }, (_, i) => [10 ** (low + i), logText(low + i)]), at: v => (Math.log10(v) - low) / (high - low) }
		},
		draw: (svg, bars, x, y) => { line(svg, bars, x, y, 'first_byte_miss_ms', 'miss'); line(svg, bars, x, y, 'first_byte_hit_ms', 'exact') },
		rows: bar => [['exact', t('hit'), said(millis(bar.first_byte_hit_ms))], ['miss', t('miss'), said(millis(bar.first_byte_miss_ms))]],
	})
	fill($('legend-first'), h('li', {}, h('i', { class: 'exact' }), t('hit')), h('li', {}, h('i', { class: 'miss' }), t('miss')))
	frame('chart-gpu', {
		label: t('gpu.label', { span: of, time: said(seconds(o.gpu_seconds_saved)) }),
		axis: step => t('gpu.axis', { step }),
		scale: bars => {
			const { top, ticks } = roundTicks(Math.max(0, ...bars.map(b => b.gpu_seconds_saved)), false)
			return { ticks, at: v => v / top }
		},
		draw: (svg, bars, x, y) => stack(svg, bars, x, y, [['gpu_seconds_saved', 'gpu']], false),
		rows: bar => [['gpu', t('gpu'), said(seconds(bar.gpu_seconds_saved))], ['joined', t('tokens'), group(bar.tokens_saved)]],
	})
	fill($('gpu-note'), t('gpu.note', { time: said(seconds(o.gpu_seconds_saved)), tokens: group(o.tokens_saved) }))
}
let drawnAt = 0
new ResizeObserver(() => {
	const width = $('chart-kinds').clientWidth
	if (width !== drawnAt) { drawnAt = width; drawCharts() }
}).observe($('chart-kinds'))
