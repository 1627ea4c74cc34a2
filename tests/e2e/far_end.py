"""A server at the far end of the gateway that keeps every byte it is sent, and a policy folder that names it."""

import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import SHUT_RDWR, create_server, socket
from typing import Self

from story.cast import Cast
from story.certificates import CertificateFiles
from story.part import free_port
from story.processes import Gateway


@dataclass(frozen=True, slots=True)
class Heard:
    """One request, as it came."""

    first: str
    headers: dict[str, str]
    body: bytes


type Answer = Callable[[Heard], Iterable[bytes]]


def json_answer(body: bytes = b'{"ok":true}', status: str = "200 OK") -> bytes:
    """A response of JSON."""
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def plain(_heard: Heard) -> Iterable[bytes]:
    """`{"ok":true}` to everything."""
    return [json_answer()]


@dataclass
class FarEnd:
    """Serves on loopback from construction to the end of its `with` block; over TLS where it has a certificate.

    `heard` is every request, `connections` how often somebody connected, `names` the TLS server names they said.
    """

    certificate: CertificateFiles | None = None
    answer: Answer = plain
    port: int = field(default_factory=free_port)
    heard: list[Heard] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    connections: int = 0

    def __post_init__(self) -> None:
        self._listener = create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self._accept, name="far end", daemon=True).start()

    @property
    def authority(self) -> str:
        """`localhost:port`."""
        return f"localhost:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), name="far end peer", daemon=True).start()

    def _serve(self, sock: socket) -> None:
        with suppress(OSError, ValueError):
            try:
                if self.certificate is not None:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(*self.certificate)
                    context.sni_callback = lambda _socket, name, _context: self.names.append(name)
                    sock = context.wrap_socket(sock, server_side=True)
                buffer = b""
                while (read := self._read(sock, buffer)) is not None:
                    heard, buffer = read
                    self.heard.append(heard)
                    for piece in self.answer(heard):
                        sock.sendall(piece)
            finally:
                sock.close()

    def _read(self, sock: socket, buffer: bytes) -> tuple[Heard, bytes] | None:
        while b"\r\n\r\n" not in buffer:
            if not (data := sock.recv(65536)):
                return None
            self.raw += data
            buffer += data
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", "0"))
        while len(buffer) < size:
            if not (data := sock.recv(65536)):
                return None
            self.raw += data
            buffer += data
        return Heard(first, headers, buffer[:size]), buffer[size:]


def gateway_with(cast: Cast, added: str, *, script: str | None = None, base: str | None = None, **rest) -> Gateway:
    """A gateway whose policy is the story's (or `base`) and the YAML `added`, merged as files of one folder.

    `script` is what its `gateway.py` does before the gateway is made.
    """
    folder = Path(cast.folder) / f"policies-{free_port()}"
    folder.mkdir()
    (folder / "base.yaml").write_text(base or cast.policy_text())
    (folder / "more.yaml").write_text(added)
    gateway = Gateway(folder, cast.state, output=folder / "gateway.out", **rest)
    if script is not None:
        own = folder / "gateway.py"
        own.write_text(f"{script}\nfrom coatcheck.chain import gateway\n\naddons = [gateway()]\n")
        gateway.command = tuple(str(own) if part.endswith("gateway.py") else part for part in gateway.command)
    return gateway
