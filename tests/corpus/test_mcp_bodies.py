"""Bodies that two readers could take for two things are refused, each for its own reason; plain ones are forwarded."""

import json

import pytest
from ground import denied

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

PLAIN = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_order","arguments":{}}}'
PARSE, INVALID = -32700, -32600


def sent(ground, body: bytes):
    with ground.tunnel() as client:
        return client.outcome(ground.post(body))


def with_arguments(text: str) -> str:
    """The plain call with these arguments."""
    return PLAIN.replace('"arguments":{}', f'"arguments":{text}')


def with_id(text: str) -> str:
    return PLAIN.replace('"id":1', f'"id":{text}')


def with_bytes(data: bytes) -> bytes:
    """The plain call with an argument of these bytes."""
    return with_arguments('{"a":"~"}').encode().replace(b"~", data)


TWIN, TWICE = ("twin-member", INVALID), ("duplicate-member", INVALID)
NONE, BROKEN = ("not-a-message", INVALID), ("malformed-json", PARSE)
BAD_ID, BAD_PARAMS, BAD_METHOD = ("bad-id", INVALID), ("bad-params", INVALID), ("bad-method", INVALID)
ANSWER = ("response-not-accepted", INVALID)
BATCH = ("batch-not-accepted", INVALID)
RESERVED = ("reserved-member", INVALID)
NUMBER, DEEP, COMPLEX = ("inexact-number", INVALID), ("too-deep", INVALID), ("too-complex", INVALID)
HALF, NOT_UTF8 = ("lone-surrogate", INVALID), ("not-utf8", PARSE)

