"""Secret to `*`: every form a server may echo, however the network splits it."""

import base64
import html
import json
import re
import string
import time
from collections.abc import Callable
from datetime import UTC, datetime
from html.entities import html5
from itertools import cycle, pairwise
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.state import StateDirectory
from coatcheck.vault.bindings import Binding
from coatcheck.vault.keys import MasterKey
from coatcheck.vault.patterns import patterns_of
from coatcheck.vault.scrub import Hit, Scrubber, ScrubberCache
from coatcheck.vault.secret import Secret
from coatcheck.vault.snapshot import Credential, Snapshot
from coatcheck.vault.store import Vault

type Make = Callable[..., Credential]

PLAIN = b"ghp_16C7e42F292c6912E7710c838347Ae178B4a"
ODD = 'p/w+"d\\ <&%25>é~\U0001f511 x'.encode()
VALUES = [
    pytest.param(PLAIN, id="token"),
    pytest.param(ODD, id="odd characters"),
    pytest.param(b"sk/live+51Hq==", id="base64-like"),
    pytest.param(b"\xff\xfebytes\x80\x00", id="not UTF-8"),
    pytest.param(b"aaaaaaaaaa", id="periodic"),
]

ENTITIES: dict[str, list[bytes]] = {}
for name, text in html5.items():
    if name.endswith(";"):
        ENTITIES.setdefault(text, []).append(f"&{name}".encode())


def scrubber_of(*credentials: Credential) -> Scrubber:
    return Scrubber(map(patterns_of, credentials))


def characters(value: bytes) -> list[str]:
    try:
        return list(value.decode())
    except UnicodeDecodeError:
        return [chr(byte) for byte in value]


def forms(character: str, raw: bytes) -> list[bytes]:
    """Every way one character may be written, made without looking at the code under test."""
    found = [raw, "".join(f"%{b:02X}" for b in raw).encode(), "".join(f"%{b:02x}" for b in raw).encode()]
    escaped = json.dumps(character)[1:-1]
    if escaped.startswith("\\u"):
        found += [escaped.encode(), ("".join("\\u" + part.upper() for part in escaped.split("\\u")[1:])).encode()]
    else:
        found += [f"\\u{ord(character):04x}".encode(), f"\\u{ord(character):04X}".encode(), escaped.encode()]
    number = ord(character)
    found += [form.encode() for form in (f"&#{number};", f"&#0{number};", f"&#x{number:x};", f"&#X{number:X};")]
    found += ENTITIES.get(character, [])
    found += [f"&#{number}".encode(), f"&#x{number:X}".encode(), html.escape(f"&#{number};").encode()]
    found += [html.escape(name.decode()).encode() for name in ENTITIES.get(character, [])]
    found += ["".join(f"\\{b:03o}" for b in raw).encode(), "".join(f"\\\\{b:03o}" for b in raw).encode()]
    found += ["".join(f"%25{b:02X}" for b in raw).encode(), "".join(f"\\x{b:02x}" for b in raw).encode()]
    found += [
        json.dumps(found[3].decode())[1:-1].encode(),
        json.dumps(f"\\x{raw[0]:02x}")[1:-1].encode() + b"".join(b"\\\\x%02x" % b for b in raw[1:]),
    ]
    if character in string.punctuation and character != "\\":
        found += [f"\\{character}".encode(), f"\\\\{character}".encode()]
    if character == " ":
        found.append(b"+")
    return found


def alternatives(value: bytes) -> list[list[bytes]]:
    try:
        return [forms(character, character.encode()) for character in value.decode()]
    except UnicodeDecodeError:
        return [forms(chr(byte), bytes([byte])) for byte in value]


def base64_forms(value: bytes) -> list[bytes]:
    out = []
    for prefix in (b"", b"u", b"us", b"use", b"user:"):
        for suffix in (b"", b"x", b":y"):
            out += [base64.b64encode(prefix + value + suffix), base64.urlsafe_b64encode(prefix + value + suffix)]
    return out


