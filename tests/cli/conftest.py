"""A stand-in for the control port, and a caller's token and certificate in files."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import trustme

from story.part import clean_environment

PLATFORM_TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJwbGF0Zm9ybSJ9.cGxhdGZvcm0tY2FuYXJ5"
SESSION_TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzZXNzaW9uIn0.c2Vzc2lvbi1jYW5hcnk"


class Exchanger:
    """Answers `POST /token` with `code` and `answer`; `forms` are what it was sent."""

    def __init__(self) -> None:
        self.code = 200
        self.answer: object = {
            "access_token": SESSION_TOKEN,
            "issued_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_type": "N_A",
            "expires_in": 3600,
        }
        self.forms: list[dict[str, list[str]]] = []
        self.paths: list[str] = []
        exchanger = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                exchanger.paths.append(self.path)
                exchanger.forms.append(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                body = json.dumps(exchanger.answer).encode()
                self.send_response(exchanger.code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def exchanger() -> Iterator[Exchanger]:
    exchanger = Exchanger()
    yield exchanger
    exchanger.server.shutdown()
    exchanger.server.server_close()


@dataclass(frozen=True, slots=True)
class CallerFiles:
    """A caller's token and its gateway's CA certificate, as files; and an environment that knows nothing else."""

    token: Path
    ca: Path
    home: Path

    @property
    def options(self) -> tuple[str, ...]:
        """What `coatcheck exec` and `env` are given."""
        return ("--token-from", f"file:{self.token}", "--ca", str(self.ca), "--gateway", "127.0.0.1:18080")

    def environment(self, **variables: str) -> dict[str, str]:
        """The environment of the command."""
        kept = clean_environment(HOME=str(self.home), TMPDIR=str(self.home), **variables)
        marks = ("GITHUB_", "RUNNER_", "XDG_")
        return {name: value for name, value in kept.items() if name in variables or not name.startswith(marks)}


@pytest.fixture
def caller(tmp_path: Path) -> CallerFiles:
    token, ca, home = tmp_path / "token", tmp_path / "ca.pem", tmp_path / "home"
    token.write_text(PLATFORM_TOKEN)
    ca.write_bytes(trustme.CA(organization_name="the gateway").cert_pem.bytes())
    home.mkdir()
    return CallerFiles(token, ca, home)
