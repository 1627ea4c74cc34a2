"""Whatever a server echoes, in every form, place, framing and split: below the flow, in memory."""

from collections import Counter

import pytest
from driver import Driver
from echo import FRAMINGS, PLACES, Framing, Order, Place, pieces
from forms import Watch, forms_of
from mitmproxy.options import Options

from coatcheck.exchange import Exchanges

LAST_SPLIT = 64

VALUES = [
    pytest.param(b"sk-live-Zq7RkT2mXw9Lb4Nf8VhC3pYs", id="letters and digits"),
    pytest.param(b"""sk/Lv+Q="x<Y>&k Z'w\\pRt7/mN+c=4""", id="what every encoding escapes"),
]


@pytest.fixture(params=[4, pytest.param(1, marks=pytest.mark.slow)], ids=["every fourth split", "every split"])
def step(request: pytest.FixtureRequest) -> int:
    """Every fourth split begins elsewhere in each place and framing, so that together they are every split."""
    return int(request.param)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(
    ("place", "is_mcp"),
    [*[pytest.param(place, True, id=place) for place in PLACES], pytest.param("error page", False, id="plain HTTP")],
)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_no_form_of_the_secret_passes_at_any_split(
    exchanges: Exchanges, options: Options, value: bytes, place: Place, is_mcp: bool, framing: Framing, step: int
) -> None:
    watch = Watch(value)
    driver = Driver(exchanges, options, value, is_mcp=is_mcp)
    leaks: Counter[tuple[str, str, str]] = Counter()
    first = (PLACES.index(place) + FRAMINGS.index(framing)) % step
    for form, written in forms_of(value).items():
        for split in range(first, min(len(written), LAST_SPLIT) + 1, step):
            if not driver.is_open:
                driver = Driver(exchanges, options, value, is_mcp=is_mcp)
            order = Order(form, place, framing, split)
            answer = driver.ask(pieces(order, value), closes=framing == "close")
            assert b"Bearer " + value in driver.sent, "the server must get the real secret"
            assert answer.startswith(b"HTTP/1.1 "), order
            assert driver.exchange is not None
            assert driver.exchange.scrubbed, (order, answer)
            leaks.update((form, "client", name) for name in watch.sightings(answer))
            leaks.update((form, "flow", name) for name in watch.sightings(bytes(driver.seen)))
    assert not leaks
