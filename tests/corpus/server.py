"""A server that keeps every byte it is sent and answers as it is told.

Law: nothing is lost: a connection, a byte or a request that came in since a mark can be asked for.
Law: a request is read as strictly as the strictest server would; what it could not be read as is kept too.
"""

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from story.certificates import CertificateFiles
from story.part import free_port

LOOPBACK = "127.0.0.1"
PATIENCE_SECONDS = 10.0
"""How long this side waits for anything before it gives up: longer than any test should take."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One request as it came: `fields` in order, names as they were spelt, and `raw` with every byte of it."""

    first: str
    fields: tuple[tuple[str, str], ...]
    body: bytes
    raw: bytes

    @property
    def headers(self) -> dict[str, str]:
        """The last value by lower-case name."""
        return {name.lower(): value for name, value in self.fields}

    @property
    def faults(self) -> list[str]:
        """What a strict server would not like about it; empty for a well-formed request."""
        head = self.raw.partition(b"\r\n\r\n")[0]
        names = [name.lower() for name, _ in self.fields]
        found = []
        if not re.fullmatch(r"[A-Z]+ /[!-~]* HTTP/1\.1", self.first):
            found.append(f"request line {self.first!r}")
        if head.count(b"\n") != head.count(b"\r\n") or head.count(b"\r") != head.count(b"\r\n") or b"\0" in head:
            found.append("line ends")
        if any(not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) for name, _ in self.fields):
            found.append("a header's name")
        if names.count("host") != 1 or names.count("content-length") > 1 or "transfer-encoding" in names:
            found.append("host or framing")
        if (self.body or self.first.startswith("POST")) and self.headers.get("content-length") != str(len(self.body)):
            found.append("content-length")
        return found


class Peer:
    """One connection to the server, from its side."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = b""
        self.heard: list[Heard] = []
        self.server_name: str | None = None
        self.protocol: str | None = None
        self.ended = threading.Event()
        self.ended_at = 0.0
        self._buffer = b""

    def send(self, data: bytes) -> None:
        """Sends; quietly where the other side has gone."""
        with suppress(OSError):
            self.sock.sendall(data)

    def close(self) -> None:
        """Ends the connection from this side."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def wait_for_end(self, seconds: float = PATIENCE_SECONDS) -> bool:
        """Reads on until the other side ends the connection; whether it did in time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.sock.settimeout(left)
            with suppress(TimeoutError):
                if not self._more():
                    return True
        return False

    def read(self) -> Heard | None:
        """The next request; None where the connection ends."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines]
        fields = tuple((name, value.strip()) for name, _, value in pairs)
        length = {name.lower(): value for name, value in fields}.get("content-length", "0")
        size = int(length) if length.isdigit() else 0
        while len(self._buffer) < size:
            if not self._more():
                return None
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        heard = Heard(first, fields, body, head + b"\r\n\r\n" + body)
        self.heard.append(heard)
        return heard

    def _more(self) -> bool:
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            raise
        except OSError:
            data = b""
        self.received += data
        self._buffer += data
        if not data and not self.ended.is_set():
            self.ended_at = time.monotonic()
            self.ended.set()
        return bool(data)


type Answer = Callable[[Peer, Heard], None]
"""What the server does once it has read a request; afterwards it reads the next."""


def good(peer: Peer, heard: Heard) -> None:
    """A plain JSON answer: to a JSON-RPC request its result, to anything else an object."""
    try:
        asked = json.loads(heard.body)
    except ValueError:
        asked = None
    if isinstance(asked, dict) and {"id", "method"} <= asked.keys():
        answer: dict[str, object] = {"jsonrpc": "2.0", "id": asked["id"], "result": {"content": []}}
    else:
        answer = {"ok": True}
    peer.send(response(json.dumps(answer).encode()))


def response(body: bytes, *lines: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """A response with its Content-Length."""
    head = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def saying(*pieces: bytes, close: bool = False) -> Answer:
    """Exactly these bytes, and then the end of the connection where `close`."""

    def answer(peer: Peer, heard: Heard) -> None:
        for piece in pieces:
            peer.send(piece)
        if close:
            peer.close()

    return answer


def silent(peer: Peer, heard: Heard) -> None:
    """Never answers."""
    peer.wait_for_end()


class Mark(NamedTuple):
    """How much a server had been sent at one moment."""

    connections: int
    received: int
    requests: int


@dataclass
class Server:
    """A server on `address`:`port`, over TLS where it has a certificate; serves from construction to `close()`.

    `greeting` is what it says before it is asked. It would rather speak HTTP/2, to whoever offers that.
    """

    certificate: CertificateFiles | None = None
    greeting: bytes = b""
    address: str = LOOPBACK
    port: int = field(default_factory=free_port)
    answer: Answer = good

    def __post_init__(self) -> None:
        self.peers: list[Peer] = []
        self._log: list[tuple[Peer, Heard]] = []
        self._lock = threading.Condition()
        self._listener = socket.create_server((self.address, self.port), backlog=512)
        threading.Thread(target=self._accept, name="server", daemon=True).start()

    @property
    def authority(self) -> str:
        """`localhost:port`."""
        return f"localhost:{self.port}"

    def close(self) -> None:
        """Stops listening and ends every connection."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self.peers:
            peer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def answering(self, answer: Answer) -> Iterator[None]:
        """Answers so within the block."""
        before, self.answer = self.answer, answer
        try:
            yield
        finally:
            self.answer = before

    # -- what it was sent --------------------------------------------------------------------------------------

    def mark(self) -> Mark:
        """This moment."""
        return Mark(len(self.peers), sum(len(peer.received) for peer in self.peers), len(self._all()))

    def bytes_since(self, mark: Mark) -> int:
        """Application bytes received since."""
        return self.mark().received - mark.received

    def requests_since(self, mark: Mark) -> list[Heard]:
        """The requests read since, as they came."""
        return self._all()[mark.requests :]

    def wait_for_requests(self, mark: Mark, count: int, *, seconds: float = PATIENCE_SECONDS) -> list[Heard]:
        """The same once they are `count`, or once the time is over."""
        with self._lock:
            self._lock.wait_for(lambda: len(self.requests_since(mark)) >= count, seconds)
        return self.requests_since(mark)

    def _all(self) -> list[Heard]:
        return [heard for _, heard in self._log]

    # -- serving -----------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(sock)
            self.peers.append(peer)
            threading.Thread(target=self._serve, args=(peer,), name="server-peer", daemon=True).start()

    def _serve(self, peer: Peer) -> None:
        with suppress(OSError):
            try:
                self._open(peer)
                if self.greeting:
                    peer.send(self.greeting)
                while heard := peer.read():
                    with self._lock:
                        self._log.append((peer, heard))
                        self._lock.notify_all()
                    self.answer(peer, heard)
            finally:
                if not peer.ended.is_set():
                    peer.ended_at = time.monotonic()
                    peer.ended.set()
                peer.sock.close()

    def _open(self, peer: Peer) -> None:
        if self.certificate is None:
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certificate)
        context.set_alpn_protocols(["h2", "http/1.1"])
        context.sni_callback = lambda _socket, name, _context: setattr(peer, "server_name", name)
        peer.sock = secured = context.wrap_socket(peer.sock, server_side=True)
        peer.protocol = secured.selected_alpn_protocol()
