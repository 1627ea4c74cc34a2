"""How a rule's patterns match names, resource URIs and HTTP paths.

Law: no normalisation ever widens a match: what a rule permits is exactly what its pattern spells.
Law: a deny never matches less than an allow with the same pattern; wherever two spellings may mean the
same thing to a server, a wildcard permits neither or a deny covers both.
Law: matching is linear in the name for any pattern (atomic groups; no caller can make it backtrack).

A name longer than `NAME_LIMIT` (a URI or path: `PLACE_LIMIT`) matches no permitting pattern.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from urllib.parse import unquote

from coatcheck.policy.model import HttpPattern

NAME_LIMIT = 128
"""What MCP (2025-11-25, `server/tools`) says a tool's name may have at most."""
PLACE_LIMIT = 8192

_NAME_GAP = r"[A-Za-z0-9_.\-]*"
_METHOD_GAP = r"[A-Za-z0-9_.$/\-]*"
_WIDE_GAP = r"[\s\S]*"
_HTTP_METHOD = re.compile(r"[A-Z][A-Z-]*")

# RFC 3986 3.3: pchar with percent-encodings in their one normal form (2.1: upper-case hexadecimal; 2.3: never an
# unreserved character), and never a control character, a backslash or a NUL. Braces are kept for URI templates.
_ENCODED = r"%(?!2[DE]|3[0-9]|[46][1-9A-F]|[57][0-9A]|5F|7E|7F|5C|[01])[0-9A-F]{2}"
_PLACE = re.compile(rf"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?{{}}\[\]]|{_ENCODED})*")
_URI = re.compile(r"(?P<scheme>[a-z][a-z0-9+.\-]*):(?://(?P<authority>[^/?#]*))?(?P<path>[^?#]*)(?:\?[^#]*)?")
_NETWORK_SCHEMES = frozenset({"http", "https", "ws", "wss", "ftp", "sftp", "ssh"})
_SLASH = re.compile(r"/|%2F")
_PARAMETER = re.compile(r";[^/]*")
_DECODED_PARAMETER = re.compile(r";(?:(?!%2F)[^/])*")


def matches(pattern: str, name: str) -> bool:
    """Whether a tool's or prompt's name matches: case-sensitive; `*` stands for `[A-Za-z0-9_.-]*` only.

    The empty name matches nothing. A literal pattern matches its own bytes.
    """
    return 0 < len(name) <= NAME_LIMIT and _name_regex(pattern, _NAME_GAP).fullmatch(name) is not None


def matches_uri(pattern: str, uri: str) -> bool:
    """Whether a resource URI is byte-equal to the pattern, or canonical and matched by its wildcards.

    `*` stays within a segment (never across `/`, `%2F`, `?`, `#`); a segment `**` stands for any number of them.
    """
    if pattern == uri:
        return True
    return "*" in pattern and _place_regex(pattern, wide=False).fullmatch(uri) is not None and uri_is_canonical(uri)


def matches_path(pattern: HttpPattern, method: str, path: str) -> bool:
    """Whether an HTTP method and a canonical path (without its query) match `GET /repos/**`."""
    if pattern.method != method and (pattern.method != "*" or _HTTP_METHOD.fullmatch(method) is None):
        return False
    return _place_regex(pattern.path, wide=False).fullmatch(path) is not None and path_is_canonical(path)


def denies_name(pattern: str, name: str) -> bool:
    """How a deny rule matches a name or a method: `*` stands for anything, whatever its length."""
    return _name_regex(pattern, _WIDE_GAP).fullmatch(name) is not None


def denies_uri(pattern: str, uri: str) -> bool:
    """How a deny rule matches a URI: as written or percent-decoded, canonical or not."""
    regex = _place_regex(pattern, wide=True)
    return pattern == uri or any(regex.fullmatch(form) for form in _uri_forms(uri))


def denies_path(pattern: HttpPattern, method: str, path: str) -> bool:
    """How a deny rule matches: every spelling a server may take for the same path, in any case (Express and IIS route
    so); a `GET` covers `HEAD`.
    """
    asked = method.upper()
    if pattern.method not in {"*", asked} and (pattern.method, asked) != ("GET", "HEAD"):
        return False
    regex = _place_regex(pattern.path.casefold(), wide=True)
    return any(map(regex.fullmatch, spellings(path)))


def spellings(path: str) -> set[str]:
    """What servers may take a path (no query) for: decoded or not, with its parameters and last slash or without, all
    in one case.
    """
    return {form.casefold() for form in _path_forms(path)}


def uri_is_canonical(uri: str) -> bool:
    """Whether a URI has exactly one spelling (RFC 3986 6.2.2) and no fragment, dot or empty segment."""
    if len(uri) > PLACE_LIMIT:
        return False
    parts = _URI.fullmatch(uri)
    if parts is None or _PLACE.fullmatch(uri) is None:
        return False
    scheme, authority = parts["scheme"], parts["authority"]
    if authority and scheme in _NETWORK_SCHEMES and authority != authority.lower():
        return False
    if authority and scheme == "file":  # RFC 8089: `file://localhost/x` is another spelling of `file:///x`
        return False
    return _segments_are_plain(uri.partition(":")[2].removeprefix("//"), rooted=authority is not None)


