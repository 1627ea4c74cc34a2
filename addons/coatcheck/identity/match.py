"""Whose token this is: matching verified claims against declared identities.

Law: a token is exactly one identity or none; two that match are an error, never a choice.
Law: values are compared with their types: `"5"` is not `5`, `true` is not `1`, a string is not a list of one.
Law: an identity without claims matches nothing.
Law: of a token's claims those that the policy names are to be journaled, a long one by its digest.
Law: a session token is good for the identity it was given to, or for none.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import datetime

from coatcheck.errors import UNAUTHENTICATED, Refusal
from coatcheck.identity.caller import Caller, Verified
from coatcheck.mcp.call import Json
from coatcheck.policy.model import ClaimPath, ClaimPattern, Identity, IssuerSpec, Reviewer

MAX_NAMED = 1024
"""Characters of a claim's JSON, above which it is journaled by its digest."""


def match_identity(
    identities: Mapping[str, Identity],
    issuers: Mapping[str, IssuerSpec],
    verified: Verified,
    *,
    now: datetime,
    named: Collection[ClaimPath] = (),
) -> Caller:
    """The caller a verified token stands for. `named` are the claims that the policy's conditions name.

    Its groups are the identity's own and those the token lists where the issuer keeps them. Disabled and expired
    identities still match, so that switching one off never makes its tokens another's.
    Raises `Refusal` (403): `unknown-identity`, `ambiguous-identity`, `identity-changed`, `identity-disabled`,
    `identity-expired`.
    """
    issuer = issuers.get(verified.issuer)
    found = [each for each in identities.values() if _matches(each, issuer, verified)]
    if not found:
        raise _refused("unknown-identity", "no identity in the policy matches this token's claims")
    if len(found) > 1:
        names = ", ".join(sorted(each.name for each in found))
        raise _refused("ambiguous-identity", f"more than one identity matches this token: {names}")
    identity = found[0]
    if verified.exchanged is not None and verified.exchanged.identity != identity.name:
        raise _refused("identity-changed", "the policy takes this session token's claims for another identity now")
    if identity.disabled:
        raise _refused("identity-disabled", f"identity {identity.name} is disabled")
    if is_expired(identity, now=now):
        raise _refused("identity-expired", f"identity {identity.name} has expired")
    return Caller(
        name=identity.name,
        issuer=verified.issuer,
        subject=verified.subject,
        token_id=verified.token_id,
        expires_at=verified.expires_at,
        groups=identity.groups | token_groups(issuer, verified.claims),
        claims=verified.claims,
        exchanged=verified.exchanged,
        named=_named(identity, issuer, verified.claims, named),
    )


def _named(
    identity: Identity, issuer: IssuerSpec | None, claims: Mapping[str, Json], paths: Collection[ClaimPath]
) -> dict[str, Json]:
    """The claims that the policy names and the token has: in the identity, as the issuer's groups, in conditions."""
    found = {name: read_claim(claims, name) for name in identity.claims}
    groups = issuer.groups_claim if issuer is not None else None
    if groups is not None and (value := read_claim(claims, groups)) is not None:
        found.setdefault(groups, value)
    for path in sorted(paths):
        inner: Json = dict(claims)
        for member in path:
            inner = inner.get(member) if isinstance(inner, dict) else None
        if inner is not None:
            found.setdefault(".".join(path), inner)
    return {name: _short(value) for name, value in found.items()}


