"""Where a caller's token comes from: the CI platform it runs on, a file, a command, or a variable.

Law: no error, log or `repr` holds a token, nor anything a platform or command said, for it may hold one.
Law: a source that is named but gives nothing is an error; another is never tried in its place.
"""

import base64
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, assert_never

import urllib3
from id import GitHubOidcPermissionCredentialError, IdentityError
from id._internal.oidc import ambient

from coatcheck.errors import CoatcheckError

type Platform = Literal["github", "gitlab", "buildkite", "circleci", "gcp"]

COMMAND_SECONDS = 60
MAX_TOKEN_BYTES = 32 * 1024
"""The longest token that every client can carry in a proxy's URL; httpx gives up at 64 KB of URL."""

_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
_STATUS = re.compile(r"\(code=([0-9]{3})\b")


@dataclass(frozen=True, slots=True)
class CallerToken:
    """A caller's token: text that fits a URL but for `+`, `/` and `=`. Its `repr` shows nothing of it."""

    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class FromPlatform:
    """The platform's own OpenID Connect token, minted for the gateway's audience."""

    platform: Platform


@dataclass(frozen=True, slots=True)
class FromFile:
    """A file that holds a token and no more, such as Kubernetes' projected service account token."""

    path: Path


@dataclass(frozen=True, slots=True)
class FromCommand:
    """A command that prints a token; its words, run without a shell."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FromVariable:
    """An environment variable that holds a token, such as one of GitLab's `id_tokens`."""

    name: str


type Source = FromPlatform | FromFile | FromCommand | FromVariable

_DETECTORS: Final[Mapping[Platform, Callable[[str], str | None]]] = {
    "github": ambient.detect_github,
    "gitlab": ambient.detect_gitlab,
    "buildkite": ambient.detect_buildkite,
    "circleci": ambient.detect_circleci,
    "gcp": ambient.detect_gcp,
}
PLATFORMS: Final[tuple[Platform, ...]] = tuple(_DETECTORS)

_MARKS: Final[Mapping[Platform, str]] = {
    "github": "GITHUB_ACTIONS",
    "gitlab": "GITLAB_CI",
    "buildkite": "BUILDKITE",
    "circleci": "CIRCLECI",
}
"""The variable by which a platform is known. GCP has none, so it is never guessed, only named."""

_HINTS: Final[Mapping[Platform, str]] = {
    "github": "give the job permissions: {id-token: write}",
    "gitlab": "declare the token under id_tokens: in the job, and name it with --token-from env:NAME",
    "buildkite": "buildkite-agent must be on PATH, version 3.38 or newer",
    "circleci": "circleci must be on PATH, and the job must use a context",
    "gcp": "the machine needs a service account; GOOGLE_SERVICE_ACCOUNT_NAME names one to impersonate",
}
_FORMS = f"{', '.join(PLATFORMS)}, file:PATH, cmd:COMMAND or env:NAME"


def parse_source(text: str, *, where: str) -> Source:
    """A source as written on a command line: a platform, `file:PATH`, `cmd:COMMAND` or `env:NAME`.

    Raises `CoatcheckError`, which does not quote the text: it may well be a token.
    """
    kind, colon, rest = text.partition(":")
    if not colon and kind in PLATFORMS:
        return FromPlatform(kind)
    if colon and rest:
        match kind:
            case "file":
                return FromFile(Path(rest).expanduser())
            case "cmd":
                return FromCommand(_words(rest, where))
            case "env" if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", rest):
                return FromVariable(rest)
    raise CoatcheckError("not a token source", where=where, hint=f"one of: {_FORMS}")


def guess_source(environ: Mapping[str, str], *, where: str) -> Source:
    """The platform that this environment is of. Raises `CoatcheckError` where it is of none, or of several."""
    found = [platform for platform, mark in _MARKS.items() if environ.get(mark)]
    if len(found) == 1:
        return FromPlatform(found[0])
    what = f"the environment is of {' and '.join(found)}" if found else "no CI platform is known by its environment"
    raise CoatcheckError(f"no token source given, and {what}", where=where, hint=f"one of: {_FORMS}")


