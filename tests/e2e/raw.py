"""A client that says exactly what it is told to, byte by byte."""

import base64
import json
import socket
import ssl
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
    """A connection to the gateway's proxy port."""

    gateway: Gateway
    cast: Cast
    timeout: float = 10
    sock: socket.socket = field(init=False)
    buffer: bytes = b""

    def __post_init__(self) -> None:
        self.sock = socket.create_connection(("127.0.0.1", self.gateway.port), timeout=self.timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def connect(self, token: str | None, authority: str | None = None) -> Reply:
        """CONNECT to the shop, or to `authority`."""
        authority = authority or urlsplit(self.cast.shop.url).netloc
        head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
        if token is not None:
            head += f"Proxy-Authorization: Basic {base64.b64encode(f'ci:{token}'.encode()).decode()}\r\n"
        self.send(f"{head}\r\n".encode())
        return self.read(is_connect=True)

    def start_tls(self, name: str = "localhost") -> Self:
        context = ssl.create_default_context(cafile=str(self.gateway.ca_pem))
        context.check_hostname = name == "localhost"
        self.sock = context.wrap_socket(self.sock, server_hostname=name)
        return self

    def tunnel(self, token: str) -> Self:
        """A tunnel to the shop with TLS in it."""
        assert self.connect(token).status == 200
        return self.start_tls()

    def post(self, body: bytes, *, path: str = "/mcp", host: str | None = None, **headers: str) -> Reply:
        """A POST as an MCP client sends it; `headers` add or replace (None leaves out)."""
        host = host if host is not None else urlsplit(self.cast.shop.url).netloc
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

    def read(self, *, is_connect: bool = False) -> Reply:
        """The next response, whole. Raises EOFError where the connection ends before it."""
        head = self._until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        _, status, reason = (first + "  ").split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        reply = Reply(int(status), reason.strip(), headers)
        if is_connect and reply.status == 200:
            return reply
        if headers.get("transfer-encoding") == "chunked":
            while size := int(self._until(b"\r\n"), 16):
                reply.body += self._exactly(size)
                self._exactly(2)
            self._exactly(2)
        else:
            reply.body = self._exactly(int(headers.get("content-length", "0")))
        return reply

    def rest(self) -> bytes:
        """Everything until the other side closes."""
        out = self.buffer
        try:
            while data := self.sock.recv(65536):
                out += data
        except (ConnectionError, ssl.SSLError):
            pass
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


def call(tool: str, arguments: dict | None = None, *, call_id: int | str = 1) -> bytes:
    """A tools/call of the 2025-11-25 form."""
    params = {"name": tool, "arguments": arguments or {}}
    return json.dumps({"jsonrpc": "2.0", "id": call_id, "method": "tools/call", "params": params}).encode()
