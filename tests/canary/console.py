"""mitmweb as somebody sees it who has its password."""

import http.client
import json
from collections.abc import Iterable, Iterator
from typing import Any, Self
from urllib.parse import urlsplit

from story.processes import Gateway

PASSWORD = "console-password"

type Flow = dict[str, Any]


class Console:
    """One kept connection to the gateway's mitmweb, for one thread; a context manager."""

    def __init__(self, gateway: Gateway) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(gateway.web_url).netloc, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; what is asked after it opens another."""
        self._connection.close()

    def get(self, path: str) -> bytes:
        """What is shown at a path; empty where there is nothing."""
        status, body = self._ask("GET", path)
        return body if status == 200 else b""

    def flows(self) -> list[Flow]:
        """The list of flows, the last one last."""
        return json.loads(self.get("/flows"))

    def contents(self, flows: Iterable[Flow]) -> Iterator[bytes]:
        """What is shown of these flows' bodies, as bytes and as views."""
        for flow in flows:
            for message in ("request", "response"):
                yield self.get(f"/flows/{flow['id']}/{message}/content.data")
                yield self.get(f"/flows/{flow['id']}/{message}/content/auto.json")

    def shown(self, *, last: int | None = None) -> Iterator[bytes]:
        """Everything: the list of the flows, and the contents of the `last` of them (else all)."""
        text = self.get("/flows")
        yield text
        flows = json.loads(text)
        yield from self.contents(flows[-last:] if last else flows)

    def remove(self, flow_id: str) -> None:
        """Takes a flow out of the list, as mitmweb's Delete does."""
        status, _ = self._ask("DELETE", f"/flows/{flow_id}")
        assert status == 200, status

    def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        token = {"Cookie": "_mitmproxy_xsrf=x", "X-XSRFToken": "x"}
        self._connection.request(method, path, headers={"Authorization": f"Bearer {PASSWORD}", **token})
        response = self._connection.getresponse()
        return response.status, response.read()


def is_whole(flow: Flow) -> bool:
    """Whether a listed flow has its whole answer."""
    return bool(flow.get("error") or (flow.get("response") or {}).get("timestamp_end"))
