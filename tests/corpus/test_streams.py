"""A stream is read, masked and scrubbed event by event; what cannot be read ends it."""

import json

import pytest
from streams import MAIL, MAX_EVENT, is_masked, message, messages, received, stream

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

ENDS = {
    "LF": b"\n\n",
    "CRLF": b"\r\n\r\n",
    "CR": b"\r\r",
    "CRLF LF": b"\r\n\n",
    "LF CRLF": b"\n\r\n",
    "CR LF LF": b"\r\n\n",
    "CR CRLF": b"\r\r\n",
}


@pytest.mark.attack("SSE-01")
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_events_are_masked_however_their_lines_end(ground, end) -> None:
    piece = b"data: " + message(MAIL) + end + b"data: " + message(MAIL, last=True) + end
    is_masked(received(ground, stream(piece + b"\n")), 2)


@pytest.mark.attack("SSE-02")
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_events_are_the_same_wherever_the_stream_is_cut(ground, end) -> None:
    whole = (
        b": hello"
        + end[:1]
        + b"data: "
        + message(MAIL)
        + end
        + b"id: 7"
        + end[:1]
        + b"data: "
        + message("x", last=True)
        + end
        + b"\n"
    )
    at = whole.index(end) + 1
    once = received(ground, stream(whole))
    assert received(ground, stream(whole[:at], whole[at:])) == once
    assert received(ground, stream(*(whole[n : n + 1] for n in range(len(whole))))) == once
    is_masked(once, 2)


@pytest.mark.attack("SSE-04")
def test_data_lines_are_one_value(ground) -> None:
    lines = json.dumps(json.loads(message(MAIL, last=True)), indent=1).encode().split(b"\n")
    piece = b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"
    is_masked(received(ground, stream(piece)), 1)


FIELDS = {
    "no space": b"data:%s\n\n",
    "two spaces": b"data:  %s\n\n",
    "an unknown field before": b"x-secret: %s\ndata: {}\n\n",
    "data in capitals": b"DATA: %s\ndata: {}\n\n",
    "a space before the colon": b"data : %s\ndata: {}\n\n",
    "a space before the name": b" data: %s\ndata: {}\n\n",
    "no colon": b"data%s\ndata: {}\n\n",
    "no field at all": b"%s\ndata: {}\n\n",
    "a comment": b":%s\ndata: {}\n\n",
    "an id": b"id: %s\ndata: {}\n\n",
    "a type": b"event: %s\ndata: {}\n\n",
    "a retry": b"retry: %s\ndata: {}\n\n",
}


@pytest.mark.attack("SSE-05")
@pytest.mark.parametrize("form", FIELDS.values(), ids=FIELDS)
def test_no_field_carries_the_secret_past(ground, form) -> None:
    secret = ground.credential.encode()
    value = message(ground.credential) if form in (FIELDS["no space"], FIELDS["two spaces"]) else secret
    body = received(ground, stream(form % value))
    assert secret not in body
    # an answer is in none of them: the stream may end with an error in its place
    assert len([found for found in messages(body) if "error" not in found]) == 1


BESIDE = {
    "an event's type": b"event: x %s\ndata: {}\n\n",
    "an event's id": b"id: %s\ndata: {}\n\n",
    "the last of two ids": b"id: 7\nid: %s\ndata: {}\n\n",
    "an id alone": b"id: %s\n\n",
    "a comment": b": for %s\n\ndata: {}\n\n",
    "a comment within an event": b"data: {}\n: for %s\n\n",
}


@pytest.mark.attack("SSE-05")
@pytest.mark.parametrize("form", BESIDE.values(), ids=BESIDE)
def test_no_field_carries_past_what_a_mask_covers(ground, form) -> None:
    last = b"data: " + message("fine", last=True) + b"\n\n"
    body = received(ground, stream(form % MAIL.encode() + last))
    assert MAIL.encode() not in body
    assert messages(body)[-1]["result"]
    harmless = received(ground, stream(form % b"ann" + last))
    assert b"ann" in harmless


MARK = b"\xef\xbb\xbf"


@pytest.mark.attack("SSE-07")
@pytest.mark.parametrize("cut", [0, 1, 2, 3], ids=lambda cut: f"cut after {cut}")
def test_a_mark_at_the_start_hides_no_event(ground, cut) -> None:
    whole = MARK + b"data: " + message(MAIL, last=True) + b"\n\n"
    body = received(ground, stream(whole[:cut], whole[cut:]))
    is_masked(body, 1)
    assert MARK not in body


@pytest.mark.attack("SSE-07")
@pytest.mark.parametrize(
    "middle", [MARK + b"data: %s\n\n", b"data: {}\n" + MARK + b"data: %s\n\n", MARK + MARK + b"data: %s\n\n"]
)
def test_a_mark_in_the_middle_carries_nothing_past(ground, middle) -> None:
    body = received(ground, stream(b"data: {}\n\n" + middle % message(MAIL)))
    assert MAIL.encode() not in body


@pytest.mark.attack("SSE-08")
def test_a_character_cut_in_two_stays_whole(ground) -> None:
    data = json.dumps({"jsonrpc": "2.0", "method": "x", "params": {"a": "größe 😀"}}, ensure_ascii=False).encode()
    whole = b"data: " + data + b"\n\n"
    body = received(ground, stream(*(whole[n : n + 1] for n in range(len(whole)))))
    assert messages(body)[0]["params"]["a"] == "größe 😀"


