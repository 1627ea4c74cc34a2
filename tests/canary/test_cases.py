"""The cases of the attack corpus about scrubbing and swapping, by their ids; each beside what must still pass."""

import base64
import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from driver import Driver
from echo import FRAMINGS, Framing, Order, pieces
from forms import Watch, forms_of

from coatcheck.errors import Refusal, VaultError
from coatcheck.policy.model import Server
from coatcheck.state import StateDirectory
from coatcheck.vault.bindings import Binding
from coatcheck.vault.keys import MasterKey
from coatcheck.vault.patterns import patterns_of
from coatcheck.vault.plan import Outgoing, plan_swap
from coatcheck.vault.scrub import Scrubber, ScrubberCache
from coatcheck.vault.secret import Secret
from coatcheck.vault.snapshot import Credential, SecretInfo, Snapshot
from coatcheck.vault.store import Vault
from coatcheck.vault.swap import apply_swap

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PLAIN = b"sk-live-Zq7RkT2mXw9Lb4Nf8VhC3pYs"
ODD = b"""sk/Lv+Q="x<Y>&k Z'w\\pRt7/mN+c=4"""
MASK = b"***"
HERE = Server("here", "https://here.test/", "https", "here.test", 443, "/")
ELSEWHERE = Server("elsewhere", "https://elsewhere.test/", "https", "elsewhere.test", 443, "/")
P = b"coat_token"

type Make = Callable[..., Driver]
type Stock = Callable[..., Snapshot]


def credential(value: bytes, *, name: str = "token", places: tuple[Binding, ...] = (Binding("here"),)) -> Credential:
    return Credential(SecretInfo(name, 1, f"coat_{name}", places, NOW, value[-8:].hex()), Secret(value))


def scrubber_of(*credentials: Credential) -> Scrubber:
    return Scrubber(map(patterns_of, credentials))


def answer(body: bytes, *headers: bytes, status: bytes = b"200 OK", kind: bytes = b"application/json") -> bytes:
    head = [b"HTTP/1.1 " + status, b"Content-Type: " + kind, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*head, b"", body])


# What comes back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [PLAIN, ODD], ids=["plain", "odd"])
def test_mask_01_an_echoed_secret_is_masked_and_the_rest_stays(driver: Make, value: bytes) -> None:
    one = driver(value, is_mcp=False)
    body = b"before " + value + b" after, and coat_canary"
    received = one.ask([answer(body, kind=b"text/plain")], closes=False)
    assert received.endswith(b"before " + b"*" * len(value) + b" after, and coat_canary")
    assert Watch(value).sightings(received + bytes(one.seen)) == []


@pytest.mark.parametrize("framing", FRAMINGS)
def test_mask_02_a_secret_split_at_every_offset_is_masked(driver: Make, framing: Framing) -> None:
    one = driver(ODD)
    whole = one.ask(pieces(Order(framing=framing), ODD), closes=framing == "close")
    assert MASK in whole
    for split in range(1, len(ODD)):
        one = driver(ODD)
        assert one.ask(pieces(Order(framing=framing, split=split), ODD), closes=framing == "close") == whole


@pytest.mark.parametrize("form", forms_of(ODD))
def test_mask_04_a_secret_is_masked_in_each_encoding(form: str) -> None:
    written = forms_of(ODD)[form]
    out = scrubber_of(credential(ODD)).whole(b"[" + written + b"]", [])
    assert MASK in out
    assert Watch(ODD).sightings(out) == []


def test_mask_04_reversed_is_a_limit_that_is_documented() -> None:
    out = scrubber_of(credential(PLAIN)).whole(PLAIN + PLAIN[::-1], [])
    assert out == b"*" * len(PLAIN) + PLAIN[::-1]


@pytest.mark.parametrize("user", [b"u", b"us", b"use", b"robot"])
def test_mask_05_a_basic_pair_is_masked(user: bytes) -> None:
    basic = credential(PLAIN, places=(Binding("here", format=f"Basic {user.decode()}:{{}}"),))
    pair = base64.b64encode(user + b":" + PLAIN)
    assert scrubber_of(basic).whole(b"Basic " + pair, []).rstrip(b"=") == b"Basic " + b"*" * len(pair.rstrip(b"="))
    other = b"Basic " + base64.b64encode(user + b":another password here")
    assert scrubber_of(basic).whole(other, []) == other


def test_mask_07_a_secret_in_trailers_does_not_pass(driver: Make) -> None:
    body = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
    assert driver(PLAIN, is_mcp=False).ask([body + b"\r\n"], closes=False).endswith(b"2\r\nok\r\n0\r\n\r\n")
    one = driver(PLAIN, is_mcp=False)
    received = one.ask([body + b"X-Sent: " + PLAIN + b"\r\n\r\n"], closes=False)
    assert Watch(PLAIN).sightings(received + bytes(one.seen)) == []


