"""Whatever a server echoes: nothing of a secret at the client, in mitmweb, in what is kept or exported."""

import contextlib
import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from echo import FRAMINGS, PLACES, Order, Place
from forms import Watch, forms_of
from mitmproxy import io
from mitmproxy.addons.savehar import SaveHar
from mitmproxy.http import HTTPFlow
from stage import KINDS, Stage

from story.processes import StoryError, run_cli

pytestmark = pytest.mark.e2e

LAST_SPLIT = 64
TOKEN_REQUESTS = 2000
"""That a caller makes before it gets itself a new token: those are good for five minutes."""
SCENES: list[tuple[Place, str]] = [*((place, "/mcp") for place in PLACES), ("error page", "/api/page")]
SPLIT_EVERYWHERE = ("raw", "base64", "json lower")


def sample(value: bytes) -> Iterator[tuple[Order, str]]:
    """Every form in every scene and framing, the split moving on; some forms also at every split, in bodies."""
    forms = forms_of(value)
    for n, (form, (place, path), framing) in enumerate(itertools.product(forms, SCENES, FRAMINGS)):
        yield Order(form, place, framing, n * 7 % (min(len(forms[form]), LAST_SPLIT) + 1)), path
    for form, place in itertools.product(SPLIT_EVERYWHERE, ("json", "sse")):
        for split in range(min(len(forms[form]), LAST_SPLIT) + 1):
            yield Order(form, place, FRAMINGS[split % len(FRAMINGS)], split), "/mcp"  # type: ignore[arg-type]


def everything(value: bytes) -> Iterator[tuple[Order, str]]:
    """Every form in every scene and framing, split at every place up to the 64th byte."""
    forms = forms_of(value)
    for form, (place, path), framing in itertools.product(forms, SCENES, FRAMINGS):
        for split in range(min(len(forms[form]), LAST_SPLIT) + 1):
            yield Order(form, place, framing, split), path


@pytest.fixture(scope="module")
def watch(stage: Stage) -> Watch:
    return Watch(*stage.values.values())