@pytest.mark.attack("SSE-08")
@pytest.mark.parametrize("bad", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf0\x9f", b"\xfe\xff\0d"])
def test_bytes_that_are_not_utf8_end_the_stream_with_an_error(ground, bad) -> None:
    good_one = b"data: " + message("first") + b"\n\n"
    body = received(ground, stream(good_one, b'data: {"a":"' + bad + b'"}\n\n', b"data: " + message("after") + b"\n\n"))
    assert messages(body)[0]["params"]["data"] == "first"
    assert messages(body)[-1]["error"]["data"]["reason"] == "server-failed"
    assert b"after" not in body
    assert bad not in body


LARGE = {
    "one line": [b'data: {"a":"', b"RAW" * (MAX_EVENT // 3 + 10), b'"}\n\n'],
    "many lines": [b"data: RAW\n" * (MAX_EVENT // 8), b"\n"],
    "an event that never ends": [b"data: RAW" + b"R" * 60_000 + b"\n"] * 90,
    "a line that never ends": [b"data: RAW" + b"R" * 60_000] * 90,
    "a comment": [b":" + b"RAW" * (MAX_EVENT // 3 + 10) + b"\n\n"],
    "unknown fields": [b"raw: RAW" + b"R" * 60_000 + b"\n"] * 90,
}


@pytest.mark.attack("SSE-10")
@pytest.mark.parametrize("pieces", LARGE.values(), ids=LARGE)
def test_an_event_that_is_too_large_ends_the_stream_and_nothing_of_it_leaves(ground, pieces) -> None:
    body = received(
        ground, stream(b"data: " + message("first") + b"\n\n", *pieces, b"data: " + message("after") + b"\n\n")
    )
    assert b"RAW" not in body
    assert b"after" not in body
    assert messages(body)[0]["params"]["data"] == "first"
    assert messages(body)[-1]["error"]["data"]["reason"] == "server-failed"


@pytest.mark.attack("SSE-11")
@pytest.mark.parametrize("encode", ["between lines", "escaped", "in a list", "in two pieces"])
def test_the_secret_in_pieces_does_not_reach_the_caller(ground, encode) -> None:
    secret = ground.credential
    a, b = secret[:9], secret[9:]
    escaped = "".join(f"\\u{ord(c):04x}" for c in secret)
    piece = {
        "between lines": f'data: {{"jsonrpc":"2.0","method":"x","params":{{"a":"{a}\ndata: {b}"}}}}\n\n',
        "escaped": f'data: {{"jsonrpc":"2.0","method":"x","params":{{"a":"{escaped}"}}}}\n\n',
        "in a list": f'data: {{"jsonrpc":"2.0","method":"x",\ndata: "params":{{"a":["{secret}"]}}}}\n\n',
        "in two pieces": f"data: {message(secret).decode()}\n\n",
    }[encode].encode()
    at = piece.index(a.encode()) + 5 if encode == "in two pieces" else len(piece) // 2
    body = received(ground, stream(piece[:at], piece[at:]))
    assert secret.encode() not in body
    assert b.encode() not in body
    assert b not in json.dumps(messages(body))


TEXT = b"%s and %s"
ODD: dict[str, bytes] = {
    "no JSON": b"data: " + TEXT + b"\n\n",
    "JSON of no message": b'data: {"a":"' + TEXT + b'"}\n\n',
    "a string": b'data: "' + TEXT + b'"\n\n',
    "a list of messages": b'data: [{"jsonrpc":"2.0","method":"x","params":{"a":"' + TEXT + b'"}}]\n\n',
    "two values in one event": b'data: {}\ndata: {"a":"' + TEXT + b'"}\n\n',
    "a member twice": b'data: {"jsonrpc":"2.0","method":"x","params":{"a":1,"a":"' + TEXT + b'"}}\n\n',
    "an end that never comes": b"data: " + TEXT + b"\n",
    "a line that never ends": b"data: " + TEXT,
    "an answer nobody asked for": b'data: {"jsonrpc":"2.0","id":99,"result":{"a":"' + TEXT + b'"}}\n\n',
    "an answer with a result and an error": b'data: {"jsonrpc":"2.0","id":1,"result":{},"error":"' + TEXT + b'"}\n\n',
    "a second answer": b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\ndata: {"jsonrpc":"2.0","id":1,"result":{"a":"'
    + TEXT + b'"}}\n\n',
    "NUL in an id": b"id: \0" + TEXT + b"\ndata: {}\n\n",
    "depth": b'data: {"a":' + b"[" * 5000 + b'"' + TEXT + b'"' + b"]" * 5000 + b"}\n\n",
    "a type of its own": b'event: other\ndata: {"jsonrpc":"2.0","method":"x","params":{"a":"' + TEXT + b'"}}\n\n',
    "a type of the old transport": b"event: endpoint\ndata: /" + TEXT + b"\n\n",
}  # fmt: skip


@pytest.mark.attack("SSE-05", "SSE-11")
@pytest.mark.parametrize("form", ODD.values(), ids=ODD)
def test_an_event_that_is_no_plain_message_carries_nothing_past(ground, form) -> None:
    secret = ground.credential.encode()
    body = received(ground, stream(b"data: " + message("first") + b"\n\n", form % (MAIL.encode(), secret)))
    assert messages(body)[0]["params"]["data"] == "first"
    assert MAIL.encode() not in body
    assert secret not in body
    ground.is_well()


def test_the_good_stream_beside_all_of_these_passes(ground) -> None:
    events = [
        b"data: " + message("one") + b"\n\n",
        b": ping\n\n",
        b"id: 1\ndata: " + message("two", last=True) + b"\n\n",
    ]
    body = received(ground, stream(*events))
    assert [found.get("id") for found in messages(body)] == [None, 1]
    assert b": ping\n\n" in body
