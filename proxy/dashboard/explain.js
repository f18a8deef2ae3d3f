
// ---- explain: what would be done with a request ----
function compose() {
	const model = $('x-model').value, question = $('x-question').value
	$('x-body').value = JSON.stringify($('x-endpoint').value === 'chat' ? { model, messages: [{ role: 'user', content: question }] } : { model, prompt: question }, null, 1)
}
for (const id of ['x-model', 'x-question', 'x-endpoint']) $(id).addEventListener('input', compose)
compose()
$('explain').addEventListener('submit', async e => {
	e.preventDefault()
	const headers = {}
	try {
		for (const line of $('x-headers').value.split('\n')) {
			const at = line.indexOf(':'), name = line.slice(0, at).trim()
			if (at > 0) headers[name.toLowerCase() === 'authorization' ? 'X-Explain-Authorization' : name] = line.slice(at + 1).trim()
		}
		seen.explained = await ask('explain?endpoint=' + $('x-endpoint').value, { method: 'POST', body: $('x-body').value, headers })
		drawExplained()
	} catch (x) {
		seen.explained = null
		fill($('explained'), x instanceof Refused ? null : h('p', { class: 'err' }, x.message))
	}
})
// The proxy says it in English; in Ukrainian the page says it itself, shorter where it knows less.
function verdict(o) {
	const word = o.doubt || o.bypass
	if (word && REASONS[word] && !['refused', 'miss'].includes(o.would)) return reason(word)
	return lang === 'en' || !IN_UKRAINIAN['would.' + o.would] ? o.why : IN_UKRAINIAN['would.' + o.would]
}
function drawExplained() {
	const o = seen.explained
	if (!o || locked) return
	const out = [h('div', { class: 'verdict' }, h('span', { class: 'tag ' + o.would, id: 'would' }, t(o.would)), h('span', {}, verdict(o)))]
	if (o.understood) explainMore(o, out)
	fill($('explained'), out)
}
function explainMore(o, out) {
	const m = o.semantic
	if (m.keywords) {
		const more = [m.class + (m.tense === 'present' ? '' : ', ' + m.tense), m.negators ? t('x.negated', { n: m.negators }) : '', m.choice ? t('x.choice') : '', m.skip ? t('x.skip', { why: m.skip }) : ''].filter(Boolean).join(' · ')
		out.push(h('div', {}, h('h3', {}, t('x.keywords', { more })), h('div', { class: 'chips' }, m.keywords.map(k => h('span', { class: 'chip' }, k.text, h('small', {}, [...k.flags.filter(f => f !== 'known'), k.role || '', k.weight < 1 ? t('x.weighs', { n: number(k.weight, 2) }) : '', k.lemmas > 1 ? t('x.lemmas', { n: k.lemmas }) : ''].filter(Boolean).join(', ')))))))
	}
	if (!m.tried) out.push(h('p', { class: 'mono' }, t('x.nonear', { why: m.why_not })))
	if (m.tried) out.push(h('div', {}, h('h3', {}, t('x.nearest', { threshold: number(m.threshold, 2), guards: m.guards }) + (m.shadow ? t('x.shadow') : '')), o.nearest.length ? h('div', { class: 'out' }, o.nearest.slice(0, 6).map(n => near(n, m.threshold))) : h('p', { class: 'mono' }, t('x.nothing'))))
	out.push(h('dl', { class: 'facts' }, fact(t('model'), o.model), fact(t('x.digest'), o.digest ? o.digest.slice(0, 12) : t('x.unknown')), fact(t('x.candidates'), o.candidates + ' (' + o.candidates_why + ')'), fact(t('x.same'), o.exact ? (o.exact.fresh ? t('x.yes', { time: span(o.exact.ttl) }) : t('x.old')) : t('x.no')), fact(t('x.flying'), t(o.flying ? 'x.isyes' : 'x.no')), o.namespace ? fact(t('x.space'), o.namespace) : null))
	out.push(h('p', { class: 'mono' }, t('x.key') + ' ' + (o.key || '–')), h('p', { class: 'mono' }, t('x.scope') + ' ' + (o.scope || '–')))
}
function near(n, threshold) {
	const chips = (list, kind) => list.map(x => h('span', { class: 'chip ' + kind }, x))
	const says = g => lang === 'uk' && IN_UKRAINIAN[g.name] || g.says
	return h('div', { class: 'nearest' },
		h('div', {}, h('button', { class: 'link', type: 'button', on: { click: () => show(n.id) } }, n.question || n.id.slice(0, 16)), h('span', {}, n.similarity == null ? '–' : similarity(n.similarity, threshold))),
		n.pairs ? h('div', { class: 'chips' }, n.pairs.map(([a, b]) => h('span', { class: 'chip pair' }, a === b ? a : a + ' = ' + b)), chips(n.only_asked.map(word => t('x.asked', { word })), 'alone'), chips(n.only_stored.map(word => t('x.stored', { word })), 'alone')) : null,
		h('div', { class: 'chips' }, n.hit ? h('span', { class: 'chip ok' }, t('x.hit')) : n.guards.length ? n.guards.map(g => h('span', { class: 'chip guard' }, g.name, h('small', {}, says(g)))) : h('span', { class: 'chip alone' }, t('x.below'))))
}
