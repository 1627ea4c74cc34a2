"""The claims that a condition looks at, told from its tokens.

Law: `caller.claims.x`, `caller.claims["x"]` and `"x" in caller.claims` name `x`, however they are spaced, and
`caller.claims.x.y` names `y` in `x`. What is only known when a call comes (`caller.claims[args.x]`, a loop over all
claims) names none; nothing inside a string or a comment does.
"""

from collections.abc import Iterator
from contextlib import suppress

from coatcheck.policy.cost import Token
from coatcheck.policy.expressions import Fault, literal_text
from coatcheck.policy.model import ClaimPath


def claims_named(found: list[Token]) -> frozenset[ClaimPath]:
    """The paths, from the claims inwards, that the tokens of a sound condition name."""
    return frozenset(path for at in range(len(found)) if _is_claims(found, at) for path in _paths(found, at))


def _is_claims(found: list[Token], at: int) -> bool:
    is_member = at > 0 and found[at - 1].text == "."
    names = [(token.kind, token.text.strip("`")) for token in found[at : at + 3]]
    return not is_member and names[:2] == [("name", "caller"), ("mark", ".")] and names[2:] in _CLAIMS


_CLAIMS = ([("name", "claims")], [("quoted", "claims")])


def _paths(found: list[Token], at: int) -> Iterator[ClaimPath]:
    """What is named by the `caller.claims` that begins here."""
    if at >= 2 and found[at - 1].text == "in" and (name := _text(found[at - 2])) is not None:
        yield (name,)
    path: list[str] = []
    at += 3
    while (step := _step(found, at)) is not None:
        name, at = step
        path.append(name)
    if path:
        yield tuple(path)


def _step(found: list[Token], at: int) -> tuple[str, int] | None:
    """The member named next, and where what follows it begins; None where none is named."""
    texts = [token.text for token in found[at : at + 4]]
    if texts[:1] == ["."] and len(texts) > 1:
        is_call = texts[2:3] == ["("]
        return None if is_call or found[at + 1].kind == "mark" else (found[at + 1].text.strip("`"), at + 2)
    if texts[:1] == ["["] and texts[2:3] == ["]"] and (name := _text(found[at + 1])) is not None:
        return name, at + 3
    return None


def _text(token: Token) -> str | None:
    if token.kind == "text":
        with suppress(Fault):
            return literal_text(token.text)
    return None
