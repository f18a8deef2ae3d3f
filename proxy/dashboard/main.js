
// ---- the language ----
function say() {
	document.documentElement.lang = lang
	for (const e of document.querySelectorAll('[data-t]')) e.textContent = t(e.dataset.t)
	for (const e of document.querySelectorAll('[data-t-label]')) e.setAttribute('aria-label', t(e.dataset.tLabel))
	for (const e of document.querySelectorAll('[data-t-placeholder]')) e.placeholder = t(e.dataset.tPlaceholder)
	sayLocked()
	for (const draw of [drawFigures, drawCharts, drawStore, drawHealth, drawRunning, drawRecent, drawEntries, drawExplained]) draw()
}

// ---- going on: each job by its own clock, none while nobody looks ----
const LOCKED_MS = 3600e3
let lostAt = 0, failures = 0
const jobs = [[stats, 2000], [health, 3000], [history, 5000], [running, 2000], [recent, 4000], [entriesJob, 10000]].map(([run, every]) => ({ run, every, next: 0, busy: false }))
const hurry = () => jobs.forEach(j => { j.next = 0 })
async function turn(j) {
	j.busy = true
	try {
		await j.run()
		failures = 0
		if (lostAt) { lostAt = 0; sayLost() }
	} catch (e) {
		// fetch() fails with a TypeError where no reply came; the second one in a row is no chance
		if (e instanceof TypeError && ++failures > 1 && !lostAt) { lostAt = Date.now(); sayLost() }
	}
	j.busy = false
	j.next = Date.now() + (locked && (j.run === running || j.run === recent) ? LOCKED_MS : j.every)
}
function sayLost() {
	document.body.classList.toggle('lost', lostAt > 0)
	if (seen.health) drawHealth()
}
function tick() {
	if (document.hidden) return
	const now = Date.now()
	for (const j of jobs) if (!j.busy && now >= j.next) turn(j)
}

choice('seg-lang', lang, v => { lang = v; remembered.set('lang', v); say() })
choice('seg-span', spanName, v => { spanName = v; remembered.set('span', v); drawFigures(); drawCharts() })
choice('seg-mode', mode, v => { mode = v; drawCharts() })
choice('seg-last', lastShown, v => { lastShown = v; drawRecent() })
say()
document.addEventListener('visibilitychange', tick)
setInterval(tick, 250)
tick()