def test_what_a_server_says_unasked_is_not_quoted_in_the_log(driver: Make) -> None:
    one = driver(PLAIN, is_mcp=False)
    one.ask([answer(b"<p>fine</p>", kind=b"text/html"), b"and again: " + PLAIN], closes=False)
    assert b"Unexpected data from server" in one.seen
    assert Watch(PLAIN).sightings(bytes(one.received) + bytes(one.seen)) == []


@pytest.mark.parametrize("status", [b"400 Bad", b"401 No", b"404 None", b"500 Oops", b"503 Gone"])
def test_mask_08_error_pages_and_stack_traces_are_scrubbed(driver: Make, status: bytes) -> None:
    trace = f"<pre>Traceback: KeyError({ODD.decode()!r}) {ODD!r}</pre>".encode()
    one = driver(ODD, is_mcp=False)
    received = one.ask([answer(trace, status=status, kind=b"text/html")], closes=False)
    assert received.startswith(b"HTTP/1.1 " + status[:3])
    assert b"KeyError" in received
    assert Watch(ODD).sightings(received + bytes(one.seen)) == []


@pytest.mark.parametrize("charset", ["iso-8859-1", "Windows-1252", "shift_jis", "utf-16", '"utf-8"'])
def test_a_page_in_a_charset_that_shows_the_secret_is_masked(driver: Make, charset: str) -> None:
    page = f"<p>caf\u00e9 {PLAIN.decode()}</p>".encode(charset.strip('"'), "replace")
    one = driver(PLAIN, is_mcp=False)
    received = one.ask([answer(page, kind=b"text/html; charset=" + charset.encode())], closes=False)
    assert received.startswith(b"HTTP/1.1 200")
    assert b"*" * len(PLAIN) in received
    assert page[-4:] == received[-4:]


@pytest.mark.parametrize(
    "charset", ["utf-7", "utf-32", "cp037", "iso-2022-jp", "x-unknown", "utf-8; charset=cp037", ""]
)
def test_a_page_in_a_charset_that_hides_the_secret_is_withheld(driver: Make, charset: str) -> None:
    hidden = PLAIN.decode().encode("cp037")
    one = driver(PLAIN, is_mcp=False)
    received = one.ask([answer(hidden, kind=b"text/html; charset=" + charset.encode())], closes=False)
    assert received.startswith(b"HTTP/1.1 502")
    assert b"unscannable-response" in received
    assert hidden not in received


@pytest.mark.parametrize("form", ["raw", "percent lax", "percent twice", "form"])
def test_mask_11_a_location_is_scrubbed_and_not_followed(driver: Make, form: str) -> None:
    one = driver(ODD)
    received = one.ask(pieces(Order(form, "location"), ODD), closes=False)
    assert received.startswith(b"HTTP/1.1 302")
    assert b"https://elsewhere.example/login?next=***" in received
    assert one.sent.count(b"HTTP/1.1") == 1
    assert Watch(ODD).sightings(received + bytes(one.seen)) == []


def test_mask_11_a_folded_header_is_scrubbed(driver: Make) -> None:
    one = driver(ODD)
    folded = answer(b"{}", b"X-Sent: <" + ODD.replace(b" ", b"\r\n ") + b">")
    received = one.ask([folded], closes=False)
    assert Watch(ODD).sightings(received + bytes(one.seen)) == []


def test_mask_19_a_secret_that_begins_another_leaves_no_remainder() -> None:
    scrubber = scrubber_of(credential(PLAIN[:20], name="short"), credential(PLAIN, name="long"))
    for order in (scrubber, scrubber_of(credential(PLAIN, name="long"), credential(PLAIN[:20], name="short"))):
        for text in forms_of(PLAIN).values():
            for split in range(0, len(text), 3):
                stream = order.stream([])
                out = stream.feed(text[:split]) + stream.feed(text[split:]) + stream.finish()
                assert Watch(PLAIN).sightings(out) == []
    assert scrubber.whole(PLAIN[:20] + b" and more", []) == b"*" * 20 + b" and more"