@pytest.mark.parametrize("value", VALUES)
def test_the_value_is_masked_in_every_encoding(credential: Make, value: bytes) -> None:
    scrubber = scrubber_of(credential(value))
    text = "".join(characters(value))
    encoded = {
        "raw": [value],
        "hex": [value.hex().encode(), value.hex().upper().encode()],
        "escaped": [
            quote(value, safe="").encode(), quote_plus(value).encode(),
            re.sub(rb"%..", lambda found: found[0].lower(), quote(value, safe="").encode()),
            "".join(f"%{byte:02x}" for byte in value).encode(), json.dumps(text)[1:-1].encode(),
            json.dumps(text, ensure_ascii=False)[1:-1].encode(), json.dumps(text)[1:-1].replace("/", "\\/").encode(),
            *[b"".join(options[min(n, len(options) - 1)] for options in alternatives(value)) for n in range(24)],
        ],
    }  # fmt: skip
    for expected, texts in encoded.items():
        for written in texts:
            hits: list[Hit] = []
            out = scrubber.whole(b"{<" + written + b">}", hits)
            assert out == b"{<" + b"*" * len(written) + b">}", written
            assert hits
            assert {hit.secret for hit in hits} == {"token"}
            assert expected == "escaped" or Hit("token", expected) in hits  # type: ignore[arg-type]


@pytest.mark.parametrize("value", VALUES)
def test_base64_at_every_alignment_is_masked_but_for_its_edges(credential: Make, value: bytes) -> None:
    scrubber = scrubber_of(credential(value))
    for written in base64_forms(value):
        hits: list[Hit] = []
        out = scrubber.whole(b'"' + written + b'"', hits)
        assert len(out) == len(written) + 2
        assert Hit("token", "base64") in hits
        # At most one whole character of the value beside what came before and after it in the text.
        assert out.count(b"*") >= len(value) * 8 // 6 - 2


LINE_ENDS = [b"\n", b"\r\n", b"\\n", b"\\r\\n", b"\\\\n", b"\\\\r\\\\n"]


def in_lines(text: bytes, width: int, line_end: bytes) -> bytes:
    return line_end.join(text[at : at + width] for at in range(0, len(text), width))


@pytest.mark.parametrize("line_end", LINE_ENDS)
@pytest.mark.parametrize("value", VALUES)
def test_base64_in_lines_is_masked_wherever_they_end(credential: Make, value: bytes, line_end: bytes) -> None:
    scrubber = scrubber_of(credential(value))
    for encode, before in ((base64.b64encode, b"user:"), (base64.urlsafe_b64encode, b"key=abc")):
        text = encode(before + value + b" and more")
        for width in (1, 3, *range(4, len(text))):
            hits: list[Hit] = []
            written = b'"' + in_lines(text, width, line_end) + b'"'
            out = scrubber.whole(written, hits)
            assert len(out) == len(written)
            assert hits == [Hit("token", "base64")]
            for ending in LINE_ENDS:
                out = out.replace(ending, b"")
            assert max(map(len, re.findall(rb"\*+", out))) >= len(value) * 8 // 6 - 2
            for at in range(0, len(written), 7):
                assert fed(scrubber, [written[:at], written[at:]])[0] == scrubber.whole(written, [])


def test_lines_of_other_base64_pass_at_once(credential: Make) -> None:
    scrubber = scrubber_of(credential(PLAIN))
    stream = scrubber.stream([])
    other = base64.encodebytes(bytes(range(256)) * 3)
    assert scrubber.whole(other, []) is other
    out = b"".join(map(stream.feed, other.splitlines(keepends=True)))
    assert len(out) >= len(other) - 4
    assert out + stream.finish() == other


def test_base64_that_json_or_a_url_escaped_is_masked(credential: Make) -> None:
    value = b"???>>>" * 3  # base64 with + and /
    scrubber = scrubber_of(credential(value))
    written = base64.b64encode(value)
    assert b"+" in written
    assert b"/" in written
    for escaped in (written.replace(b"/", b"\\/"), quote(written, safe="").encode()):
        assert scrubber.whole(escaped, []) == b"*" * len(escaped)


def test_a_basic_pair_is_masked_whole_and_its_password_alone(credential: Make) -> None:
    pair = b"deploy:hunter2-hunter2"
    scrubber = scrubber_of(credential(pair, Binding("github", format="Basic {}")))
    for written in (base64.b64encode(pair), pair, b"hunter2-hunter2", b"hunter2%2dhunter2"):
        assert scrubber.whole(b" " + written + b" ", [])[1:-1].rstrip(b"=") == b"*" * len(written.rstrip(b"="))
    password = scrubber_of(credential(b"hunter2-hunter2", Binding("github", format="Basic deploy:{}")))
    written = base64.b64encode(pair)
    assert password.whole(written, []).rstrip(b"=") == b"*" * len(written.rstrip(b"="))


