"""What can go wrong, in the two forms the product speaks of it.

`CoatcheckError` is for the operator: where, what, hint (a file, an option, a command).
`Refusal` is for the caller: a stable reason code, an HTTP status and a JSON-RPC code (DESIGN 5.4).
Neither ever carries a secret, a token or a body.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from coatcheck.mcp.call import Json


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about an input: `where` is `file:line:col` or an option's name."""

    where: str
    what: str
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class CoatcheckError(Exception):
    """An operator's error: one or more problems, each printed as `error: …` and `hint: …`."""

    def __init__(self, what: str | list[Problem], *, where: str = "", hint: str | None = None) -> None:
        self.problems = [Problem(where, what, hint)] if isinstance(what, str) else list(what)
        super().__init__("; ".join(map(str, self.problems)))

    def lines(self) -> list[str]:
        """The message as printed: `error: where: what`, then `hint: …` where there is one."""
        out: list[str] = []
        for problem in self.problems:
            out.append(f"error: {problem}")
            if problem.hint:
                out.append(f"hint: {problem.hint}")
        return out


class PolicyError(CoatcheckError):
    """The policy files cannot be used; holds every problem found."""


class VaultError(CoatcheckError):
    """The vault cannot be opened, or refuses what was asked of it."""


class StateError(CoatcheckError):
    """The state directory is missing, unsafe or in use."""


class JournalError(CoatcheckError):
    """The journal cannot be written or does not verify."""


# JSON-RPC codes a caller sees (DESIGN 5.4). Positive codes are ours; -32xxx are the specification's.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
HEADER_MISMATCH = -32020
UNSUPPORTED_VERSION = -32022
UNAUTHENTICATED = 4010
POLICY_DENIED = 4030
APPROVAL_DENIED = 4031
APPROVAL_EXPIRED = 4032
APPROVAL_PENDING = 4033
TOO_MANY = 4290
SERVER_FAILED = 5020
GATEWAY_FAULT = 5030


class Refusal(Exception):
    """Why one request is not served.

    `reason` is a stable kebab-case code; `status` is the HTTP status; `code` the JSON-RPC code.
    `message` is for people and names the rule's own message where there is one. `details` are further members of the
    error's data, for clients to act on. `told` is what a JSON-RPC client is answered in place of the error, where
    that is something else: a member `error` or `result`; what is journaled stays the same.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        status: int = 400,
        code: int = INVALID_REQUEST,
        rule: str | None = None,
        approval: str | None = None,
        retryable: bool = False,
        details: Mapping[str, Json] | None = None,
        told: Mapping[str, Json] | None = None,
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.status = status
        self.code = code
        self.rule = rule
        self.approval = approval
        self.retryable = retryable
        self.details: Mapping[str, Json] = details or {}
        self.told = told

    @classmethod
    def unauthenticated(cls, reason: str, message: str, *, status: int = 401) -> Self:
        """A missing or bad token (401, or 407 on a proxy's CONNECT, or 503 where keys are unreachable)."""
        return cls(reason, message, status=status, code=UNAUTHENTICATED, retryable=status == 503)

    @classmethod
    def denied(
        cls,
        reason: str,
        message: str,
        *,
        rule: str | None = None,
        approval: str | None = None,
        told: Mapping[str, Json] | None = None,
    ) -> Self:
        """The policy says no. HTTP 200: the only form whose code and data reach every MCP client."""
        return cls(reason, message, status=200, code=POLICY_DENIED, rule=rule, approval=approval, told=told)

    def data(self) -> dict[str, Json]:
        """The JSON-RPC error's `data` member (DESIGN 5.4), with `details`."""
        out: dict[str, Json] = {
            **self.details,
            "reason": self.reason,
            "rule": self.rule,
            "message": self.message,
            "retryable": self.retryable,
        }
        if self.approval is not None:
            out["approval"] = self.approval
        return out