def path_is_canonical(path: str) -> bool:
    """Whether an HTTP path (no query) starts at `/` and has exactly one spelling, without dot or empty segments."""
    if not path.startswith("/") or len(path) > PLACE_LIMIT or "?" in path or _PLACE.fullmatch(path) is None:
        return False
    return _segments_are_plain(path, rooted=True)


def _uri_forms(uri: str) -> set[str]:
    return {uri, unquote(uri)} if "%" in uri else {uri}


def _without_parameters(path: str) -> set[str]:
    """How servers read a path with `;` parameters: keeping them, or dropping them before they decode it, or after."""
    return {path, _PARAMETER.sub("", path), _DECODED_PARAMETER.sub("", path)} if ";" in path else {path}


def _path_forms(path: str) -> set[str]:
    """The spellings that servers commonly take for the same path: decoded, without parameters or a last slash."""
    forms = _without_parameters(path)
    if "%" in path:
        forms |= {plain for form in forms for plain in _without_parameters(unquote(form))}
    if path.endswith("/"):
        forms |= {form.rstrip("/") or "/" for form in forms}
    return forms


def _segments_are_plain(text: str, *, rooted: bool) -> bool:
    """No `.` or `..`, even before a `;` parameter or behind an encoded slash; none empty but the first and last."""
    before_query = text.partition("?")[0]
    if any(not {".", ".."}.isdisjoint(_SLASH.split(form)) for form in _without_parameters(text)):
        return False
    segments = before_query.split("/")
    return all(segments[1:-1]) and (rooted or segments[0] != "" or len(segments) == 1)


def _glob(text: str, gap: str) -> str:
    """A regular expression for one piece of a pattern; each gap takes the nearest literal and keeps it."""
    first, *rest = re.split(r"\*+", text)
    if not rest:
        return re.escape(first)
    middle = "".join(f"(?>{gap}?{re.escape(part)})" for part in rest[:-1])
    return re.escape(first) + middle + gap + re.escape(rest[-1])


@lru_cache(maxsize=4096)
def _name_regex(pattern: str, gap: str) -> re.Pattern[str]:
    return re.compile(_glob(pattern, gap))


@lru_cache(maxsize=4096)
def _place_regex(pattern: str, *, wide: bool) -> re.Pattern[str]:
    """A URI's or path's pattern: blocks of segments, apart by `**`; each block takes the first place it fits."""
    gap = r"[^/]*" if wide else r"(?:[^/?#%]|%(?!2F)..)*"
    skip = r"(?:[^/]*/)*?"
    blocks: list[list[str]] = [[]]
    for segment in pattern.split("/"):
        if segment == "**":
            blocks.append([])
        else:
            blocks[-1].append(_glob(segment, gap))
    first, *rest = blocks
    out = "/".join(first) + ("/" if first and rest else "")
    for block in rest[:-1]:
        out += f"(?>{skip}{'/'.join(block)}/)" if block else ""
    if rest:
        out += skip + "/".join(rest[-1]) if rest[-1] else (_WIDE_GAP if wide else r"[^#]*")
    return re.compile(out)


def name_test(patterns: Sequence[str], *, deny: bool, methods: bool = False) -> Callable[[str], bool]:
    """One test for all of a rule's patterns: literals by a set, wildcards by their regular expressions."""
    literals = frozenset(pattern for pattern in patterns if "*" not in pattern)
    gap = _WIDE_GAP if deny else _METHOD_GAP if methods else _NAME_GAP
    globs = [_glob(pattern, gap) for pattern in patterns if "*" in pattern]
    if not globs:
        return literals.__contains__
    fullmatch = re.compile("|".join(f"(?:{glob})" for glob in globs)).fullmatch
    limit = None if deny else NAME_LIMIT

    def test(name: str) -> bool:
        if name in literals:
            return True
        return (limit is None or 0 < len(name) <= limit) and fullmatch(name) is not None

    return test


def uri_test(patterns: Sequence[str], *, deny: bool) -> Callable[[str], bool]:
    """One test for all of a rule's resource patterns."""
    match = denies_uri if deny else matches_uri
    return lambda uri: any(match(pattern, uri) for pattern in patterns)


def path_test(patterns: Sequence[HttpPattern], *, deny: bool) -> Callable[[str, str], bool]:
    """One test (method, path) for all of a rule's HTTP patterns."""
    match = denies_path if deny else matches_path
    return lambda method, path: any(match(pattern, method, path) for pattern in patterns)


def may_expand_to(pattern: str, template: str) -> bool:
    """Whether some expansion of a URI template (RFC 6570) could match the pattern; never wrongly False."""
    head, literal = template.partition("{")[0], pattern.partition("*")[0]
    return literal.startswith(head) or ("*" in pattern and head.startswith(literal))


def covers_expansions(pattern: str, template: str) -> bool:
    """Whether a deny on the pattern surely denies every expansion of the template; never wrongly True."""
    head = template.partition("{")[0]
    return pattern == "**" or (pattern.endswith("/**") and "*" not in pattern[:-2] and head.startswith(pattern[:-2]))


def covers(wide: str, narrow: str, *, places: bool) -> bool:
    """Whether a deny on `wide` surely denies everything `narrow` permits (`places`: URIs and paths)."""
    if wide == narrow:
        return True
    if not places:
        return denies_name(wide, narrow)
    if "*" not in narrow:
        return denies_uri(wide, narrow)
    return wide == "**" or (wide.endswith("/**") and "*" not in wide[:-2] and narrow.startswith(wide[:-2]))