@pytest.mark.parametrize("place", ["json", "sse", "error page"])
@pytest.mark.parametrize("kind", KINDS)
def test_mitmweb_shows_none_of_it_while_half_of_it_has_come(
    stage: Stage, watch: Watch, kind: str, place: Place
) -> None:
    caller, echo = stage.caller(kind), stage.echoes[kind]
    for form, text in forms_of(stage.values[kind]).items():
        order = Order(form, place, "chunked", len(text) // 2, pause=True)
        caller.send(order, path="/api/page" if place == "error page" else "/mcp")
        assert echo.paused.wait(10)
        stage.gateway.wait_for(lambda: json.loads(stage.console("/flows"))[-1].get("response") is not None)
        during = [watch.sightings(shown) for shown in stage.shown(last=1)]
        echo.go_on()
        _, heard = caller.receive()
        after = [watch.sightings(shown) for shown in stage.shown(last=1)]
        assert not any(during), form
        assert not any(after), form
        assert not watch.sightings(heard), form
        assert b"***" in heard


@pytest.mark.parametrize("kind", KINDS)
def test_no_client_gets_it_and_nothing_keeps_it(stage: Stage, watch: Watch, kind: str, tmp_path: Path) -> None:
    ask_and_look(stage, watch, kind, tmp_path, sample(stage.values[kind]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_client_gets_it_and_nothing_keeps_it_at_any_split(
    stage: Stage, watch: Watch, kind: str, tmp_path: Path
) -> None:
    with polled(stage, watch) as seen:
        ask_and_look(stage, watch, kind, tmp_path, everything(stage.values[kind]))
    assert seen.looks > 10
    assert not seen.leaks


def ask_and_look(stage: Stage, watch: Watch, kind: str, folder: Path, orders: Iterable[tuple[Order, str]]) -> None:
    """Asks for each, and looks for the secret at the client, and at the end wherever something is shown or kept."""
    caller, value = stage.caller(kind), stage.values[kind]
    before = stage.echoes[kind].received[value]
    leaks: Counter[tuple[str, str]] = Counter()
    asked = 0
    for asked, (order, path) in enumerate(orders, start=1):
        if asked % TOKEN_REQUESTS == 0:
            caller.close()
            caller = stage.caller(kind)
        reply, heard = caller.ask(order, path=path)
        assert reply.status == {"location": 302, "error page": 500}.get(order.place, 200), (order, heard)
        if (order.place, path) != ("error page", "/mcp"):  # there the page is not passed on
            assert b"***" in heard, (order, heard)
        leaks.update((str(order), name) for name in watch.sightings(heard))
    assert stage.echoes[kind].received == {value: before + asked}, "every request must come with the real secret"
    leaks.update(
        (f"mitmweb {n}", name) for n, shown in enumerate(stage.shown(last=50)) for name in watch.sightings(shown)
    )
    leaks.update(("mitmweb's log", name) for name in watch.sightings(stage.console("/events")))
    files = Counter(where.rpartition("/")[2].rpartition(".")[2] for where, _ in stage.kept())
    assert files["jsonl"] >= 2
    leaks.update((where, name) for where, data in stage.kept() for name in watch.sightings(data))
    flows = list(exported(stage, kind, folder))
    assert len(flows) >= asked
    har = json.dumps(SaveHar().make_har(flows)).encode()
    shown = b"".join((flow.response.raw_content or b"") for flow in flows if flow.response)
    assert b"***" in shown
    leaks.update(("a flow file", name) for path in folder.iterdir() for name in watch.sightings(path.read_bytes()))
    leaks.update(("the HAR", name) for name in watch.sightings(har))
    assert not leaks


class Seen:
    """How often somebody looked into mitmweb, and what of the secrets was there."""

    def __init__(self) -> None:
        self.looks = 0
        self.leaks: Counter[str] = Counter()


@contextlib.contextmanager
def polled(stage: Stage, watch: Watch) -> Iterator[Seen]:
    """Looks at mitmweb's flows, and at the contents of the last ones, for as long as this is entered."""
    seen, is_over = Seen(), threading.Event()

    def look() -> None:
        while not is_over.wait(0.5):
            for shown in stage.shown(last=2):
                seen.leaks.update(watch.sightings(shown))
            seen.looks += 1

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        is_over.set()
        looking.join()


def test_a_server_cannot_say_it_in_the_answer_to_a_later_request(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        for kind, value in stage.values.items():
            caller, echo, watch = stage.caller(kind), stage.echoes[kind], Watch(value)
            first = caller.ask(Order("raw", "error page"), path="/notes/first", Authorization=f"Bearer coat_{kind}")[1]
            assert b"***" in first
            assert not watch.sightings(first)
            body = b"the last one sent " + value
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body)
            echo.answers[b"/notes/last"] = head + body
            later = caller.ask(Order(), path="/notes/last")[1]
            assert b"the last one sent " in later
            assert not watch.sightings(later)


def test_mask_25_an_answer_cut_off_by_the_end_of_the_gateway_leaves_nothing(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        caller, value = stage.caller("plain"), stage.values["plain"]
        _, whole = caller.ask(Order("raw", "sse", "chunked"), path="/mcp")
        assert b"***" in whole
        caller.send(Order("raw", "sse", "chunked", len(value) // 2, pause=True), path="/mcp")
        assert stage.echoes["plain"].paused.wait(10)
        stage.gateway.stop()
        stage.echoes["plain"].go_on()
        found = {where: Watch(value).sightings(data) for where, data in stage.kept()}
        assert {where: names for where, names in found.items() if names} == {}


def test_mask_26_the_log_of_every_byte_is_refused_or_shows_none_of_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "--set", "proxy_debug=true")
    with contextlib.suppress(StoryError), stage:
        caller = stage.caller("plain")
        assert b"***" in caller.ask(Order("raw", "json"), path="/mcp")[1]
    printed = (tmp_path / "gateway.out").read_bytes()
    assert printed
    assert Watch(stage.values["plain"]).sightings(printed) == []


def exported(stage: Stage, kind: str, folder: Path) -> Iterator[HTTPFlow]:
    """The flows of every session with the servers of that kind, by way of `coatcheck sessions export`."""
    listed = run_cli("sessions", "list", "--state", str(stage.state), "--json")
    for session in json.loads(listed.stdout):
        if session["server"].endswith(kind):
            out = folder / f"{session['id']}.mitm"
            run_cli("sessions", "export", session["id"], "-o", str(out), "--state", str(stage.state)).check_returncode()
            with out.open("rb") as file:
                yield from (flow for flow in io.FlowReader(file).stream() if isinstance(flow, HTTPFlow))


def test_a_watch_sees_what_it_watches_for(stage: Stage, watch: Watch) -> None:
    for value in stage.values.values():
        for name, text in forms_of(value).items():
            assert watch.sightings(b"<" + text + b">"), name
        assert watch.sightings(value[3:11])
    assert not watch.sightings(b"nothing of it, coat_plain and coat_odd")
