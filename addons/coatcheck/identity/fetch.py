"""Fetching an issuer's documents.

Law: https with a verified certificate, or http on loopback; no redirect is followed, no environment proxy used.
Law: only public addresses are connected to, and those the issuer lists; loopback where the policy's own URL names it.
Where one of a name's addresses is refused, none is connected to: a mixed answer is an attempt to rebind it.
"""

import asyncio
import ipaddress
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, override
from urllib.parse import SplitResult, urlsplit

import certifi
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.netutil import Resolver
from tornado.simple_httpclient import HTTPTimeoutError, SimpleAsyncHTTPClient

from coatcheck.http.addresses import reachable
from coatcheck.policy.model import Network

type Fetch = Callable[[str, Path | None, Sequence[Network]], Awaitable[bytes]]
"""`fetch(url, ca, addresses)`: the body of a 200 answer; raises `FetchError`."""

LOOPBACK: tuple[Network, ...] = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128"))
TIMEOUT_SECONDS = 5.0
MAX_BODY_BYTES = 1024 * 1024


class FetchError(Exception):
    """A document could not be had. The text says why, without anything the server sent."""


async def fetch(
    url: str, ca: Path | None, addresses: Sequence[Network] = (), *, timeout_seconds: float = TIMEOUT_SECONDS
) -> bytes:
    """The body of a 200 answer to GET `url`, at most 1 MiB. `ca` is a PEM file to trust instead of certifi's;
    `addresses` are the networks its host may resolve to although they are not public.

    Raises `FetchError` for any other answer, within `timeout_seconds`.
    """
    parts = _checked(url)
    try:
        # Reading the roots takes some 20 ms of CPU: not on the event loop.
        context = await asyncio.to_thread(_tls, ca) if parts.scheme == "https" else None
        return await _get(url, context, addresses, timeout_seconds)
    except HTTPTimeoutError:
        raise FetchError(f"no answer within {timeout_seconds:g} s") from None
    except HTTPClientError as error:
        raise FetchError(f"HTTP {error.code}" if error.code != 599 else "the connection failed") from None
    except ssl.SSLCertVerificationError as error:
        raise FetchError(f"its certificate is not trusted: {error.verify_message}") from None
    except (OSError, ValueError) as error:
        raise FetchError(getattr(error, "strerror", None) or "the connection failed") from None


async def _get(url: str, context: ssl.SSLContext | None, addresses: Sequence[Network], timeout_seconds: float) -> bytes:
    client = SimpleAsyncHTTPClient(
        force_instance=True, resolver=_Resolver(addresses), max_body_size=MAX_BODY_BYTES, max_buffer_size=MAX_BODY_BYTES
    )
    try:
        response = await client.fetch(
            HTTPRequest(
                url,
                headers={"Accept": "application/json"},
                ssl_options=context,
                connect_timeout=timeout_seconds,
                request_timeout=timeout_seconds,
                follow_redirects=False,
                decompress_response=False,
            )
        )
    finally:
        client.close()
    if response.code != 200:
        raise FetchError(f"HTTP {response.code}")
    return response.body


def _tls(ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca) if ca else certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise FetchError("the URL cannot be read") from None
    if not host or parts.username is not None or parts.fragment:
        raise FetchError("the URL must name a host, and hold neither a user nor a fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise FetchError("the URL must be https (http only on loopback)")
    return parts


def is_loopback(host: str) -> bool:
    """Whether a URL's host is this machine by its very spelling: `localhost` or a loopback address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[tuple[int, Any]]:
    """A name's addresses, looked up in a thread of its own.

    A lookup cannot be called off: in the event loop's own threads a few that hang would hold up all other work there.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[tuple[int, Any]]] = loop.create_future()

    def settle(found: list[tuple[int, Any]] | OSError) -> None:
        if future.done():
            return  # nobody waits any more
        if isinstance(found, OSError):
            future.set_exception(found)
        else:
            future.set_result(found)

    def work() -> None:
        found: list[tuple[int, Any]] | OSError
        try:
            found = [(each[0], each[4]) for each in socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)]
        except (OSError, UnicodeError) as error:
            found = error if isinstance(error, OSError) else OSError("not a host name")
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=work, name=f"look up {host}", daemon=True).start()
    return await future


class _Resolver(Resolver):
    """Names become addresses once, and the address that was checked is the one connected to."""

    def initialize(self, listed: Sequence[Network]) -> None:
        """Tornado's configurable classes are set up here, not in `__init__`."""
        self._listed = listed

    @override
    async def resolve(
        self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[tuple[int, Any]]:  # tornado's own type: an address as the socket module wants it
        found = await _look_up(host, port, family)
        if not all(reachable(address[0], self._listed) for _, address in found):
            raise FetchError("the host resolves to an address that is not public; list it under addresses:")
        return found
