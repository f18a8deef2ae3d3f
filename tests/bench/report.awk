# report.awk - results ("part case target round name value" a line) to Markdown tables, and the bars of the project.
# Plain awk: mawk is what a bare Debian has.

{
	key = $1 SUBSEP $2 SUBSEP $3 SUBSEP $4 SUBSEP $5
	value[key] = $6
	seen[$1] = 1
	if ($4 + 0 > rounds[$1, $2])
		rounds[$1, $2] = $4 + 0
	if (!(($1, $2) in known)) {
		known[$1, $2] = 1
		cases[$1] = cases[$1] " " $2
	}
}

# One round's value of a name; "added" is what a proxy adds to asking the upstream directly.
function at(part, c, t, r, name,   d, v) {
	if (name == "added_us" && t == "direct")
		return ""
	if (name == "added_us") {
		v = at(part, c, t, r, "ttfb_us")
		d = at(part, c, "direct", r, "ttfb_us")
		return v == "" || d == "" ? "" : v - d
	}
	return (part, c, t, r, name) in value ? value[part, c, t, r, name] : ""
}

function sort_list(n,   i, j, x) {
	for (i = 2; i <= n; i++) {
		x = list[i]
		for (j = i - 1; j > 0 && list[j] > x; j--)
			list[j + 1] = list[j]
		list[j + 1] = x
	}
}

# Sets mid, low, high over the rounds; of a ratio when `against` is a target. Returns how many rounds there were.
function over(part, c, t, name, against,   r, n, v, w) {
	n = 0
	for (r = 1; r <= rounds[part, c]; r++) {
		v = at(part, c, t, r, name)
		if (v == "")
			continue
		if (against != "") {
			w = at(part, c, against, r, name)
			if (w == "" || w + 0 <= 0)
				continue
			v = v / w
		}
		list[++n] = v + 0
	}
	if (!n)
		return 0
	sort_list(n)
	low = list[1]
	high = list[n]
	mid = n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
	return n
}

function num(v) {
	return v >= 1000 ? sprintf("%.0f", v) : v >= 100 ? sprintf("%.0f", v) : v >= 10 ? sprintf("%.1f", v) : sprintf("%.2f", v)
}
function cell(part, c, t, name, against,   n) {
	n = over(part, c, t, name, against)
	return !n ? "–" : n == 1 ? num(mid) : num(mid) " (" num(low) "–" num(high) ")"
}

# A table of one part: a line for each case and target, columns by name; ratios to nginx for the names in `ratios`.
function table(part, first, targets, names, titles, ratios,   nt, nn, nc, T, N, H, C, R, A, i, j, k, nr, line, rule, any) {
	nt = split(targets, T, " ")
	nn = split(names, N, " ")
	split(titles, H, "|")
	nc = split(cases[part], C, " ")
	nr = split(ratios, R, " ")
	line = "| " first " | proxy |"
	rule = "|---|---|"
	for (j = 1; j <= nn; j++) {
		line = line " " H[j] " |"
		rule = rule "---|"
	}
	for (j = 1; j <= nr; j++) {
		A[j] = R[j] ~ /@/ ? "nginx-tuned" : "nginx"
		sub(/@.*/, "", R[j])
		for (k = 1; k <= nn && N[k] != R[j]; k++)
			;
		line = line " " H[k] " ÷ " (A[j] == "nginx" ? "nginx's |" : "tuned nginx's |")
		rule = rule "---|"
	}
	print line
	print rule
	for (i = 1; i <= nc; i++)
		for (k = 1; k <= nt; k++) {
			line = "| " C[i] " | " label(T[k]) " |"
			any = 0
			for (j = 1; j <= nn; j++) {
				any += over(part, C[i], T[k], N[j], "")
				line = line " " cell(part, C[i], T[k], N[j], "") " |"
			}
			for (j = 1; j <= nr; j++)
				line = line " " (T[k] == A[j] ? "1" : T[k] == "direct" ? "–" : cell(part, C[i], T[k], R[j], A[j])) " |"
			if (any)
				print line
		}
	print ""
}

function label(t) {
	return t == "ours" ? "**ollacache**" : t == "redis" ? "**ollacache**, Redis" : t == "bare" ? "bare epoll server" : t == "nginx-tuned" ? "nginx, tuned" : t
}

