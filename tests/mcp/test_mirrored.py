"""Headers that mirror a tool's arguments say what the arguments say, or the call is refused."""

import base64
import json

import pytest

from coatcheck.errors import Refusal
from coatcheck.mcp.call import Call
from coatcheck.mcp.mirrored import check_parameters

SCHEMA = {
    "type": "object",
    "properties": {
        "zone": {"type": "string", "x-mcp-header": "Region"},
        "urgent": {"type": "boolean", "x-mcp-header": "Urgent"},
        "deep": {"type": "object", "properties": {"level": {"type": "integer", "x-mcp-header": "Level"}}},
        "plain": {"type": "string"},
        "odd": True,
    },
}
KNOWN = json.dumps({"name": "deploy", "inputSchema": SCHEMA})
ARGUMENTS = {"zone": "größe", "urgent": True, "deep": {"level": 5}, "plain": "x"}
ENCODED = f"=?base64?{base64.b64encode('größe'.encode()).decode()}?="


def check(definition: str = KNOWN, arguments: dict | None = None, **headers: str) -> None:
    said = {f"mcp-param-{name.replace('_', '-')}": value for name, value in headers.items()}
    call = Call("mcp", "tools/call", "deploy", ARGUMENTS if arguments is None else arguments)
    check_parameters(call, {"mcp-name": "deploy", **said}, definition)


TRUE = [
    {}, {"region": ENCODED}, {"urgent": "true"}, {"level": "5"}, {"region": ENCODED, "level": "5"}, {"unheard_of": "x"},
]  # fmt: skip
FALSE = [
    {"region": "us"}, {"region": ENCODED.upper()}, {"region": ""}, {"urgent": "True"}, {"urgent": "1"}, {"level": "6"},
    {"level": "five"}, {"level": "nan"}, {"region": ENCODED, "level": "6"}, {"plain": "y"},
]  # fmt: skip


@pytest.mark.parametrize("headers", TRUE, ids=str)
def test_what_is_true_of_the_arguments_passes(headers) -> None:
    check(**headers)


@pytest.mark.parametrize("headers", FALSE, ids=str)
def test_what_is_not_true_of_them_is_refused(headers) -> None:
    with pytest.raises(Refusal) as caught:
        check(**headers)
    assert (caught.value.reason, caught.value.status, caught.value.code) == ("header-mismatch", 400, -32020)


@pytest.mark.parametrize("arguments", [{}, {"zone": None}, {"zone": ["us"]}, {"zone": {"a": "us"}}], ids=str)
def test_an_argument_that_is_not_there_has_no_header(arguments) -> None:
    check(arguments=arguments)
    with pytest.raises(Refusal):
        check(arguments=arguments, region="us")


@pytest.mark.parametrize("definition", ["", '{"name":"deploy"}', '{"inputSchema":[]}'])
def test_where_the_schema_is_not_known_a_header_with_an_arguments_name_has_some_arguments_value(definition) -> None:
    arguments = {"region": "eu", "order_id": 7, "other": {"place": "us"}}
    check(definition, arguments, region="eu", order_id="7", unheard_of="zz")
    check(definition, arguments, region="us")
    for headers in ({"region": "asia"}, {"order_id": "8"}, {"place": "asia"}):
        with pytest.raises(Refusal):
            check(definition, arguments, **headers)