def obtain_token(source: Source, audience: str | None, environ: Mapping[str, str]) -> CallerToken:
    """The token. A platform mints it for `audience`, and is asked through this process's own environment.

    May take as long as the platform or command takes, at most about a minute. Raises `CoatcheckError`.
    """
    match source:
        case FromPlatform(platform):
            return _token(_ask(platform, audience), f"--token-from {platform}")
        case FromFile(path):
            return _token(_read(path), str(path))
        case FromCommand(words):
            return _token(_run(words, environ), f"--token-from cmd:{words[0]}")
        case FromVariable(name):
            if name not in environ:
                raise CoatcheckError("no such variable", where=name, hint="see --token-from")
            return _token(environ[name].encode("utf-8", "surrogateescape"), name)
        case _:
            assert_never(source)


def obtain_assertion(source: Source, environ: Mapping[str, str]) -> CallerToken:
    """A SAML assertion or response (XML) as a token exchange takes it: base64url without padding (RFC 7522 2.1).

    It can only be exchanged. Raises `CoatcheckError`, also where the source is a platform: none gives assertions.
    """
    match source:
        case FromPlatform(platform):
            raise CoatcheckError("a platform gives no SAML assertion", where=f"--token-from {platform}")
        case FromFile(path):
            text, where = _read(path), str(path)
        case FromCommand(words):
            text, where = _run(words, environ), f"--token-from cmd:{words[0]}"
        case FromVariable(name):
            text, where = environ.get(name, "").encode("utf-8", "surrogateescape"), name
        case _:
            assert_never(source)
    if not text.strip().startswith(b"<") or len(text) > MAX_TOKEN_BYTES:
        hint = f"the XML of one, of at most {MAX_TOKEN_BYTES // 1024} KB"
        raise CoatcheckError("what is there is no SAML assertion", where=where, hint=hint)
    return CallerToken(base64.urlsafe_b64encode(text.strip()).rstrip(b"=").decode("ascii"))


def _ask(platform: Platform, audience: str | None) -> bytes:
    where = f"--token-from {platform}"
    if not audience:
        hint = "it is the policy's gateway.audience; COATCHECK_AUDIENCE is the same"
        raise CoatcheckError("a platform's token needs --audience", where=where, hint=hint)
    try:
        token = _DETECTORS[platform](audience)
    except GitHubOidcPermissionCredentialError:
        raise CoatcheckError("the job may not ask for a token", where=where, hint=_HINTS[platform]) from None
    except (IdentityError, urllib3.exceptions.HTTPError, ValueError, LookupError, AttributeError, OSError) as error:
        # What the library says quotes the platform's answer: only the status is taken over.
        status = _STATUS.search(str(error))
        what = f"the platform gave no token{f': HTTP {status[1]}' if status else ''}"
        raise CoatcheckError(what, where=where, hint=_HINTS[platform]) from None
    if token is None:
        raise CoatcheckError("this is not that platform", where=where, hint=f"one of: {_FORMS}")
    return token.encode("utf-8", "replace")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TOKEN_BYTES + 1024)
    except OSError as error:
        raise CoatcheckError(f"cannot read the token: {error.strerror}", where=str(path)) from None


def _words(text: str, where: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(text))
    except ValueError:
        words = ()
    if not words:
        raise CoatcheckError("not a command", where=where, hint="are its quotes balanced?")
    return words


def _run(words: tuple[str, ...], environ: Mapping[str, str]) -> bytes:
    where = f"--token-from cmd:{words[0]}"
    try:
        done = subprocess.run(  # noqa: S603 - the user's own command, split into words, no shell
            words,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        # Not chained: the exception carries the output so far, which may be the token.
        raise CoatcheckError(f"the command took more than {COMMAND_SECONDS} seconds", where=where) from None
    except OSError as error:
        raise CoatcheckError(f"cannot run the command: {error.strerror}", where=where) from None
    if done.returncode != 0:
        raise CoatcheckError(f"the command failed with exit status {done.returncode}", where=where)
    return done.stdout


def _token(text: bytes, where: str) -> CallerToken:
    """The token alone, without the space around it. Raises `CoatcheckError`, which never holds it."""
    text = text.strip()
    if not text:
        raise CoatcheckError("no token there", where=where)
    if len(text) > MAX_TOKEN_BYTES:
        raise CoatcheckError(f"the token is longer than {MAX_TOKEN_BYTES // 1024} KB", where=where)
    if not _TOKEN.fullmatch(text):
        raise CoatcheckError("what is there is no bearer token", where=where, hint="one token, and nothing else")
    return CallerToken(text.decode("ascii"))