# One bar: is the median of a name (or of its ratio to nginx) on the right side of the limit?
function bar(issue, what, part, c, t, name, against, most, limit,   n, ok) {
	n = over(part, c, t, name, against)
	if (!n) {
		if (part in seen)
			print "| " issue " | " what " | " (most ? "≤ " : "≥ ") limit " | not measured | – |"
		return
	}
	if (name == "broken")
		mid = high;                     # one broken stream in any round is one too many
	ok = most ? mid <= limit : mid >= limit
	print "| " issue " | " what " | " (most ? "≤ " : "≥ ") limit " | " cell(part, c, t, name, against) " | " (ok ? "pass" : "**FAIL**") " |"
}

END {
	if ("hits" in seen) {
		print "## Exact hits\n"
		print "Closed loop over keep-alive connections, 64 questions asked in turn with the same bytes each time, plain answers (`stream:false`) but for `64-stream`. CPU is the proxy's own time a request (the kernel's scheduler clock), Redis's not counted. The bare server is the bench's upstream on the proxy's core: what no proxy can pass. nginx is as Debian sets it up (sendfile on); tuned is the fastest we could make it (sendfile off, open_file_cache). The bars hold against the first.\n"
		table("hits", "connections", "nginx nginx-tuned ours redis bare", "rps p50_us p99_us cpu_us busy", "requests/s|p50 µs|p99 µs|CPU µs a request|core busy", "rps p50_us p99_us cpu_us rps@tuned cpu_us@tuned")
	}
	if ("logged" in seen) {
		print "## Exact hits with the default logs on\n"
		print "As above with 64 connections, but each proxy writes its own default log, a line a request, into a file, and wrk asks.\n"
		table("logged", "connections", "nginx ours", "rps", "requests/s", "rps")
	}
	if ("shapes" in seen) {
		print "## The same question spelled differently\n"
		print "64 connections; respaced: other white space in each request; reordered: another order of keys in each. No two requests share their bytes, so nginx would miss them all; its identical-body rate stands beside.\n"
		table("shapes", "body", "nginx ours", "rps p50_us p99_us cpu_us", "requests/s|p50 µs|p99 µs|CPU µs a request", "")
	}
	if ("ttfb" in seen) {
		print "## Misses: time to the first byte\n"
		print "One client, each question new; the upstream answers its first chunk at once. Added: over asking the upstream directly in the same round.\n"
		table("ttfb", "clients", "direct nginx ours haproxy varnish", "ttfb_us ttfb_p90_us added_us", "first byte µs|p90 µs|added µs", "added_us")
	}
	if ("streams" in seen) {
		print "## Slow streams at once\n"
		print "Each a new question. A stream is whole if it ended cleanly, with done:true, with every one of its own pieces in order. Memory: growth of the proportional set size, a fresh process and an empty store each time (pages of the store's file that are mapped count as well). Delay: from the upstream's write to the client's read.\n"
		table("streams", "streams", "direct nginx ours haproxy varnish", "whole broken kib_per_stream chunks_per_s cpu_us_per_chunk delay_us delay_p99_us", "whole|broken|KiB a stream|chunks/s|CPU µs a chunk|delay µs|delay p99 µs", "cpu_us_per_chunk delay_us")
	}
	if ("idle" in seen) {
		print "## Connections that wait\n"
		print "connections: each had one answer, then nothing. stalled-chat, stalled-pass: clients that ask for a stream at full speed and never read; the process's memory, not the kernel's socket buffers.\n"
		table("idle", "what", "nginx ours", "kib_per_idle kib_per_stalled upstream_kib open broken", "KiB an idle connection|KiB a stalled client|KiB the upstream has written|open|broken", "")
	}
	if ("cancel" in seen) {
		print "## A client leaves\n"
		print "While nothing flows; from the client's close to the upstream's notice. Every other one leaves by RST.\n"
		table("cancel", "clients", "direct nginx ours", "cancel_us cancel_p99_us missed", "median µs|p99 µs|not noticed in 2 s", "")
	}
	if ("semantic" in seen) {
		print "## Semantic hits\n"
		print "One client; so many questions are stored, then asked in other words, then asked in the stored words again.\n"
		table("semantic", "entries", "ours", "semantic_us semantic_p99_us exact_us semantic_hits exact_hits others", "semantic hit µs|p99 µs|exact hit µs|semantic hits|exact hits|others", "")
	}
	if ("complex" in seen) {
		print "## Complex requests\n"
		print "Each candidate takes 1 s at the upstream, which runs all of them at once.\n"
		table("complex", "candidates", "ours", "plain_ms complex_ms ratio generations", "one generation ms|complex ms|ratio|generations", "")
	}
	if ("start" in seen) {
		print "## Start with a full cache\n"
		print "Answers of 16 KB until the cache has begun to evict; then from the start of the process to the first 200 of /ollacache/ready, without and with the semantic tier's dictionaries.\n"
		table("start", "MiB", "ours", "ready_ms ready_semantic_ms fill_s store_entries store_bytes disk_mib", "ready ms|ready ms, semantic on|filled in s|entries|bytes|MiB on disk", "")
	}

	print "## Bars\n"
	print "| issue | what | bar | measured | |"
	print "|---|---|---|---|---|"
	bar("2", "hits ÷ nginx, 64 connections", "hits", "64", "ours", "rps", "nginx", 0, 1.6)
	bar("6", "hits ÷ nginx, 16 connections", "hits", "16", "ours", "rps", "nginx", 0, 2)
	bar("6", "hits ÷ nginx, 64 connections", "hits", "64", "ours", "rps", "nginx", 0, 2)
	bar("6", "hits ÷ nginx, 256 connections", "hits", "256", "ours", "rps", "nginx", 0, 2)
	bar("6", "p50 ÷ nginx's, 1 connection", "hits", "1", "ours", "p50_us", "nginx", 1, 0.95)
	bar("6", "p99 ÷ nginx's, 1 connection", "hits", "1", "ours", "p99_us", "nginx", 1, 1)
	bar("6", "p99 ÷ nginx's, 16 connections", "hits", "16", "ours", "p99_us", "nginx", 1, 1)
	bar("6", "p99 ÷ nginx's, 64 connections", "hits", "64", "ours", "p99_us", "nginx", 1, 1)
	bar("6", "p99 ÷ nginx's, 256 connections", "hits", "256", "ours", "p99_us", "nginx", 1, 1)
	bar("14", "hits ÷ nginx with default logs, 64 connections", "logged", "64", "ours", "rps", "nginx", 0, 1.8)
	bar("2", "hits with Redis ÷ nginx, 64 connections", "hits", "64", "redis", "rps", "nginx", 0, 1)
	bar("6", "hits with Redis ÷ nginx, 16 connections", "hits", "16", "redis", "rps", "nginx", 0, 1.25)
	bar("6", "hits with Redis ÷ nginx, 64 connections", "hits", "64", "redis", "rps", "nginx", 0, 1.25)
	bar("6", "hits with Redis ÷ nginx, 256 connections", "hits", "256", "redis", "rps", "nginx", 0, 1.25)
	bar("2", "added time to first byte ÷ nginx's", "ttfb", "one", "ours", "added_us", "nginx", 1, 1.3)
	bar("6", "added time to first byte ÷ nginx's", "ttfb", "one", "ours", "added_us", "nginx", 1, 1.15)
	bar("2", "broken of 2,000 streams", "streams", "2000", "ours", "broken", "", 1, 0)
	bar("2", "KiB a stream, 2,000 streams", "streams", "2000", "ours", "kib_per_stream", "", 1, 36)
	bar("6", "CPU a chunk ÷ nginx's, 2,000 streams", "streams", "2000", "ours", "cpu_us_per_chunk", "nginx", 1, 1.2)
	bar("6", "chunk delay ÷ nginx's, 2,000 streams", "streams", "2000", "ours", "delay_us", "nginx", 1, 1.3)
	bar("6", "broken of 5,000 streams", "streams", "5000", "ours", "broken", "", 1, 0)
	bar("6", "KiB a stream, 5,000 streams", "streams", "5000", "ours", "kib_per_stream", "", 1, 28)
	bar("6", "KiB an idle connection", "idle", "connections", "ours", "kib_per_idle", "", 1, 17)
	bar("6", "KiB a stalled client, chat", "idle", "stalled-chat", "ours", "kib_per_stalled", "", 1, 200)
	bar("6", "KiB a stalled client, pass-through", "idle", "stalled-pass", "ours", "kib_per_stalled", "", 1, 200)
	bar("6", "cancel reaches the upstream, µs", "cancel", "one", "ours", "cancel_us", "", 1, 1000)
	bar("6", "ready with a full 1 GiB cache, ms", "start", "1024", "ours", "ready_semantic_ms", "", 1, 1000)
	failures = 0
	for (key in value) {
		split(key, f, SUBSEP)
		if (f[5] == "failed")
			failures++
	}
	if (failures)
		print "\n" failures " measurements failed and are left out."
}