def _short(value: Json) -> Json:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return value if len(text) <= MAX_NAMED else {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def match_reviewers(reviewers: Mapping[str, Reviewer], verified: Verified) -> frozenset[str]:
    """The names of all reviewers a verified token stands for: a person may be several."""
    return frozenset(
        each.name
        for each in reviewers.values()
        if each.issuer == verified.issuer
        and each.claims
        and all(_claim_matches(verified.claims, name, pattern) for name, pattern in each.claims.items())
    )


def explain_match(
    identities: Mapping[str, Identity], issuers: Mapping[str, IssuerSpec], verified: Verified, *, now: datetime
) -> list[tuple[str, bool, str]]:
    """For each identity, in name order: its name, whether the token matches it, and why.

    The reasons name claims and kinds of values, never what the token holds.
    """
    issuer = issuers.get(verified.issuer)
    out: list[tuple[str, bool, str]] = []
    for identity in sorted(identities.values(), key=lambda each: each.name):
        if _matches(identity, issuer, verified):
            switched_off = " (disabled)" if identity.disabled else " (expired)" if is_expired(identity, now=now) else ""
            claims = ", ".join(sorted(identity.claims))
            out.append((identity.name, True, f"issuer and {claims} match{switched_off}"))
        else:
            out.append((identity.name, False, _why_not(identity, issuer, verified)))
    return out


def can_both_match(one: Mapping[str, ClaimPattern], other: Mapping[str, ClaimPattern]) -> bool:
    """Whether some token could have the claims that both ask for: no claim named in both keeps them apart.

    A claim that lists values may match two patterns that differ; such a pair is taken to be kept apart.
    """
    return all(
        any(_meet(a, b) for a in _values(one[name]) for b in _values(other[name])) for name in one.keys() & other.keys()
    )


def _values(pattern: ClaimPattern) -> tuple[str | int | bool, ...]:
    return pattern if isinstance(pattern, tuple) else (pattern,)


def _meet(a: str | int | bool, b: str | int | bool) -> bool:
    """Whether some value is meant by both. Of two globs only the ends are compared."""
    if isinstance(a, str) and isinstance(b, str) and "*" in a and "*" in b:
        (a_first, *_, a_last), (b_first, *_, b_last) = a.split("*"), b.split("*")
        is_same_start = a_first.startswith(b_first) or b_first.startswith(a_first)
        return is_same_start and (a_last.endswith(b_last) or b_last.endswith(a_last))
    return _equals(a, b) or _equals(b, a)


def is_expired(identity: Identity, *, now: datetime) -> bool:
    """Whether its day has passed: an identity is good through the day it `expires`, in UTC."""
    return identity.expires is not None and now.date() > identity.expires


def read_claim(claims: Mapping[str, Json], name: str) -> Json:
    """A claim by its name, or by a dotted path into nested objects where no claim has that very name.

    None where there is none, or where the dots could be read two ways (`a.b` then `c`, or `a` then `b.c`).
    """
    if name in claims:
        return claims[name]
    found = _read_dotted(claims, name)
    return found[0] if len(found) == 1 else None


def _read_dotted(claims: Mapping[str, Json], path: str) -> list[Json]:
    found: list[Json] = [claims[path]] if path in claims else []
    dot = path.find(".")
    while dot != -1:
        inner = claims.get(path[:dot])
        if isinstance(inner, dict):
            found += _read_dotted(inner, path[dot + 1 :])
        dot = path.find(".", dot + 1)
    return found


def _matches(identity: Identity, issuer: IssuerSpec | None, verified: Verified) -> bool:
    if issuer is None or identity.issuer != verified.issuer or not identity.claims:
        return False
    for name, pattern in identity.claims.items():
        if not _claim_matches(verified.claims, name, pattern):
            return False
        if name == issuer.groups_claim and not isinstance(read_claim(verified.claims, name), list):
            return False
    return True


def _claim_matches(claims: Mapping[str, Json], name: str, pattern: ClaimPattern) -> bool:
    value = read_claim(claims, name)
    patterns = pattern if isinstance(pattern, tuple) else (pattern,)
    if isinstance(value, list):
        return any(_equals(wanted, each) for each in value for wanted in patterns)
    return any(_equals(wanted, value) for wanted in patterns)


def _why_not(identity: Identity, issuer: IssuerSpec | None, verified: Verified) -> str:
    """The first thing that keeps the token from being this identity's."""
    if issuer is None or identity.issuer != verified.issuer:
        return f"its issuer is {identity.issuer}, the token's is {verified.issuer}"
    for name, pattern in identity.claims.items():
        value = read_claim(verified.claims, name)
        if value is None:
            return f"the token has no claim {name}"
        if name == issuer.groups_claim and not isinstance(value, list):
            return f"claim {name} is not a list"
        if not _claim_matches(verified.claims, name, pattern):
            return f"claim {name} {_difference(pattern, value)}"
    return "it names no claims"


def _difference(pattern: ClaimPattern, value: Json) -> str:
    wanted = {_kind(each) for each in (pattern if isinstance(pattern, tuple) else (pattern,))}
    found = {_kind(each) for each in (value if isinstance(value, list) else [value])}
    if wanted and found and not wanted & found:
        return f"is {min(found)}, the policy has {min(wanted)}"
    return "has another value"


def _equals(wanted: str | int | bool, value: Json) -> bool:
    if type(wanted) is not type(value):
        return False
    if isinstance(wanted, str) and isinstance(value, str) and "*" in wanted:
        return _globs(wanted, value)
    return wanted == value


def _globs(pattern: str, text: str) -> bool:
    """`*` stands for any run of characters, nothing else is special. Linear: each piece is found once, leftmost."""
    first, *middle, last = pattern.split("*")
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    position, end = len(first), len(text) - len(last)
    for piece in middle:
        position = text.find(piece, position, end)
        if position == -1:
            return False
        position += len(piece)
    return True


def token_groups(issuer: IssuerSpec | None, claims: Mapping[str, Json]) -> frozenset[str]:
    """The groups a token lists: a list of strings, or no groups at all; a string is never taken apart."""
    if issuer is None or issuer.groups_claim is None:
        return frozenset()
    value = read_claim(claims, issuer.groups_claim)
    if not isinstance(value, list) or not all(isinstance(group, str) for group in value):
        return frozenset()
    return frozenset(group for group in value if isinstance(group, str))


def _kind(value: Json) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case _:
            return "a nested value"


def _refused(reason: str, message: str) -> Refusal:
    return Refusal(reason, message, status=403, code=UNAUTHENTICATED)
