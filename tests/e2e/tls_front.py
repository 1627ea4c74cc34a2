"""TLS before a server that speaks none: every byte passes as it is."""

import socket
import ssl
import threading
from contextlib import suppress
from typing import Self

from story.certificates import CertificateFiles


class TlsFront:
    """Listens on loopback from construction to the end of its `with` block, and leads to 127.0.0.1:`port`."""

    def __init__(self, certificate: CertificateFiles, port: int) -> None:
        self._to = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*certificate)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="TLS front", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), name="TLS peer", daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError), sock, socket.create_connection(("127.0.0.1", self._to)) as server:
            client = self._context.wrap_socket(sock, server_side=True)
            back = threading.Thread(target=_pump, args=(server, client), name="TLS way back", daemon=True)
            back.start()
            _pump(client, server)
            back.join()
            client.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Copies until the source ends; then the sink is told, and whoever waits for it."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