BODIES: dict[str, tuple[str, tuple[str, int]]] = {
    "a name twice": (PLAIN.replace('"name":"get_order"', '"name":"get_order","name":"delete_order"'), TWICE),
    "a method twice, escaped": (PLAIN.replace('"method"', '"method":"ping","m\\u0065thod"'), TWICE),
    "an argument twice": (with_arguments('{"a":1,"a":2}'), TWICE),
    "an argument twice, deep": (with_arguments('{"x":[{"y":{"a":1,"\\u0061":2}}]}'), TWICE),
    "arguments twins by case": (with_arguments('{"path":1,"Path":2}'), TWIN),
    "twins by case": (PLAIN.replace('"name":"get_order"', '"name":"get_order","Name":"delete_order"'), TWIN),
    "a twin of what is not there": (PLAIN.replace('"arguments"', '"Arguments"'), TWIN),
    "an envelope twin": (with_id('1,"Id":2'), TWIN),
    "twins by a long s": (PLAIN.replace('"params":', '"params":{},"param\\u017f":'), TWIN),
    "twins by a kelvin sign": (with_arguments('{"token":1,"to\\u212aen":2}'), TWIN),
    "twins by width": (with_arguments('{"name":1,"\uff4eame":2}'), TWIN),
    "twins by composition": (with_arguments('{"caf\u00e9":1,"cafe\u0301":2}'), TWIN),
    "twins by a sharp s": (with_arguments('{"stra\u00dfe":1,"strasse":2}'), TWIN),
    "twins by a dotless i": (with_arguments('{"ID":1,"\u0131d":2}'), TWIN),
    "twins by NUL": (PLAIN.replace('"name":"get_order"', '"name":"get_order","name\\u0000":"x"'), TWIN),
    "NUL in a name": (with_arguments('{"path\\u0000":2}'), TWIN),
    "a prototype": (with_arguments('{"__proto__":{"isAdmin":true}}'), RESERVED),
    "a prototype, deep and escaped": (with_arguments('{"a":[{"\\u005f_proto__":1}]}'), RESERVED),
    "a prototype in params": (PLAIN.replace('"name"', '"__proto__":{},"name"'), RESERVED),
    "a prototype of the message": (with_id('1,"__proto__":{}'), NONE),
    "null": ("null", NONE),
    "a number": ("1", NONE),
    "a string": ('"x"', NONE),
    "an empty object": ("{}", NONE),
    "nothing": ("", BROKEN),
    "an empty batch": ("[]", BATCH),
    "a batch of one": (f"[{PLAIN}]", BATCH),
    "a batch of two": (f"[{PLAIN},{with_id('2')}]", BATCH),
    "two documents": (PLAIN + PLAIN, BROKEN),
    "lines of documents": (PLAIN + "\n" + PLAIN, BROKEN),
    "garbage behind": (PLAIN + "x", BROKEN),
    "NUL behind": (PLAIN + "\0", BROKEN),
    "a record separator": (f"\x1e{PLAIN}\n", BROKEN),
    "a prefix against scripts": (")]}'\n" + PLAIN, BROKEN),
    "a vertical tab before": ("\x0b" + PLAIN, BROKEN),
    "a hard space before": ("\u00a0" + PLAIN, BROKEN),
    "cut off": (PLAIN[:-1], BROKEN),
    "a comma too many": (with_arguments("{},"), BROKEN),
    "a comment": (PLAIN.replace("{", "{/**/", 1), BROKEN),
    "single quotes": (PLAIN.replace('"', "'"), BROKEN),
    "a bad escape": (PLAIN.replace("get_order", "get_\\x6frder"), BROKEN),
    "a control character in a string": (PLAIN.replace("get_order", "get_\x01order"), BROKEN),
    "a line end in a string": (with_arguments('{"a":"x\ny"}'), BROKEN),
    "NaN": (with_arguments('{"a":NaN}'), BROKEN),
    "infinity": (with_arguments('{"a":-Infinity}'), BROKEN),
    "a leading zero": (with_arguments('{"a":01}'), BROKEN),
    "a plus": (with_arguments('{"a":+1}'), BROKEN),
    "a bare point": (with_arguments('{"a":.5}'), BROKEN),
    "half a surrogate": (with_arguments('{"a":"\\ud800"}'), HALF),
    "surrogates the wrong way round": (with_arguments('{"a":"\\udc00\\ud800"}'), HALF),
    "half a surrogate in a name": (with_arguments('{"\\ud800":1}'), HALF),
    "5,000 digits": (with_arguments('{"a":%s}' % ("9" * 5000)), NUMBER),
    "5,000 digits behind a point": (with_arguments('{"a":0.%s}' % ("1" * 5000)), NUMBER),
    "1e400": (with_arguments('{"a":1e400}'), NUMBER),
    "depth 65": (with_arguments('{{"a":{}1{}}}'.format("[" * 65, "]" * 65)), DEEP),
    "depth 70 of objects": (with_arguments('{"a":' * 70 + "1" + "}" * 70), DEEP),
    "depth 100,000": (with_arguments('{{"a":{}1{}}}'.format("[" * 100_000, "]" * 100_000)), COMPLEX),
    "depth without end": ('{"a":' * 100_000, COMPLEX),
    "200,000 members": ("{" + ",".join(f'"k{n}":1' for n in range(200_000)) + "}", COMPLEX),
    "id null": (with_id("null"), BAD_ID),
    "id 1.5": (with_id("1.5"), BAD_ID),
    "id 1.0": (with_id("1.0"), BAD_ID),
    "id 1e2": (with_id("1e2"), BAD_ID),
    "id -0": (with_id("-0"), BAD_ID),
    "id true": (with_id("true"), BAD_ID),
    "id false": (with_id("false"), BAD_ID),
    "id in a list": (with_id("[1]"), BAD_ID),
    "id in an object": (with_id("{}"), BAD_ID),
    "id past 2^53": (with_id("9007199254740993"), BAD_ID),
    "id of half a surrogate": (with_id('"\\ud800"'), HALF),
    "no id": (PLAIN.replace('"id":1,', ""), BAD_ID),
    "a list without id": ('{"jsonrpc":"2.0","method":"tools/list"}', BAD_ID),
    "a notification with id": ('{"jsonrpc":"2.0","id":3,"method":"notifications/initialized"}', BAD_ID),
    "json-rpc 1.0": (PLAIN.replace('"2.0"', '"1.0"'), NONE),
    "json-rpc 2": (PLAIN.replace('"2.0"', '"2"'), NONE),
    "json-rpc as a number": (PLAIN.replace('"2.0"', "2.0"), NONE),
    "json-rpc in a list": (PLAIN.replace('"2.0"', '["2.0"]'), NONE),
    "no json-rpc": (PLAIN.replace('"jsonrpc":"2.0",', ""), NONE),
    "an unknown member": (with_id('1,"x":2'), NONE),
    "result and method": (with_id('1,"result":{}'), ANSWER),
    "error and method": (with_id('1,"error":{"code":1,"message":"x"}'), ANSWER),
    "a result": ('{"jsonrpc":"2.0","id":1,"result":{}}', ANSWER),
    "an error": ('{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}', ANSWER),
    "a result and an error": ('{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"x"}}', ANSWER),
    "params in a list": (PLAIN.replace('{"name":"get_order","arguments":{}}', '["get_order"]'), BAD_PARAMS),
    "params null": (PLAIN.replace('{"name":"get_order","arguments":{}}', "null"), BAD_PARAMS),
    "arguments in a list": (with_arguments("[1]"), BAD_PARAMS),
    "a name in a list": (PLAIN.replace('"get_order"', '["get_order"]'), BAD_PARAMS),
    "no name": (PLAIN.replace('"name":"get_order",', ""), BAD_PARAMS),
    "a method that is a number": (PLAIN.replace('"tools/call"', "1"), BAD_METHOD),
    "a method with a space": (PLAIN.replace('"tools/call"', '"tools/call "'), BAD_METHOD),
    "a method with NUL": (PLAIN.replace('"tools/call"', '"tools/call\\u0000"'), BAD_METHOD),
}
RAW: dict[str, tuple[bytes, tuple[str, int]]] = {
    "UTF-16": (PLAIN.encode("utf-16"), NOT_UTF8),
    "UTF-16 without a mark": (PLAIN.encode("utf-16-le"), NOT_UTF8),
    "UTF-16, the other way": (PLAIN.encode("utf-16-be"), NOT_UTF8),
    "UTF-32": (PLAIN.encode("utf-32-le"), NOT_UTF8),
    "UTF-7": (PLAIN.replace('"', "+ACI-").encode(), BROKEN),
    "Latin-1": (with_arguments('{"a":"\u00e9"}').encode("latin-1"), NOT_UTF8),
    "EBCDIC": (PLAIN.encode("cp037"), NOT_UTF8),
    "a byte order mark": (b"\xef\xbb\xbf" + PLAIN.encode(), NOT_UTF8),
    "a byte order mark in the middle": (PLAIN.encode().replace(b'"id"', b'\xef\xbb\xbf"id"'), BROKEN),
    "no UTF-8": (with_bytes(b"\xff"), NOT_UTF8),
    "an overlong slash": (with_bytes(b"\xc0\xaf"), NOT_UTF8),
    "an overlong NUL": (with_bytes(b"\xc0\x80"), NOT_UTF8),
    "a surrogate in UTF-8": (with_bytes(b"\xed\xa0\x80"), NOT_UTF8),
    "a pair of surrogates in UTF-8": (with_bytes(b"\xed\xa0\xbd\xed\xb8\x80"), NOT_UTF8),
    "five bytes": (with_bytes(b"\xf8\x88\x80\x80\x80"), NOT_UTF8),
    "past the last character": (with_bytes(b"\xf4\x90\x80\x80"), NOT_UTF8),
    "a cut character": (with_bytes(b"\xe2\x82"), NOT_UTF8),
    "CBOR": (b"\xa1aa\x01", NOT_UTF8),
}
ALL_BODIES = {name: (text.encode(), why) for name, (text, why) in BODIES.items()} | RAW


