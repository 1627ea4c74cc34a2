"""A soak fails where a stream loses or shows something, or the memory grows."""

import pytest

from bench_lib.load import BenchError, Way
from bench_lib.soak import MEBIBYTE, Heard, get_request, growth, listen_request
from bench_lib.upstream import EMAIL


def line(number: int, who: str = "b***@c***.example") -> bytes:
    return b'data: {"params":{"data":"push %d for %s;"}}\n' % (number, who.encode())


def test_messages_are_counted_in_their_order() -> None:
    heard = Heard("https GET 0")
    for each in (b"id: 0\n", line(0), b"\n", line(1)):
        heard.take(each)
    assert heard.messages == 2


@pytest.mark.parametrize(
    ("told", "what"),
    [(line(1), "message 1 in the place of 0"), (line(0, EMAIL), "personal data")],
    ids=["one is missing", "not masked"],
)
def test_a_message_out_of_its_turn_or_unmasked_ends_the_run(told, what) -> None:
    with pytest.raises(BenchError, match=f"https GET 0: {what}"):
        Heard("https GET 0").take(told)


def test_growth_is_counted_from_the_end_of_the_warm_up() -> None:
    assert growth([100 * MEBIBYTE]) == 0
    assert growth([50 * MEBIBYTE, 100 * MEBIBYTE, *[120 * MEBIBYTE] * 8]) == 0
    assert growth([100 * MEBIBYTE] * 11 + [101 * MEBIBYTE] * 60) == MEBIBYTE


@pytest.mark.parametrize("request_of", [get_request, listen_request])
def test_only_requests_outside_a_tunnel_say_who_asks_in_each(request_of) -> None:
    assert b"Proxy-Authorization: Basic x\r\n" in request_of(Way(1, 2, proxy_authorization="Basic x"))