def test_mask_28_ten_megabytes_and_a_hundred_secrets_take_linear_time() -> None:
    values = [b"sk-live-" + hashlib.sha256(b"%d" % n).hexdigest()[:32].encode() for n in range(100)]
    scrubber = scrubber_of(*(credential(value, name=f"s{n}") for n, value in enumerate(values)))
    row = b'{"id": 7, "name": "sk-live-", "text": "caf\\u00e9 & 100%\\n' + values[3][:-1] + b'"},'
    body = (row * (10_000_000 // len(row) + 1))[:10_000_000]
    for data in (body, b"sk-live-" * 1_250_000):
        assert scrubber.whole(data[:1_000_000], []) == data[:1_000_000]
        seconds = []
        for size in (1_000_000, 10_000_000):
            began = time.process_time()
            scrubber.whole(data[:size], [])
            seconds.append(time.process_time() - began)
        assert seconds[1] < 2.0  # a tenth of it on an idle machine; one pass for each needle took fifteen
        assert seconds[1] < 25 * max(seconds[0], 0.01)
    hidden = body[:5_000_000] + values[42] + body[5_000_000:]
    assert scrubber.whole(hidden, []) == body[:5_000_000] + b"*" * len(values[42]) + body[5_000_000:]


# What goes out -----------------------------------------------------------------------------------------------------


@pytest.fixture
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    """A snapshot of secrets by name: value and bindings."""

    def make(**kept: tuple[bytes, tuple[Binding, ...]]) -> Snapshot:
        state = StateDirectory(tmp_path_factory.mktemp("vault") / "state")
        state.create()
        vault = Vault.create(state.open_database(), MasterKey(bytes(range(32))))
        for name, (value, places) in kept.items():
            vault.set(name, Secret(value), places, now=NOW)
        return vault.snapshot()

    return make


def outgoing(*headers: tuple[bytes, bytes], path: bytes = b"/", body: bytes = b"") -> Outgoing:
    return Outgoing(headers, path, body)


def swapped(request: Outgoing, snapshot: Snapshot, server: Server = HERE) -> Outgoing:
    return apply_swap(plan_swap(request, server=server, caller="robot", snapshot=snapshot), request)


def reason(request: Outgoing, snapshot: Snapshot, server: Server = HERE) -> str:
    with pytest.raises(Refusal) as caught:
        plan_swap(request, server=server, caller="robot", snapshot=snapshot)
    return caught.value.reason


JSON = (b"content-type", b"application/json")
FORM = (b"content-type", b"application/x-www-form-urlencoded")


@pytest.mark.parametrize(
    ("place", "good", "bad"),
    [
        pytest.param(Binding("here", header="x-key"), outgoing((b"x-key", P)), outgoing((b"x-else", P)), id="header"),
        pytest.param(Binding("here", header=None, query="key"), outgoing(path=b"/?key=" + P),
                     outgoing(path=b"/?else=" + P), id="query"),
        pytest.param(Binding("here", header=None, query="key"), outgoing(path=b"/?key=" + P), outgoing(path=b"/" + P),
                     id="path"),
        pytest.param(Binding("here"), outgoing((b"authorization", b"Basic " + base64.b64encode(b"u:" + P))),
                     outgoing((b"x-else", b"Basic " + base64.b64encode(b"u:" + P))), id="Basic password"),
    ],
)  # fmt: skip
def test_mask_13_a_placeholder_in_the_head_is_swapped_where_it_is_bound_and_refused_elsewhere(
    stock: Stock, place: Binding, good: Outgoing, bad: Outgoing
) -> None:
    snapshot = stock(token=(PLAIN, (place,)))
    assert swapped(good, snapshot) != good
    assert reason(bad, snapshot) == "placeholder-out-of-place"


@pytest.mark.parametrize(
    ("place", "good", "bad"),
    [
        pytest.param(Binding("here", header=None, pointer="/a"), outgoing(JSON, body=b'{"a":"' + P + b'"}'),
                     outgoing(JSON, body=b'{"b":"' + P + b'"}'), id="JSON string"),
        pytest.param(Binding("here", header=None, pointer="/a"), outgoing(JSON, body=b'{"a":"' + P + b'"}'),
                     outgoing(JSON, body=b'{"' + P + b'":"a"}'), id="JSON key"),
        pytest.param(Binding("here", header=None, form="a"), outgoing(FORM, body=b"a=" + P),
                     outgoing(FORM, body=b"b=" + P + b"&" + P + b"=a"), id="form"),
    ],
)  # fmt: skip
def test_mask_13_a_placeholder_in_a_body_is_swapped_where_it_is_bound_and_text_elsewhere(
    stock: Stock, place: Binding, good: Outgoing, bad: Outgoing
) -> None:
    snapshot = stock(token=(PLAIN, (place,)))
    assert PLAIN in swapped(good, snapshot).body
    assert swapped(bad, snapshot) is bad


def test_mask_14_a_placeholder_sent_to_another_host_is_refused(stock: Stock) -> None:
    snapshot = stock(token=(PLAIN, (Binding("here"),)))
    request = outgoing((b"authorization", b"Bearer " + P))
    assert swapped(request, snapshot) == outgoing((b"authorization", b"Bearer " + PLAIN))
    assert reason(request, snapshot, ELSEWHERE) == "secret-not-bound"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(P + b" " + P, PLAIN + b" " + PLAIN, id="twice"),
        pytest.param(b"{{cred:{{cred:" + P + b"}}}}", b"{{cred:{{cred:" + PLAIN + b"}}}}", id="nested"),
        pytest.param(P.upper(), P.upper(), id="another case"),
        pytest.param(b"coat%5Ftoken", b"coat%5Ftoken", id="url-encoded"),
        pytest.param(b"coat\\u005ftoken", b"coat\\u005ftoken", id="split by a JSON escape"),
        pytest.param(b"coat_tok" + P + b"en", b"coat_tok" + PLAIN + b"en", id="one within another"),
    ],
)
def test_mask_16_only_the_exact_placeholder_is_swapped_once(stock: Stock, sent: bytes, expected: bytes) -> None:
    snapshot = stock(token=(PLAIN, (Binding("here"),)))
    assert swapped(outgoing((b"authorization", sent)), snapshot) == outgoing((b"authorization", expected))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"uses coat_token and coat_other", id="placeholders"),
        pytest.param(rb"\1\g<0>.*(a+)+$[^x]{2}", id="regex metacharacters"),
        pytest.param(b"\\\\server\\n\\u0041", id="backslashes"),
    ],
)
def test_mask_17_a_value_is_put_in_literally(stock: Stock, value: bytes) -> None:
    snapshot = stock(token=(value, (Binding("here"),)), other=(PLAIN, (Binding("here"),)))
    out = swapped(outgoing((b"authorization", P + b" coat_other")), snapshot)
    assert out == outgoing((b"authorization", value + b" " + PLAIN))