@pytest.mark.attack(
    "MCP-10", "MCP-11", "MCP-13", "MCP-14", "MCP-16", "MCP-17", "MCP-19", "MCP-20", "MCP-22", "MCP-23", "MCP-25",
    "MCP-26", "MCP-28", "MCP-29", "MCP-34",
)  # fmt: skip
@pytest.mark.parametrize("name", ALL_BODIES)
def test_a_body_that_could_be_read_otherwise_is_refused_for_what_it_is(ground, name) -> None:
    body, (reason, code) = ALL_BODIES[name]
    with ground.watch():
        reply = sent(ground, body)
        denied(reply, 400, reason)
        assert reply.json["error"]["code"] == code
        assert "id" in reply.json, "an error without the member is lost on clients"


READ = {
    "white space around": f" \t\r\n{PLAIN}\n\n",
    "a method with an escaped slash": PLAIN.replace('"tools/call"', '"tools\\/call"'),
    "numbers in every form": with_arguments('{"a":[-0,1E+2,0.5,-1.5e-3,18446744073709551616]}'),
    "4,000 digits": with_arguments('{"a":%s}' % ("9" * 4000)),
    "a pair of surrogates": with_arguments('{"a":"\\ud83d\\ude00"}'),
    "lines of other kinds": with_arguments('{"a":"\u2028\u0085"}'),
    "depth 60": with_arguments('{{"a":{}1{}}}'.format("[" * 60, "]" * 60)),
    "a constructor": with_arguments('{"constructor":{"prototype":1},"a":"__proto__"}'),
    "no arguments": PLAIN.replace(',"arguments":{}', ""),
}


@pytest.mark.attack("MCP-17", "MCP-22", "MCP-23", "MCP-34")
@pytest.mark.parametrize("text", READ.values(), ids=READ)
def test_a_body_that_can_be_read_in_one_way_arrives_with_that_meaning(ground, text) -> None:
    with ground.watch(refusals=0, arrive=1) as watch:
        assert sent(ground, text.encode()).status == 200
        (heard,) = watch.arrived()
        assert json.loads(heard.body) == json.loads(text)
        assert heard.body.count(b"\n") == 0, "what is forwarded is written anew"


@pytest.mark.attack("MCP-25")
@pytest.mark.parametrize("request_id", [0, 1, "1", ""])
def test_a_number_and_a_string_are_ids_and_come_back_as_they_are(ground, request_id) -> None:
    with ground.watch(refusals=0, arrive=1):
        found = sent(ground, with_id(json.dumps(request_id)).encode()).json["id"]
        assert (type(found), found) == (type(request_id), request_id)
