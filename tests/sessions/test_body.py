import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.mcp.call import Json
from coatcheck.sessions.body import HEAD, MAX_BODY, Body


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_survive_json(data: bytes):
    assert Body.from_json(json.loads(json.dumps(Body.of(data).as_json()))) == Body(data, len(data))


@pytest.mark.parametrize("text", ["", "plain", "\0\u2028\r\n", "😀", '{"cut": true}'])
def test_text_is_written_as_text(text: str):
    assert Body.of(text.encode()).as_json() == text


def test_a_body_of_the_longest_length_is_whole():
    assert not Body.of(b"x" * MAX_BODY).is_cut


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        pytest.param(b"x" * (MAX_BODY + 1), HEAD, id="text"),
        pytest.param(b"\xff" * (MAX_BODY + 1), HEAD, id="binary"),
        pytest.param("x€".encode() * MAX_BODY, HEAD, id="at the end of a character"),
        pytest.param("€".encode() * MAX_BODY, HEAD - HEAD % 3, id="within a character"),
    ],
)
def test_a_longer_body_is_cut_and_still_known(data: bytes, kept: int):
    body = Body.of(data)
    assert (body.is_cut, body.length, body.sha256) == (True, len(data), hashlib.sha256(data).hexdigest())
    assert data.startswith(body.content)
    assert len(body.content) == kept
    assert Body.from_json(json.loads(json.dumps(body.as_json()))) == body


@pytest.mark.parametrize(
    "value",
    [
        None, 1, [], {}, "\ud800", {"base64": "é"}, {"base64": "a"}, {"base64": 1}, {"cut": True},
        {"cut": False, "length": 1, "sha256": ""}, {"cut": True, "length": -1, "sha256": ""},
        {"cut": True, "length": 1, "sha256": "", "head": 7},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_body_is_refused(value: Json):
    with pytest.raises(ValueError):  # noqa: PT011  # of Unicode, of base64 or our own
        Body.from_json(value)


def test_half_a_surrogate_pair_is_kept():
    body = Body.of_text("a\ud800b")
    assert Body.from_json(body.as_json()).content.decode("utf-8", "surrogatepass") == "a\ud800b"
