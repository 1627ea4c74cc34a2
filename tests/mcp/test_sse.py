import itertools
import time
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coatcheck.mcp.sse import Event, SseError, SseRewriter


def events_of(stream, **options):
    seen = []
    rewriter = SseRewriter(seen.append, **options)
    rewriter.feed(stream)
    rewriter.finish()
    return seen


class Unwanted(Exception):
    pass


def rewritten(pieces, rewrite=lambda event: event, **options):
    """What leaves, and whether the stream failed."""
    rewriter = SseRewriter(rewrite, **options)
    out = b""
    try:
        for piece in pieces:
            out += rewriter.feed(piece)
    except (SseError, Unwanted):
        return out + rewriter.before, True
    return out + rewriter.finish(), False


STREAMS = {
    "line feeds": (b"data: x\n\n", [Event(data="x")]),
    "carriage returns": (b"data: x\r\rdata: y\r\r", [Event(data="x"), Event(data="y")]),
    "both": (b"data: x\r\n\r\ndata: y\r\n\r\n", [Event(data="x"), Event(data="y")]),
    "a mix": (b"data: x\r\n\ndata: y\r\r\ndata: z\n\r\n", [Event(data="x"), Event(data="y"), Event(data="z")]),
    "several data lines": (b"data: {\ndata:  1\ndata\ndata:}\n\n", [Event(data="{\n 1\n\n}")]),
    "no space": (b"data:x\n\n", [Event(data="x")]),
    "all fields": (b"event: message\nid: 7\nretry: 30\ndata: x\n\n", [Event("x", "message", "7", "30")]),
    "a priming event": (b"id: 7\ndata:\n\n", [Event(data="", id="7")]),
    "an id alone": (b"id: 7\n\n", [Event(id="7")]),
    "an empty id, which resets": (b"id\ndata: x\n\n", [Event(data="x", id="")]),
    "the last id and type count": (b"id: 1\nid: 2\nevent: a\nevent: b\ndata: x\n\n", [Event("x", "b", "2")]),
    "an empty type is the default": (b"event: a\nevent:\ndata: x\n\n", [Event(data="x")]),
    "an id with NUL is ignored": (b"id: 1\x00\ndata: x\n\n", [Event(data="x")]),
    "a retry that is no number is ignored": (b"retry: 1s\ndata: x\n\n", [Event(data="x")]),
    "unknown fields": (b"DATA: a\ndata : b\nsecret: c\n\ndata: x\n\n", [Event(data="x")]),
    "a mark at the start": (b"\xef\xbb\xbfdata: x\n\n", [Event(data="x")]),
    "a mark in the middle": (b"data: x\n\n\xef\xbb\xbfdata: y\n\n", [Event(data="x")]),
    "a comment": (b": ping\n\n", [Event(comment=" ping")]),
    "a comment inside an event": (b"data: x\n:c\ndata: y\n\n", [Event(comment="c"), Event(data="x\ny")]),
    "a comment without a blank line": (b":\r\n", [Event(comment="")]),
    "blank lines": (b"\n\r\n\r", []),
    "an event without its end": (b"data: x\n\ndata: y\n", [Event(data="x")]),
    "a line without its end": (b"data: x\n\n: half", [Event(data="x")]),
}


@pytest.mark.parametrize(("stream", "events"), STREAMS.values(), ids=STREAMS)
def test_a_stream_is_read_as_every_client_reads_it(stream, events):
    assert events_of(stream) == events


def test_an_event_leaves_in_lines_ended_by_line_feeds():
    stream = b"retry: 5\r\nid: 7\r\ndata: a\r\ndata: b\r\nevent: message\r\n\r\n:ping\r\n\r\n"
    assert rewritten([stream])[0] == b"event: message\nid: 7\nretry: 5\ndata: a\ndata: b\n\n:ping\n\n"


def test_an_event_can_be_changed_or_dropped():
    def rewrite(event):
        return None if event.data == "drop" else Event(data="new\r\nlines", id=event.id)

    assert rewritten([b"data: drop\n\nid: 2\ndata: x\n\n"], rewrite)[0] == b"id: 2\ndata: new\ndata: lines\n\n"


def test_a_line_end_in_a_rewritten_field_does_not_begin_another_field():
    assert Event(data="x", id="1\ndata: y", event="a\r").encode() == b"event: a \nid: 1 data: y\ndata: x\n\n"


def test_an_event_leaves_in_the_call_in_which_its_end_arrives():
    rewriter = SseRewriter(lambda event: event)
    assert rewriter.feed(b"data: x\r\n") == b""
    assert rewriter.feed(b"\r") == b"data: x\n\n"
    assert rewriter.feed(b"\n") == b""
    assert rewriter.feed(b": ping\n") == b": ping\n\n"
    assert rewriter.feed(b"id: 1\n\n") == b"id: 1\n\n"


