"""Which secrets go where in one request.

Law: a secret goes to the server, the caller and the place its binding names, or the request is refused.
Law: a plan shows names only.
Law: text in a body that no binding speaks of is text, even where it looks like a placeholder.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from coatcheck.errors import GATEWAY_FAULT, INVALID_REQUEST, POLICY_DENIED, Refusal, VaultError
from coatcheck.http.addresses import is_loopback
from coatcheck.policy.model import Server
from coatcheck.vault.bindings import Binding
from coatcheck.vault.places import (
    AmbiguousBody,
    BodyKind,
    Headers,
    basic_pair,
    body_kind,
    fields,
    pointed_span,
    split_path,
)
from coatcheck.vault.snapshot import Credential, Snapshot

POINTER_BODY_LIMIT = 64 * 1024
"""Bytes of a JSON body that a pointer is looked up in."""

SIGNED = frozenset({b"content-digest", b"repr-digest", b"digest", b"content-md5", b"x-amz-content-sha256"})
"""Headers in which a client says what its body's bytes are (RFC 9530, RFC 3230, RFC 1864, AWS)."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as it goes on the wire: raw headers, the origin-form path with its query, the body."""

    headers: Headers
    path: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Use:
    """One credential of a plan: under which binding, and whether the gateway puts it in by itself."""

    credential: Credential
    binding: Binding
    injected: bool


@dataclass(frozen=True, slots=True, repr=False)
class SwapPlan:
    """What `apply_swap` will put in. False where there is nothing to swap."""

    uses: tuple[Use, ...] = ()

    @property
    def credentials(self) -> tuple[Credential, ...]:
        """The secrets that will be on the wire: those to scrub from what comes back."""
        return tuple(use.credential for use in self.uses)

    def __bool__(self) -> bool:
        return bool(self.uses)

    def __repr__(self) -> str:
        return f"SwapPlan({', '.join(use.credential.name for use in self.uses)})"


def plan_swap(outgoing: Outgoing, *, server: Server, caller: str, snapshot: Snapshot) -> SwapPlan:
    """Which secrets go where in this request. `caller` is an identity's name. Raises `Refusal`:

    `placeholder-out-of-place`, `secret-not-bound`, `plain-http` (403), `body-too-large` (413), `ambiguous-body`,
    `body-is-signed` (400), `secret-missing`, `secret-unreadable` (503).
    """
    planner = _Planner(outgoing, server, caller, snapshot)
    injected = planner.injected()
    found = {} if injected is None else {server.credential or "": injected}
    for name, binding in (*planner.in_head(injected), *planner.in_body()):
        found.setdefault(name, binding)
    for name, binding in found.items():
        _check_transport(server, name, binding)
    uses = [
        Use(_open(snapshot, name), binding, injected is not None and name == server.credential)
        for name, binding in found.items()
    ]
    return SwapPlan(tuple(uses))


