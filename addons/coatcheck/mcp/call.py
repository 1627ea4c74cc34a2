"""A call: one thing a request asks for.

Law: two requests with the same digest ask for the same thing, whatever their ids or progress tokens.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

type Json = bool | int | float | str | list[Json] | dict[str, Json] | None
type RequestId = str | int


@dataclass(frozen=True)
class Call:
    """One MCP message or one plain HTTP request, as policy sees it.

    `method` is the JSON-RPC method (`tools/call`) or the HTTP method (`GET`).
    `name` is the tool's or prompt's name or the resource's URI; for HTTP, the path without its query.
    `arguments` are the tool's or prompt's arguments; `params` all parameters (without `_meta`).
    `id` is the JSON-RPC id, None for a notification and for plain HTTP.
    """

    kind: Literal["mcp", "http"]
    method: str
    name: str | None = None
    arguments: Mapping[str, Json] = field(default_factory=dict)
    params: Mapping[str, Json] = field(default_factory=dict)
    id: RequestId | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of what is asked for: kind, method, name and parameters, not the id."""
        content = [self.kind, self.method, self.name, dict(self.params)]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def title(self) -> str:
        """`tools/call refund_order`: how people see the call in a list."""
        return f"{self.method} {self.name}" if self.name else self.method
