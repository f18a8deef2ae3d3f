// tests.mjs - three clients that people use, against $BASE: the fake upstream itself (which proves the tests), or the
// proxy before it ($PROXIED=1), where every question is asked twice and the second answer must come from the cache and
// say the same. $FAKE is the fake's own address, for its counters. $COMPLEX=1 adds complex requests.
import assert from 'node:assert/strict'
import { Ollama } from 'ollama'
import { ChatOllama, Ollama as LlmOllama, OllamaEmbeddings } from '@langchain/ollama'
import { HumanMessage, SystemMessage, ToolMessage } from '@langchain/core/messages'
import { createOllama } from 'ai-sdk-ollama'
import { embed, embedMany, generateText, Output, stepCountIs, streamText, tool } from 'ai'
import { z } from 'zod'

const { BASE, FAKE } = process.env
const proxied = process.env.PROXIED === '1'
const tests = []
const test = (name, run) => tests.push({ name, run })

let caches = []
const watched = async (url, init) => {
  const r = await fetch(url, init)
  const path = new URL(typeof url === 'string' ? url : url.url ?? url.href).pathname
  if (['/api/chat', '/api/generate', '/api/embed', '/api/embeddings'].includes(path)) caches.push(r.headers.get('x-cache'))
  return r
}
const order = async (path) => (await fetch(`${FAKE}/fake/${path}`, { method: 'POST' })).json()
const asked = async () => {
  const { paths } = await order('state')
  return ['/api/chat', '/api/generate', '/api/embed', '/api/embeddings'].reduce((n, p) => n + (paths[p] ?? 0), 0)
}
const cancelled = async (n) => {
  const r = await fetch(`${FAKE}/fake/wait?event=cancelled&n=${n}&timeout_ms=20000`)
  assert.equal(r.status, 200, 'the upstream was never told that its client had gone')
}

// Asks twice; the answers must be the same, and through the proxy the second comes from the cache, without the upstream.
async function twice(ask, same = (a, b) => assert.deepEqual(b, a)) {
  caches = []
  const first = await ask()
  const fromFirst = caches.slice()
  const before = await asked()
  caches = []
  const second = await ask()
  same(first, second)
  if (proxied) {
    assert.ok(fromFirst.every((c) => c === 'miss' || c === 'exact'), `first: X-Cache ${fromFirst}`)
    assert.ok(fromFirst.includes('miss'), `first: X-Cache ${fromFirst}`)
    assert.ok(caches.length && caches.every((c) => c === 'exact'), `second: X-Cache ${caches}`)
    assert.equal(await asked(), before, 'the second answer asked the upstream')
  }
  return first
}
const drop = ({ created_at, ...rest }) => rest
const gather = async (stream) => {
  const all = []
  for await (const part of stream) all.push(part)
  return all
}
const said = (parts) => parts.map((p) => p.message?.content ?? p.response ?? '').join('')
const thought = (parts) => parts.map((p) => p.message?.thinking ?? p.thinking ?? '').join('')

// ---- ollama ----
const ollama = new Ollama({ host: BASE, fetch: watched })
const weather = { type: 'function', function: { name: 'get_weather', description: 'Weather of a town', parameters: { type: 'object', required: ['town'], properties: { town: { type: 'string' }, days: { type: 'integer' } } } } }
const ask = (content, more = {}) => ({ model: 'llama3.2', messages: [{ role: 'user', content }], ...more })

test('ollama: chat', async () => {
  const r = await twice(async () => drop(await ollama.chat(ask('Name a river'))))
  assert.ok(r.message.content.length > 3 && r.done && r.done_reason === 'stop' && r.eval_count > 0)
})
test('ollama: chat streamed says what the plain answer said', async () => {
  const plain = drop(await ollama.chat(ask('Name a stone')))
  const parts = await gather(await ollama.chat(ask('Name a stone', { stream: true })))
  assert.equal(said(parts), plain.message.content)
  assert.deepEqual({ ...drop(parts.at(-1)), message: 0 }, { ...plain, message: 0 })
})
test('ollama: chat streamed', async () => {
  const r = await twice(async () => { const p = await gather(await ollama.chat(ask('Name a bird', { stream: true }))); return [said(p), drop(p.at(-1))] })
  assert.ok(r[0].length > 3 && r[1].done)
})
test('ollama: first part before the second is made', async () => {
  const s = await ollama.chat(ask('Slowly', { stream: true, options: { fake_tokens: 3, fake_barrier: 'first' } }))
  const first = await s[Symbol.asyncIterator]().next()
  assert.ok(first.value.message.content)
  await order('release?barrier=first')
})
test('ollama: generate, with context', async () => {
  const r = await twice(async () => drop(await ollama.generate({ model: 'llama3.2', prompt: 'Go on', system: 'Be brief', options: { temperature: 0, seed: 3 } })))
  assert.ok(r.context.length && r.response)
})
test('ollama: generate streamed', async () => {
  const r = await twice(async () => { const p = await gather(await ollama.generate({ model: 'llama3.2', prompt: 'Go on and on', stream: true })); return [said(p), drop(p.at(-1))] })
  assert.ok(r[0] && r[1].context.length)
})
for (const stream of [false, true])
  test(`ollama: thinking, stream ${stream}`, async () => {
    const r = await twice(async () => {
      const a = await ollama.chat({ model: 'qwen3', messages: [{ role: 'user', content: `Think ${stream}` }], think: true, stream })
      const parts = stream ? await gather(a) : [a]
      return [thought(parts), said(parts)]
    })
    assert.ok(r[0] && r[1])
  })
