"""The command line's way through a running gateway, as one caller.

Law: the token goes to the gateway's address and nowhere else; no error holds it.
"""

import http.client
import re
import ssl
import time
from base64 import b64encode
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from coatcheck.errors import CoatcheckError
from coatcheck.sessions.replay import Headers

TIMEOUT_SECONDS = 330.0
"""Between two bytes: a held call keeps its client waiting."""

ANSWER_SECONDS = 600.0
MAX_ANSWER = 16 * 1024 * 1024

_PROXY = re.compile(r"(?:http://)?(\[[0-9a-fA-F:.]+\]|[^\[\]:/@\s]+):([0-9]{1,5})/?")
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: ([0-9]{3})")


class GatewayClient:
    """Sends requests through the gateway at `proxy` (`HOST:PORT`).

    `token` is the caller's. `ca` verifies the certificates that the gateway makes for servers. Raises `CoatcheckError`.
    """

    def __init__(self, proxy: str, token: str, ca: Path) -> None:
        match = _PROXY.fullmatch(proxy)
        if match is None or not 0 < int(match[2]) < 65536:
            raise CoatcheckError("not a host and port", where="--proxy", hint="such as 127.0.0.1:8080")
        self._host, self._port = match[1].strip("[]"), int(match[2])
        self._credential = {"Proxy-Authorization": f"Basic {b64encode(f'replay:{token}'.encode()).decode('ascii')}"}
        self._ca = ca
        self._context: ssl.SSLContext | None = None

    def send(self, method: str, url: str, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        """One request, on a connection of its own: status, headers, body. Raises `CoatcheckError`.

        `Host`, `Content-Length`, `Accept-Encoding` and the credential are added to `headers`.
        """
        connection: http.client.HTTPConnection | None = None
        try:
            target = _parsed(url)
            connection = self._connection(target)
            connection.putrequest(method, _place(target), skip_accept_encoding=True)
            extra = {"Accept-Encoding": "identity"} | ({} if target.scheme == "https" else self._credential)
            if body or method not in {"GET", "HEAD"}:
                extra["Content-Length"] = str(len(body))
            for name, value in (*headers, *extra.items()):
                connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            return response.status, response.getheaders(), _read(response)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CoatcheckError(_reason(error), where=f"{self._host}:{self._port}", hint=_hint(error)) from None
        finally:
            if connection is not None:
                connection.close()

    def _connection(self, target: SplitResult) -> http.client.HTTPConnection:
        """A tunnel where the server is https, a plain connection to the gateway where it is http."""
        if target.scheme != "https":
            return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_SECONDS)
        context = self._context = self._context or self._trusting()
        tunnel = http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_SECONDS, context=context)
        tunnel.set_tunnel(target.hostname or "", target.port or 443, headers=self._credential)
        return tunnel

    def _trusting(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=str(self._ca))
        except (OSError, ValueError):
            hint = "--ca takes the gateway's CA certificate"
            raise CoatcheckError("not a CA certificate", where=str(self._ca), hint=hint) from None


def _parsed(url: str) -> SplitResult:
    """The URL in parts. Raises `ValueError` where it is none, or has characters that `urlsplit` would drop."""
    target = urlsplit(url)
    if target.scheme not in {"http", "https"} or not target.hostname or not url.isprintable() or " " in url:
        raise ValueError("not a URL")
    return target


def _place(target: SplitResult) -> str:
    """The request target: a path inside a tunnel, the whole URL to a proxy (RFC 9112 section 3.2)."""
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    return path if target.scheme == "https" else f"{target.scheme}://{target.netloc}{path}"


def _read(response: http.client.HTTPResponse) -> bytes:
    """The body. Raises `ValueError` where it is too long, `TimeoutError` where it takes too long."""
    deadline = time.monotonic() + ANSWER_SECONDS
    body = bytearray()
    while chunk := response.read1(256 * 1024):
        body += chunk
        if len(body) > MAX_ANSWER:
            raise ValueError("answer too long")
        if time.monotonic() > deadline:
            raise TimeoutError("answer takes too long")
    return bytes(body)


def _reason(error: Exception) -> str:
    """What went wrong. Messages of libraries can quote what was sent, so none of them is taken over."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate for the server cannot be verified"
    if isinstance(error, TimeoutError):
        return "no whole answer in time"
    if refused := _TUNNEL_REFUSED.search(str(error)):
        return f"the gateway refused the tunnel with {refused[1]}"
    if isinstance(error, OSError):
        return f"the gateway does not answer: {error.strerror or type(error).__name__}"
    if isinstance(error, http.client.HTTPException):
        return f"not an HTTP answer: {type(error).__name__}"
    return "the recorded request cannot be sent, or its answer is too long"


def _hint(error: Exception) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "--ca takes the gateway's CA certificate"
    if _TUNNEL_REFUSED.search(str(error)):
        return "is the token good, and the server in the policy?"
    return "is the gateway running? see --proxy" if isinstance(error, ConnectionError) else None
