"""A cast with its gateway running under mitmweb, as the demonstration plays it.

Law: everything that any part printed or stored stays reachable, so that it can be searched for what must not be there.
"""

import base64
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from story.cast import Cast, Outcome, Pipeline
from story.part import StoryError
from story.processes import Gateway
from story.shop import personal_data


class Scene:
    """`coatcheck run --web` on a cast; a context manager that ends it."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self.token = cast.token()
        self._password = secrets.token_urlsafe(16)
        file = cast.folder / "mitmweb-password"
        file.touch(mode=0o600)
        file.write_text(self._password)
        self.gateway: Gateway = cast.gateway("run", web=True, more=("--web-password-file", str(file)))

    def __enter__(self) -> Self:
        self.gateway.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.gateway.kill()

    def start(self, *arguments: str, token: str | None = None) -> Pipeline:
        """Starts a pipeline; `token` is the scene's own unless another is given (empty for none)."""
        return self.cast.start_pipeline(*arguments, gateway=self.gateway, token=self.token if token is None else token)

    def pipeline(self, *arguments: str, token: str | None = None) -> Outcome:
        """The same, waited for."""
        return self.start(*arguments, token=token).finish()

    def cli(self, *arguments: str, stdin: str | None = None) -> str:
        """A `coatcheck` command on the scene's state; must succeed. Returns its standard output."""
        return self.cast.cli(*arguments, "--state", str(self.cast.state), stdin=stdin)

    def ran(self, tool: str) -> list[dict[str, object]]:
        """The calls of a tool the shop really executed."""
        return [call for call in self.cast.executed() if call["tool"] == tool]

    def pending(self) -> list[dict[str, object]]:
        """What `coatcheck approvals list` shows."""
        found: list[dict[str, object]] = json.loads(self.cli("approvals", "list", "--json"))
        return found

    def wait_for_approval(self, text: str) -> str:
        """The id of the pending approval whose arguments hold `text`. Raises `StoryError` where none comes."""
        found: list[str] = []

        def is_there() -> bool:
            found[:] = [str(one["id"]) for one in self.pending() if text in str(one["arguments"])]
            return bool(found)

        self.gateway.wait_for(is_there, within_seconds=20)
        return found[0]

    def flows(self) -> bytes:
        """All that mitmweb's API gives of its flows: `/flows`, and the content of each request and response."""
        listed = self._console("/flows")
        parts = [listed]
        for flow in json.loads(listed):
            parts += [self._console(f"/flows/{flow['id']}/{side}/content.data") for side in ("request", "response")]
        return b"\n".join(parts)

    def _console(self, path: str) -> bytes:
        request = urllib.request.Request(self.gateway.web_url + path)  # noqa: S310  # our own http URL
        request.add_header("Authorization", f"Bearer {self._password}")
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            if path == "/flows":
                raise StoryError(f"mitmweb answered {error.code}") from error
            return b""  # a flow that has no such message, or is gone by now

    def canaries(self) -> Iterator[tuple[str, bytes]]:
        """What must be found nowhere, with a name for each: the secret in several forms, the token, personal data."""
        secret = self.cast.credential.encode()
        yield "the secret", secret
        yield "the secret in hex", secret.hex().encode()
        for shift in range(3):
            encoded = base64.b64encode(b"\0" * shift + secret)
            yield "the secret in base64", encoded[4:-4]
        yield "the caller's token", self.token.encode()
        for value in personal_data():
            yield "personal data", value.encode()

    def search(self, where: str, content: bytes) -> None:
        """Raises `StoryError` naming the canary that stands in `content`, never its value."""
        for name, canary in self.canaries():
            if canary in content:
                raise StoryError(f"{name} stands in {where}")