for (const stream of [false, true])
  test(`ollama: tool call and its result, stream ${stream}`, async () => {
    const messages = [{ role: 'user', content: `Weather? ${stream}` }]
    const calls = await twice(async () => {
      const a = await ollama.chat({ model: 'llama3.2', messages, tools: [weather], stream })
      return (stream ? await gather(a) : [a]).flatMap((p) => p.message.tool_calls ?? [])
    })
    assert.equal(calls.length, 1)
    assert.equal(calls[0].function.name, 'get_weather')
    assert.equal(typeof calls[0].function.arguments.town, 'string')
    const r = await twice(async () => drop(await ollama.chat({ model: 'llama3.2', tools: [weather], messages: [...messages, { role: 'assistant', content: '', tool_calls: calls }, { role: 'tool', tool_name: 'get_weather', content: 'rain' }] })))
    assert.ok(r.message.content)
  })
test('ollama: structured output', async () => {
  const r = await twice(async () => drop(await ollama.chat(ask('A fruit', { format: { type: 'object', properties: { name: { type: 'string' }, kg: { type: 'number' } }, required: ['name', 'kg'] } }))))
  const o = JSON.parse(r.message.content)
  assert.ok(typeof o.name === 'string' && typeof o.kg === 'number')
})
test('ollama: logprobs', async () => {
  const r = await twice(async () => drop(await ollama.generate({ model: 'llama3.2', prompt: 'Sure?', logprobs: true, top_logprobs: 2 })))
  assert.ok(r.logprobs.length && r.logprobs[0].top_logprobs.length === 2)
})
test('ollama: image', async () => {
  const r = await twice(async () => drop(await ollama.generate({ model: 'llava', prompt: 'What is it?', images: [new Uint8Array([137, 80, 78, 71])] })))
  assert.ok(r.response)
})
test('ollama: embed and embeddings', async () => {
  const one = await twice(() => ollama.embed({ model: 'nomic-embed-text', input: 'river' }))
  const two = await twice(() => ollama.embed({ model: 'nomic-embed-text', input: ['river', 'stone'], dimensions: 8 }))
  const old = await twice(() => ollama.embeddings({ model: 'nomic-embed-text', prompt: 'river' }))
  assert.equal(one.embeddings[0].length, 64)
  assert.deepEqual(two.embeddings.map((v) => v.length), [8, 8])
  assert.equal(old.embedding.length, 64)
})
test('ollama: list, ps, show, version', async () => {
  const { models } = await ollama.list()
  assert.ok(models.some((m) => m.name === 'llama3.2:latest' && m.digest.length === 64))
  for (const m of (await ollama.ps()).models) assert.ok(m.name && m.context_length > 0, m)
  assert.ok((await ollama.show({ model: 'qwen3' })).capabilities.includes('thinking'))
  assert.ok((await ollama.version()).version)
})
test('ollama: pull with progress, copy, create, delete', async () => {
  const steps = await gather(await ollama.pull({ model: 'phi9', stream: true }))
  assert.equal(steps.at(-1).status, 'success')
  assert.ok(steps.filter((s) => s.completed).length >= 10)
  assert.equal((await ollama.copy({ source: 'phi9', destination: 'mine' })).status, 'success')
  const made = await gather(await ollama.create({ model: 'mine2', from: 'mine', system: 'Be brief', stream: true }))
  assert.equal(made.at(-1).status, 'success')
  for (const model of ['mine', 'mine2']) assert.equal((await ollama.delete({ model })).status, 'success')
  await assert.rejects(ollama.show({ model: 'mine' }), (e) => e.status_code === 404)
})
test('ollama: errors', async () => {
  for (const stream of [false, true])
    await assert.rejects(async () => gather(await ollama.chat({ ...ask('Hi'), model: 'nosuch', stream })), (e) => e.status_code === 404 && e.message === "model 'nosuch' not found")
  await assert.rejects(ollama.embed({ model: 'nosuch', input: 'x' }), (e) => e.status_code === 404 && /try pulling it first/.test(e.message))
  await assert.rejects(ollama.chat(ask('Think', { think: true })), /does not support thinking/)
  await assert.rejects(async () => gather(await ollama.chat(ask('Fall over', { stream: true, options: { fake_tokens: 5, fake_fail_after: 2 } }))), /an error was encountered/)
  await assert.rejects(async () => gather(await ollama.pull({ model: 'http://127.0.0.1:1/x', stream: true })), /connection refused/)
})
test('ollama: abort of one stream cancels upstream', async () => {
  const before = (await order('state')).cancelled
  const s = await ollama.chat(ask('Abort me', { stream: true, options: { fake_tokens: 9, fake_barrier: 'never' } }))
  await assert.rejects(async () => { for await (const part of s) { assert.ok(part); s.abort() } }, { name: 'AbortError' })
  await cancelled(before + 1)
  const r = await ollama.chat(ask('Abort me', { options: { fake_tokens: 9 } }))
  assert.ok(r.done)
})

