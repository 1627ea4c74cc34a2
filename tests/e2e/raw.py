"""A client that says exactly what it is told to, byte by byte."""

import base64
import json
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from story.cast import Cast
from story.processes import Gateway


@dataclass
class Reply:
    """One HTTP/1.1 response as it came."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def reason_code(self) -> str:
        """The stable reason of a refusal, in whichever body."""
        return self.json.get("error", {}).get("data", {}).get("reason") or self.json.get("reason")


@dataclass
class RawClient:
    """A connection to the gateway's proxy port; `authority` is where it leads, the shop unless given."""

    gateway: Gateway
    cast: Cast | None = None
    timeout: float = 10
    authority: str = ""
    sock: socket.socket = field(init=False)
    buffer: bytes = b""

    def __post_init__(self) -> None:
        if self.cast is not None and not self.authority:
            self.authority = urlsplit(self.cast.shop.url).netloc
        self.sock = socket.create_connection(("127.0.0.1", self.gateway.port), timeout=self.timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def connect(self, token: str | None, authority: str | None = None) -> Reply:
        """CONNECT to where this client leads, or to `authority`."""
        authority = self.authority if authority is None else authority
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if token is not None:
            lines.append(proxy_authorization(token))
        self.send(head(*lines))
        return self.read(is_connect=True)

    def start_tls(self, name: str | None = "localhost", *, protocols: Sequence[str] = ()) -> Self:
        """TLS with the gateway; `name` is the server name sent (none for None), `protocols` what ALPN offers."""
        context = ssl.create_default_context(cafile=str(self.gateway.ca_pem))
        context.check_hostname = name == "localhost"
        if protocols:
            context.set_alpn_protocols(list(protocols))
        self.sock = context.wrap_socket(self.sock, server_hostname=name)
        return self

    def tunnel(self, token: str) -> Self:
        """A tunnel to the shop with TLS in it."""
        assert self.connect(token).status == 200
        return self.start_tls()

    def post(self, body: bytes, *, path: str = "/mcp", host: str | None = None, **headers: str) -> Reply:
        """A POST as an MCP client sends it; `headers` add or replace (None leaves out)."""
        host = host if host is not None else self.authority
        fields = {
            "Host": host,
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Content-Length": str(len(body)),
        }
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
        self.send(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return self.read()

    def outcome(self, data: bytes) -> Reply | None:
        """What `data` is answered with; None where the connection ends instead. A hang is a TimeoutError."""
        with suppress(ConnectionError, ssl.SSLError):  # it may be answered and closed before all of it was sent
            self.send(data)
        try:
            return self.read()
        except (EOFError, ConnectionError, ssl.SSLError):
            return None

    def is_ended(self, within_seconds: float = 5) -> bool:
        """Whether the other side ends the connection in that time, and says nothing more before it does."""
        self.sock.settimeout(within_seconds)
        try:
            return not self.buffer and not self.sock.recv(65536)
        except TimeoutError:
            return False
        except OSError:
            return True

    def read_head(self) -> Reply:
        """The next response's head. Raises EOFError where the connection ends before it."""
        first, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        _, status, reason = (first + "  ").split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        return Reply(int(status), reason.strip(), headers)

    def read_chunk(self) -> bytes:
        """The next chunk of a chunked body; empty at its end. Raises EOFError where the connection breaks off."""
        size = int(self._until(b"\r\n"), 16)
        data = self._exactly(size)
        self._exactly(2)
        return data

    def read(self, *, is_connect: bool = False) -> Reply:
        """The next response, whole. Raises EOFError where the connection ends before it."""
        reply = self.read_head()
        headers = reply.headers
        if is_connect and reply.status == 200:
            return reply
        if headers.get("transfer-encoding") == "chunked":
            while data := self.read_chunk():
                reply.body += data
        else:
            reply.body = self._exactly(int(headers.get("content-length", "0")))
        return reply

    def rest(self) -> bytes:
        """Everything until the other side closes."""
        out = self.buffer
        with suppress(ConnectionError, ssl.SSLError):
            while data := self.sock.recv(65536):
                out += data
        return out

    def _until(self, end: bytes) -> bytes:
        while end not in self.buffer:
            self._more()
        found, _, self.buffer = self.buffer.partition(end)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self._more()
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError("the gateway closed the connection")
        self.buffer += data


def head(*lines: str | bytes) -> bytes:
    """Lines as a head: each ended by CRLF, and the empty line after them."""
    return b"".join((line.encode() if isinstance(line, str) else line) + b"\r\n" for line in (*lines, ""))


def proxy_authorization(token: str) -> str:
    """The header line that HTTPS_PROXY=http://ci:TOKEN@… makes a client send."""
    return f"Proxy-Authorization: Basic {base64.b64encode(f'ci:{token}'.encode()).decode()}"


def call(tool: str, arguments: dict | None = None, *, call_id: int | str = 1) -> bytes:
    """A tools/call of the 2025-11-25 form."""
    params = {"name": tool, "arguments": arguments or {}}
    return json.dumps({"jsonrpc": "2.0", "id": call_id, "method": "tools/call", "params": params}).encode()
