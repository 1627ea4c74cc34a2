"""Placeholder to secret, as bytes leave for the server.

Law: secrets' values exist in what `apply_swap` returns and nowhere else.
"""

import base64

from coatcheck.vault.places import (
    Headers,
    body_kind,
    replace_in_fields,
    replace_in_header,
    replace_pointed,
    set_field,
    split_path,
)
from coatcheck.vault.plan import Outgoing, SwapPlan, Use


def apply_swap(plan: SwapPlan, outgoing: Outgoing) -> Outgoing:
    """The request with secrets in place of placeholders, in one pass; Content-Length follows the body."""
    if not plan:
        return outgoing
    headers = outgoing.headers
    path, query = split_path(outgoing.path)
    in_headers: dict[bytes, dict[bytes, bytes]] = {}
    in_query: dict[bytes, dict[bytes, bytes]] = {}
    for use in plan.uses:
        place, swap = use.binding, {use.credential.placeholder.encode(): use.credential.secret.reveal()}
        if place.header is not None and not use.injected:
            in_headers.setdefault(place.header.encode(), {}).update(swap)
        if place.query is not None and not _sets_query(use):
            in_query.setdefault(place.query.encode(), {}).update(swap)
    if in_headers:
        headers = tuple((name, replace_in_header(value, in_headers.get(name.lower(), {}))) for name, value in headers)
    if query is not None and in_query:
        query = replace_in_fields(query, in_query)
    # Last, so that nothing looks for placeholders in what was put in.
    for use in plan.uses:
        if use.injected and use.binding.header is not None:
            headers = _set_header(headers, use.binding.header.encode(), _header_value(use))
        if _sets_query(use) and use.binding.query is not None:
            query = set_field(query, use.binding.query.encode(), use.credential.secret.reveal())
    body = _swap_body(plan, outgoing)
    if body is not outgoing.body:
        length = str(len(body)).encode()
        headers = tuple((name, length if name.lower() == b"content-length" else value) for name, value in headers)
    return Outgoing(headers, path if query is None else path + b"?" + query, body)


def _header_value(use: Use) -> bytes:
    """The whole header as the gateway puts it in: the binding's format; for Basic the pair in base64 (RFC 7617)."""
    before, after = use.binding.format.encode().split(b"{}")
    text = before + use.credential.secret.reveal() + after
    if use.binding.is_basic:
        scheme, _, pair = text.partition(b" ")
        return scheme + b" " + base64.b64encode(pair)
    return text


def _swap_body(plan: SwapPlan, outgoing: Outgoing) -> bytes:
    body = outgoing.body
    kind = body_kind(outgoing.headers)
    by_place: dict[str, dict[bytes, bytes]] = {}
    for use in plan.uses:
        place = use.binding.form if kind == "form" else use.binding.pointer if kind == "json" else None
        if place is not None:
            swap = {use.credential.placeholder.encode(): use.credential.secret.reveal()}
            by_place.setdefault(place, {}).update(swap)
    if not by_place or not any(placeholder in body for swaps in by_place.values() for placeholder in swaps):
        return body
    if kind == "form":
        return replace_in_fields(body, {name.encode(): swaps for name, swaps in by_place.items()})
    return replace_pointed(body, by_place)


def _set_header(headers: Headers, name: bytes, value: bytes) -> Headers:
    """Every header of that name removed, ours put in at the end."""
    return (*((other, text) for other, text in headers if other.lower() != name), (name, value))


def _sets_query(use: Use) -> bool:
    return use.injected and use.binding.header is None and use.binding.query is not None