class _Planner:
    """One request's search for placeholders."""

    def __init__(self, outgoing: Outgoing, server: Server, caller: str, snapshot: Snapshot) -> None:
        self._outgoing = outgoing
        self._server = server
        self._caller = caller
        self._snapshot = snapshot
        self._bound = snapshot.bound_to(server.name)

    def injected(self) -> Binding | None:
        """The binding of the server's own credential, where the gateway can put it in (a header or the query).

        A credential bound to a body only is left to callers: they send its placeholder.
        """
        name = self._server.credential
        if name is None:
            return None
        if self._snapshot.info(name) is None:
            message = f"the vault has no secret {name!r} for server {self._server.name!r}"
            raise Refusal("secret-missing", message, status=503, code=GATEWAY_FAULT, retryable=True)
        binding = self._binding(name)
        return None if binding.header is None and binding.query is None else binding

    def in_head(self, injected: Binding | None) -> Iterator[tuple[str, Binding]]:
        """Every placeholder in the headers and the path, with the binding that lets it be there."""
        parts = [part for header in self._outgoing.headers for part in header]
        lower = b"\n".join([self._outgoing.path, *parts]).lower()
        if b"basic" not in lower and not self._snapshot.may_be_in(lower):
            return
        # a name means the same in lower case, but a placeholder may have other letters
        spelt_twice = ((b"%s %s" % (name.lower(), name), value) for name, value in self._outgoing.headers)
        headers = [(spelt, value, basic_pair(value) or b"") for spelt, value in spelt_twice]
        head = b"\n".join([self._outgoing.path, *(text for header in headers for text in header)])
        seen = self._snapshot.placeholders_in(head)
        if not seen:
            return
        replaced = _place_replaced(injected)
        for spelt, value, pair in headers:
            name = spelt.partition(b" ")[0]
            for placeholder, secret in seen.items():
                is_here = placeholder in value or placeholder in pair or placeholder in spelt
                if is_here and name != replaced.get("header"):
                    binding = self._binding(secret)
                    yield secret, self._in_place(secret, binding, binding.header, name, outside=placeholder in spelt)
        path, query = split_path(self._outgoing.path)
        for placeholder, secret in seen.items():
            if placeholder in path:
                yield secret, self._in_place(secret, self._binding(secret), None, b"", outside=True)
        for name, part in fields(query or b""):
            for placeholder, secret in seen.items():
                if name != replaced.get("query") and placeholder in part:
                    binding, outside = self._binding(secret), placeholder in part.partition(b"=")[0]
                    yield secret, self._in_place(secret, binding, binding.query, name, outside=outside)

    def in_body(self) -> Iterator[tuple[str, Binding]]:
        """Every placeholder in a place of the body its binding names; anything else in a body is text."""
        kind = body_kind(self._outgoing.headers)
        if kind is None or not self._outgoing.body:
            return
        for name, bindings in self._bound.items():
            info = self._snapshot.info(name)
            placeholder = info.placeholder.encode() if info is not None else b""
            if placeholder not in self._outgoing.body:
                continue
            hit = [binding for binding in bindings if self._is_in_body(placeholder, binding, kind)]
            if hit:
                binding = self._binding(name)
                if binding not in hit:
                    raise self._not_bound(name)
                self._check_unsigned(name)
                yield name, binding

    def _check_unsigned(self, secret: str) -> None:
        """A signature over the placeholder would not be one over the secret: the server could only refuse it."""
        headers = [(name.lower(), value) for name, value in self._outgoing.headers]
        if any(name in SIGNED or (name == b"authorization" and value[:5] == b"AWS4-") for name, value in headers):
            message = f"secret {secret!r} cannot be put into a body that a header of the request signs"
            raise Refusal("body-is-signed", message, status=400, code=INVALID_REQUEST)

    def _is_in_body(self, placeholder: bytes, binding: Binding, kind: BodyKind) -> bool:
        body = self._outgoing.body
        if kind == "form" and binding.form is not None:
            field = binding.form.encode()
            return any(name == field and placeholder in part.partition(b"=")[2] for name, part in fields(body))
        if kind == "json" and binding.pointer is not None:
            if len(body) > POINTER_BODY_LIMIT:
                message = f"a body with a secret in it has at most {POINTER_BODY_LIMIT} bytes"
                raise Refusal("body-too-large", message, status=413, code=INVALID_REQUEST)
            try:
                span = pointed_span(body, binding.pointer)
            except AmbiguousBody as error:
                message = "an object in the body has the same name twice"
                raise Refusal("ambiguous-body", message, status=400, code=INVALID_REQUEST) from error
            return span is not None and placeholder in body[slice(*span)]
        return False

    def _in_place(self, secret: str, binding: Binding, bound: str | None, name: bytes, *, outside: bool) -> Binding:
        """The binding itself, where the placeholder stands in the header or field it names."""
        if outside or bound is None or bound.encode() != name:
            message = f"the placeholder of secret {secret!r} is where its binding does not let it go"
            raise Refusal("placeholder-out-of-place", message, status=403, code=POLICY_DENIED)
        return binding

    def _binding(self, name: str) -> Binding:
        for binding in self._bound.get(name, ()):
            if binding.covers(self._caller):
                return binding
        raise self._not_bound(name)

    def _not_bound(self, name: str) -> Refusal:
        message = f"secret {name!r} is not bound to server {self._server.name!r} for {self._caller!r}"
        return Refusal("secret-not-bound", message, status=403, code=POLICY_DENIED)


def _place_replaced(injected: Binding | None) -> dict[str, bytes]:
    """The header, or else the query parameter, whose content the gateway replaces whatever the client sent."""
    if injected is not None and injected.header is not None:
        return {"header": injected.header.encode()}
    if injected is not None and injected.query is not None:
        return {"query": injected.query.encode()}
    return {}


def _check_transport(server: Server, name: str, binding: Binding) -> None:
    """No secret over plain HTTP, but to this machine itself where the binding says so."""
    if server.scheme == "https" or (binding.unsafe_plain_http and is_loopback(server.host)):
        return
    message = f"secret {name!r} does not go over plain HTTP to server {server.name!r}"
    raise Refusal("plain-http", message, status=403, code=POLICY_DENIED)


def _open(snapshot: Snapshot, name: str) -> Credential:
    try:
        return snapshot.open(name)
    except VaultError as error:
        message = f"secret {name!r} cannot be read"
        raise Refusal("secret-unreadable", message, status=503, code=GATEWAY_FAULT) from error
