"""Whatever a server echoes: nothing of a secret at the client, in mitmweb, in what is kept or exported."""

import contextlib
import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from console import Console, Flow, is_whole
from echo import FRAMINGS, PLACES, Order, Place
from forms import Watch, forms_of
from mitmproxy import io
from mitmproxy.addons.savehar import SaveHar
from mitmproxy.http import HTTPFlow
from stage import KINDS, WAYS, Caller, Stage, Way

from story.processes import StoryError, run_cli

pytestmark = pytest.mark.e2e

LAST_SPLIT = 64
TOKEN_REQUESTS = 2000
"""That a caller makes before it gets itself a new token: those are good for five minutes."""
CALLERS = 2
"""That ask at the same time."""
LOOK_SECONDS = 0.5
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


@pytest.mark.parametrize(
    ("kind", "place", "way"),
    [
        *itertools.product(KINDS, ("json", "sse", "error page"), ("proxy",)),
        *itertools.product(("odd",), ("json", "sse"), ("reverse",)),
    ],
)
def test_mitmweb_shows_none_of_it_while_half_of_it_has_come(
    stage: Stage, watch: Watch, kind: str, place: Place, way: Way
) -> None:
    caller = stage.caller(kind, way)
    for form, text in forms_of(stage.values[kind]).items():
        order = Order(form, place, "chunked", len(text) // 2, pause=True)
        during, after, heard = looks(stage, watch, caller, order, kind)
        assert not during, form
        assert not after, form
        assert not watch.sightings(heard), form
        assert b"***" in heard


def looks(stage: Stage, watch: Watch, caller: Caller, order: Order, kind: str) -> tuple[list[str], list[str], bytes]:
    """What mitmweb shows of the secret while an answer is paused, what when it is whole, and the client's bytes."""
    caller.send(order, path="/api/page" if order.place == "error page" else "/mcp")
    assert stage.echoes[kind].paused.wait(10)
    stage.gateway.wait_for(lambda: stage.console.flows()[-1].get("response") is not None)
    during = [name for shown in stage.console.shown(last=1) for name in watch.sightings(shown)]
    stage.echoes[kind].go_on()
    _, heard = caller.receive()
    after = [name for shown in stage.console.shown(last=1) for name in watch.sightings(shown)]
    return during, after, heard


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_client_gets_it_and_nothing_keeps_it(
    stage: Stage, watch: Watch, kind: str, way: Way, tmp_path: Path
) -> None:
    orders = list(sample(stage.values[kind]))[:: 1 if way == "proxy" else 20]
    assert not ask_and_look(stage, watch, kind, tmp_path, orders, way)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_client_gets_it_and_nothing_keeps_it_at_any_split(
    stage: Stage, watch: Watch, kind: str, way: Way, tmp_path: Path
) -> None:
    orders = list(everything(stage.values[kind]))[:: 1 if way == "proxy" else 11]
    before = {flow["id"] for flow in stage.console.flows()}
    with polled(stage, watch) as seen:
        leaks = ask_and_look(stage, watch, kind, tmp_path, orders, way)
    assert len(seen.flows - before) == len(orders), "somebody looked at the flow of every request"
    assert seen.in_flight > 10
    assert not seen.leaks
    assert not leaks


type Leaks = Counter[tuple[str, str]]
"""How often something of a secret was seen, by where and by what of it."""


def ask_and_look(
    stage: Stage, watch: Watch, kind: str, folder: Path, orders: Sequence[tuple[Order, str]], way: Way = "proxy"
) -> Leaks:
    """Asks for each, and looks for the secret at the client, and at the end wherever something is shown or kept."""
    value, leaks = stage.values[kind], Counter[tuple[str, str]]()
    before = stage.echoes[kind].received[value]
    with ThreadPoolExecutor(CALLERS) as pool:
        for found in pool.map(lambda n: ask(watch, stage.caller(kind, way), orders[n::CALLERS]), range(CALLERS)):
            leaks.update(found)
    assert stage.echoes[kind].received == {value: before + len(orders)}, "every request must come with the real secret"
    leaks.update(
        (f"mitmweb {n}", name)
        for n, shown in enumerate(stage.console.shown(last=50))
        for name in watch.sightings(shown)
    )
    leaks.update(("mitmweb's log", name) for name in watch.sightings(stage.console.get("/events")))
    files = Counter(where.rpartition("/")[2].rpartition(".")[2] for where, _ in stage.kept())
    assert files["jsonl"] >= 2
    leaks.update((where, name) for where, data in stage.kept() for name in watch.sightings(data))
    flows = list(exported(stage, kind, folder))
    assert len(flows) >= len(orders)
    har = json.dumps(SaveHar().make_har(flows)).encode()
    shown = b"".join((flow.response.raw_content or b"") for flow in flows if flow.response)
    assert b"***" in shown
    leaks.update(("a flow file", name) for path in folder.iterdir() for name in watch.sightings(path.read_bytes()))
    leaks.update(("the HAR", name) for name in watch.sightings(har))
    return leaks


def ask(watch: Watch, caller: Caller, orders: Sequence[tuple[Order, str]]) -> Leaks:
    """Asks for each, one after another, as one caller; what of the secret that caller got."""
    leaks: Leaks = Counter()
    for asked, (order, path) in enumerate(orders, start=1):
        if asked % TOKEN_REQUESTS == 0:
            caller.renew()
        reply, heard = caller.ask(order, path=path)
        assert reply.status == {"location": 302, "error page": 500}.get(order.place, 200), (order, heard)
        if (order.place, path) != ("error page", "/mcp"):  # there the page is not passed on
            assert b"***" in heard, (order, heard)
        leaks.update((f"the client, {order}", name) for name in watch.sightings(heard))
    caller.close()
    return leaks


class Seen:
    """What somebody who kept looking into mitmweb saw: the flows, how many in flight, and what of the secrets."""

    def __init__(self) -> None:
        self.flows: set[str] = set()
        self.in_flight = 0
        self.leaks: Counter[str] = Counter()

    def look(self, console: Console, watch: Watch) -> set[str]:
        """Looks at the list of the flows, and into the last two; returns which of the list are whole."""
        text = console.get("/flows")
        flows: list[Flow] = json.loads(text)
        for shown in (text, *console.contents(flows[-2:])):
            self.leaks.update(watch.sightings(shown))
        whole = {flow["id"] for flow in flows if is_whole(flow)}
        self.flows.update(flow["id"] for flow in flows)
        self.in_flight += len(flows) - len(whole)
        return whole


@contextlib.contextmanager
def polled(stage: Stage, watch: Watch) -> Iterator[Seen]:
    """Looks into mitmweb for as long as this is entered, and once more.

    Flows that were whole at two looks are deleted there: a list that grew with every request would be all that the
    gateway has time for.
    """
    seen, is_over = Seen(), threading.Event()

    def keep_looking() -> None:
        with Console(stage.gateway) as console:
            whole: set[str] = set()
            while not is_over.wait(LOOK_SECONDS):
                before, whole = whole, seen.look(console, watch)
                for flow_id in before & whole:
                    console.remove(flow_id)
            seen.look(console, watch)

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(keep_looking)
        try:
            yield seen
        finally:
            is_over.set()
            looking.result()


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


PLANTS = Path(__file__).parent / "plants"


@pytest.fixture
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Stage]]:
    """Makes a stage whose gateway has a fault: a script after it that changes its code."""
    with contextlib.ExitStack() as stack:
        yield lambda name: stack.enter_context(Stage(tmp_path_factory.mktemp(name), "-s", str(PLANTS / f"{name}.py")))