@pytest.mark.parametrize("control", [b"\r", b"\n", b"\0", b"\r\nX-Evil: 1"])
def test_mask_17_a_value_with_line_ends_is_not_stored_for_a_header(stock: Stock, control: bytes) -> None:
    body_only = (Binding("here", header=None, pointer="/a"),)
    assert stock(token=(PLAIN + control + PLAIN, body_only)).names() == {"token"}
    with pytest.raises(VaultError) as caught:
        stock(token=(PLAIN + control + PLAIN, (Binding("here"),)))
    assert PLAIN.decode() not in str(caught.value)


def test_mask_20_the_length_follows_the_body_and_a_signed_body_is_refused(stock: Stock) -> None:
    snapshot = stock(token=(PLAIN, (Binding("here", header=None, pointer="/a"),)))
    body = b'{"a":"' + P + b'"}'
    length = (b"content-length", b"%d" % len(body))
    out = swapped(outgoing(JSON, length, body=body), snapshot)
    assert dict(out.headers)[b"content-length"] == b"%d" % len(out.body)
    assert len(out.body) == len(body) - len(P) + len(PLAIN)
    for header in ((b"Content-Digest", b"sha-256=:x:"), (b"Digest", b"x"), (b"Authorization", b"AWS4-HMAC-SHA256 C=x")):
        assert reason(outgoing(JSON, length, header, body=body), snapshot) == "body-is-signed"
        harmless = outgoing(JSON, header, body=b'{"b":"' + P + b'"}')
        assert swapped(harmless, snapshot) is harmless


# A scrubber for a server -------------------------------------------------------------------------------------------


def test_a_scrubber_of_a_server_masks_every_secret_bound_to_it_and_no_other(stock: Stock) -> None:
    snapshot = stock(
        one=(PLAIN, (Binding("here"),)),
        two=(ODD, (Binding("here", identities=("else",)),)),
        other=(b"another server's secret", (Binding("elsewhere"),)),
    )
    cache = ScrubberCache()
    scrubber = cache.of_server(snapshot, "here")
    assert cache.of_server(snapshot, "here") is scrubber
    said = PLAIN + b" " + ODD + b" another server's secret"
    assert scrubber.whole(said, []) == b"*" * len(PLAIN) + b" " + b"*" * len(ODD) + b" another server's secret"
    assert not cache.of_server(snapshot, "nowhere")


def test_a_key_of_several_lines_is_masked_with_whatever_line_ends() -> None:
    lines = [
        b"-----BEGIN KEY-----",
        b"MC4CAQAwBQYDK2VwBCIEIAbcdefghij",
        b"klmnopqrstuvwxyz0123456789ABCDEF",
        b"-----END KEY-----",
    ]
    scrubber = scrubber_of(credential(b"\n".join(lines), places=(Binding("here", header=None, pointer="/a"),)))
    for end in (b"\n", b"\r\n", b"<br>"):
        out = scrubber.whole(end.join(lines), [])
        assert lines[1] not in out
        assert lines[2] not in out
    assert scrubber.whole(b"-----BEGIN KEY----- of another", []) == b"-----BEGIN KEY----- of another"
