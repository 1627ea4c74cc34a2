"""What a message costs inside the pinned mitmproxy, cut down in seven places.

Law: a message holds, finds and refuses what mitmproxy's own would: only what is worked out twice is left out.

mitmproxy checks the type of every field of every message it parsed itself (10 % of a request), compares names of
headers through four functions a header, and raises and catches an error for each name that is not there (3 %), parses
a URL a second time for a check that `read_head` has made (2 %), decodes the same few hosts from IDNA in each request
(2 %), makes a connection that nobody uses with each new context (1 %), works out several times how long each body
will be, through a dozen look-ups of headers (3 %), and makes an object for each flow's id (1 %).
"""

import functools
import os
from collections.abc import Generator
from types import SimpleNamespace
from typing import overload

from mitmproxy import flow, http
from mitmproxy.http import Headers, MessageData
from mitmproxy.net.http import http1, url
from mitmproxy.net.http.http1 import read
from mitmproxy.proxy import commands
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpStream

type Checking = Generator[commands.Command, object, bool]

SMALL = 64 * 1024
"""Bytes of a body that are under every limit `lockdown` may set."""

_check_body_size = HttpStream.check_body_size
_expected_body_size = read.expected_http_body_size


def install() -> None:
    """Puts these into mitmproxy's classes, and into its reader of request lines."""
    MessageData.__post_init__ = _no_check  # type: ignore[method-assign]
    Headers.get_all = _get_all  # type: ignore[method-assign,assignment]
    Headers.get = _get  # type: ignore[method-assign,assignment]
    Headers.__getitem__ = _getitem  # type: ignore[method-assign,assignment]
    Headers.__contains__ = _contains  # type: ignore[method-assign,assignment]
    Context.fork = _fork  # type: ignore[method-assign,assignment]
    flow.uuid = SimpleNamespace(uuid4=_uuid4)  # type: ignore[assignment]
    http1.expected_http_body_size = _body_size
    HttpStream.check_body_size = _check_large_body_size  # type: ignore[method-assign,assignment]
    authorities = functools.lru_cache(maxsize=256)(url.parse_authority)  # keeps valid hosts only: no others return
    read.url = SimpleNamespace(  # type: ignore[assignment]
        parse=_no_parse, parse_authority=authorities, default_port=url.default_port
    )


def _no_check(_self: MessageData) -> None:
    """In place of a check for addons that make messages of the wrong types."""


def _uuid4() -> str:
    """A random UUID (RFC 9562 section 5.4) as text."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _no_parse(_target: bytes) -> None:
    """In place of a check of what `head.check_bytes` found to be an absolute URL in plain ASCII."""


def _values(headers: http.Headers, name: str | bytes) -> list[bytes]:
    wanted = (name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")).lower()
    return [value for key, value in headers.fields if key.lower() == wanted]


def _get_all(headers: http.Headers, name: str | bytes) -> list[str]:
    """Every value of that name, whatever its case, in order."""
    return [value.decode("utf-8", "surrogateescape") for value in _values(headers, name)]


@overload
def _get(headers: http.Headers, name: str | bytes) -> str | None: ...
@overload
def _get[T](headers: http.Headers, name: str | bytes, default: T) -> str | T: ...
def _get(headers: http.Headers, name: str | bytes, default: object = None) -> object:
    """The values of that name, joined; `default` where there is none."""
    values = _values(headers, name)
    return b", ".join(values).decode("utf-8", "surrogateescape") if values else default


def _getitem(headers: http.Headers, name: str | bytes) -> str:
    """The same; raises `KeyError` where there is none."""
    values = _values(headers, name)
    if not values:
        raise KeyError(name)
    return b", ".join(values).decode("utf-8", "surrogateescape")


def _contains(headers: http.Headers, name: object) -> bool:
    """Whether a header of that name is there."""
    return isinstance(name, str | bytes) and bool(_values(headers, name))


def _fork(context: Context) -> Context:
    """A context with the same client, options and server, and its own list of layers."""
    forked = Context.__new__(Context)
    forked.client, forked.options, forked.server = context.client, context.options, context.server
    forked.layers = context.layers.copy()
    return forked


def _check_large_body_size(stream: HttpStream, request: bool) -> Checking:
    """mitmproxy's own check, of any body that is not known to be small."""
    if _is_small(stream, is_request=request):
        return False
    return (yield from _check_body_size(stream, request))


def _is_small(stream: HttpStream, *, is_request: bool) -> bool:
    buffered = stream.request_body_buf if is_request else stream.response_body_buf
    if buffered:
        return len(buffered) <= SMALL
    message = stream.flow.request if is_request else stream.flow.response
    size = None if message is None else _declared_size(message.headers)
    return size is not None and size <= SMALL


def _body_size(request: http.Request, response: http.Response | None = None) -> int | None:
    """mitmproxy's own, asked only where one Content-Length does not say it all (RFC 9112 section 6.3)."""
    if response is None:
        size = None if request.data.method == b"CONNECT" else _declared_size(request.headers)
    elif request.data.method in (b"GET", b"POST") and response.data.status_code == 200:
        size = _declared_size(response.headers)
    else:
        size = None
    return _expected_body_size(request, response) if size is None else size


def _declared_size(headers: Headers) -> int | None:
    """The one Content-Length, in at most eight plain digits; None where framing says anything else."""
    size: int | None = None
    for name, value in headers.fields:
        folded = name.lower()
        if folded == b"transfer-encoding":
            return None
        if folded == b"content-length":
            if size is not None or len(value) > 8 or not value.isdigit():
                return None
            size = int(value)
    return size
