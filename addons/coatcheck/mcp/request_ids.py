"""Request ids (JSON-RPC 2.0 section 4): a string or a whole number that every reader takes for the same."""

from typing import TypeIs

from coatcheck.mcp.call import Json, RequestId

MAX_ID = 2**53 - 1
"""Beyond this a JavaScript peer rounds an id, and two requests could get one answer."""


def is_request_id(value: Json) -> TypeIs[RequestId]:
    """Whether it is one; `true` is an `int` to Python, so types are compared exactly."""
    return type(value) is str or (type(value) is int and -MAX_ID <= value <= MAX_ID)
