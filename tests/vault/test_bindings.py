"""Where a secret may go, and where never."""

import pytest

from coatcheck.mcp.call import Json
from coatcheck.vault.bindings import Binding, bindings_digest, bindings_text, parse_bindings, pointer_segments


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "cookie", "private-token", "apikey"])
def test_a_credential_header_is_a_place(header: str) -> None:
    assert Binding("github", header=header).header == header


@pytest.mark.parametrize(
    "header",
    [
        "mcp-session-id", "Mcp-Name", "mcp-param-token", "host", "content-length", "connection", "transfer-encoding",
        "te", "upgrade", "proxy-authorization", "user-agent", "origin", "referer", "x-request-id", "traceparent",
        "baggage", "last-event-id", "prefer", "expect", "idempotency-key", "content-disposition",
        "access-control-request-headers", "sec-websocket-protocol", "x-forwarded-for", ":authority", "Authorization",
        "", "x\r\ny",
    ],
)  # fmt: skip
def test_a_header_that_is_echoed_or_not_ours_is_no_place(header: str) -> None:
    with pytest.raises(ValueError, match="header"):
        Binding("github", header=header)


@pytest.mark.parametrize("format_", ["{}", "Bearer {}", "token {}", 'Token token="{}"', "Basic bot:{}"])
def test_a_format_has_one_hole(format_: str) -> None:
    assert Binding("github", format=format_).format == format_


@pytest.mark.parametrize("format_", ["", "Bearer", "{}{}", "Bearer {}\r\nX: y", "Bearer {0}", "Bearer {}\x00", "é {}"])
def test_any_other_format_is_refused(format_: str) -> None:
    with pytest.raises(ValueError, match="format"):
        Binding("github", format=format_)


@pytest.mark.parametrize("pointer", ["/token", "/params/arguments/api_key", "/a~1b/0", "/credentials/id"])
def test_a_pointer_to_a_member_is_a_place(pointer: str) -> None:
    assert Binding("github", header=None, pointer=pointer).pointer == pointer


@pytest.mark.parametrize(
    "pointer",
    ["", "token", "/a~2", "/id", "/method", "/jsonrpc", "/0/id", "/params/_meta/x", "/params/_meta", "/_meta",
     "/params/_meta/progressToken", "/a" * 17],
)  # fmt: skip
def test_a_pointer_into_the_message_itself_is_no_place(pointer: str) -> None:
    with pytest.raises(ValueError, match="pointer"):
        Binding("github", header=None, pointer=pointer)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"header": None}, id="no place"),
        pytest.param({"server": ""}, id="no server"),
        pytest.param({"query": ""}, id="empty query"),
        pytest.param({"form": ""}, id="empty form"),
        pytest.param({"identities": [""]}, id="empty identity"),
        pytest.param({"identities": ["a", "a"]}, id="identity twice"),
        pytest.param({"identities": "a"}, id="identities a string"),
        pytest.param({"unsafe_plain_http": 1}, id="flag a number"),
        pytest.param({"header": 5}, id="header a number"),
        pytest.param({"hedaer": "authorization"}, id="unknown key"),
    ],
)
def test_a_binding_that_says_nothing_or_too_much_is_refused(wrong: dict[str, Json]) -> None:
    assert Binding.from_json({"server": "github"})
    with pytest.raises(ValueError, match=r"."):
        Binding.from_json({"server": "github", **wrong})


def test_json_gives_the_same_bindings_back() -> None:
    bindings = (
        Binding("github", identities=("a", "b")),
        Binding("warehouse", header=None, query="key", form="k", pointer="/a~1b", unsafe_plain_http=True),
    )
    assert parse_bindings(bindings_text(bindings)) == bindings


def test_every_field_is_in_the_digest() -> None:
    one = Binding("github")
    others = [
        Binding("gitlab"), Binding("github", header="x-api-key"), Binding("github", format="{}"),
        Binding("github", query="key"), Binding("github", form="key"), Binding("github", pointer="/key"),
        Binding("github", identities=("a",)), Binding("github", unsafe_plain_http=True),
    ]  # fmt: skip
    assert len({bindings_digest([each]) for each in (one, *others)}) == len(others) + 1


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        pytest.param(Binding("a"), Binding("a", header="x-api-key"), True, id="any caller twice"),
        pytest.param(Binding("a", identities=("x",)), Binding("a"), True, id="one and any"),
        pytest.param(Binding("a", identities=("x",)), Binding("a", identities=("x", "y")), True, id="one shared"),
        pytest.param(Binding("a", identities=("x",)), Binding("a", identities=("y",)), False, id="different callers"),
        pytest.param(Binding("a"), Binding("b"), False, id="different servers"),
    ],
)
def test_two_bindings_overlap_where_one_request_could_mean_either(one: Binding, other: Binding, overlap: bool) -> None:
    assert one.overlaps(other) is other.overlaps(one) is overlap


def test_pointer_segments_are_unescaped_in_the_right_order() -> None:
    assert pointer_segments("/a~1b/m~0n/~01") == ("a/b", "m~n", "~1")