@pytest.mark.parametrize("way", WAYS)
def test_a_secret_in_the_flow_of_a_request_in_flight_is_seen(planted: Callable[[str], Stage], way: Way) -> None:
    stage = planted("swap_in_place")
    watch, order = Watch(stage.values["plain"]), Order("raw", "json", "chunked", 4, pause=True)
    during, _, heard = looks(stage, watch, stage.caller("plain", way), order, "plain")
    assert "raw" in during
    assert not watch.sightings(heard)


def test_a_secret_in_the_flow_of_a_request_is_seen_by_who_keeps_looking(
    planted: Callable[[str], Stage], tmp_path: Path
) -> None:
    stage = planted("swap_in_place")
    watch = Watch(stage.values["plain"])
    with polled(stage, watch) as seen:
        leaks = ask_and_look(stage, watch, "plain", tmp_path, [(Order("raw", "json"), "/mcp")] * 3)
    assert seen.leaks["raw"]
    assert {name for where, name in leaks if where.startswith("mitmweb")} >= {"raw"}


def test_a_secret_in_an_answer_is_seen_wherever_it_shows(planted: Callable[[str], Stage]) -> None:
    stage = planted("no_scrub")
    watch = Watch(stage.values["plain"])
    caller = stage.caller("plain")
    _, after, heard = looks(stage, watch, caller, Order("raw", "error page", "chunked", 12, pause=True), "plain")
    assert watch.sightings(heard)
    assert "raw" in after
    caller.close()
    stage.gateway.stop()
    kept = {where.rpartition(".")[2] for where, data in stage.kept() if watch.sightings(data)}
    assert "jsonl" in kept