def test_a_short_value_is_masked_as_it_is_only(credential: Make) -> None:
    scrubber = scrubber_of(credential(b"1234"))
    hits: list[Hit] = []
    assert scrubber.whole(b"pin 1234 %31%32%33%34 MTIzNA", hits) == b"pin **** %31%32%33%34 MTIzNA"
    assert hits == [Hit("token", "raw")]


@pytest.mark.parametrize(
    "innocent",
    [
        pytest.param(PLAIN[:-1], id="all but the last byte"),
        pytest.param(PLAIN[1:], id="all but the first"),
        pytest.param(PLAIN.swapcase(), id="another case"),
        pytest.param(PLAIN[::-1], id="reversed: a documented limit"),
        pytest.param(b"coat_token", id="the placeholder"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_anything_else_stays_the_same_object(credential: Make, innocent: bytes) -> None:
    hits: list[Hit] = []
    scrubber = scrubber_of(credential(PLAIN))
    assert scrubber.whole(PLAIN, hits) == b"*" * len(PLAIN)
    hits.clear()
    assert scrubber.whole(innocent, hits) is innocent
    assert hits == []


def test_a_value_that_begins_another_leaves_no_remainder(credential: Make) -> None:
    scrubber = scrubber_of(credential(b"sk-live-1234", name="short"), credential(b"sk-live-12345678", name="long"))
    assert scrubber.whole(b"<sk-live-12345678>", []) == b"<" + b"*" * 16 + b">"
    stream = scrubber.stream([])
    assert stream.feed(b"<sk-live-1234") + stream.feed(b"5678>") + stream.finish() == b"<" + b"*" * 16 + b">"


def test_overlapping_values_are_masked_as_one(credential: Make) -> None:
    scrubber = scrubber_of(credential(b"aaaabbbbcccc", name="one"), credential(b"ccccdddd", name="two"))
    hits: list[Hit] = []
    assert scrubber.whole(b"aaaabbbbccccdddd", hits) == b"*" * 16
    assert {hit.secret for hit in hits} == {"one", "two"}


# Text and JSON -----------------------------------------------------------------------------------------------------


def test_a_string_is_scrubbed_as_its_utf_8(credential: Make) -> None:
    scrubber = scrubber_of(credential("schlüssel-🔑".encode()))
    assert scrubber.text("é schlüssel-🔑 é", []) == "é " + "*" * 15 + " é"
    lone = "\ud800 clean"
    assert scrubber.text(lone, []) is lone
    assert "schl" not in scrubber.text("\ud800schlüssel-🔑", [])


def test_json_is_scrubbed_in_values_and_keys_and_kept_where_clean(credential: Make) -> None:
    scrubber = scrubber_of(credential(PLAIN))
    token = PLAIN.decode()
    clean: list[object] = [1, None, True, 1.5, {"a": ["b", {"c": "d"}]}]
    assert scrubber.json(clean, []) is clean  # type: ignore[arg-type]
    hits: list[Hit] = []
    dirty = {"x": [1, {"y": f"Bearer {token}"}], token: None, "n": 2.5}
    assert scrubber.json(dirty, hits) == {"x": [1, {"y": "Bearer " + "*" * 40}], "*" * 40: None, "n": 2.5}
    assert hits == [Hit("token", "raw")]


def test_an_escape_json_undoes_is_found_in_the_decoded_string(credential: Make) -> None:
    scrubber = scrubber_of(credential(PLAIN))
    text = json.dumps({"a": quote(PLAIN.decode()).replace("_", "%5F")})
    assert scrubber.json(json.loads(text), []) == {"a": "*" * 42}


# Streams -----------------------------------------------------------------------------------------------------------


def fed(scrubber: Scrubber, pieces: list[bytes]) -> tuple[bytes, list[Hit]]:
    hits: list[Hit] = []
    stream = scrubber.stream(hits)
    return b"".join([*(stream.feed(piece) for piece in pieces), stream.finish()]), hits


@pytest.mark.parametrize("value", VALUES)
def test_a_secret_split_at_every_place_is_masked(credential: Make, value: bytes) -> None:
    scrubber = scrubber_of(credential(value))
    everything = b"".join(options[-1] for options in alternatives(value))
    for written in (value, base64.b64encode(b"u:" + value), value.hex().encode(), everything):
        data = b"before " + written + b" after"
        whole = scrubber.whole(data, [])
        assert b"*******" in whole
        for place in range(len(data) + 1):
            assert fed(scrubber, [data[:place], data[place:]])[0] == whole
        assert fed(scrubber, [data[i : i + 1] for i in range(len(data))])[0] == whole


def test_a_finished_event_leaves_whole_at_once(credential: Make) -> None:
    stream = scrubber_of(credential(PLAIN), credential(ODD, name="odd")).stream([])
    for event in (b'data: {"a":"g"}\n\n', b"data: " + PLAIN + b"\n\n", b": ping\n\n", b'data: {"x":"\\u00e9"}\r\n\r\n'):
        assert len(stream.feed(event)) == len(event)


def test_only_what_could_begin_the_secret_is_held(credential: Make) -> None:
    stream = scrubber_of(credential(PLAIN)).stream([])
    assert stream.feed(b"hello ghp_16") == b"hello "
    assert stream.feed(b"C8") == b"ghp_16C8"
    assert stream.feed(b" \\u006") == b" "
    assert stream.feed(b"8") == b"\\u0068"
    assert stream.feed(b"ghp_16") == b""
    assert stream.finish() == b"ghp_16"


def test_what_is_held_is_bounded(credential: Make) -> None:
    scrubber = scrubber_of(credential(PLAIN))
    stream = scrubber.stream([])
    alike = b"".join(f"&#{byte:07d};".encode() for byte in PLAIN[:-1])
    longest = 0
    sent = 0
    for at in range(0, len(alike) * 3, 5):
        sent += len(stream.feed((alike * 3)[at : at + 5]))
        longest = max(longest, at + 5 - sent)
    assert 0 < longest <= len(PLAIN) * 11


PIECES = [PLAIN, ODD, b"aaaaaaaaaa", b"\xff\xfebytes\x80\x00"]


@st.composite
def echoes(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A value, and data made of its encodings, of parts of them and of noise."""
    value = draw(st.sampled_from([*PIECES, b"%25%25%2525", b"\\\\\\\\\\\\\\\\x", b"a b+c d e", b"&amp;amp;"]))
    parts: list[bytes] = []
    options = alternatives(value)
    for _ in range(draw(st.integers(1, 5))):
        choices = cycle(draw(st.lists(st.integers(0, 24), min_size=1, max_size=5)))
        mixed = b"".join(forms[next(choices) % len(forms)] for forms in options)
        wrapped = in_lines(base64.b64encode(value), draw(st.integers(1, 9)), draw(st.sampled_from(LINE_ENDS)))
        part = draw(
            st.sampled_from([mixed, value, value.hex().encode(), base64.b64encode(value), wrapped, b" ", b"\\", b"%2"])
        )
        start = draw(st.integers(0, 3) | st.just(0))
        parts.append(part[start : draw(st.integers(0, len(part)) | st.just(len(part)))])
    return value, b"".join(parts)


def places(options: list[list[bytes]], data: bytes, start: int) -> set[int]:
    """Every end of the value, in any mix of forms, from one place: the law, slowly."""
    ends = {start}
    for choices in options:
        ends = {at + len(form) for at in ends for form in choices if data.startswith(form, at)}
    return ends


@settings(max_examples=100, deadline=None)
@given(echoes())
def test_every_mix_of_escapes_is_masked(credential: Make, echo: tuple[bytes, bytes]) -> None:
    value, data = echo
    out = scrubber_of(credential(value)).whole(data, [])
    assert len(out) == len(data)
    options = alternatives(value)
    for start in range(len(data)):
        for end in places(options, data, start):
            assert out[start:end] == b"*" * (end - start)
    assert all(new in (old, ord("*")) for old, new in zip(data, out, strict=True))


@settings(max_examples=100, deadline=None)
@given(echoes(), st.lists(st.integers(0, 400), max_size=8))
def test_the_output_does_not_depend_on_the_split(credential: Make, echo: tuple[bytes, bytes], cuts: list[int]) -> None:
    value, data = echo
    scrubber = scrubber_of(credential(value), credential(PLAIN, name="other"))
    hits: list[Hit] = []
    whole = scrubber.whole(data, hits)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    out, found = fed(scrubber, [data[a:b] for a, b in pairwise(edges)])
    assert out == whole
    assert set(found) == set(hits)


@settings(max_examples=200, deadline=None)
@given(echoes(), st.booleans(), st.integers(0, 2))
def test_text_in_which_nothing_can_hide_needs_no_second_look(
    credential: Make, echo: tuple[bytes, bytes], is_ascii: bool, levels: int
) -> None:
    """What `written` lets `json` skip, it would not have found."""
    value, data = echo
    scrubber = scrubber_of(credential(value))
    text = data.decode("utf-8", "replace")
    for _ in range(levels):
        text = json.dumps({"text": text}, ensure_ascii=is_ascii)
    written = scrubber.whole(json.dumps([text], ensure_ascii=is_ascii).encode(), [])
    try:
        document = json.loads(written)
    except ValueError:
        return  # an escape was masked in part: nothing reads it
    assert scrubber.json(document, [], written=written) == scrubber.json(document, [])


def test_text_in_which_something_can_hide_gets_a_second_look(credential: Make) -> None:
    scrubber = scrubber_of(credential(PLAIN))
    percents = "".join(f"%{byte:02x}" for byte in PLAIN)
    hidden = "".join(f"\\u{ord(character):04x}" for character in percents)
    written = scrubber.whole(f'["{hidden}"]'.encode(), [])
    assert scrubber.json(json.loads(written), [], written=written) == ["*" * len(percents)]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_noise_passes_a_stream_unchanged(credential: Make, data: bytes) -> None:
    out, hits = fed(scrubber_of(credential(PLAIN)), [data[:50], data[50:]])
    assert out == data
    assert hits == []


# Cost --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"%" * 100_000, id="percent signs"),
        pytest.param(b"\\u" * 50_000, id="json escapes"),
        pytest.param(b"&#" * 50_000, id="entities"),
        pytest.param(b"Z\n" * 50_000, id="lines"),
        pytest.param((base64.b64encode(PLAIN)[:-6] + b"\n") * 1_850, id="near misses in base64 lines"),
        pytest.param(b"\\r\\n" * 25_000, id="escaped line ends"),
        pytest.param(b"&amp;#" * 16_000, id="entities twice"),
        pytest.param(b"%67" * 33_333, id="escaped first letters"),
        pytest.param(PLAIN[:-1] * 2_500, id="near misses"),
        pytest.param(b"".join(b"%%%02x" % byte for byte in PLAIN[:-1]) * 850, id="escaped near misses"),
        pytest.param(b"g" * 100_000, id="first letters"),
    ],
)
def test_no_input_costs_more_than_its_length_allows(credential: Make, data: bytes) -> None:
    scrubber = scrubber_of(credential(PLAIN))
    start = time.process_time()
    assert scrubber.whole(data, []) is data
    stream = scrubber.stream([])
    for at in range(0, len(data), 16_384):
        stream.feed(data[at : at + 16_384])
    assert time.process_time() - start < 2.0  # linear takes a tenth of it; quadratic takes minutes


def test_a_cache_makes_one_scrubber_a_version(credential: Make) -> None:
    cache = ScrubberCache(size=2)
    one, two = credential(PLAIN), credential(b"another value", version=2)
    first = cache.get([one])
    assert cache.get((one,)) is first
    assert cache.get([two]) is not first
    assert cache.get([two]).whole(b"another value", []) == b"*" * 13
    assert cache.get([one, two]) is not first
    assert cache.get([one]) is not first  # the oldest of three went
    assert PLAIN.decode() not in repr((cache, first))
    cache.replace(ScrubberCache())
    assert repr(cache) == "ScrubberCache(0)"


def test_a_cache_is_made_ready_for_servers_so_that_no_request_has_to(tmp_path: Path, monkeypatch) -> None:
    state = StateDirectory(tmp_path / "state")
    state.create()
    vault = Vault.create(state.open_database(), MasterKey(bytes(range(32))))
    vault.set("token", Secret(PLAIN), (Binding("here"),), now=datetime.now(UTC))
    snapshot = vault.snapshot()
    cache = ScrubberCache()
    cache.replace(ScrubberCache.ready_for(snapshot, ["here", "elsewhere"]))
    monkeypatch.setattr(Snapshot, "open", None)
    assert cache.of_server(snapshot, "here").whole(PLAIN, []) == b"*" * len(PLAIN)
    assert cache.of_server(snapshot, "elsewhere").whole(PLAIN, []) == PLAIN


def test_no_credentials_scrub_nothing() -> None:
    scrubber = ScrubberCache().get(())
    assert not scrubber
    data = b"anything"
    assert scrubber.whole(data, []) is data
    assert fed(scrubber, [data]) == (data, [])
