"""Tests of mcp/legacy_sse.py: whose a message endpoint is, and what answers what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.errors import Refusal
from coatcheck.mcp.correlation import Peers
from coatcheck.mcp.legacy_sse import EndpointRefused, FirstEvent, LegacyStream, LegacyStreams, read_endpoint
from coatcheck.mcp.sse import Event, SseError

URL = "https://shop.example/api/sse"
MINE = Peers("job", "ci", "repo:1", "shop")
OTHERS = {
    "another identity": MINE._replace(caller="other"),
    "another issuer": MINE._replace(issuer="other"),
    "another subject": MINE._replace(subject="repo:2"),
    "another server": MINE._replace(server="other"),
}
ENDPOINT = "/messages/?session_id=1f"


def stream(peers=MINE, endpoint=ENDPOINT) -> LegacyStream[str]:
    return LegacyStream(peers, endpoint, [].append)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ("/messages/?session_id=1f", "/messages/?session_id=1f"),
        ("messages?sid=1", "/api/messages?sid=1"),
        ("?sid=1", "/api/sse?sid=1"),
        ("https://shop.example/m?x=%20y", "/m?x=%20y"),
        ("//shop.example/m", "/m"),
        ("/m", "/m"),
    ],
)
def test_an_endpoint_is_a_path_of_the_servers_own_origin(data, found) -> None:
    assert read_endpoint(data, url=URL) == found


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("", id="nothing"),
        pytest.param("https://other.example/m", id="another host"),
        pytest.param("http://shop.example/m", id="another scheme"),
        pytest.param("https://shop.example:8443/m", id="another port"),
        pytest.param("https://shop.example@other.example/m", id="user before a host"),
        pytest.param("https://user@shop.example/m", id="user"),
        pytest.param("//other.example/m", id="another host without a scheme"),
        pytest.param("\\\\other.example/m", id="backslashes"),
        pytest.param("/\\other.example/m", id="slash and backslash"),
        pytest.param("javascript:alert(1)", id="another kind of URL"),
        pytest.param("https://[::1/m", id="no URL"),
        pytest.param("/m#x", id="fragment"),
        pytest.param("https://shop.example//other.example/m", id="a path that reads as a host"),
        pytest.param("/m\n/n", id="two lines"),
        pytest.param("/m\t", id="tab"),
        pytest.param("/m x", id="space"),
        pytest.param("/m?a='b", id="a character that some clients encode"),
        pytest.param("/m\u00e9", id="outside ASCII"),
        pytest.param("/" + "m" * 2048, id="very long"),
    ],
)
def test_anything_else_is_no_endpoint(data) -> None:
    with pytest.raises(EndpointRefused) as refused:
        read_endpoint(data, url=URL)
    assert (refused.value.reason, refused.value.status) == ("bad-endpoint", 502)


@given(st.text(max_size=40))
def test_whatever_a_server_names_it_leads_to_its_own_origin(data) -> None:
    try:
        found = read_endpoint(data, url=URL)
    except EndpointRefused:
        return
    assert found.startswith("/")
    assert found.isascii()
    assert not found.startswith("//")
    assert read_endpoint(found, url=URL) == found


@pytest.mark.parametrize("peers", OTHERS.values(), ids=OTHERS)
def test_an_endpoint_exists_for_its_caller_alone_and_as_long_as_its_stream(peers) -> None:
    known = LegacyStreams[str]()
    mine = stream()
    known.begin(mine)
    assert known.find(MINE, ENDPOINT) is mine
    assert known.find(peers, ENDPOINT) is None
    assert known.find(MINE, ENDPOINT + "0") is None
    known.end(mine)
    assert known.find(MINE, ENDPOINT) is None
    assert mine.is_over


def test_an_endpoint_that_belongs_to_another_caller_begins_no_stream() -> None:
    known = LegacyStreams[str]()
    mine = stream()
    known.begin(mine)
    with pytest.raises(EndpointRefused):
        known.begin(stream(OTHERS["another subject"]))
    known.begin(stream(OTHERS["another server"]))
    assert known.find(MINE, ENDPOINT) is mine


def test_a_later_stream_of_the_same_caller_takes_the_endpoint_over() -> None:
    known, first, second = LegacyStreams[str](), stream(), stream()
    known.begin(first)
    known.begin(second)
    assert first.is_over
    known.end(first)
    assert known.find(MINE, ENDPOINT) is second


@pytest.mark.parametrize("answer_id", [1, "1"])
def test_an_answer_belongs_to_the_request_with_its_id_and_is_taken_once(answer_id) -> None:
    mine = stream()
    mine.wait([1], "one")
    mine.wait(["x"], "two")
    message = {"jsonrpc": "2.0", "id": answer_id, "result": {}}
    assert mine.answered(message) == "one"
    assert mine.answered(message) is None
    assert mine.answered(message | {"id": "x"}) == "two"


@pytest.mark.parametrize(
    "message",
    [{"id": 1, "method": "ping"}, {"id": 2, "result": {}}, {"id": True, "result": {}}, {"result": {}}, [], "x", None],
)
def test_what_is_no_answer_to_it_leaves_a_request_waiting(message) -> None:
    mine = stream()
    mine.wait([1], "one")
    assert mine.answered(message) is None
    assert mine.give_up() == [1]


def test_an_id_that_still_waits_is_not_given_twice() -> None:
    """A list's answer would be read as that of another request, and not filtered."""
    mine = stream()
    mine.check_ids([5], most=9)
    mine.wait([5], "a list")
    for again in (5, "5"):
        with pytest.raises(Refusal) as refused:
            mine.check_ids([again], most=9)
        assert (refused.value.reason, refused.value.status) == ("bad-id", 400)
    assert mine.give_up([5, 6]) == [5]
    mine.check_ids([5], most=9)


def test_no_more_requests_wait_than_may() -> None:
    mine = stream()
    mine.wait([1, 2], "a batch")
    mine.check_ids([3], most=3)
    with pytest.raises(Refusal) as refused:
        mine.check_ids([3, 4], most=3)
    assert (refused.value.reason, refused.value.status) == ("too-many-requests", 429)


@given(st.integers(1, 40))
def test_the_first_event_is_known_however_the_stream_is_cut(size) -> None:
    for first, expected in ((Event(event="endpoint", data="/m"), True), (Event(data="endpoint"), False)):
        data = first.encode() + Event(event="endpoint", data="/m").encode()
        looking, found = FirstEvent(), None
        for start in range(0, len(data), size):
            found = looking.is_endpoint(data[start : start + size])
            if found is not None:
                break
        assert found is expected


def test_nothing_is_known_before_the_first_event_is_whole() -> None:
    looking = FirstEvent()
    assert looking.is_endpoint(b"event: endpoint\ndata: /m\n") is None
    assert looking.is_endpoint(b"\n") is True


def test_a_first_event_without_an_end_is_not_kept_for_ever() -> None:
    looking = FirstEvent()
    with pytest.raises(SseError):
        looking.is_endpoint(b"data: " + b"x" * 20_000)