// ---- @langchain/ollama ----
const lang = { baseUrl: BASE, model: 'llama3.2', fetch: watched, maxRetries: 0 }
test('langchain: invoke and stream', async () => {
  const m = new ChatOllama({ ...lang, temperature: 0, seed: 5 })
  const messages = [new SystemMessage('Be brief'), new HumanMessage('Name a tree')]
  const plain = await twice(async () => (await m.invoke(messages)).content)
  const parts = await twice(async () => (await gather(await m.stream(messages))).map((p) => p.content).join(''), assert.equal).catch((e) => {
    if (/first: X-Cache exact/.test(e.message)) return plain      // invoke and stream are one entry: all the better
    throw e
  })
  assert.ok(plain.length > 3)
  assert.equal(parts, plain)
})
test('langchain: tools', async () => {
  const m = new ChatOllama(lang).bindTools([weather])
  const r = await twice(async () => (await m.invoke('Weather in Lviv?')).tool_calls.map(({ name, args }) => ({ name, args })))
  assert.equal(r[0].name, 'get_weather')
  const call = await m.invoke('Weather in Lviv?')
  const after = await m.invoke([new HumanMessage('Weather in Lviv?'), call, new ToolMessage({ content: 'rain', tool_call_id: call.tool_calls[0].id })])
  assert.ok(after.content)
})
test('langchain: structured output', async () => {
  const m = new ChatOllama(lang).withStructuredOutput(z.object({ town: z.string(), people: z.number() }), { method: 'jsonSchema' })
  const r = await twice(() => m.invoke('A town'))
  assert.ok(typeof r.town === 'string' && typeof r.people === 'number')
})
test('langchain: thinking', async () => {
  const m = new ChatOllama({ ...lang, model: 'qwen3', think: true })
  const r = await twice(async () => { const a = await m.invoke('Think a bit'); return [a.content, a.additional_kwargs.reasoning_content] })
  assert.ok(r[0] && r[1])
})
test('langchain: text model', async () => {
  const m = new LlmOllama(lang)
  assert.ok(await twice(() => m.invoke('Complete this')))
})
test('langchain: embeddings', async () => {
  const m = new OllamaEmbeddings({ ...lang, model: 'nomic-embed-text' })
  const [a, b] = await twice(() => m.embedDocuments(['one', 'two']))
  assert.ok(a.length === 64 && b.length === 64)
  assert.equal((await m.embedQuery('one')).length, 64)
})
test('langchain: unknown model', async () => {
  await assert.rejects(new ChatOllama({ ...lang, model: 'nosuch' }).invoke('Hi'), /model 'nosuch' not found/)
})
test('langchain: abort cancels upstream', async () => {
  const before = (await order('state')).cancelled
  const m = new ChatOllama(lang)
  const s = await m.stream('Abort this [[tokens=9 barrier=never]]')
  await assert.rejects(async () => { for await (const part of s) { assert.ok(part); m.client.abort() } })
  await cancelled(before + 1)
})

