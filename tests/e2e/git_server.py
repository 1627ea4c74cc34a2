"""A git server: `git http-backend` behind a small https server, serving one bare repository."""

import os
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from story.certificates import CertificateFiles

_BACKEND_VARIABLES = {"Content-Type": "CONTENT_TYPE", "Content-Encoding": "HTTP_CONTENT_ENCODING"}


class GitServer:
    """Serves `folder` (bare repositories) on loopback from construction to the end of its `with` block."""

    def __init__(self, folder: Path, certificate: CertificateFiles) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.authorizations: list[str | None] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="git server", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=60)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(f"{self.command} {self.path}")
                server.authorizations.append(self.headers.get("Authorization"))
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                done = subprocess.run(
                    ["git", "http-backend"], input=body, env=self._variables(), capture_output=True, check=False
                )
                head, _, answer = done.stdout.partition(b"\r\n\r\n")
                fields = [line.partition(": ") for line in head.decode("latin-1").split("\r\n")]
                status = next((value for name, _, value in fields if name == "Status"), "200 OK")
                self.send_response(int(status.split()[0]))
                for name, _, value in fields:
                    if name and name != "Status":
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET  # noqa: N815 - the name http.server looks for

            def _variables(self) -> dict[str, str]:
                """RFC 3875's, as `git http-backend` wants them."""
                path, _, query = self.path.partition("?")
                given = {variable: self.headers.get(name) for name, variable in _BACKEND_VARIABLES.items()}
                return {
                    "PATH": os.environ["PATH"],
                    "GIT_PROJECT_ROOT": str(server.folder),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "GIT_CONFIG_GLOBAL": os.devnull,
                    "GIT_CONFIG_NOSYSTEM": "1",
                    "REQUEST_METHOD": self.command,
                    "PATH_INFO": path,
                    "QUERY_STRING": query,
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
                    **{name: value for name, value in given.items() if value},
                }

            def log_message(self, *args: object) -> None:
                pass

        return Handler


BRANCHES = 30
"""Of so many, git asks in more than 1 KiB, and compresses that."""


def make_repository(folder: Path, name: str, files: dict[str, bytes]) -> str:
    """A bare repository `folder/name`: one commit of `files`, and branches with one more. Returns the commit's id."""
    work = folder / f"{name}.work"
    work.mkdir(parents=True)
    for path, content in files.items():
        (work / path).write_bytes(content)
    identity = ["-c", "user.name=ci", "-c", "user.email=ci@shop.example", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "one"]):
        git(work, *arguments)
    git(folder, "clone", "-q", "--bare", str(work), name)
    commit = git(work, "rev-parse", "HEAD")
    branch = "commit refs/heads/{0}\ncommitter ci <ci@shop.example> 0 +0000\ndata 2\n{0}\nfrom {1}\n\n"
    git(
        folder / name,
        "fast-import",
        "--quiet",
        stdin="".join(branch.format(n, commit) for n in range(10, 10 + BRANCHES)),
    )
    return commit


def git(folder: Path, *arguments: str, stdin: str = "") -> str:
    """Runs git without anybody's configuration; returns what it printed."""
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, input=stdin, capture_output=True, text=True, check=True
    ).stdout.strip()
