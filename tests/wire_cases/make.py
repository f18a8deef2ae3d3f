#!/usr/bin/env python3
"""make.py - writes the cases of this folder: NAME.req, a request as a client sends it, and NAME.http, the bytes Ollama
answers it with. Questions and answers are made up here; their shapes, headers and framing are those of a real server.
Run it after a change and commit what it wrote."""
import json, os

HERE = os.path.dirname(os.path.abspath(__file__))
DATE = 'Sun, 11 Oct 2026 09:12:31 GMT'
JSON, PLAIN_JSON, LINES, SSE = 'application/json; charset=utf-8', 'application/json', 'application/x-ndjson', 'text/event-stream'
count = 0


def at(i):
    """A created_at, nanoseconds with trailing zeros cut."""
    nanos = ('%09d' % ((i * 7919230471) % 1000000000)).rstrip('0')
    return '2026-10-11T09:12:%02d%sZ' % (31 + i // 20, '.' + nanos if nanos else '')


def request(method, path, body=None, headers=(), version='1.1', host='127.0.0.1:21434', agent='wire/1'):
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    head = '%s %s HTTP/%s\r\n' % (method, path, version)
    if host:
        head += 'Host: %s\r\n' % host
    head += 'User-Agent: %s\r\nAccept: */*\r\n' % agent
    names = {h.split(':')[0].lower() for h in headers}
    if body is not None:
        if 'content-type' not in names:
            head += 'Content-Type: application/json\r\n'
        if 'transfer-encoding' not in names:
            head += 'Content-Length: %d\r\n' % len(body)
    return (head + ''.join(h + '\r\n' for h in headers) + '\r\n').encode('latin-1') + (body or b'')


def whole(body, status='200 OK', kind=JSON, extra=(), chunked=None, length=True):
    if isinstance(body, str):
        body = body.encode()
    chunked = len(body) > 2048 if chunked is None else chunked
    head = 'HTTP/1.1 %s\r\n' % status + ''.join(h + '\r\n' for h in extra)
    if kind:
        head += 'Content-Type: %s\r\n' % kind
    head += 'Date: %s\r\n' % DATE
    if chunked:
        return (head + 'Transfer-Encoding: chunked\r\n\r\n').encode() + b'%x\r\n%s\r\n0\r\n\r\n' % (len(body), body)
    if length:
        head += 'Content-Length: %d\r\n' % len(body)
    return (head + '\r\n').encode() + body


def stream(lines, kind=LINES, extra=(), end=b'\n', status='200 OK'):
    out = ('HTTP/1.1 %s\r\n' % status + ''.join(h + '\r\n' for h in extra) + 'Content-Type: %s\r\nDate: %s\r\nTransfer-Encoding: chunked\r\n\r\n' % (kind, DATE)).encode()
    for line in lines:
        data = (line.encode() if isinstance(line, str) else line) + end
        out += b'%x\r\n%s\r\n' % (len(data), data)
    return out + b'0\r\n\r\n'


def go(v):
    """JSON as Go writes it."""
    t = json.dumps(v, ensure_ascii=False, separators=(',', ':'))
    return t.replace('&', '\\u0026').replace('<', '\\u003c').replace('>', '\\u003e').replace('\u2028', '\\u2028').replace('\u2029', '\\u2029')


def stats(n_prompt, n, reason='stop', context=None):
    return (',"done":true,"done_reason":"%s"' % reason + (',"context":[%s]' % ','.join(map(str, context)) if context is not None else '') +
            ',"total_duration":%d,"load_duration":%d,"prompt_eval_count":%d,"prompt_eval_duration":%d,"eval_count":%d,"eval_duration":%d' %
            (9013160 + n * 411737, 1664244 + n_prompt * 13, n_prompt, n_prompt * 61234, n, n * 411003))


def gen_lines(model, words, n_prompt, reason='stop', context=(4, 981, 22), thinking=(), logprobs=None):
    out, i = [], 0
    head = lambda i: '{"model":%s,"created_at":"%s",' % (go(model), at(i))
    if thinking:
        out.append(head(0) + '"response":"","done":false}')
    for w in thinking:
        i += 1
        out.append(head(i) + '"response":"","thinking":%s,"done":false}' % go(w))
    for k, w in enumerate(words):
        i += 1
        out.append(head(i) + '"response":%s,"done":false%s}' % (go(w), ',"logprobs":[%s]' % logprobs[k] if logprobs else ''))
    return out + [head(i + 1) + '"response":""' + stats(n_prompt, len(words) + len(thinking) + (reason == 'stop'), reason, context) + '}']


def gen_whole(model, words, n_prompt, reason='stop', context=(4, 981, 22), thinking=(), logprobs=None):
    return ('{"model":%s,"created_at":"%s","response":%s' % (go(model), at(9), go(''.join(words))) + (',"thinking":%s' % go(''.join(thinking)) if thinking else '') +
            stats(n_prompt, len(words) + len(thinking) + (reason == 'stop'), reason, context) + (',"logprobs":[%s]' % ','.join(logprobs) if logprobs else '') + '}')


def message(text, thinking='', tools=None, more=''):
    return '"message":{"role":"assistant","content":%s%s%s%s}' % (go(text), ',"thinking":%s' % go(thinking) if thinking else '', ',"tool_calls":%s' % tools if tools else '', more)


def chat_lines(model, words, n_prompt, reason='stop', thinking=(), tools=(), logprobs=None, more='', last_more=''):
    parts = [message('', w) for w in thinking] + [message(w) for w in words] + [message('', tools=t) for t in tools]
    out = []
    for i, p in enumerate(parts):
        k = i - len(thinking)
        lp = ',"logprobs":[%s]' % logprobs[k] if logprobs and 0 <= k < len(words) else ''
        out.append('{"model":%s,"created_at":"%s",%s,"done":false%s%s}' % (go(model), at(i), p, lp, more))
    return out + ['{"model":%s,"created_at":"%s",%s%s%s}' % (go(model), at(len(parts)), message(''), stats(n_prompt, len(parts) + (reason == 'stop'), reason), last_more)]


def chat_whole(model, words, n_prompt, reason='stop', thinking=(), tools=None, logprobs=None):
    return '{"model":%s,"created_at":"%s",%s%s%s}' % (go(model), at(5), message(''.join(words), ''.join(thinking), tools),
        stats(n_prompt, len(words) + len(thinking) + 1, reason), ',"logprobs":[%s]' % ','.join(logprobs) if logprobs else '')


def logprob(token, value, others=()):
    b = lambda t: ','.join(str(x) for x in t.encode())
    return '{"token":%s,"logprob":%s,"bytes":[%s]%s}' % (go(token), value, b(token), ',"top_logprobs":[%s]' % ','.join(
        '{"token":%s,"logprob":%s,"bytes":[%s]}' % (go(t), v, b(t)) for t, v in others) if others else '')


def case(name, req, http):
    global count
    count += 1
    for ext, data in (('req', req), ('http', http)):
        with open(os.path.join(HERE, name + '.' + ext), 'wb') as f:
            f.write(data)


def ask(**body):
    return request('POST', '/api/generate', body)


def talk(*messages, **more):
    roles = ('user', 'assistant')
    return request('POST', '/api/chat', dict({'model': more.pop('model', 'llama3.2'), 'messages': [
        m if isinstance(m, dict) else {'role': roles[i % 2], 'content': m} for i, m in enumerate(messages)]}, **more))


for f in os.listdir(HERE):
    if f.endswith(('.req', '.http')):
        os.unlink(os.path.join(HERE, f))

# ---- no model needed ----
case('010-root-get', request('GET', '/'), whole('Ollama is running', kind='text/plain; charset=utf-8'))
case('011-root-head', request('HEAD', '/'), whole('', kind='text/plain; charset=utf-8', length=False).replace(b'\r\n\r\n', b'\r\nContent-Length: 17\r\n\r\n'))
case('012-version-get', request('GET', '/api/version'), whole('{"version":"0.31.4"}'))
case('013-ps-one', request('GET', '/api/ps'), whole('{"models":[{"name":"llama3.2:latest","model":"llama3.2:latest","size":2019393189,"digest":"%s","details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"3.2B","quantization_level":"Q4_K_M"},"expires_at":"2026-10-11T09:17:31.5Z","size_vram":2019393189,"context_length":4096}]}' % ('a8' * 32)))
case('014-ps-head', request('HEAD', '/api/ps'), whole('', '405 Method Not Allowed', 'text/plain', ['Allow: GET'], length=False).replace(b'\r\n\r\n', b'\r\nContent-Length: 22\r\n\r\n'))
case('015-v1-models', request('GET', '/v1/models'), whole('{"object":"list","data":[{"id":"llama3.2:latest","object":"model","created":1791709951,"owned_by":"library"}]}\n', kind=PLAIN_JSON))
case('016-v1-model-unknown', request('GET', '/v1/models/nosuch'), whole('{"error":{"message":"model \'nosuch:latest\' not found","type":"not_found_error","param":null,"code":null}}\n', '404 Not Found', PLAIN_JSON))
case('017-tags-query', request('GET', '/api/tags?who=me&x=%20%2F'), whole('{"models":[%s]}' % ','.join('{"name":"m%d:latest","model":"m%d:latest","modified_at":"%s","size":%d,"digest":"%s"}' % (i, i, at(i), i * 1000, '%02x' % i * 32) for i in range(30))))
case('018-path-escaped', request('GET', '/api/a%2Fb%20c/?q=%C3%A9&&=;'), whole('404 page not found', '404 Not Found', 'text/plain'))

# ---- models ----
case('020-show-chunked', request('POST', '/api/show', {'model': 'llama3.2'}), whole('{"modelfile":"# made up\\nFROM llama3.2\\n","template":"\\u003c|user|\\u003e{{ .Prompt }}","capabilities":["completion","tools"],"tensors":[%s]}' % ','.join('{"name":"blk.%d","shape":[4096,%d]}' % (i, i) for i in range(120))))
case('021-show-unknown', request('POST', '/api/show', {'model': 'nosuch'}), whole('{"error":"model \'nosuch:latest\' not found"}', '404 Not Found'))
case('022-pull-progress', request('POST', '/api/pull', {'model': 'phi9'}), stream(['{"status":"pulling manifest"}'] + ['{"status":"pulling 8daa9615cce3","digest":"sha256:%s","total":3826781184,"completed":%d}' % ('8d' * 32, i * 478347648) for i in range(9)] + ['{"status":"verifying sha256 digest"}', '{"status":"writing manifest"}', '{"status":"success"}']))
case('023-pull-fails-inside', request('POST', '/api/pull', {'model': 'nosuch9'}), stream(['{"status":"pulling manifest"}', '{"error":"pull model manifest: file does not exist"}']))
case('024-pull-plain', request('POST', '/api/pull', {'model': 'phi9', 'stream': False}), whole('{"status":"success"}', kind=PLAIN_JSON))
case('025-pull-plain-fails', request('POST', '/api/pull', {'model': 'nosuch9', 'stream': False}), whole('{"error":"pull model manifest: file does not exist"}', '500 Internal Server Error', PLAIN_JSON))
case('026-create-early-error', request('POST', '/api/create', {'model': 'mine'}), whole('{"error":"neither \'from\' or \'files\' was specified"}', '400 Bad Request', PLAIN_JSON, chunked=True))
case('027-copy', request('POST', '/api/copy', {'source': 'llama3.2', 'destination': 'copy-of-it'}), whole('', kind=None))
case('028-delete-unknown', request('DELETE', '/api/delete', {'model': 'copy-of-that'}), whole('{"error":"model \'copy-of-that\' not found"}', '404 Not Found'))
case('029-blob-post', request('POST', '/api/blobs/sha256:' + 'ab' * 32, bytes(range(256)) * 20, ['Content-Type: application/octet-stream']), whole('', '201 Created', None))
case('030-blob-head', request('HEAD', '/api/blobs/sha256:' + 'ab' * 32), whole('', kind=None, length=False))
case('031-blob-head-missing', request('HEAD', '/api/blobs/sha256:' + 'cd' * 32), whole('', '404 Not Found', length=False).replace(b'\r\n\r\n', b'\r\nContent-Length: 102\r\n\r\n'))

# ---- generate ----
SKY = ['Because', ' air', ' scatters', ' short', ' waves', ' most', '.']
T0 = {'temperature': 0, 'seed': 7}
case('100-generate-stream', ask(model='llama3.2', prompt='Why is the sky blue?', options=T0), stream(gen_lines('llama3.2', SKY, 14)))
case('101-generate-plain', ask(model='llama3.2', prompt='Why is the sky blue?', stream=False, options=T0), whole(gen_whole('llama3.2', SKY, 14)))
case('102-generate-echoes-name', ask(model='LLaMA3.2:Latest', prompt='Why is the sky blue?', options=T0), stream(gen_lines('LLaMA3.2:Latest', SKY, 14)))
case('103-generate-escapes', ask(model='llama3.2', prompt='Say odd things.', options=T0), stream(gen_lines('llama3.2', ['<b>', ' & ', '"quoted"', '\\', '\n\t', '\u2028', ' \u65e5\u672c', ' \U0001f680', '\x07', '\ufffd'], 9)))
case('104-generate-escapes-plain', ask(model='llama3.2', prompt='Say odd things.', stream=False, options=T0), whole(gen_whole('llama3.2', ['<b> & "q" \\ \n\t\u2028\u65e5\u672c\U0001f680\x07'], 9)))
case('105-generate-surrogates', ask(model='llama3.2', prompt='Emoji as pairs', options=T0), stream([x.replace('ROCKET', '\\ud83d\\ude80').replace('SLASH', '\\/') for x in gen_lines('llama3.2', ['ROCKET', ' and SLASH'], 5)]))
case('106-generate-length', ask(model='llama3.2', prompt='Count to a hundred.', options={'num_predict': 3, 'temperature': 0}), stream(gen_lines('llama3.2', ['1', ', 2', ', 3'], 11, 'length')))
case('107-generate-length-plain', ask(model='llama3.2', prompt='Count to a hundred.', stream=False, options={'num_predict': 3, 'temperature': 0}), whole(gen_whole('llama3.2', ['1', ', 2', ', 3'], 11, 'length')))
case('108-generate-length-by-itself', ask(model='llama3.2', prompt='Fill the window.', stream=False), whole(gen_whole('llama3.2', ['far'] * 9, 8, 'length')))
case('109-generate-raw', ask(model='llama3.2', prompt='<|u|>hi<|a|>', raw=True, stream=False, options=T0), whole(gen_whole('llama3.2', ['hello'], 3, context=None)))
case('110-generate-thinking', ask(model='qwen3', prompt='2+2?', think=True, options=T0), stream(gen_lines('qwen3', ['4', '.'], 8, thinking=['Two', ' and', ' two', ' <are>'])))
case('111-generate-thinking-plain', ask(model='qwen3', prompt='2+2?', think=True, stream=False, options=T0), whole(gen_whole('qwen3', ['4', '.'], 8, thinking=['Two', ' and', ' two'])))
case('112-generate-thinking-level', ask(model='qwen3', prompt='2+2?', think='high', stream=False), whole(gen_whole('qwen3', ['4.'], 8, thinking=['Hm.'])))
LP = [logprob('Yes', '-0.000016451016563223675', [('Yes', '-0.000016451016563223675'), ('No', '-11.092357635498047')]), logprob(' \u00e9', '-1e-7', [(' \u00e9', '-1e-7'), ('\u007f', '-0')])]
case('113-generate-logprobs', ask(model='llama3.2', prompt='Sure?', logprobs=True, top_logprobs=2, options=T0), stream(gen_lines('llama3.2', ['Yes', ' \u00e9'], 6, logprobs=LP)))
case('114-generate-logprobs-plain', ask(model='llama3.2', prompt='Sure?', logprobs=True, top_logprobs=2, stream=False, options=T0), whole(gen_whole('llama3.2', ['Yes', ' \u00e9'], 6, logprobs=LP)))
case('115-generate-context', ask(model='llama3.2', prompt='And then?', context=[1, 2, 3, 128009], stream=False), whole(gen_whole('llama3.2', ['Nothing', '.'], 5, context=[1, 2, 3, 128009, 14, 15, 128009])))
case('116-generate-load', ask(model='llama3.2'), whole('{"model":"llama3.2","created_at":"%s","response":"","done":true,"done_reason":"load"}' % at(1)))
case('117-generate-unload', ask(model='llama3.2', keep_alive=0), whole('{"model":"llama3.2","created_at":"%s","response":"","done":true,"done_reason":"unload"}' % at(2)))
case('118-generate-debug', ask(model='llama3.2', prompt='Hi', _debug_render_only=True), whole('{"model":"llama3.2","created_at":"%s","response":"","done":false,"_debug_info":{"rendered_template":"\\u003c|user|\\u003eHi"}}' % at(3)))
case('119-generate-keep-alive', ask(model='llama3.2', prompt='Stay.', keep_alive='10m', stream=False), whole(gen_whole('llama3.2', ['Woof.'], 4)))
case('120-generate-fails-inside', ask(model='llama3.2', prompt='Fall over.'), stream(gen_lines('llama3.2', ['I', ' am'], 4)[:2] + ['{"error":"an error was encountered while running the model: unexpected EOF"}']))
case('121-generate-fails-early', ask(model='llama3.2', prompt='Fall over at once.'), stream(['{"error":"an error was encountered while running the model: unexpected EOF"}'], PLAIN_JSON, end=b'', status='500 Internal Server Error'))
case('122-generate-unknown', ask(model='nosuch', prompt='Hi'), whole('{"error":"model \'nosuch\' not found"}', '404 Not Found'))
case('123-generate-busy', ask(model='llama3.2', prompt='Me too'), whole('{"error":"server busy, please try again.  maximum pending requests exceeded"}', '503 Service Unavailable'))
case('124-generate-no-done', ask(model='llama3.2', prompt='Stop short.'), stream(gen_lines('llama3.2', ['I', ' am'], 4)[:2]))
case('125-generate-odd-reason', ask(model='llama3.2', prompt='Why stop?', stream=False), whole(gen_whole('llama3.2', ['So'], 4, 'tired')))
case('126-generate-trailing-bytes', request('POST', '/api/generate', '{"model":"llama3.2","prompt":"Hi again","stream":false} and more'), whole(gen_whole('llama3.2', ['Hi.'], 4)))
case('127-generate-key-twice', request('POST', '/api/generate', '{"model":"nosuch","model":"llama3.2","prompt":"Twice","stream":false}'), whole(gen_whole('llama3.2', ['Twice.'], 4)))
case('128-generate-key-case', request('POST', '/api/generate', '{"Model":"llama3.2","PROMPT":"Loud","stream":false}'), whole(gen_whole('llama3.2', ['LOUD.'], 4)))
case('129-generate-bad-utf8', request('POST', '/api/generate', b'{"model":"llama3.2","prompt":"\xff\xc3 what","stream":false}'), whole(gen_whole('llama3.2', ['What?'], 4)))
case('130-generate-bad-json', request('POST', '/api/generate', '{"model":"llama3.2","prompt"'), whole('{"error":"unexpected EOF"}', '400 Bad Request'))
case('131-generate-empty-body', request('POST', '/api/generate', ''), whole('{"error":"missing request body"}', '400 Bad Request'))
case('132-generate-wrong-type', ask(model='llama3.2', prompt=['a', 'list']), whole('{"error":"json: cannot unmarshal array into Go struct field GenerateRequest.prompt of type string"}', '400 Bad Request'))
case('133-generate-array', request('POST', '/api/generate', '["llama3.2"]'), whole('{"error":"json: cannot unmarshal array into Go value of type api.GenerateRequest"}', '400 Bad Request'))
case('134-generate-bom', request('POST', '/api/generate', b'\xef\xbb\xbf{"model":"llama3.2","prompt":"hi"}'), whole('{"error":"invalid character \'\u00ef\' looking for beginning of value"}', '400 Bad Request'))
case('135-generate-unknown-fields', ask(model='llama3.2', prompt='New?', novelty={'a': [1, 2.5, None]}, stream=False, options={'later_option': 3, 'temperature': 0}), whole(gen_whole('llama3.2', ['Yes.'], 4)[:-1] + ',"novel_stat":{"x":[1.50,1e3]}}'))
case('136-generate-format-schema', ask(model='llama3.2', prompt='A fruit as JSON', format={'type': 'object', 'properties': {'name': {'type': 'string'}, 'kg': {'type': 'number'}}, 'required': ['name']}, options=T0), stream(gen_lines('llama3.2', ['{', '"name"', ': ', '"pear"', ', "kg": 0.2', '}'], 12)))
case('137-generate-image', ask(model='llava', prompt='What is this?', images=['iVBORw0KGgo='], stream=False), whole(gen_whole('llava', ['A dot.'], 60)))
case('138-generate-chunked-request', request('POST', '/api/generate', b'1c\r\n{"model":"llama3.2","prompt"\r\n1c\r\n:"In pieces?","stream":false\r\n1\r\n}\r\n0\r\n\r\n', ['Transfer-Encoding: chunked']), whole(gen_whole('llama3.2', ['Whole.'], 5)))
case('139-generate-expect', request('POST', '/api/generate', '{"model":"llama3.2","prompt":"May I?","stream":false}', ['Expect: 100-continue']), b'HTTP/1.1 100 Continue\r\n\r\n' + whole(gen_whole('llama3.2', ['Go on.'], 5)))
case('140-generate-text-plain', request('POST', '/api/generate', '{"model":"llama3.2","prompt":"Typed as text","stream":false}', ['Content-Type: text/plain']), whole(gen_whole('llama3.2', ['Fine.'], 5)))
case('141-generate-accept-gzip', request('POST', '/api/generate', '{"model":"llama3.2","prompt":"Squeezed?"}', ['Accept-Encoding: gzip, deflate, br', 'Accept: text/event-stream']), stream(gen_lines('llama3.2', ['Not', ' at all.'], 5)))
case('142-generate-long-plain', ask(model='llama3.2', prompt='Go on at length.', stream=False), whole(gen_whole('llama3.2', [' word%d' % i for i in range(700)], 6)))
case('143-generate-many-lines', ask(model='llama3.2', prompt='Go on in pieces.'), stream(gen_lines('llama3.2', [' word%d' % i for i in range(400)], 6)))
case('144-generate-long-line', ask(model='llama3.2', prompt='All at once.'), stream(gen_lines('llama3.2', ['x' * 30000, ' end'], 6)))
case('145-generate-suffix', ask(model='tiny-fim', prompt='def add(', suffix='return a + b', stream=False), whole(gen_whole('tiny-fim', ['a, b):\n    '], 9)))
case('146-generate-null-fields', ask(model='llama3.2', prompt='Nothing set', stream=None, options=None, system=None), stream(gen_lines('llama3.2', ['Right.'], 6)))

# ---- chat ----
case('200-chat-stream', talk('Name a river.', options=T0), stream(chat_lines('llama3.2', ['The', ' Dnipro', '.'], 12)))
case('201-chat-plain', talk('Name a river.', stream=False, options=T0), whole(chat_whole('llama3.2', ['The Dnipro.'], 12)))
case('202-chat-turns', talk({'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'I am Olha.'}, {'role': 'assistant', 'content': 'Hello, Olha.'}, {'role': 'user', 'content': 'Who am I?'}), stream(chat_lines('llama3.2', ['Olha', '.'], 31)))
case('203-chat-thinking', talk('Is 7 prime?', model='qwen3', options=T0), stream(chat_lines('qwen3', ['Yes', '.'], 11, thinking=['Seven', ' has', ' no', ' divisors', '.'])))
case('204-chat-thinking-plain', talk('Is 7 prime?', model='qwen3', stream=False, options=T0), whole(chat_whole('qwen3', ['Yes.'], 11, thinking=['Seven has none.'])))
TOOLS = [{'type': 'function', 'function': {'name': 'find_train', 'description': 'Trains between towns', 'parameters': {'type': 'object', 'properties': {'from': {'type': 'string'}, 'to': {'type': 'string'}}, 'required': ['from', 'to']}}}]
CALL = '[{"id":"call_k3x81mq2","function":{"index":0,"name":"find_train","arguments":{"from":"Kherson","to":"Lviv","when":{"hour":7,"exact":1.50}}}}]'
CALL2 = '[{"id":"call_zz91aa0b","function":{"index":1,"name":"find_train","arguments":{"to":"Odesa","from":"Kyiv"}}}]'
case('205-chat-tool', talk('A train to Lviv?', tools=TOOLS, options=T0), stream(chat_lines('llama3.2', [], 41, tools=[CALL])))
case('206-chat-tools-two', talk('Trains to Lviv and Odesa?', tools=TOOLS), stream(chat_lines('llama3.2', ['Let', ' me', ' look.'], 45, tools=[CALL, CALL2])))
case('207-chat-tool-plain', talk('A train to Lviv?', tools=TOOLS, stream=False, options=T0), whole(chat_whole('llama3.2', [], 41, tools=CALL)))
case('208-chat-tool-result', talk({'role': 'user', 'content': 'A train to Lviv?'}, {'role': 'assistant', 'content': '', 'tool_calls': [{'function': {'name': 'find_train', 'arguments': {'from': 'Kherson', 'to': 'Lviv'}}}]}, {'role': 'tool', 'tool_name': 'find_train', 'content': '07:10'}, tools=TOOLS, stream=False), whole(chat_whole('llama3.2', ['At ten past seven.'], 66)))
case('209-chat-logprobs', talk('Sure?', logprobs=True, top_logprobs=2, options=T0), stream(chat_lines('llama3.2', ['Yes', ' \u00e9'], 9, logprobs=LP)))
case('210-chat-logprobs-plain', talk('Sure?', logprobs=True, top_logprobs=2, stream=False, options=T0), whole(chat_whole('llama3.2', ['Yes', ' \u00e9'], 9, logprobs=LP)))
case('211-chat-load', talk(), whole('{"model":"llama3.2","created_at":"%s","message":{"role":"assistant","content":""},"done":true,"done_reason":"load"}' % at(4)))
case('212-chat-unload', talk(keep_alive=0), whole('{"model":"llama3.2","created_at":"%s","message":{"role":"assistant","content":""},"done":true,"done_reason":"unload"}' % at(4)))
case('213-chat-length', talk('Tell all.', options={'num_predict': 2}), stream(chat_lines('llama3.2', ['Once', ' upon'], 9, 'length')))
case('214-chat-unknown', talk('Hi', model='nosuch'), whole('{"error":"model \'nosuch\' not found"}', '404 Not Found'))
case('215-chat-no-model', request('POST', '/api/chat', {'messages': [{'role': 'user', 'content': 'Hi'}]}), whole('{"error":"model is required"}', '400 Bad Request'))
case('216-chat-content-list', talk({'role': 'user', 'content': [{'type': 'text', 'text': 'Hi'}]}), whole('{"error":"json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string"}', '400 Bad Request'))
case('217-chat-strange-role', talk({'role': 'oracle', 'content': 'Speak.'}, stream=False), whole(chat_whole('llama3.2', ['Spoken.'], 8)))
case('218-chat-format-json', talk('A town as JSON.', format='json', stream=False, options=T0), whole(chat_whole('llama3.2', ['{"town": "Kherson"}'], 15)))
case('219-chat-fails-inside', talk('Fall over.'), stream(chat_lines('llama3.2', ['I', ' am'], 4)[:2] + ['{"error":"an error was encountered while running the model: unexpected EOF"}']))
case('220-chat-only-error', talk('Fall over now.'), stream(['{"error":"llama runner process has terminated: exit status 2"}'], PLAIN_JSON, end=b'', status='500 Internal Server Error'))
case('221-chat-unknown-fields', talk('New?', options=T0), stream(chat_lines('llama3.2', ['Yes', '.'], 9, last_more=',"novel_stat":[1.0,2]')))
case('222-chat-system-unicode', talk({'role': 'system', 'content': 'Відповідай стисло.'}, {'role': 'user', 'content': 'Які є факультети?'}, options=T0), stream(chat_lines('llama3.2', ['Їх', ' десять', ':', ' «', 'право', '»', '…'], 22)))
case('223-chat-images', talk({'role': 'user', 'content': 'What is this?', 'images': ['iVBORw0KGgo=']}, model='llava', stream=False), whole(chat_whole('llava', ['A dot.'], 61)))

# ---- embeddings ----
VEC = [0.12374794, -0.07084856, 5.9390636e-05, -0.0032953857, 1, 0, -1.5e-07]
case('300-embed', request('POST', '/api/embed', {'model': 'nomic-embed-text', 'input': 'a river'}), whole('{"model":"nomic-embed-text","embeddings":[%s],"total_duration":14143917,"load_duration":1019500,"prompt_eval_count":3}' % '[0.12374794,-0.07084856,0.000059390636,-0.0032953857,1,0,-1.5e-7]'))
case('301-embed-list', request('POST', '/api/embed', {'model': 'nomic-embed-text', 'input': ['a river', 'a stone'], 'dimensions': 3}), whole('{"model":"nomic-embed-text","embeddings":[[0.5,-0.25,0.1],[0.4,0.30000001,-1]],"total_duration":14143917,"load_duration":1019500,"prompt_eval_count":6}'))
case('302-embed-long', request('POST', '/api/embed', {'model': 'nomic-embed-text', 'input': 'many dimensions'}), whole('{"model":"nomic-embed-text","embeddings":[[%s]],"total_duration":14143917,"load_duration":1019500,"prompt_eval_count":4}' % ','.join('%.9f' % (((i * 7919) % 997) / 998 - 0.5) for i in range(768))))
case('303-embeddings', request('POST', '/api/embeddings', {'model': 'nomic-embed-text', 'prompt': 'a river'}), whole('{"embedding":[0.12374793738126755,-0.07084856182336807,-0.11708410829305649,1.5e-12]}'))
case('304-embed-empty-list', request('POST', '/api/embed', {'model': 'nomic-embed-text', 'input': []}), whole('{"model":"nomic-embed-text","embeddings":[]}'))
case('305-embed-unknown', request('POST', '/api/embed', {'model': 'nosuch', 'input': 'x'}), whole('{"error":"model \\"nosuch\\" not found, try pulling it first"}', '404 Not Found'))
case('306-embed-bad-input', request('POST', '/api/embed', {'model': 'nomic-embed-text', 'input': 5}), whole('{"error":"invalid input type"}', '400 Bad Request'))
case('307-embed-generative', request('POST', '/api/embed', {'model': 'llama3.2', 'input': 'x'}), whole('{"error":"This server does not support embeddings. Start it with `--embeddings`"}', '501 Not Implemented'))

# ---- paths and methods ----
case('400-unknown-path', request('GET', '/such/nothing'), whole('404 page not found', '404 Not Found', 'text/plain'))
case('401-wrong-method', request('GET', '/api/chat'), whole('405 method not allowed', '405 Method Not Allowed', 'text/plain', ['Allow: POST']))
case('402-put-generate', request('PUT', '/api/generate', {}), whole('405 method not allowed', '405 Method Not Allowed', 'text/plain', ['Allow: POST']))
case('403-redirect-get', request('GET', '/api/version/'), whole('<a href="/api/version">Moved Permanently</a>.\n', '301 Moved Permanently', 'text/html; charset=utf-8').replace(b'Date:', b'Location: /api/version\r\nDate:'))
case('404-redirect-post', request('POST', '/api/chat/', {'model': 'llama3.2', 'messages': [{'role': 'user', 'content': 'Where?'}]}), whole('', '307 Temporary Redirect', None).replace(b'Date:', b'Location: /api/chat\r\nDate:'))
case('405-redirect-double', request('POST', '//api/generate', {'model': 'llama3.2', 'prompt': 'Where?'}), whole('', '307 Temporary Redirect', None).replace(b'Date:', b'Location: /api/generate\r\nDate:'))
case('406-odd-method', request('PROPFIND', '/api/tags'), whole('404 page not found', '404 Not Found', 'text/plain'))

# ---- Origin and Host: CORS headers are the proxy's own ----
ALLOW = 'Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta'
case('500-origin-allowed', request('POST', '/api/chat', {'model': 'llama3.2', 'messages': [{'role': 'user', 'content': 'From a page'}], 'stream': False}, ['Origin: http://localhost:5173']), whole(chat_whole('llama3.2', ['Seen.'], 6), extra=['Access-Control-Allow-Origin: http://localhost:5173', 'Vary: Origin']))
case('501-origin-stream', request('POST', '/api/generate', {'model': 'llama3.2', 'prompt': 'From an app'}, ['Origin: app://desk']), stream(gen_lines('llama3.2', ['Seen', '.'], 6), extra=['Access-Control-Allow-Origin: app://desk', 'Vary: Origin']))
case('502-origin-error', request('POST', '/api/chat', {'model': 'nosuch', 'messages': []}, ['Origin: http://127.0.0.1:8000']), whole('{"error":"model \'nosuch\' not found"}', '404 Not Found', extra=['Access-Control-Allow-Origin: http://127.0.0.1:8000', 'Vary: Origin']))
case('503-origin-foreign', request('POST', '/api/generate', {'model': 'llama3.2', 'prompt': 'Let me in'}, ['Origin: https://elsewhere.example']), whole('', '403 Forbidden', None))
case('504-origin-null', request('GET', '/api/tags', None, ['Origin: null']), whole('', '403 Forbidden', None))
case('505-host-foreign', request('GET', '/api/version', host='elsewhere.example'), whole('', '403 Forbidden', None))
case('506-host-internal', request('GET', '/api/version', host='box.internal:11434'), whole('{"version":"0.31.4"}'))
case('507-preflight-allowed', request('OPTIONS', '/api/generate', None, ['Origin: http://localhost:5173', 'Access-Control-Request-Method: POST', 'Access-Control-Request-Headers: content-type']), (
    'HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Headers: %s\r\nAccess-Control-Allow-Methods: GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS\r\nAccess-Control-Allow-Origin: http://localhost:5173\r\nAccess-Control-Max-Age: 43200\r\nAllow: POST\r\nVary: Origin\r\nVary: Access-Control-Request-Method\r\nVary: Access-Control-Request-Headers\r\nDate: %s\r\n\r\n' % (ALLOW, DATE)).encode())
case('508-options-no-origin', request('OPTIONS', '/api/chat'), whole('405 method not allowed', '405 Method Not Allowed', 'text/plain', ['Allow: POST']))

# ---- OpenAI's twins, as they pass today ----
case('600-v1-chat', request('POST', '/v1/chat/completions', {'model': 'llama3.2', 'messages': [{'role': 'user', 'content': 'Name a stone.'}]}, ['Authorization: Bearer x']), whole('{"id":"chatcmpl-411","object":"chat.completion","created":1791709951,"model":"llama3.2","system_fingerprint":"fp_ollama","choices":[{"index":0,"message":{"role":"assistant","content":"Granite."},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}}\n', kind=PLAIN_JSON))
case('601-v1-chat-stream', request('POST', '/v1/chat/completions', {'model': 'llama3.2', 'messages': [{'role': 'user', 'content': 'Name a stone.'}], 'stream': True}), stream(
    ['data: {"id":"chatcmpl-9","object":"chat.completion.chunk","created":1791709951,"model":"llama3.2","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{%s"content":%s},"finish_reason":null}]}\n' % ('"role":"assistant",' if i == 0 else '', go(w)) for i, w in enumerate(['Gran', 'ite', '.'])] +
    ['data: {"id":"chatcmpl-9","object":"chat.completion.chunk","created":1791709951,"model":"llama3.2","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n'], SSE))
case('602-v1-unknown', request('POST', '/v1/chat/completions', {'model': 'nosuch', 'messages': [{'role': 'user', 'content': 'Hi'}]}), whole('{"error":{"message":"model \'nosuch\' not found","type":"not_found_error","param":null,"code":null}}\n', '404 Not Found', PLAIN_JSON))

# ---- the edges of HTTP ----
case('700-http10-get', request('GET', '/api/version', version='1.0'), b'HTTP/1.0 200 OK\r\nContent-Type: %s\r\nDate: %s\r\nContent-Length: 20\r\n\r\n{"version":"0.31.4"}' % (JSON.encode(), DATE.encode()))
case('701-http10-stream', request('POST', '/api/generate', {'model': 'llama3.2', 'prompt': 'In the old way'}, version='1.0'), b'HTTP/1.0 200 OK\r\nContent-Type: application/x-ndjson\r\nDate: %s\r\n\r\n' % DATE.encode() + '\n'.join(gen_lines('llama3.2', ['As', ' you', ' wish.'], 6) + ['']).encode())
case('702-pipelined', request('GET', '/api/version') + request('GET', '/api/version'), whole('{"version":"0.31.4"}') * 2)
case('703-no-host', request('GET', '/api/version', host=None), b'HTTP/1.1 400 Bad Request: missing required Host header\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request: missing required Host header')
case('704-bad-request-line', b'NONSENSE\r\n\r\n', b'HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request')
case('705-short-body', b'POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{"model":"llama3.2"', b'')
case('706-connection-close', request('POST', '/api/generate', {'model': 'llama3.2', 'prompt': 'Then leave'}, ['Connection: close']), stream(gen_lines('llama3.2', ['Bye', '.'], 6), extra=[]).replace(b'Transfer-Encoding: chunked\r\n', b'Transfer-Encoding: chunked\r\nConnection: close\r\n'))

print(count, 'cases')