def test_a_character_split_between_pieces_stays_whole():
    stream = "data: größe\n\n".encode()
    assert rewritten([stream[:9], stream[9:]])[0] == stream


TOO_MUCH = {
    "one long line": b"data: " + b"x" * 200 + b"\n\n",
    "many lines": b"data: x\n" * 40 + b"\n",
    "an event that never ends": b"data: x\n" * 40,
    "a line that never ends": b"x" * 200,
    "a long comment": b":" + b"x" * 200 + b"\n",
    "unknown fields without end": b"x: y\n" * 40,
}


@pytest.mark.parametrize("stream", TOO_MUCH.values(), ids=TOO_MUCH)
def test_an_event_that_is_too_large_ends_the_stream_and_nothing_of_it_leaves(stream):
    first = b"data: ok\n\n"
    assert rewritten([first + stream], max_event=100) == (first, True)
    assert rewritten([first + stream], max_event=1000) == (
        rewritten([first])[0] + rewritten([stream])[0],
        False,
    )


def test_bytes_that_are_not_utf8_end_the_stream_after_the_events_before_them():
    assert rewritten([b"data: ok\n\ndata: \xff\n\n"]) == (b"data: ok\n\n", True)
    assert rewritten([b"data: ok\n\n: \xc0\xaf\n"]) == (b"data: ok\n\n", True)


def test_a_failed_or_finished_stream_takes_nothing_more():
    rewriter = SseRewriter(lambda event: event)
    rewriter.finish()
    with pytest.raises(SseError):
        rewriter.feed(b"data: x\n\n")


def test_many_comments_without_blank_lines_are_no_large_event():
    assert rewritten([b": ping\n" * 100], max_event=50) == (b": ping\n\n" * 100, False)


lines = st.sampled_from(
    (
        *(b"data: x", b"data:y", b"data", b"id: 1", b"id", b"event: m", b"retry: 9", b": c", b":", b"junk", b"", b""),
        *("data: é\u2028".encode(), b"\xef\xbb\xbfdata: b", b"data: \xff", b"data: " + b"z" * 40),
    )
)
line_ends = st.sampled_from([b"\n", b"\r", b"\r\n"])
streams = st.lists(st.tuples(lines, line_ends), max_size=14).map(lambda pairs: b"".join(a + b for a, b in pairs))


def changing(event):
    """A rewrite that changes, drops and refuses."""
    match event.data:
        case "y":
            return None
        case "b":
            raise Unwanted
        case "x":
            return replace(event, data="something\nelse")
        case _:
            return event


@settings(max_examples=150)
@given(streams, st.lists(st.integers(0, 200), max_size=20))
@example(b"data: x\n\ndata: b\n\ndata: x\n\n", [3])
def test_what_is_changed_dropped_or_refused_depends_on_the_bytes_alone_too(stream, cuts):
    places = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    whole = rewritten([stream], changing)
    assert rewritten([stream[a:b] for a, b in itertools.pairwise(places)], changing) == whole
    assert rewritten([stream[at : at + 1] for at in range(len(stream))], changing) == whole


@settings(max_examples=150)
@given(streams, st.lists(st.integers(0, 200), max_size=20), st.sampled_from([20, 48, 1000]))
@example(b"\xef\xbb\xbfdata: x\r\r\n", [1, 2, 3, 11, 12, 13], 1000)
@example(b"data: x\n:c\n\n", [8], 7)
def test_the_output_depends_on_the_bytes_not_on_how_they_were_split(stream, cuts, max_event):
    places = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]
    whole = rewritten([stream], max_event=max_event)
    assert rewritten(pieces, max_event=max_event) == whole
    assert rewritten([stream[at : at + 1] for at in range(len(stream))], max_event=max_event) == whole


@settings(max_examples=100)
@given(streams)
def test_what_leaves_reads_as_what_came(stream):
    out, failed = rewritten([stream])
    if not failed:
        assert events_of(out) == events_of(stream)
        assert rewritten([out]) == (out, False)


def test_time_grows_with_the_length_of_an_event_fed_in_small_pieces():
    def seconds(size):
        best = float("inf")
        for _ in range(3):
            rewriter = SseRewriter(lambda event: event)
            began = time.thread_time()
            for _ in range(size // 50):
                rewriter.feed(b"x" * 50)
            best = min(best, time.thread_time() - began)
        return best

    assert seconds(800_000) < 20 * seconds(100_000)  # eight times as long; a quadratic reader takes 64 times