// ---- ai-sdk-ollama ----
const ai = createOllama({ baseURL: BASE, fetch: watched })
test('ai-sdk: generateText and streamText', async () => {
  const model = ai('llama3.2')
  const plain = await twice(async () => { const r = await generateText({ model, prompt: 'Name a town', temperature: 0, seed: 4, maxRetries: 0 }); return [r.text, r.usage.outputTokens, r.finishReason] })
  assert.ok(plain[0].length > 3 && plain[1] > 0 && plain[2] === 'stop')
  const r = streamText({ model, prompt: 'Name a town', temperature: 0, seed: 4, maxRetries: 0 })
  assert.equal((await gather(r.textStream)).join(''), plain[0])
})
test('ai-sdk: streamText', async () => {
  const text = await twice(async () => (await gather(streamText({ model: ai('llama3.2'), prompt: 'Name two towns', maxRetries: 0 }).textStream)).join(''))
  assert.ok(text.length > 3)
})
test('ai-sdk: reasoning', async () => {
  const r = await twice(async () => { const a = await generateText({ model: ai('qwen3', { think: true }), prompt: 'Think about towns', maxRetries: 0 }); return [a.text, a.reasoningText] })
  assert.ok(r[0] && r[1])
})
test('ai-sdk: tools', async () => {
  const asked_ = []
  const town = tool({ description: 'Weather of a town', inputSchema: z.object({ town: z.string() }), execute: async ({ town }) => { asked_.push(town); return { sky: 'rain' } } })
  const r = await generateText({ model: ai('llama3.2'), prompt: 'Weather?', tools: { get_weather: town }, stopWhen: stepCountIs(3), maxRetries: 0 })
  assert.equal(asked_.length, 1)
  assert.equal(typeof asked_[0], 'string')
  assert.ok(r.text)
})
test('ai-sdk: structured output', async () => {
  const r = await twice(async () => (await generateText({ model: ai('llama3.2', { structuredOutputs: true }), prompt: 'A town', maxRetries: 0, output: Output.object({ schema: z.object({ town: z.string(), people: z.number() }) }) })).output)
  assert.ok(typeof r.town === 'string' && typeof r.people === 'number')
})
test('ai-sdk: embed', async () => {
  const model = ai.embedding('nomic-embed-text')
  const one = await twice(async () => (await embed({ model, value: 'brook', maxRetries: 0 })).embedding)
  assert.equal(one.length, 64)
  const { embeddings } = await embedMany({ model, values: ['brook', 'pebble'], maxRetries: 0 })
  assert.equal(embeddings.length, 2)
})
test('ai-sdk: unknown model', async () => {
  await assert.rejects(generateText({ model: ai('nosuch'), prompt: 'Hi', maxRetries: 0 }), /model 'nosuch' not found/)
})
// This version does not hand its abortSignal to the connection; an application does that with its fetch.
test('ai-sdk: abort cancels upstream', async () => {
  const before = (await order('state')).cancelled
  const stop = new AbortController()
  const model = createOllama({ baseURL: BASE, fetch: (url, init) => watched(url, { ...init, signal: stop.signal }) })('llama3.2')
  const r = streamText({ model, prompt: 'Abort it [[tokens=9 barrier=never]]', abortSignal: stop.signal, maxRetries: 0, onError: () => {} })
  for await (const part of r.textStream) { assert.ok(part); stop.abort() }
  await cancelled(before + 1)
})

// ---- complex requests ----
if (proxied && process.env.COMPLEX === '1') {
  test('complex: by header, streamed, then from the cache', async () => {
    const c = new Ollama({ host: BASE, fetch: watched, headers: { 'X-Complex': 'true' } })
    const before = await asked()
    const first = said(await gather(await c.chat(ask('Compare two towns', { stream: true }))))
    const made = (await asked()) - before
    assert.ok(first && made >= 2 && made <= 8, `${made} generations`)
    caches = []
    assert.equal((await c.chat(ask('Compare two towns'))).message.content, first)
    assert.deepEqual(caches, ['exact'])
  })
  test('complex: by model name, which the reply echoes', async () => {
    const r = await ollama.generate({ model: 'llama3.2@complex=3', prompt: 'Compare two rivers' })
    assert.equal(r.model, 'llama3.2@complex=3')
    assert.ok((await ollama.show({ model: 'llama3.2@complex' })).capabilities)
    const l = await new ChatOllama({ ...lang, model: 'llama3.2@complex' }).invoke('Compare two trees')
    assert.ok(l.content)
    const a = await generateText({ model: ai('llama3.2@complex'), prompt: 'Compare two birds', maxRetries: 0 })
    assert.ok(a.text)
  })
}

let passed = 0, failed = 0
const wanted = process.argv[2]
for (const { name, run } of tests) {
  if (wanted && !name.includes(wanted)) continue
  let timer
  const late = new Promise((_, no) => { timer = setTimeout(() => no(new Error('no end after 60 s')), 60000) })
  try {
    await Promise.race([run(), late])
    passed++
  } catch (e) {
    failed++
    console.log(`not ok  ${proxied ? 'proxied' : 'direct'}  ${name}\n        ${String(e?.stack ?? e).split('\n').slice(0, 6).join('\n        ')}`)
  } finally {
    clearTimeout(timer)
  }
}
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed || !passed ? 1 : 0)
